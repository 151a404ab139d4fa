"""Metavision HDF5: files made by the official codec, chunks packed by hand, damage, the way back."""

from __future__ import annotations

import struct
import zlib

import h5py
import numpy as np
import pytest

from spikenet.errors import ArgumentError, FormatError
from spikenet.events import EventStream, Sensor, open_recording, read, write
from tests.events.files.prophesee_bytes import assert_pieces_agree, assert_same, random_stream, rows, sample

VGA = Sensor(640, 480, 2)
ECF = 36559
LAYOUT = np.dtype({"names": ["x", "y", "p", "t"], "formats": ["<u2", "<u2", "<i2", "<i8"], "offsets": [0, 2, 4, 8]})
RUNS, PACKED_XP, PACKED_YXP = 0, 1, 2


def head(count, style, t0):
    return struct.pack("<IQ", count << 2 | style, t0)


def u16(*words):
    return struct.pack(f"<{len(words)}H", *words)


@pytest.fixture
def metavision(tmp_path):
    """A file with the given chunks, of ``rows`` events each; the last may be smaller."""

    def make(*chunks, total, rows=16384, codec=ECF, mask=0, geometry="640x480"):
        path = tmp_path / "a.hdf5"
        with h5py.File(path, "w") as file:
            if geometry:
                file.attrs["geometry"] = geometry
            plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
            plan.set_chunk((rows,))
            plan.set_filter(codec, h5py.h5z.FLAG_OPTIONAL, ())
            space = h5py.h5s.create_simple((total,), (h5py.h5s.UNLIMITED,))
            group = file.create_group("CD").id
            events = h5py.h5d.create(group, b"events", h5py.h5t.py_create(LAYOUT), space, plan)
            for number, chunk in enumerate(chunks):
                if chunk is not None:
                    events.write_direct_chunk((number * rows,), chunk, mask)
        return path

    return make


@pytest.mark.parametrize(("version", "first", "last"), [(2, 913716224, 913720799), (3, 11718656, 11721008)])
def test_real_files(version, first, last):
    """The first chunks of the official codec, in two styles."""
    stream = read(sample(f"prophesee_hdf5_ecf/evt{version}_slice_60000.hdf5"))
    assert len(stream) == 60000
    assert (stream.t[0], stream.t[-1]) == (first, last)


def test_real_file_is_the_recording_it_was_made_of():
    stream = read(sample("prophesee_hdf5_ecf/evt3_slice_60000.hdf5"))
    origin = read(sample("prophesee_evt3/expelliarmus_evt3_sample.raw"), sensor=stream.sensor)
    for name in "txyp":
        np.testing.assert_array_equal(getattr(stream, name), getattr(origin, name)[:60000])


@pytest.mark.parametrize("version", [2, 3])
def test_real_files_as_evlib_reads_them(version):
    evlib = pytest.importorskip("evlib")
    path = sample(f"prophesee_hdf5_ecf/evt{version}_slice_60000.hdf5")
    theirs, stream = evlib.load_events(str(path), sort=False).collect(), read(path)
    np.testing.assert_array_equal(stream.t.numpy(), theirs["t"].to_physical().to_numpy())
    np.testing.assert_array_equal(stream.x.numpy(), theirs["x"].to_numpy())
    np.testing.assert_array_equal(stream.y.numpy(), theirs["y"].to_numpy())
    np.testing.assert_array_equal(stream.p.numpy(), theirs["polarity"].to_numpy() > 0)


def test_runs(metavision):
    """Steps of time 0, 2 and 0x1234 (four bits at a time, lowest first); runs of rows; columns by mask; polarities."""
    times = bytes([0x02, 0x21, 0xF4, 0xF3, 0xF2, 0xF1, 0x01])
    chunk = (
        head(4, RUNS, 100)
        + times
        + u16(7 << 5 | 3, 479 << 5 | 1)
        + u16(10 << 5 | 0b10001, 3 << 5)
        + bytes([0x83, 0x01])
    )
    t = 102 + 0x1234
    assert rows(read(metavision(chunk, total=4))) == [(100, 10, 7, 1), (100, 11, 7, 1), (102, 15, 7, 1), (t, 3, 479, 0)]


