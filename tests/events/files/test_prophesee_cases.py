"""The corners of Prophesee's formats, from their descriptions: DAT, EVT2, EVT2.1, EVT3, ECF."""

from __future__ import annotations

import struct

import pytest

from spikenet.events import Sensor, open_recording, read
from tests.events.files.agreement import refused, rows, tolerated
from tests.events.files.encoders import ecf
from tests.events.files.encoders import prophesee as p
from tests.events.files.samples import HD, VGA, Event, events, neighbours

# DAT and the word formats.


def test_dat_of_triggers_is_refused(tmp_path):
    refused(tmp_path / "a", p.dat(events(3, VGA), kind=14), "dat", sensor=VGA)
    refused(tmp_path / "a", p.dat(events(3, VGA), size=16), "dat", sensor=VGA)


def evt2_time(*parts: bytes) -> bytes:
    return p.evt2(b"".join(parts))


def test_evt2_before_its_time_and_between_events(check):
    on = p.evt2_word(1, 5, 10, 20)
    body = [on, on, p.evt2_time_high(3), on, p.evt2_trigger(6), p.evt2_word(0, 7, 1, 2), p.evt2_time_high(3), on]
    base = 3 << 6
    expected = [(base + 5, 10, 20, 1), (base + 7, 1, 2, 0), (base + 5, 10, 20, 1)]
    check("evt2", evt2_time(*body), expected, 3, sensor=VGA)


def test_evt2_vendor_words_are_no_events(check):
    on = p.evt2_word(1, 5, 10, 20)
    vendor = struct.pack("<II", 0xE << 28 | 77, 0xF << 28 | 99)
    check("evt2", evt2_time(p.evt2_time_high(0), vendor, on, vendor), [(5, 10, 20, 1)], None, sensor=VGA)


def test_evt2_and_evt21_count_on_where_their_34_bits_end(check):
    expected = [(2**34 - 1, 1, 1, 1), (2**34, 2, 2, 0), (2**34 + 700, 3, 3, 1)]
    check("evt2", p.evt2(p.evt2_body(expected)), expected, sensor=VGA)
    check("evt21", p.evt21(p.evt21_words(expected)), expected)


def test_evt2_and_evt21_time_that_steps_back_is_no_wrap(check):
    expected = [(1 << 30, 1, 1, 1), (1 << 20, 2, 2, 0), (100, 3, 3, 1)]
    check("evt2", p.evt2(p.evt2_body(expected)), expected, sensor=VGA)
    check("evt21", p.evt21(p.evt21_words(expected)), expected)


@pytest.mark.parametrize("legacy", [False, True])
def test_evt21_masks(legacy, check):
    words = [p.evt21_word(1, 3, 0, 0, 0xFFFFFFFF)]  # before its time: 32 events
    words += [p.evt21_time_high(2), p.evt21_word(1, 3, 64, 9, 0x80000001), p.evt21_word(0, 4, 0, 719, 0)]
    words += [p.evt21_trigger(5), p.evt21_word(0, 6, 1248, 719, 0xFFFFFFFF)]
    base = 2 << 6
    expected = [(base + 3, 64, 9, 1), (base + 3, 95, 9, 1)] + [(base + 6, 1248 + i, 719, 0) for i in range(32)]
    check("evt21", p.evt21(words, legacy=legacy), expected, None)


def test_evt21_orders_agree(check):
    few = neighbours(100, HD)
    for legacy in (False, True):
        check("evt21", p.evt21(p.evt21_words(few), legacy=legacy), few)


@pytest.mark.parametrize("line", ["geometry 1280x720", "format EVT3;height=720;width=1280"])
def test_raw_headers_name_the_sensor(line, tmp_path):
    (tmp_path / "a.raw").write_bytes(p.evt3(p.evt3_words(events(3, HD)), line))
    assert read(tmp_path / "a.raw").sensor == HD


def test_raw_header_without_end(check):
    few = events(6, HD)
    check("evt3", p.evt3(p.evt3_words(few), "format EVT3;height=720;width=1280", end=False), few)


def test_raw_data_that_begin_like_a_header_line(check):
    """The lower byte of the first word is a percent sign: only ``% end`` tells."""
    words = [p.time_high(0x025), p.time_low(0xA25), p.addr_y(1), p.addr_x(2, 1)]
    assert struct.pack("<H", words[0])[:1] == b"%"
    check("evt3", p.evt3(words), [(0x25 << 12 | 0xA25, 2, 1, 1)])


EVT3_START = [p.time_high(5), p.time_low(100), p.addr_y(7)]


BASE = 5 << 12


def test_evt3_vectors_move_on_whatever_their_mask(check):
    words = [*EVT3_START, p.vect_base_x(100, 0), p.vect_12(0), p.vect_12(0b1), p.vect_8(0), p.vect_8(0b10000000)]
    words += [p.vect_12(0xFFF), p.addr_x(3, 1), p.vect_8(0b1)]
    columns = [112, 139, *range(140, 152)]
    expected = [(BASE + 100, x, 7, 0) for x in columns] + [(BASE + 100, 3, 7, 1), (BASE + 100, 152, 7, 0)]
    check("evt3", p.evt3(words), expected)


def test_evt3_state_before_the_first_time_is_no_event(check):
    words = [p.addr_y(3), p.addr_x(1, 1), p.addr_x(2, 1), *EVT3_START, p.addr_x(4, 0)]
    check("evt3", p.evt3(words), [(BASE + 100, 4, 7, 0)], 2)


