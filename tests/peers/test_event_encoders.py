"""The test encoders of event files before other projects' decoders, on what those decode rightly."""

from __future__ import annotations

import random
import struct
from pathlib import Path

import h5py
import numpy as np
import pytest

from tests.events.files.encoders import aedat, aedat4, ecf, lz4_frame, plain, prophesee

pytestmark = pytest.mark.peers

SHARED = Path(__file__).resolve().parents[3] / "shared" / "samples"


def drawn(count: int, width: int, height: int, span: int, seed: int = 0) -> list[prophesee.Event]:
    draw = random.Random(seed)
    times = sorted(draw.randrange(span) for _ in range(count))
    return [(t, draw.randrange(width), draw.randrange(height), draw.randrange(2)) for t in times]


def by_evlib(path: Path) -> list[prophesee.Event]:
    evlib = pytest.importorskip("evlib")
    frame = evlib.load_events(str(path), sort=False).collect()
    columns = frame["t"].dt.total_microseconds(), frame["x"], frame["y"], (frame["polarity"] > 0).cast(int)
    return list(zip(*(column.to_list() for column in columns), strict=True))


def by_expelliarmus(path: Path, encoding: str) -> list[prophesee.Event]:
    found = pytest.importorskip("expelliarmus").Wizard(encoding=encoding).read(str(path))
    return list(zip(*(found[name].tolist() for name in "txyp"), strict=True))


def test_dat(tmp_path):
    events = drawn(500, 1280, 720, 1 << 31)
    (tmp_path / "a.dat").write_bytes(prophesee.dat(events, "Width 1280", "Height 720"))
    assert by_expelliarmus(tmp_path / "a.dat", "dat") == events


def test_evt2(tmp_path):
    events = drawn(2000, 640, 480, 1 << 22)
    (tmp_path / "a.raw").write_bytes(prophesee.evt2(prophesee.evt2_body(events), "geometry 640x480"))
    assert by_expelliarmus(tmp_path / "a.raw", "evt2") == events
    assert by_evlib(tmp_path / "a.raw") == events


def neighbours(count: int) -> list[prophesee.Event]:
    """Rows of neighbouring pixels that fire at once."""
    draw = random.Random(1)
    events: list[prophesee.Event] = []
    for t in sorted(draw.randrange(1 << 16) for _ in range(count)):
        x, y, p = draw.randrange(1280 - 32), draw.randrange(720), draw.randrange(2)
        events += [(t, x + right, y, p) for right in sorted(draw.sample(range(32), draw.randrange(1, 32)))]
    return events


def test_evt21(tmp_path):
    events = neighbours(300)
    words = prophesee.evt21_words(events)
    assert len(words) < len(events) / 4  # neighbours do share words
    (tmp_path / "a.raw").write_bytes(prophesee.evt21(words))
    assert by_evlib(tmp_path / "a.raw") == events


def test_evt3(tmp_path):
    events = drawn(3000, 1280, 720, 1 << 24)
    (tmp_path / "a.raw").write_bytes(prophesee.evt3(prophesee.evt3_words(events)))
    assert by_evlib(tmp_path / "a.raw") == events


def test_evt3_vectors_and_time_steps_back(tmp_path):
    p = prophesee
    words = [
        p.time_high(3),
        p.time_low(800),
        p.addr_y(7),
        p.vect_base_x(100, 1),
        p.vect_12(0b100000000001),
        p.vect_12(0),
    ]
    words += [p.vect_8(0b10000001), p.time_low(799), p.addr_x(5, 0)]
    start = 3 << 12
    fired = [(start + 800, x, 7, 1) for x in (100, 111, 124, 131)]
    (tmp_path / "a.raw").write_bytes(p.evt3(words))
    assert by_evlib(tmp_path / "a.raw") == [*fired, (start + 799, 5, 7, 0)]


def test_bin(tmp_path):
    io = pytest.importorskip("tonic.io")
    events = drawn(400, 34, 34, 1 << 18)
    content = plain.bin_file(events, limit=20_000)
    assert len(content) > 5 * len(events)  # there are overflow markers
    (tmp_path / "a.bin").write_bytes(content)
    found = io.read_mnist_file(str(tmp_path / "a.bin"), dtype=io.events_struct)
    assert list(zip(*(found[name].astype(int).tolist() for name in "txyp"), strict=True)) == events


