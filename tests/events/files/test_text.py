"""Text files of events: lines by hand, numpy's reader, damage, the way back."""

from __future__ import annotations

import numpy as np
import pytest

from spikenet.errors import ArgumentError
from spikenet.events import EventStream, Sensor, read, write
from tests.events.files.aedat_bytes import assert_pieces_agree, random_stream, refusal, rows, stored, tolerated

DAVIS = Sensor(240, 180, 2)


def test_lines_by_hand(tmp_path):
    path = stored(tmp_path / "a.txt", b"0.003811000 96 133 0\n0.003820001 127 171 1\n12 239 179 1\n")
    assert rows(read(path, sensor=DAVIS)) == [(3811, 96, 133, 0), (3820, 127, 171, 1), (12_000_000, 239, 179, 1)]
    assert_pieces_agree(path, (1, 5, 21, 22, 1000), sensor=DAVIS)


def test_blanks_and_line_ends(tmp_path):
    path = stored(tmp_path / "a.txt", b"\n  0.5\t1 2  1 \r\n \r\n1. 3 4 0\r\n\n1.000001 5 6 1")
    assert rows(read(path, sensor=DAVIS)) == [(500_000, 1, 2, 1), (1_000_000, 3, 4, 0), (1_000_001, 5, 6, 1)]
    assert_pieces_agree(path, (1, 3, 8, 16), sensor=DAVIS)


@pytest.mark.parametrize(
    ("seconds", "microseconds"),
    [
        ("0", 0),
        ("1468939802.387571339", 1468939802387571),
        ("1468939802.3875715", 1468939802387572),
        ("0.0000004999", 0),
        ("0.0000005", 1),
        ("0.9999995", 1_000_000),
        ("-0.0000015", -2),
        ("-3.25", -3_250_000),
        ("999999999999.999999", 999_999_999_999_999_999),
        ("1.5e", None),
        ("1e-3", None),
        ("1000000000000", None),
        ("--1", None),
        (".5", None),
        ("nan", None),
        ("1,5", None),
    ],
)
def test_decimal_seconds(seconds, microseconds, tmp_path):
    path = stored(tmp_path / "a.txt", f"{seconds} 1 2 0\n".encode())
    if microseconds is None:
        assert refusal(path, sensor=DAVIS).offset == 0
    else:
        assert read(path, sensor=DAVIS).t.tolist() == [microseconds]


@pytest.mark.parametrize(
    "line",
    [
        b"1 2 3",
        b"1 2 3 1 5",
        b"x",
        b"1 2 3 1.0",
        b"1 -2 3 1",
        b"1 2 3 -1",
        b"1 2 3 x",
        b"1 2 1234567890 1",
        b"1 2 3 100",
    ],
)
def test_lines_that_are_no_events(line, tmp_path):
    good = b"1 2 3 1\n"
    path = stored(tmp_path / "a.txt", good, good, line, b"\n", good)
    assert refusal(path, sensor=DAVIS).offset == 16
    found, dropped = tolerated(path, sensor=DAVIS)
    assert (found, dropped) == ([(1_000_000, 2, 3, 1)] * 3, {"line that is not 't x y p'": 1})


def test_a_line_without_end(tmp_path):
    """Too long for a line, whatever the pieces: it is one line, and not held in memory."""
    good = b"1 2 3 1\n"
    path = stored(tmp_path / "a.txt", good, b"7" * 20_000, b" 1 2 1\n", good, b"1 2 3 1" + b" " * 5000 + b"\n", good)
    assert refusal(path, sensor=DAVIS).offset == 8
    found, dropped = tolerated(path, sensor=DAVIS)
    assert (found, list(dropped.values())) == ([(1_000_000, 2, 3, 1)] * 3, [2])
    recording_sizes = (1, 100, 5000)
    assert_tolerant_pieces_agree(path, recording_sizes, found)


def assert_tolerant_pieces_agree(path, sizes, found):
    from spikenet.events import open_recording

    for size in sizes:
        recording = open_recording(path, sensor=DAVIS, strict=False)
        assert [row for chunk in recording.chunks(size) for row in rows(chunk)] == found
        assert list(recording.dropped.values()) == [2]


def test_truncation_at_every_byte(tmp_path):
    """A cut number may still be a number; anything else is refused."""
    content = b"0.10 23 45 1\n0.25 1 2 0\n"
    whole = [(100_000, 23, 45, 1), (250_000, 1, 2, 0)]
    path = tmp_path / "a.txt"
    for size in range(len(content) + 1):
        stored(path, content[:size])
        lines = content[:size].split(b"\n")
        if all(len(line.split()) in (0, 4) for line in lines):
            found = rows(read(path, sensor=DAVIS))
            assert len(found) == sum(bool(line) for line in lines)
            assert found[: size // 13] == whole[: size // 13]
        else:
            assert refusal(path, sensor=DAVIS).offset == 13 * (size >= 13)


def test_files_are_known_by_their_first_line(tmp_path):
    assert len(read(stored(tmp_path / "events", b"0.1 2 3 1\n"), sensor=DAVIS)) == 1
    assert len(read(stored(tmp_path / "empty.txt"), sensor=DAVIS)) == 0
    with pytest.raises(ArgumentError, match="names no sensor size"):
        read(stored(tmp_path / "b.txt", b"0.1 2 3 1\n"))


def test_round_trip_and_numpy(tmp_path):
    stream, path = random_stream(DAVIS, 2000, 2**40), tmp_path / "a.txt"
    write(stream, path)
    assert rows(read(path, sensor=DAVIS)) == rows(stream)
    assert_pieces_agree(path, (100, 10_000), sensor=DAVIS)
    t, x, y, p = np.loadtxt(path).T
    np.testing.assert_array_equal(np.rint(t * 1e6), stream.t.numpy())
    assert (x.tolist(), y.tolist(), p.tolist()) == (stream.x.tolist(), stream.y.tolist(), stream.p.tolist())


def test_written_lines(tmp_path):
    stream = EventStream.from_numpy([3811, -5, 12_000_000], [1, 2, 3], [4, 5, 6], [0, 1, 1], sensor=DAVIS)
    write(stream, tmp_path / "a.txt")
    assert (tmp_path / "a.txt").read_text() == "0.003811 1 4 0\n-0.000005 2 5 1\n12.000000 3 6 1\n"
    assert rows(read(tmp_path / "a.txt", sensor=DAVIS)) == rows(stream)


@pytest.mark.parametrize(("t", "sensor"), [(10**18, DAVIS), (-(2**63), DAVIS), (0, Sensor(9, 9, 101))])
def test_what_it_cannot_hold(t, sensor, tmp_path):
    with pytest.raises(ArgumentError, match=r"text holds events of .* received"):
        write(EventStream.from_numpy([t], [0], sensor=sensor), tmp_path / "a.txt")
