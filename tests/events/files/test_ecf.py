"""Metavision HDF5: files made by the official codec, chunks packed by hand, the way back."""

from __future__ import annotations

import struct

import h5py
import numpy as np
import pytest

from spikenet.errors import ArgumentError
from spikenet.events import EventStream, Sensor, open_recording, read, write
from tests.events.files.ecf_bytes import GOOD, LAYOUT, PACKED_XP, PACKED_YXP, RUNS, VGA, head, u16
from tests.events.files.prophesee_bytes import assert_pieces_agree, assert_same, random_stream, rows, sample


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


def test_file_that_is_open_already(metavision):
    path = metavision(GOOD, total=3, rows=3)
    with h5py.File(path) as theirs:
        recording = open_recording(path)
        assert len(recording.read()) == len(read(path)) == 3
    assert len(recording.read()) == 3
    with h5py.File(path) as theirs:
        assert len(theirs["CD/events"]) == 3


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
