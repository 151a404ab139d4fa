"""Prophesee EVT2.1: words packed by hand in both orders, damage, the way back. There is no real file to test with."""

from __future__ import annotations

import struct

import pytest

from spikenet.errors import ArgumentError, FormatError
from spikenet.events import EventStream, Sensor, open_recording, read, write
from tests.events.files.prophesee_bytes import (
    assert_pieces_agree,
    assert_same,
    evt21,
    evt21_events,
    evt21_high,
    random_stream,
    raw,
    rows,
)

VGA = Sensor(640, 480, 2)
TOP = (1 << 28) - 1
WORDS = [
    evt21_high(2),
    evt21_events(5, 600, 7, 1, 0b1000_0000_0000_0000_0000_0000_0000_0011),
    evt21_events(63, 0, 479, 0, 1),
]
EVENTS = [(133, 600, 7, 1), (133, 601, 7, 1), (133, 631, 7, 1), (191, 0, 479, 0)]


def turned(*words: int) -> bytes:
    """The upper half first, each half little-endian."""
    return b"".join(struct.pack("<II", word >> 32, word & 0xFFFFFFFF) for word in words)


def test_published_example_of_the_two_orders():
    """Prophesee's page sends 0x0102030405060708 as 04 03 02 01 08 07 06 05 or as 08 07 06 05 04 03 02 01."""
    assert turned(0x0102030405060708).hex() == "0403020108070605"
    assert evt21(0x0102030405060708).hex() == "0807060504030201"


def test_words(tmp_path):
    assert rows(read(raw(tmp_path / "a.raw", "2.1", evt21(*WORDS)))) == EVENTS


@pytest.mark.parametrize("said", ["% format EVT21;endianness=legacy;height=480;width=640", None])
def test_words_in_turned_order(tmp_path, said):
    lines = [said, "% end"] if said else []
    assert rows(read(raw(tmp_path / "a.raw", "2.1", turned(*WORDS), *lines))) == EVENTS


def test_what_the_header_says_of_the_order_goes_first(tmp_path):
    head = ["% format EVT21;endianness=little;height=480;width=640", "% end"]
    assert rows(read(raw(tmp_path / "a.raw", "2.1", evt21(*WORDS), *head))) == EVENTS
    assert rows(read(raw(tmp_path / "a.raw", "2.1", turned(*WORDS), *head))) != EVENTS


def test_a_mask_is_no_time(tmp_path):
    """The mask of the first events looks like a TIME_HIGH of the turned order; its other half shows that it is none."""
    early = evt21_events(1, 32, 9, 1, 0x8000_0001)
    recording = open_recording(raw(tmp_path / "a.raw", "2.1", evt21(early, *WORDS)))
    assert rows(recording.read()) == EVENTS
    assert recording.dropped == {"event before the first time stamp": 2}


def test_all_bits_of_a_mask(tmp_path):
    body = evt21(evt21_high(0), evt21_events(0, 32, 1, 0, 0xFFFFFFFF), evt21_events(0, 64, 1, 0, 0))
    assert rows(read(raw(tmp_path / "a.raw", "2.1", body))) == [(0, x, 1, 0) for x in range(32, 64)]


def test_other_words_are_skipped_and_counted(tmp_path):
    body = evt21(evt21_high(1), 0xA << 60, 0xE << 60 | 3, 0xF << 60, 0x7 << 60, evt21_events(0, 1, 2, 0, 1))
    recording = open_recording(raw(tmp_path / "a.raw", "2.1", body))
    assert rows(recording.read()) == [(64, 1, 2, 0)]
    assert sum(recording.dropped.values()) == 4


def test_only_the_whole_range_back_is_a_wrap(tmp_path):
    highs = (TOP, 0, TOP, 1, TOP, 0)
    body = evt21(*(word for high in highs for word in (evt21_high(high), evt21_events(0, 1, 1, 0, 1))))
    times = [row[0] >> 6 for row in rows(read(raw(tmp_path / "a.raw", "2.1", body)))]
    loop = 1 << 28
    assert times == [TOP, loop, loop + TOP, loop + 1, loop + TOP, 2 * loop]


def test_cut_word(tmp_path):
    path = raw(tmp_path / "a.raw", "2.1", evt21(*WORDS)[:-1])
    with pytest.raises(FormatError, match=f"offset {path.stat().st_size - 7}"):
        read(path)
    with pytest.warns(UserWarning, match="7 x bytes"):
        assert rows(read(path, strict=False)) == EVENTS[:3]


def test_outside_the_sensor(tmp_path):
    path = raw(tmp_path / "a.raw", "2.1", evt21(evt21_high(0), evt21_events(0, 632, 1, 1, 1 << 7 | 1 << 8)))
    with pytest.raises(FormatError, match="column 640"):
        read(path)
    with pytest.warns(UserWarning, match="left out 1"):
        assert rows(read(path, strict=False)) == [(0, 639, 1, 1)]


@pytest.mark.parametrize("pack", [evt21, turned])
def test_pieces(tmp_path, pack):
    words = [evt21_events(0, 0, 0, 0, 7), 0xA << 60]
    words += [
        w
        for high in range(9)
        for w in (evt21_high(high), evt21_events(high, 32 * high, high, high % 2, 0x10101 * high))
    ]
    path = raw(tmp_path / "a.raw", "2.1", pack(*words))
    assert_pieces_agree(path, range(1, 8 * len(words) + 9, 5))


def test_there_and_back(tmp_path):
    path = tmp_path / "a.raw"
    sensor = Sensor(2048, 2048, 2)
    for stream in (random_stream(0, 2000, sensor, 200), random_stream(1, 0, sensor)):
        write(stream, path, format="evt21")
        assert_same(read(path), stream)


@pytest.mark.parametrize(
    "t", [[(1 << 34) - 1, 1 << 34], [5, (1 << 36) + 7], [(1 << 34) - 1, 0], [(1 << 35) - 70, (1 << 34) + 3]]
)
def test_times_there_and_back(tmp_path, t):
    stream = EventStream.from_numpy(t, [3] * len(t), [4] * len(t), [1] * len(t), sensor=VGA)
    write(stream, tmp_path / "a.raw", format="evt21")
    assert_same(read(tmp_path / "a.raw"), stream)


def test_neighbours_share_a_word_and_keep_their_order(tmp_path):
    x = [33, 35, 63, 64, 40, 39]  # the fourth lies in the next group of columns, the last steps back
    stream = EventStream.from_numpy([64] * 6, x, [2] * 6, [1] * 6, sensor=VGA)
    write(stream, tmp_path / "a.raw", format="evt21")
    masks = [(32, 1 << 1 | 1 << 3 | 1 << 31), (64, 1), (32, 1 << 8), (32, 1 << 7)]
    body = evt21(evt21_high(1), *(evt21_events(0, column, 2, 1, mask) for column, mask in masks))
    assert (tmp_path / "a.raw").read_bytes().partition(b"% end\n")[2] == body
    assert_same(read(tmp_path / "a.raw"), stream)


@pytest.mark.parametrize(("t", "sensor"), [([-1], VGA), ([0], Sensor(9, 2049, 2)), ([1 << 34, 5], VGA)])
def test_what_cannot_be_written(tmp_path, t, sensor):
    zeros = [0] * len(t)
    with pytest.raises(ArgumentError, match=r"EVT2\.1"):
        write(EventStream.from_numpy(t, zeros, zeros, zeros, sensor=sensor), tmp_path / "a.raw", format="evt21")
