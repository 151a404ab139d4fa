"""AEDAT 3.1: packets built by hand, what is left out, headers that cannot be, the way back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spikenet.errors import ArgumentError
from spikenet.events import EventStream, Sensor, open_recording, read, write
from tests.events.files.aedat_bytes import (
    DVS128,
    assert_pieces_agree,
    header3,
    packet3,
    polarity3,
    random_stream,
    refusal,
    rows,
    stored,
    tolerated,
)

EVENTS = [(1, 0, 0, 0), (5, 127, 126, 1), (5, 3, 2, 1), (70000, 9, 8, 0)]
SIZES = (1, 3, 8, 28, 29, 50, 1000)


def polarities(*events: tuple[int, ...], **options: int) -> bytes:
    return packet3(b"".join(polarity3(*event) for event in events), **options)


def test_one_event_byte_by_byte(tmp_path):
    """Header fields of 2 and 4 bytes, little-endian; column 0x12 << 17 | row 0x34 << 2 | ON << 1 | valid = 0x2400D3."""
    head = bytes([1, 0, 1, 0, 8, 0, 0, 0, 4, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0])
    path = stored(tmp_path / "a.aedat", header3(), head, bytes([0xD3, 0x00, 0x24, 0x00, 0x44, 0x33, 0x22, 0x11]))
    stream = read(path)
    assert rows(stream) == [(2 << 31 | 0x11223344, 0x12, 0x34, 1)]
    assert stream.sensor == DVS128


def test_packets_in_pieces(tmp_path):
    path = stored(tmp_path / "a.aedat", header3(), polarities(*EVENTS[:3]), polarities(), polarities(*EVENTS[3:]))
    assert rows(read(path)) == EVENTS
    assert_pieces_agree(path, SIZES)


def test_header_only(tmp_path):
    assert len(read(stored(tmp_path / "a.aedat", header3()))) == 0


def test_overflows_of_the_time(tmp_path):
    """31 bits, then the count of overflows above them."""
    last = 2**31 - 1
    packets = [polarities((t, 1, 2, 0), epoch=epoch) for epoch, t in ((0, last), (1, 0), (1, last), (5, 7))]
    path = stored(tmp_path / "a.aedat", header3(), *packets)
    assert read(path).t.tolist() == [last, 2**31, 2**32 - 1, (5 << 31) + 7]
    assert_pieces_agree(path, SIZES)


def test_invalid_events_are_left_out_and_counted(tmp_path):
    body = polarity3(*EVENTS[0]) + polarity3(2, 300, 300, 1, valid=0) + polarity3(*EVENTS[1])
    path = stored(tmp_path / "a.aedat", header3(), packet3(body))
    recording = open_recording(path)
    assert rows(recording.read()) == EVENTS[:2]
    assert recording.dropped == {"event marked invalid": 1}
    assert_pieces_agree(path, SIZES)


@pytest.mark.parametrize("kind", [0, 2, 3, 4, 5, 6, 7, 12])
def test_other_packets_are_passed_over_and_counted(kind, tmp_path):
    other = packet3(bytes([0xFF]) * 66, kind=kind, size=22)
    path = stored(tmp_path / "a.aedat", header3(), other, polarities(*EVENTS), other)
    recording = open_recording(path)
    assert rows(recording.read()) == EVENTS
    assert list(recording.dropped.values()) == [6]
    assert_pieces_agree(path, SIZES)


def test_a_second_source_is_left_out_and_counted(tmp_path):
    path = stored(tmp_path / "a.aedat", header3(), polarities(*EVENTS, source=3), polarities(*EVENTS[:2], source=4))
    recording = open_recording(path)
    assert rows(recording.read()) == EVENTS
    assert list(recording.dropped.values()) == [2]


def test_a_capacity_that_is_not_the_number_stops_the_reader(tmp_path):
    good, bad = polarities(*EVENTS), packet3(polarity3(1, 1, 1, 1), capacity=2) + bytes(8)
    path, at = stored(tmp_path / "a.aedat", header3(), good, bad, good), len(header3() + good)
    error = refusal(path)
    assert (error.offset, "capacity that is not its number" in str(error)) == (at, True)
    found, dropped = tolerated(path)
    assert (found, list(dropped.values())) == (EVENTS, [len(bad + good)])


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"kind": -1}, "negative"),
        ({"size": -8, "number": 1}, "negative"),
        ({"number": -1}, "negative"),
        ({"epoch": -1}, "negative"),
        ({"size": 16, "number": 1}, "another size than 8"),
        ({"size": 0, "number": 1}, "another size than 8"),
    ],
)
def test_headers_that_cannot_be(changes, reason, tmp_path):
    good, bad = polarities(*EVENTS), packet3(bytes(16), **changes)
    path = stored(tmp_path / "a.aedat", header3(), good, bad)
    error = refusal(path)
    assert (error.offset, reason in str(error)) == (len(header3() + good), True)
    found, dropped = tolerated(path)
    assert (found, list(dropped.values())) == (EVENTS, [len(bad)])
    for size in SIZES:
        recording = open_recording(path, strict=False)
        assert [row for chunk in recording.chunks(size) for row in rows(chunk)] == EVENTS


@pytest.mark.parametrize(("kind", "size"), [(1, 8), (2, 2**31 - 1), (3, 8)])
def test_a_packet_that_claims_what_is_not_there(kind, size, tmp_path):
    """2^31 - 1 events: what there is of them is read or passed over, what is not is counted."""
    body = b"".join(polarity3(*event) for event in EVENTS) + b"\x01\x02\x03"
    claim = packet3(body, kind=kind, size=size, number=2**31 - 1)
    path = stored(tmp_path / "a.aedat", header3(), claim)
    assert refusal(path).offset == len(header3())
    found, dropped = tolerated(path)
    present = len(body) // size
    assert found == (EVENTS if kind == 1 else [])
    assert dropped.pop("event missing: its packet reaches past the end of the file") == 2**31 - 1 - present
    assert sum(dropped.values()) == (0 if kind == 1 else present)
    for step in SIZES:
        recording = open_recording(path, strict=False)
        assert [row for chunk in recording.chunks(step) for row in rows(chunk)] == found


def test_a_negative_time_is_damage(tmp_path):
    good = polarities(EVENTS[0])
    path = stored(tmp_path / "a.aedat", header3(), good, polarities(EVENTS[1], (-1, 1, 1, 0), (-2, 1, 1, 0)))
    assert refusal(path).offset == len(header3() + good) + 28 + 8
    found, dropped = tolerated(path)
    assert (found, dropped) == (EVENTS[:2], {"event with a negative time": 2})


def test_truncation_at_every_byte(tmp_path):
    begin, first = header3(), polarities(*EVENTS[:2])
    whole = begin + first + polarities(*EVENTS[2:])
    path = tmp_path / "a.aedat"
    for size in range(len(begin), len(whole)):
        stored(path, whole[:size])
        if size in (len(begin), len(begin + first)):
            assert rows(read(path)) == EVENTS[: 2 * (size > len(begin))]
            continue
        assert refusal(path).offset == (len(begin) if size < len(begin + first) else len(begin + first))
        found, _ = tolerated(path)
        assert found == EVENTS[: len(found)]
    for size in range(len("#!AER-DAT3."), len(begin)):
        assert "END-HEADER" in str(refusal(stored(path, whole[:size])))


@pytest.mark.parametrize(
    ("lines", "version", "reason"),
    [
        (("#Format: RAW",), "3.2", r"this is #!AER-DAT3.2"),
        (("#Format: Serial-TS",), "3.1", "this is #Format: Serial-TS"),
        (("no sign",), "3.1", "there is b'no sign"),
    ],
)
def test_headers_of_other_formats(lines, version, reason, tmp_path):
    assert reason in str(refusal(stored(tmp_path / "a.aedat", header3(*lines, version=version))))


@pytest.mark.parametrize(
    ("source", "sensor"),
    [
        ("#Source 1: DVS128", DVS128),
        ("#Source 2: DAVIS240C", Sensor(240, 180, 2)),
        ("#-Source 1: DAVIS346", Sensor(346, 260, 2)),
    ],
)
def test_the_source_names_the_sensor(source, sensor, tmp_path):
    assert read(stored(tmp_path / "a.aedat", header3("#Format: RAW", "#Source 0: Mixer", source))).sensor == sensor


def test_a_source_without_a_known_size_asks_for_it(tmp_path):
    path = stored(tmp_path / "a.aedat", header3("#Source 1: Strange"), polarities(*EVENTS))
    with pytest.raises(ArgumentError, match="names no sensor size"):
        read(path)
    assert rows(read(path, sensor=DVS128)) == EVENTS


@pytest.mark.parametrize("until", [1000, 2**33])
def test_round_trip(until, tmp_path):
    stream, path = random_stream(DVS128, 10_000, until), tmp_path / "a.aedat"
    write(stream, path, format="aedat3")
    again = read(path)
    assert (rows(again), again.sensor) == (rows(stream), DVS128)
    assert_pieces_agree(path, (777, 40_000))


@given(st.lists(st.integers(0, 2**62 - 1), max_size=9))
def test_round_trip_of_any_times(times):
    import tempfile
    from pathlib import Path

    stream = EventStream.from_numpy(times, [3] * len(times), sensor=DVS128)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.aedat3"
        write(stream, path)
        assert read(path).t.tolist() == times


def test_written_bytes(tmp_path):
    write(EventStream.from_numpy([2**31 + 9], [7], [5], [1], sensor=DVS128), tmp_path / "a.aedat3")
    assert (tmp_path / "a.aedat3").read_bytes().endswith(b"\r\n" + polarities((9, 7, 5, 1), epoch=1))


@pytest.mark.parametrize(("t", "sensor"), [(-1, DVS128), (2**62, DVS128), (0, Sensor(34, 34, 2))])
def test_what_it_cannot_hold(t, sensor, tmp_path):
    with pytest.raises(ArgumentError, match=r"AEDAT 3.1 holds events of 128 x 128 x 2, .* received"):
        write(EventStream.from_numpy([t], [0], sensor=sensor), tmp_path / "a", format="aedat3")