def test_long_runs(metavision):
    """Counts too large for their bits stand in 16 bits behind."""
    n = 1000
    times = bytes([0x3F]) + u16(n)
    columns = u16(*[0 << 5 | 0b11111] * (n // 6 + 1))
    chunk = head(n, RUNS, 1) + times + u16(5 << 5 | 31, n) + columns + bytes([0xFF]) + u16(n)
    assert rows(read(metavision(chunk, total=n))) == [(4, i % 6, 5, 1) for i in range(n)]


def test_runs_that_fill_their_bits_exactly(metavision):
    times = bytes([0x0E, 0x01])
    signs = bytes([0x80 | 15])
    chunk = head(15, RUNS, 0) + times + u16(1 << 5 | 15) + u16(*(x << 5 for x in range(15))) + signs
    assert rows(read(metavision(chunk, total=15))) == [(0, x, 1, 1) for x in range(15)]


def test_columns_and_polarities_packed(metavision):
    """Four 12-bit words in three of 16; the last group is filled up."""
    a, b, c, d = 639 << 1 | 1, 0x123 << 1, 5 << 1 | 1, 600 << 1
    words = u16(a << 4 | b & 0xF, b >> 4 << 8 | c & 0xFF, c >> 8 << 12 | d)
    words += u16((8 << 1) << 4 | 0xF, 0xFFFF, 0xFFFF)
    chunk = head(5, PACKED_XP, 9) + bytes([0x05]) + u16(3 << 5 | 5) + words
    expected = [(9, 639, 3, 1), (9, 0x123, 3, 0), (9, 5, 3, 1), (9, 600, 3, 0), (9, 8, 3, 0)]
    assert rows(read(metavision(chunk, total=5))) == expected


@pytest.mark.parametrize("style", [PACKED_YXP, PACKED_YXP | PACKED_XP])
def test_all_packed(metavision, style):
    """Four 24-bit words in three of 32."""
    events = [(9, 639, 479, 1), (9, 1, 2, 0), (9, 300, 400, 1), (9, 4, 5, 0), (9, 6, 7, 1)]
    a, b, c, d, e = (y << 12 | x << 1 | p for _, x, y, p in events)
    words = struct.pack("<3I", a << 8 | b & 0xFF, b >> 8 << 16 | c & 0xFFFF, c >> 16 << 24 | d)
    words += struct.pack("<3I", e << 8, 0, 0)
    assert rows(read(metavision(head(5, style, 9) + bytes([0x05]) + words, total=5))) == events


def test_last_chunk_may_be_filled_up(metavision):
    words = u16(*(x << 5 for x in range(4)))
    chunk = head(4, RUNS, 0) + bytes([0x04]) + u16(1 << 5 | 4) + words + bytes([4])
    assert rows(read(metavision(chunk, chunk, total=6, rows=4))) == [(0, x, 1, 0) for x in (0, 1, 2, 3, 0, 1)]


def test_chunk_that_the_codec_left_alone(metavision):
    plain = np.zeros(4, LAYOUT)
    plain["t"], plain["x"] = [5, 6, 7, 8], [1, 2, 3, 4]
    path = metavision(plain.tobytes(), total=3, rows=4, mask=1)
    assert rows(read(path)) == [(5, 1, 0, 0), (6, 2, 0, 0), (7, 3, 0, 0)]


GOOD = head(3, RUNS, 5) + bytes([0x03]) + u16(1 << 5 | 3) + u16(2 << 5 | 0b11000) + bytes([0x83])
BROKEN = {
    "cut head": GOOD[:11],
    "cut times": GOOD[:12],
    "cut rows": GOOD[:14],
    "cut columns": GOOD[:16],
    "cut polarities": GOOD[:-1],
    "too many times": head(3, RUNS, 5) + bytes([0x04]) + GOOD[13:],
    "too many rows": GOOD[:13] + u16(1 << 5 | 4) + GOOD[15:],
    "too many polarities": GOOD[:-1] + bytes([0x84]),
    "count without end": head(3, RUNS, 5) + bytes([0x0F, 3]),
    "step without end": head(3, RUNS, 5) + bytes([0xF1] * 40),
    "a billion events": head((1 << 30) - 1, RUNS, 5) + GOOD[12:],
    "fewer events": head(2, RUNS, 5) + bytes([0x02]) + u16(1 << 5 | 2) + u16(2 << 5 | 0b10000) + bytes([0x82]),
    "cut pack of columns": head(3, PACKED_XP, 5) + bytes([0x03]) + u16(1 << 5 | 3) + u16(1, 2),
    "cut pack": head(3, PACKED_YXP, 5) + bytes([0x03]) + bytes(11),
    "runs of none": head(3, RUNS, 5) + bytes(40),
}


@pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN)
def test_broken_chunk(metavision, broken):
    path = metavision(GOOD, broken, GOOD, total=9, rows=3)
    with pytest.raises(FormatError, match="offset"):
        read(path)
    with pytest.warns(UserWarning, match="1 x chunk that (does not hold|asks for more)"):
        stream = read(path, strict=False)
    assert rows(stream) == [(5, 2, 1, 1), (5, 3, 1, 1), (5, 4, 1, 1)] * 2


def test_missing_chunk(metavision):
    path = metavision(GOOD, None, GOOD, total=9, rows=3)
    with pytest.raises(FormatError, match="not in the file"):
        read(path)
    with pytest.warns(UserWarning, match="not in the file"):
        assert len(read(path, strict=False)) == 6


def test_missing_chunk_and_one_too_many(metavision):
    """Damage to the extent: the third chunk is behind its end, the second absent; neither stands for the other."""
    path = metavision(GOOD, None, GOOD, total=9, rows=3)
    content = path.read_bytes()
    extent = struct.pack("<QQ", 9, (1 << 64) - 1)
    assert content.count(extent) == 1
    path.write_bytes(content.replace(extent, struct.pack("<QQ", 6, (1 << 64) - 1)))
    with pytest.raises(FormatError, match="not in the file"):
        read(path)
    path.write_bytes(content.replace(extent, struct.pack("<QQ", 3, (1 << 64) - 1)))
    assert len(read(path)) == 3


def test_a_claim_of_many_events_allocates_nothing(metavision):
    with pytest.raises(FormatError, match="not in the file"):
        read(metavision(GOOD, total=1 << 40, rows=3))


@pytest.mark.parametrize("options", [{"chunks": (7,), "compression": "gzip"}, {}])
def test_a_claim_of_many_plain_events(tmp_path, options):
    """HDF5 would read what was never written as zeros."""
    with h5py.File(tmp_path / "a.hdf5", "w") as file:
        file.attrs["geometry"] = "640x480"
        file.create_dataset("CD/events", (1 << 40,), LAYOUT, **options)
    with pytest.raises(FormatError, match=r"claims \d+ bytes"):
        read(tmp_path / "a.hdf5")


def test_outside_the_sensor(metavision):
    chunk = head(3, RUNS, 5) + bytes([0x03]) + u16(1 << 5 | 3) + u16(638 << 5 | 0b11000) + bytes([0x83])
    with pytest.raises(FormatError, match="column 640"):
        read(metavision(chunk, total=3))
    with pytest.warns(UserWarning, match="left out 1"):
        assert rows(read(metavision(chunk, total=3), strict=False)) == [(5, 638, 1, 1), (5, 639, 1, 1)]


@pytest.mark.parametrize("options", [{}, {"chunks": (7,), "compression": "gzip"}, {"chunks": (7,), "shuffle": True}])
def test_plain_events(tmp_path, options):
    """Stored as they are, or in a compression of HDF5's own."""
    path = tmp_path / "a.hdf5"
    events = np.zeros(100, LAYOUT)
    events["t"], events["x"], events["y"], events["p"] = np.arange(100), np.arange(100) % 9, 3, 1
    with h5py.File(path, "w") as file:
        file.attrs["geometry"] = b"640x480"
        file.create_dataset("CD/events", data=events, **options)
    assert rows(read(path)) == [(t, t % 9, 3, 1) for t in range(100)]
    assert_pieces_agree(path, (1, 100, 700))


def test_size_is_asked_for(metavision):
    path = metavision(GOOD, total=3, rows=3, geometry=None)
    with pytest.raises(ArgumentError, match="sensor="):
        read(path)
    assert len(read(path, sensor=VGA)) == 3


@pytest.mark.parametrize(
    "layout", [np.dtype("<i8"), np.dtype([("x", "<u2"), ("t", "<i8")]), np.dtype([(n, "<f4") for n in "xypt"])]
)
def test_other_rows_are_refused(tmp_path, layout):
    with h5py.File(tmp_path / "a.hdf5", "w") as file:
        file["CD/events"] = np.zeros(3, layout)
    with pytest.raises(FormatError, match="whole numbers"):
        read(tmp_path / "a.hdf5")


def test_not_events(tmp_path):
    with h5py.File(tmp_path / "a.hdf5", "w") as file:
        file["other"] = 1
    with pytest.raises(FormatError, match="CD/events"):
        read(tmp_path / "a.hdf5", format="ecf")


@pytest.mark.parametrize("part", ["CD", "CD/events"])
@pytest.mark.parametrize("link", [lambda path: h5py.ExternalLink("b.hdf5", path), lambda path: h5py.SoftLink(path)])
def test_links_are_not_followed(tmp_path, part, link):
    write(random_stream(0, 300, VGA), tmp_path / "b.hdf5", format="ecf")
    with h5py.File(tmp_path / "a.hdf5", "w") as file:
        file[part] = link(f"/{part}")
    with pytest.raises(FormatError, match="CD/events is wanted"):
        read(tmp_path / "a.hdf5", format="ecf")
    with pytest.raises(FormatError, match="no known format" if part == "CD" else "CD/events is wanted"):
        read(tmp_path / "a.hdf5")


@pytest.mark.parametrize("size", [0, 3840, 4096, 1 << 40])
def test_heap_that_hdf5_would_walk_for_ever(tmp_path, size):
    """The free space at the end of the attributes' texts is entry 0; HDF5 hangs if the entry it leads to is empty."""
    path = tmp_path / "a.hdf5"
    stream = random_stream(0, 300, VGA)
    write(stream, path, format="ecf")
    content = bytearray(path.read_bytes())
    heap = content.index(b"GCOL")
    length = struct.unpack_from("<Q", content, heap + 8)[0]
    entry = heap + 16
    while struct.unpack_from("<H", content, entry)[0]:
        entry += 16 + (struct.unpack_from("<Q", content, entry + 8)[0] + 7) // 8 * 8
    assert struct.unpack_from("<Q", content, entry + 8)[0] == heap + length - entry
    struct.pack_into("<Q", content, entry + 8, size)
    path.write_bytes(content)
    assert_same(read(path), stream)


def packed_plainly(path, **options):
    """30 events in one chunk of HDF5's own; returns where it lies."""
    with h5py.File(path, "w") as file:
        file.attrs["geometry"] = "640x480"
        events = file.create_dataset("CD/events", data=np.zeros(30, LAYOUT), chunks=(30,), **options)
        return events.id.get_chunk_info(0).byte_offset


def test_plain_chunk_that_does_not_unpack(tmp_path):
    place = packed_plainly(tmp_path / "a.hdf5", compression="gzip")
    content = bytearray((tmp_path / "a.hdf5").read_bytes())
    content[place] ^= 0xFF
    (tmp_path / "a.hdf5").write_bytes(content)
    with pytest.raises(FormatError, match="decompressing"):
        read(tmp_path / "a.hdf5")


def test_plain_chunk_that_unpacks_to_more(tmp_path):
    packed_plainly(tmp_path / "a.hdf5", compression="gzip")
    with h5py.File(tmp_path / "a.hdf5", "r+") as file:
        file["CD/events"].id.write_direct_chunk((0,), zlib.compress(bytes(1 << 24)))
    with pytest.raises(FormatError, match="unpacks to more"):
        read(tmp_path / "a.hdf5")


def test_filters_that_are_not_undone(tmp_path):
    """A damaged number may name one that the library trusts in what it finds."""
    with h5py.File(tmp_path / "a.hdf5", "w") as file:
        file.attrs["geometry"] = "640x480"
        plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plan.set_chunk((30,))
        plan.set_filter(h5py.h5z.FILTER_NBIT, h5py.h5z.FLAG_OPTIONAL, (0,) * 8)
        space = h5py.h5s.create_simple((30,))
        group = file.create_group("CD").id
        events = h5py.h5d.create(group, b"events", h5py.h5t.py_create(LAYOUT), space, plan)
        events.write_direct_chunk((0,), bytes(480))
    with pytest.raises(FormatError, match="packed by filters"):
        read(tmp_path / "a.hdf5")


def test_file_that_is_open_already(metavision):
    path = metavision(GOOD, total=3, rows=3)
    with h5py.File(path) as theirs:
        recording = open_recording(path)
        assert len(recording.read()) == len(read(path)) == 3
    assert len(recording.read()) == 3
    with h5py.File(path) as theirs:
        assert len(theirs["CD/events"]) == 3


def test_file_written_anew_after_it_was_refused(tmp_path):
    """HDF5 would take it to be the old one, were that open still; the refusal is kept, and what it came through."""
    path = tmp_path / "a.hdf5"
    stream = random_stream(0, 300, VGA)
    write(stream, path, format="ecf")
    content = path.read_bytes()
    assert content.count(b"CD\0") == 1
    path.write_bytes(content.replace(b"CD\0", b"CX\0"))
    with pytest.raises(FormatError) as refused:
        read(path, format="ecf")
    path.write_bytes(content)
    assert_same(read(path), stream)
    assert refused.value.path == path


def test_cut_file(tmp_path):
    path = tmp_path / "a.hdf5"
    write(random_stream(0, 300, VGA), path, format="ecf")
    content = path.read_bytes()
    for size in (*range(0, len(content), len(content) // 40), len(content) - 1):
        path.write_bytes(content[:size])
        with pytest.raises(FormatError):
            read(path, format="ecf")


def test_there_and_back(tmp_path):
    path = tmp_path / "a.hdf5"
    sensor = Sensor(2048, 2048, 2)
    draw = np.random.default_rng(0)
    n = 40_000
    scattered = EventStream.from_numpy(
        np.sort(draw.integers(0, 1 << 40, n)), *draw.integers(0, 2, (3, n)), sensor=sensor
    )
    still = EventStream.from_numpy(
        np.zeros(n, int), np.arange(n) % 2048, np.zeros(n, int), np.ones(n, int), sensor=sensor
    )
    for stream in (random_stream(0, 20_000, sensor), random_stream(1, 0, sensor), scattered, still):
        write(stream, path, format="ecf")
        assert_same(read(path), stream)
    assert_pieces_agree(path, (1, 40_000, 1 << 20))


@pytest.mark.parametrize("style", [RUNS, PACKED_XP, PACKED_YXP])
def test_every_style_is_written_as_it_is_read(metavision, style):
    from spikenet.kernels.events.ecf import HEAD, LARGEST, encode

    stream = random_stream(5, 1003, VGA, 10_000)
    columns = [column.numpy() for column in (stream.t, stream.x, stream.y, stream.p)]
    data = np.empty(HEAD + LARGEST * len(stream), np.uint8)
    chunk = data[: encode(*columns, style, data)].tobytes()
    assert chunk[0] & 3 == style
    assert_same(read(metavision(chunk, total=len(stream))), stream)


def test_written_file_as_evlib_reads_it(tmp_path):
    """It misreads chunks that begin near time 0."""
    evlib = pytest.importorskip("evlib")
    near_0 = random_stream(3, 16384 * 2, VGA)
    stream = EventStream(near_0.t + 1_000_000, near_0.x, near_0.y, near_0.p, VGA)
    write(stream, tmp_path / "a.hdf5", format="ecf")
    theirs = evlib.load_events(str(tmp_path / "a.hdf5"), sort=False).collect()
    np.testing.assert_array_equal(stream.t.numpy(), theirs["t"].to_physical().to_numpy())
    np.testing.assert_array_equal(stream.x.numpy(), theirs["x"].to_numpy())
    np.testing.assert_array_equal(stream.y.numpy(), theirs["y"].to_numpy())
    np.testing.assert_array_equal(stream.p.numpy(), theirs["polarity"].to_numpy() > 0)


def test_index(tmp_path):
    """A row every 2000 us, counted from the first event: the first event that is not before it."""
    stream = EventStream.from_numpy([1000, 1000, 3500, 9000], [0] * 4, [0] * 4, [0] * 4, sensor=VGA)
    write(stream, tmp_path / "a.hdf5", format="ecf")
    with h5py.File(tmp_path / "a.hdf5") as file:
        index = file["CD/indexes"]
        assert index.attrs["offset"] == "-1000"
        assert index["ts"].tolist() == [0, 2000, 4000, 6000, 8000]
        assert index["id"].tolist() == [0, 2, 3, 3, 3]


@pytest.mark.parametrize(
    ("t", "sensor"), [([5, 4], VGA), ([-1, 0], VGA), ([0, 0], Sensor(2049, 9, 2)), ([0, 0], Sensor(9, 9, 1))]
)
def test_what_cannot_be_written(tmp_path, t, sensor):
    with pytest.raises(ArgumentError, match="ECF"):
        write(EventStream.from_numpy(t, [0, 0], [0, 0], [0, 0], sensor=sensor), tmp_path / "a.hdf5", format="ecf")
    assert not list(tmp_path.iterdir())
