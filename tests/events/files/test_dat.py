"""Prophesee DAT: a real file against a second decoder, records packed by hand, damage, the way back."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from spikenet.errors import ArgumentError, FormatError
from spikenet.events import EventStream, Sensor, open_recording, read, write
from tests.events.files.prophesee_bytes import assert_pieces_agree, assert_same, random_stream, rows, sample

SIZED = b"% Version 2\n% Width 304\n% Height 240\n"


def record(t, x, y, p):
    return struct.pack("<II", t, p << 28 | y << 14 | x)


@pytest.fixture
def dat(tmp_path):
    def make(*records, head=SIZED, kind=(12, 8), tail=b""):
        path = tmp_path / "a.dat"
        path.write_bytes(head + bytes(kind) + b"".join(record(*each) for each in records) + tail)
        return path

    return make


def test_real_file():
    stream = read(sample("prophesee_dat/tonic_sample_ncars.dat"), sensor=Sensor(120, 100, 2))
    assert len(stream) == 2009
    assert (stream.t.min(), stream.t.max()) == (0, 99952)


def test_real_file_as_expelliarmus_reads_it():
    wizard = pytest.importorskip("expelliarmus").Wizard(encoding="dat")
    path = sample("prophesee_dat/tonic_sample_ncars.dat")
    theirs = wizard.read(str(path))
    stream = read(path, sensor=Sensor(120, 100, 2))
    for name in "txyp":
        np.testing.assert_array_equal(getattr(stream, name).numpy(), theirs[name])


@pytest.mark.parametrize("kind", [0, 12])
def test_records(dat, kind):
    events = [(5, 303, 0, 1), (5, 0, 239, 0), ((1 << 32) - 1, 17, 4, 1)]
    assert rows(read(dat(*events, kind=(kind, 8)))) == events


def test_times_are_kept_as_stored(dat):
    """No wrap is invented where the 32 bits begin again, no order where they step back."""
    events = [((1 << 32) - 1, 1, 1, 1), (0, 1, 1, 1), (7, 1, 1, 1), (6, 1, 1, 1)]
    assert rows(read(dat(*events))) == events


def test_header_is_kept(dat):
    recording = open_recording(dat(head=SIZED + b"% Date 2017-10-31 11:29:21\n"))
    assert recording.header == {"Version": "2", "Width": "304", "Height": "240", "Date": "2017-10-31 11:29:21"}
    assert recording.sensor == Sensor(304, 240, 2)


def test_end_line_protects_a_body_that_begins_with_a_percent_sign(dat):
    path = dat((ord("%"), 1, 2, 1), head=SIZED + b"% end\n", kind=(0, 8))
    assert rows(read(path)) == [(ord("%"), 1, 2, 1)]


def test_size_is_asked_for(dat):
    path = dat((1, 2, 3, 0), head=b"% Version 2\n")
    with pytest.raises(ArgumentError, match="sensor="):
        read(path)
    assert rows(read(path, sensor=Sensor(4, 4, 2))) == [(1, 2, 3, 0)]


def test_no_events(tmp_path):
    path = tmp_path / "a.dat"
    path.write_bytes(SIZED + bytes([12, 8]))
    assert len(read(path)) == 0


@pytest.mark.parametrize("kind", [(14, 8), (12, 7), (12,), ()])
def test_other_records_are_refused(dat, kind):
    with pytest.raises(FormatError, match=f"offset {len(SIZED)}"):
        read(dat(kind=kind))


@pytest.mark.parametrize(
    "size", [b"% Width 0\n% Height 5\n", b"% Width x\n% Height 5\n", b"% Width 99999\n% Height 5\n"]
)
def test_impossible_size(dat, size):
    with pytest.raises(FormatError, match="sensor size"):
        read(dat(head=size))


@pytest.mark.parametrize("content", [b"", b"\x00\x01\x02"])
def test_no_header(tmp_path, content):
    path = tmp_path / "a.dat"
    path.write_bytes(content)
    with pytest.raises(FormatError, match="%"):
        read(path, format="dat")


def test_header_without_end(tmp_path):
    path = tmp_path / "a.dat"
    path.write_bytes(b"% a b\n" * 20_000)
    with pytest.raises(FormatError, match="does not end"):
        read(path)


def test_cut_at_every_byte(dat):
    """A file cut anywhere behind its header says where, or gives the whole records and the count of the rest."""
    content = dat((1, 2, 3, 0), (2, 3, 4, 1)).read_bytes()
    start = len(SIZED) + 2
    for size in range(start, len(content) + 1):
        path = dat()
        path.write_bytes(content[:size])
        left = (size - start) % 8
        if left == 0:
            assert len(read(path)) == (size - start) // 8
            continue
        with pytest.raises(FormatError, match=f"offset {size - left}"):
            read(path)
        recording = open_recording(path, strict=False)
        with pytest.warns(UserWarning, match=f"{left} x bytes"):
            assert len(recording.read()) == (size - start) // 8
        assert list(recording.dropped.values()) == [left]


@pytest.mark.parametrize("outside", [(1, 304, 0, 0), (1, 0, 240, 0), (1, 16383, 16383, 1)])
def test_outside_the_sensor(dat, outside):
    path = dat((0, 0, 0, 0), outside, (2, 303, 239, 1))
    with pytest.raises(FormatError, match="first number 1"):
        read(path)
    with pytest.warns(UserWarning, match="left out 1"):
        assert rows(read(path, strict=False)) == [(0, 0, 0, 0), (2, 303, 239, 1)]


def test_pieces_and_slices(dat):

    path = dat(*((t, t % 304, t % 240, t % 2) for t in range(100)))
    assert_pieces_agree(path, range(1, 90))
    assert [row[0] for row in rows(open_recording(path).slice(10, 20))] == list(range(10, 20))


def test_there_and_back(tmp_path):
    path = tmp_path / "a.dat"
    for stream in (random_stream(0, 500, Sensor(640, 480, 2)), random_stream(1, 0, Sensor(1, 1, 2))):
        write(stream, path)
        assert_same(read(path), stream)
    corners = EventStream.from_numpy(
        [(1 << 32) - 1, 0], [16383, 0], [0, 16383], [1, 0], sensor=Sensor(1 << 14, 1 << 14, 2)
    )
    write(corners, path)
    assert_same(read(path), corners)


def test_what_is_written(tmp_path):
    path = tmp_path / "a.dat"
    write(EventStream.from_numpy([9], [3], [2], [1], sensor=Sensor(304, 240, 2)), path)
    content = path.read_bytes()
    assert content.startswith(b"% ")
    assert content.endswith(bytes([12, 8]) + record(9, 3, 2, 1))


@pytest.mark.parametrize(
    ("t", "sensor"),
    [(1 << 32, Sensor(9, 9, 2)), (-1, Sensor(9, 9, 2)), (0, Sensor((1 << 14) + 1, 9, 2)), (0, Sensor(9, 9, 1))],
)
def test_what_cannot_be_written(tmp_path, t, sensor):
    stream = EventStream.from_numpy([t], [0], [0], [0], sensor=sensor)
    with pytest.raises(ArgumentError, match="DAT"):
        write(stream, tmp_path / "a.dat")
    assert not list(tmp_path.iterdir())