def test_aedat4(tmp_path):
    events = drawn(800, 320, 240, 1 << 20)
    packets = [(aedat4.EVENTS, aedat4.events(events[:300])), (aedat4.EVENTS, aedat4.events(events[300:]))]
    for number, compression in enumerate((aedat4.NONE, aedat4.LZ4)):
        path = tmp_path / f"{number}.aedat4"
        path.write_bytes(aedat4.aedat4(packets, width=320, height=240, compression=compression))
        assert by_evlib(path) == events


def test_aedat2(tmp_path):
    """tonic mirrors both axes."""
    io = pytest.importorskip("tonic.io")
    events = drawn(300, 346, 260, 1 << 20)
    path = tmp_path / "a.aedat"
    path.write_bytes(aedat.aedat2(aedat.davis(events), chip=aedat.DAVIS346))
    _, _, found = io.read_davis_346(str(path))
    t, x, y, p = (found[name].astype(int) for name in "txyp")
    assert list(zip(t.tolist(), (345 - x).tolist(), (259 - y).tolist(), p.tolist(), strict=True)) == events


def test_aedat3_frames(tmp_path):
    """tonic's reader of packets; the bits of an address are not among what it decodes without failing."""
    io = pytest.importorskip("tonic.io")
    events = drawn(300, 128, 128, 1 << 20)
    path = tmp_path / "a.aedat"
    path.write_bytes(aedat.aedat3(aedat.polarities(events[:100]), aedat.polarities(events[100:])))
    version, start, _ = io.read_aedat_header_from_file(str(path))
    found = io.get_aer_events_from_file(str(path), version, start)
    data, t = found["address"].astype(int), found["timeStamp"].tolist()
    columns = t, (data >> 17).tolist(), (data >> 2 & 0x7FFF).tolist(), (data >> 1 & 1).tolist()
    assert version == 3.1
    assert list(zip(*columns, strict=True)) == events
    assert (data & 1).all()


def test_ecf(tmp_path):
    events = drawn(1000, 1280, 720, 1 << 20)
    for mode in ecf.MODES:
        path = tmp_path / f"{mode}.hdf5"
        path.write_bytes(ecf.metavision(events, encode=lambda rows, mode=mode: ecf.chunk(rows, mode)))
        assert by_evlib(path) == events


@pytest.mark.parametrize("name", ["evt2_slice_60000", "evt3_slice_60000"])
def test_ecf_chunks_are_those_of_the_official_codec(name):
    """Encoding what another decoder found in files of the vendor's codec gives the codec's bytes."""
    path = SHARED / "prophesee_hdf5_ecf" / f"{name}.hdf5"
    if not path.exists():
        pytest.skip("the sample files are not here")
    events = by_evlib(path)
    with h5py.File(path) as file:
        data = file["CD/events"].id
        for number in range(data.get_num_chunks()):
            (start,) = data.get_chunk_info(number).chunk_offset
            _, raw = data.read_direct_chunk((start,))
            mode = {0: "rows", 1: "pairs", 2: "triples"}[struct.unpack_from("<I", raw)[0] & 3]
            assert ecf.chunk(events[start : start + data.shape[0]][:16384], mode) == raw


FRAMES = [
    {},
    {"matches": False},
    {"stored": True},
    {"block_size": 1000},
    {"block_checksum": True, "content_checksum": True, "content_size": True},
]


@pytest.mark.parametrize("options", FRAMES)
@pytest.mark.parametrize("length", [0, 1, 13, 17, 300, 70_000])
def test_lz4_frames(options, length):
    frames = pytest.importorskip("lz4.frame")
    for data in (np.random.default_rng(0).bytes(length), (b"abcab" * length)[:length], bytes(length)):
        made = lz4_frame.frame(data, **options)
        assert frames.decompress(made) == data
    if length > 1000 and options.get("matches", True) and not options.get("stored"):
        assert len(made) < length / 10  # zeros are copies