def test_evt3_time_low_steps_back_and_is_kept(check):
    words = [*EVT3_START]
    for low in (799, 811, 800, 4095, 0):
        words += [p.time_low(low), p.addr_x(low % 7, 1)]
    check("evt3", p.evt3(words), [(BASE + low, low % 7, 7, 1) for low in (799, 811, 800, 4095, 0)])


def test_evt3_time_low_starts_at_0_where_time_high_changes_only(check):
    words = [*EVT3_START, p.addr_x(1, 1), p.time_high(5), p.addr_x(2, 1), p.time_high(6), p.addr_x(3, 1)]
    expected = [(BASE + 100, 1, 7, 1), (BASE + 100, 2, 7, 1), (6 << 12, 3, 7, 1)]
    check("evt3", p.evt3(words), expected)


def test_evt3_counts_loops_of_its_24_bits(check):
    words: list[int] = []
    expected: list[Event] = []
    loop = 0
    highs = [4095, 0, 4095, 4094, 4095, 0, 2047, 0, 2048, 0]
    for number, high in enumerate(highs):
        loop += number > 0 and highs[number - 1] >= high + 2048
        words += [p.time_high(high), p.time_low(number), p.addr_y(1), p.addr_x(number, 1)]
        expected.append((loop << 24 | high << 12 | number, number, 1, 1))
    assert loop == 3
    check("evt3", p.evt3(words), expected)


def test_evt3_triggers_are_counted_and_other_words_passed_over(check):
    words = [*EVT3_START, p.addr_x(1, 1), p.trigger(1, 3), p.trigger(0, 3), p.addr_x(2, 0)]
    check("evt3", p.evt3(words), [(BASE + 100, 1, 7, 1), (BASE + 100, 2, 7, 0)], 2)
    words = [*EVT3_START, p.others(5), p.continued_12(0xFFF), p.continued_4(0xF), p.addr_y(8, origin=1), p.addr_x(1, 1)]
    check("evt3", p.evt3(words), [(BASE + 100, 1, 8, 1)], None)


def test_evt3_vector_over_the_edge_of_the_sensor(tmp_path):
    words = [*EVT3_START, p.vect_base_x(1276, 1), p.vect_12(0xFFF)]
    path = tmp_path / "a.raw"
    refused(path, p.evt3(words), "evt3")
    found, dropped = tolerated(path, "evt3")
    assert found == [(BASE + 100, x, 7, 1) for x in range(1276, 1280)]
    assert sum(dropped.values()) == 8


def test_reasons_are_the_same_in_chunks(tmp_path):
    """What is left out is counted under a few reasons, however many pieces a file is read in."""
    path = tmp_path / "a.raw"
    path.write_bytes(p.evt3(p.evt3_words(events(40, HD))))
    recording = open_recording(path, sensor=VGA, strict=False)
    with pytest.warns(UserWarning, match="sensor"):
        recording.read()
    dropped = recording.dropped
    list(recording.chunks(2))
    assert recording.dropped == dropped


# ECF.


def in_mode(mode: str, **options):
    return lambda chunk: ecf.chunk(chunk, mode, **options)


@pytest.mark.parametrize("mode", ecf.MODES)
def test_ecf_modes(mode, check):
    for count in (1, 2, 3, 4, 5, 31, 500):
        few = neighbours(count, HD, start=2**33)
        check("ecf", ecf.metavision(few, chunk_size=128, encode=in_mode(mode)), few)


@pytest.mark.parametrize("mode", ecf.MODES)
@pytest.mark.parametrize("count", [14, 15, 16, 30, 31, 32, 126, 127, 128, 700])
def test_ecf_runs_longer_than_their_field(mode, count, check):
    few = [(9, 2047 - i % 1500, 5, 1) for i in range(count)]
    few += [(10, 0, 6, 0), (10, 1, 6, 0)]
    check("ecf", ecf.metavision(few, chunk_size=65535, encode=in_mode(mode)), few, sensor=Sensor(2048, 2048, 2))


@pytest.mark.parametrize("mode", ecf.MODES)
def test_ecf_largest_chunk(mode, tmp_path):
    few = [(9, i % 1280, 5, 1) for i in range(65535)]
    (tmp_path / "a").write_bytes(ecf.metavision(few, chunk_size=65535, encode=in_mode(mode)))
    assert rows(read(tmp_path / "a", format="ecf")) == few


@pytest.mark.parametrize("step", [0, 1, 14, 15, 16, 240, 255, 256, 2**20, 2**45 + 1])
def test_ecf_steps_of_time(step, check):
    few = [(7 + i * step, i, 2, 1) for i in range(6)]
    check("ecf", ecf.metavision(few), few)


def test_ecf_bits_that_stand_for_no_event(check):
    """The last group of four is padded, and the codec's own encoder leaves old bits in the last mask."""
    few = neighbours(30, HD)[:29]
    for mode, options in [
        ("pairs", {"padding": 0xFFF}),
        ("triples", {"padding": 0xFFFFFF}),
        ("rows", {"beyond": 0b11111}),
    ]:
        alone = few[:25] if mode != "rows" else [*few[:25], (few[25][0], 700, 5, 1)]
        check("ecf", ecf.metavision(alone, encode=in_mode(mode, **options)), alone)


def test_ecf_chunk_that_is_absent_is_refused(tmp_path):
    few = neighbours(30, HD)
    refused(tmp_path / "a", ecf.metavision(few, chunk_size=10, claim=40), "ecf")


def test_ecf_chunk_of_another_count_is_refused(tmp_path):
    few = neighbours(30, HD)
    for wrong in (lambda chunk: ecf.chunk(chunk[:-1]), lambda chunk: ecf.chunk([*chunk, chunk[-1]])):
        refused(tmp_path / "a", ecf.metavision(few, chunk_size=10, encode=wrong), "ecf")
