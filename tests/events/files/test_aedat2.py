"""AEDAT 1.0 and 2.0: records packed by hand, what ends a header, what tells the layout, damage, the way back."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from spikenet.errors import ArgumentError
from spikenet.events import EventStream, Sensor, read, write
from tests.events.files.aedat_bytes import (
    DVS128,
    assert_pieces_agree,
    random_stream,
    refusal,
    rows,
    sample,
    stored,
    tolerated,
)

DAVIS240 = Sensor(240, 180, 2)


def header(chip: str | None, *lines: bytes, end: bytes = b"\r\n") -> bytes:
    named = [b"# AEChip: " + chip.encode()] if chip else []
    return b"".join(line + end for line in (b"#!AER-DAT2.0", b"# This is a raw AE data file", *named, *lines))


def davis(t: int, x: int, y: int, p: int, flags: int = 0) -> bytes:
    return struct.pack(">Ii", y << 22 | x << 12 | p << 11 | flags, t)


def dvs(t: int, x: int, y: int, p: int, flags: int = 0) -> bytes:
    return struct.pack(">Ii", y << 8 | x << 1 | p | flags, t)


def test_a_real_header_without_events():
    stream = read(sample("aedat2/tonic_sample_aedat_header.aedat"))
    assert (len(stream), stream.sensor) == (0, Sensor(346, 260, 2))


def test_one_record_of_each_layout_byte_by_byte(tmp_path):
    """DVS128: row 0x12, column 0x34, ON: 0x1269; t = 0x01020304. DAVIS: row 5, column 7, OFF: 5 << 22 | 7 << 12."""
    body = bytes([0, 0, 0x12, 0x69, 1, 2, 3, 4])
    assert rows(read(stored(tmp_path / "a.aedat", header("DVS128"), body))) == [(0x01020304, 0x34, 0x12, 1)]
    body = bytes([0x01, 0x40, 0x70, 0x00, 0, 0, 0, 9])
    assert rows(read(stored(tmp_path / "b.aedat", header("a.b.DAVIS240C"), body))) == [(9, 7, 5, 0)]


def test_dvs128_leaves_special_events_out(tmp_path):
    events = [(1, 0, 0, 0), (2, 127, 127, 1), (2, 5, 64, 1)]
    others = [dvs(3, 1, 1, 0, 1 << 15), dvs(3, 1, 1, 0, 1 << 31)]
    path = stored(tmp_path / "a.aedat", header("x.DVS128"), *(dvs(*event) for event in events), *others)
    assert rows(read(path)) == events
    assert_pieces_agree(path, (1, 8, 9, 17, 1000))


def test_davis_leaves_frames_and_external_events_out(tmp_path):
    events = [(1, 0, 0, 0), (2, 239, 179, 1)]
    others = [davis(3, 1, 1, 0, 1 << 31), davis(3, 1, 1, 0, 1 << 10), davis(4, 1, 1, 1, 3 << 10)]
    path = stored(tmp_path / "a.aedat", header("DAVIS240C"), *others, *(davis(*event) for event in events))
    assert rows(read(path)) == events
    assert_pieces_agree(path, (1, 8, 100))


def test_time_is_signed_and_may_step_back(tmp_path):
    times = [5, -3, -(2**31), 2**31 - 1]
    path = stored(tmp_path / "a.aedat", header("DVS128"), *(dvs(t, 1, 2, 0) for t in times))
    assert read(path).t.tolist() == times


def test_version_1_has_no_mark_and_6_bytes_an_event(tmp_path):
    """Row 0x12, column 0x34, ON; t = 0xFFFFFFFE has no sign; bit 15 is no event."""
    body = bytes([0x12, 0x69, 0xFF, 0xFF, 0xFF, 0xFE, 0x80, 0x00, 0, 0, 0, 1])
    path = stored(tmp_path / "a.aedat", body)
    assert rows(read(path, sensor=DVS128)) == [(0xFFFFFFFE, 0x34, 0x12, 1)]
    assert rows(read(stored(path, b"# a line\r\n", body), sensor=DVS128)) == [(0xFFFFFFFE, 0x34, 0x12, 1)]


@pytest.mark.parametrize("tail", [b"\x12\x02", b"\x7f", b"ab\r"])
def test_a_body_may_begin_with_the_sign_of_a_header_line(tail, tmp_path):
    """0x23 begins the address of row 140 or so of a DAVIS; only a whole printable line is header."""
    event = (b"#" + tail).ljust(4, b"\0") + struct.pack(">i", 70)
    (address,) = struct.unpack(">I", event[:4])
    assert not address & 0x80000400
    expected = (70, address >> 12 & 0x3FF, address >> 22 & 0x1FF, address >> 11 & 1)
    path = stored(tmp_path / "a.aedat", header("DAVIS346"), event)
    assert rows(read(path, sensor=Sensor(1024, 512, 2))) == [expected]


def test_the_line_that_ends_a_header_ends_it(tmp_path):
    """The bytes behind it look like a header line, but are the record 0x23202020, 0x20200D0A."""
    path = stored(tmp_path / "a.aedat", header("DAVIS640", b"#End Of ASCII Header"), b"#     \r\n")
    assert rows(read(path, sensor=Sensor(1024, 512, 2))) == [(0x20200D0A, 0x202, 0x23202020 >> 22, 0)]


def test_one_line_end_serves_the_whole_header(tmp_path):
    """Lines that end in LF alone: the sample has them. Behind CRLF lines, such a line is body."""
    path = stored(tmp_path / "a.aedat", header("DVS128", end=b"\n"), dvs(1, 2, 3, 1))
    assert rows(read(path)) == [(1, 2, 3, 1)]
    path = stored(tmp_path / "b.aedat", header("DAVIS346"), b"#     \n\n")
    assert len(read(path, sensor=Sensor(1024, 512, 2))) == 1


@pytest.mark.parametrize(
    ("chip", "sensor"),
    [
        ("ch.unizh.ini.jaer.chip.retina.DVS128", DVS128),
        ("eu.seebetter.ini.chips.davis.DAVIS240C", DAVIS240),
        ("eu.seebetter.ini.chips.davis.Davis346red", Sensor(346, 260, 2)),
        ("DAVIS240B", DAVIS240),
    ],
)
def test_the_chip_names_the_sensor(chip, sensor, tmp_path):
    assert read(stored(tmp_path / "a.aedat", header(chip))).sensor == sensor


def test_an_unknown_chip_asks_for_the_sensor(tmp_path):
    path = stored(tmp_path / "a.aedat", header("org.ine.telluride.Strange"), dvs(1, 2, 3, 1))
    for sensor in (None, Sensor(100, 100, 2)):
        with pytest.raises(ArgumentError, match=r"chip 'org.ine.telluride.Strange', .* Sensor\(128, 128, 2\) \(DVS128"):
            read(path, sensor=sensor)
    assert rows(read(path, sensor=DVS128)) == [(1, 2, 3, 1)]
    path = stored(tmp_path / "b.aedat", header(None), davis(1, 200, 150, 1))
    assert rows(read(path, sensor=DAVIS240)) == [(1, 200, 150, 1)]


def test_polarity_is_the_stored_bit_unless_a_flip_is_asked_for(tmp_path):
    path = stored(tmp_path / "a.aedat", header("DVS128"), dvs(1, 2, 3, 0))
    assert rows(read(path, flip_p=True, flip_x=True, flip_y=True)) == [(1, 125, 124, 1)]


def test_unknown_versions_are_named(tmp_path):
    path = stored(tmp_path / "a.aedat", b"#!AER-DAT2.7\r\n")
    assert "known format" in str(refusal(path))
    assert "this is #!AER-DAT2.7" in str(refusal(path, format="aedat2"))


def test_truncation_at_every_byte(tmp_path):
    events = [(1, 2, 3, 1), (300, 127, 0, 0), (70000, 0, 127, 1)]
    begin, body = header("DVS128"), b"".join(dvs(*event) for event in events)
    for size in range(len(body)):
        path, left = stored(tmp_path / "a.aedat", begin, body[:size]), size % 8
        if left == 0:
            assert rows(read(path)) == events[: size // 8]
            continue
        assert refusal(path).offset == len(begin) + size - left
        found, dropped = tolerated(path)
        assert (found, list(dropped.values())) == (events[: size // 8], [left])


@pytest.mark.parametrize("sensor", [DVS128, DAVIS240, Sensor(346, 260, 2), Sensor(640, 480, 2), Sensor(208, 192, 2)])
def test_round_trip(sensor, tmp_path):
    stream, path = random_stream(sensor, 500, 2**31), tmp_path / "a.aedat"
    write(stream, path, format="aedat2")
    again = read(path)
    assert (rows(again), again.sensor) == (rows(stream), sensor)
    assert_pieces_agree(path, (64, 999))


def test_written_bytes(tmp_path):
    t, x, y, p = np.array([[9, 7, 5, 1]]).T
    write(EventStream.from_numpy(t, x, y, p, sensor=DAVIS240), tmp_path / "a.aedat2")
    assert (tmp_path / "a.aedat2").read_bytes().endswith(b"\r\n" + davis(9, 7, 5, 1))


@pytest.mark.parametrize(("t", "sensor"), [(2**31, DVS128), (-(2**31) - 1, DVS128), (0, Sensor(34, 34, 2))])
def test_what_it_cannot_hold(t, sensor, tmp_path):
    with pytest.raises(ArgumentError, match=r"AEDAT 2.0 holds events of 128 x 128 x 2, .* received"):
        write(EventStream.from_numpy([t], [0], sensor=sensor), tmp_path / "a", format="aedat2")
