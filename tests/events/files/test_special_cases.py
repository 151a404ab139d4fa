"""The corners of each format, from its description: what is no event, what wraps, what steps back, what runs long."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from spikenet.errors import ArgumentError, SpikenetError
from spikenet.events import Sensor, open_recording, read
from tests.events.files.agreement import checked, refused, rows, tolerated
from tests.events.files.encoders import aedat, aedat4, ecf, lz4_frame, plain
from tests.events.files.encoders import prophesee as p
from tests.events.files.samples import DAVIS, DVS, HD, SPIKES, VGA, Event, events, neighbours, spike_events


@pytest.fixture
def check(tmp_path):
    return checked(tmp_path)


# N-MNIST.


def test_bin_markers_add_up_also_after_the_last_event(check):
    content = plain.bin_record(5, 1, 2, 0) + plain.bin_marker() * 3 + plain.bin_record(7, 3, 4, 1) + plain.bin_marker()
    check("bin", content, [(5, 1, 2, 0), (3 * 8192 + 7, 3, 4, 1)], None, sensor=Sensor(34, 34, 2))


def test_bin_time_beyond_its_23_bits(check):
    expected = [(t, 1, 1, 1) for t in (0, 2**23 - 1, 2**23, 2**23 + 8192, 5 * 2**23)]
    check("bin", plain.bin_file(expected), expected, None, sensor=Sensor(34, 34, 2))


# AEDAT 1.0 and 2.0.


def test_aedat2_davis_skips_what_is_no_event(check):
    few = events(3, DAVIS)
    pairs = aedat.davis(few)
    pairs[1:1] = [(aedat.APS_SAMPLE, 3), (aedat.APS_SAMPLE | 1 << 11, 3), (aedat.IMU_SAMPLE, 4), (aedat.EXTERNAL, 5)]
    check("aedat2", aedat.aedat2(pairs, chip=aedat.DAVIS240C), few, 4)


def test_aedat2_layout_follows_the_chip(check):
    few = events(9, Sensor(346, 260, 2))
    check("aedat2", aedat.aedat2(aedat.davis(few), chip=aedat.DAVIS346), few)


def test_aedat2_of_an_unknown_chip_asks_for_the_layout(tmp_path):
    (tmp_path / "a").write_bytes(aedat.aedat2(aedat.davis(events(3, DAVIS)), chip="org.example.Unknown"))
    with pytest.raises(SpikenetError, match="Unknown"):
        read(tmp_path / "a", format="aedat2")


@pytest.mark.parametrize("y", [140, 141, 142, 143])
def test_aedat2_data_that_begin_like_a_header_line(check, y):
    """The first byte of a DAVIS address in rows 140 to 143 is that of '#'."""
    expected = [(1, 200, y, 1), (2, 3, y, 0)]
    content = aedat.aedat2(aedat.davis(expected), chip=aedat.DAVIS240C)
    assert content[-16:-15] == b"#"
    check("aedat2", content, expected)


def test_aedat1_without_any_header(check):
    few = [(t, x, y, polarity) for t, x, y, polarity in events(9, DVS) if y != 35]
    check("aedat2", aedat.aedat1(aedat.dvs128(few)), few, sensor=DVS)
    check("aedat2", aedat.aedat1([(aedat.SPECIAL_16, 1), *aedat.dvs128(few)], "raw data"), few, 1, sensor=DVS)


# AEDAT 3.1.


def test_aedat3_invalid_events_are_counted(check):
    few = events(5, DVS)
    check("aedat3", aedat.aedat3(aedat.polarities(few, invalid=(0, 3))), [few[1], few[2], few[4]], 2)


def test_aedat3_other_packets_are_passed_over(check):
    few = events(4, DVS)
    imu = aedat.packet(aedat.IMU6, bytes(36), size=36)
    frame = aedat.packet(aedat.FRAME, bytes(100), size=100)
    packets = [aedat.packet(aedat.SPECIAL_EVENT, bytes(8)), aedat.polarities(few[:2]), imu, frame]
    check("aedat3", aedat.aedat3(*packets, aedat.polarities([]), aedat.polarities(few[2:])), few, None)


def test_aedat3_overflows_are_the_bits_above(check):
    packets = [aedat.polarities([(2**31 - 1, 1, 2, 1)]), aedat.polarities([(3, 1, 2, 0)], overflow=1)]
    packets.append(aedat.polarities([(4, 1, 2, 0)], overflow=5))
    expected = [(2**31 - 1, 1, 2, 1), (2**31 + 3, 1, 2, 0), (5 * 2**31 + 4, 1, 2, 0)]
    check("aedat3", aedat.aedat3(*packets), expected)


def test_aedat3_with_room_for_more_events_than_it_holds_is_refused(tmp_path):
    content = aedat.aedat3(aedat.polarities(events(3, DVS), capacity=4))
    refused(tmp_path / "a", content + bytes(8), "aedat3")


# AEDAT 4.

LZ4_FRAMES = {
    "matches": {},
    "literals": {"matches": False},
    "stored": {"stored": True},
    "blocks": {"block_size": 100},
    "checked": {"block_checksum": True, "content_checksum": True, "content_size": True},
}


@pytest.mark.parametrize("frame", LZ4_FRAMES)
@pytest.mark.parametrize("compression", [aedat4.LZ4, aedat4.LZ4_HIGH])
def test_aedat4_frames(frame, compression, check):
    few = events(200, Sensor(346, 260, 2), step=0)
    packets = [(aedat4.EVENTS, aedat4.events(few[:50])), (aedat4.EVENTS, aedat4.events(few[50:]))]

    def compress(buffer: bytes) -> bytes:
        return lz4_frame.frame(buffer, **LZ4_FRAMES[frame])

    check("aedat4", aedat4.aedat4(packets, compression=compression, compress=compress), few)


def test_aedat4_copy_that_overlaps_itself(check):
    """200 equal events: one sequence copies from 16 bytes back, over what it writes."""
    buffer = aedat4.events([(7, 5, 6, 1)] * 200)
    start = len(buffer) - 200 * 16
    copied = 199 * 16 - 5
    block = lz4_frame.sequence(buffer[: start + 16], 16, copied) + lz4_frame.sequence(buffer[-5:])
    head = lz4_frame.frame(b"")[:7]
    frame = head + struct.pack("<I", len(block)) + block + bytes(4)
    content = aedat4.aedat4([(aedat4.EVENTS, buffer)], compression=aedat4.LZ4, compress=lambda _: frame)
    check("aedat4", content, [(7, 5, 6, 1)] * 200)


def test_aedat4_passes_over_other_streams(check):
    few = events(6, Sensor(346, 260, 2))
    packets = [
        (aedat4.IMUS, aedat4.imus()),
        (aedat4.EVENTS, aedat4.events(few[:2])),
        (aedat4.TRIGGERS, aedat4.triggers()),
    ]
    packets += [(aedat4.EVENTS, aedat4.events([])), (aedat4.EVENTS, aedat4.events(few[2:]))]
    for table in (False, True):
        check("aedat4", aedat4.aedat4(packets, table=table), few, None)


def test_aedat4_reads_its_sensor_and_its_polarities(tmp_path):
    (tmp_path / "a").write_bytes(
        aedat4.aedat4([(0, aedat4.events([(-5, 9, 7, 0), (2**40, 8, 6, 1)]))], width=10, height=8)
    )
    stream = read(tmp_path / "a", format="aedat4")
    assert stream.sensor == Sensor(10, 8, 2)
    assert rows(stream) == [(-5, 9, 7, 0), (2**40, 8, 6, 1)]


# Prophesee.


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


# Data sets in HDF5 and MATLAB files.


@pytest.mark.parametrize("time_type", ["f2", "f4", "f8"])
def test_shd_recordings(time_type, check):
    for index, spikes in enumerate(SPIKES):
        check("shd", plain.shd(SPIKES, time_type), spike_events(spikes), index=index)


def test_shd_times_are_rounded_to_microseconds(check):
    """k / 10^6 is seldom a float64, and a product of two is seldom whole."""
    times = [k / 10**6 for k in (1, 3, 7, 1001, 123_457, 999_999, 1_299_993)]
    spikes = [(t, 5) for t in times]
    expected = [(k, 5, 0, 0) for k in (1, 3, 7, 1001, 123_457, 999_999, 1_299_993)]
    check("shd", plain.shd([spikes], "f8"), expected, index=0)
    check("ntidigits", plain.ntidigits({"train": {"a-1": spikes}, "test": {"b-2": spikes}}), expected, index=0)


def test_which_recording_must_be_said(tmp_path):
    (tmp_path / "a").write_bytes(plain.shd(SPIKES))
    (tmp_path / "b").write_bytes(plain.ntidigits({"train": {"a-1": SPIKES[0]}, "test": {"b-2": SPIKES[1]}}))
    for name, format, count in (("a", "shd", 3), ("b", "ntidigits", 2)):
        for index in (None, count, 2**40):
            with pytest.raises(ArgumentError):
                read(tmp_path / name, format=format, index=index)


def test_ntidigits_recordings(tmp_path):
    """Every recording of both parts has a number."""
    few = [[(0.25 * i, i), (1.0 + i, 63 - i)] for i in range(5)]
    parts = {"train": {"b-x-1": few[0], "a-y-2o": few[1], "c-z-z": few[2]}, "test": {"e-1": few[3], "d-2": few[4]}}
    (tmp_path / "a").write_bytes(plain.ntidigits(parts))
    found = [rows(read(tmp_path / "a", format="ntidigits", index=index)) for index in range(5)]
    assert sorted(found) == sorted(spike_events(spikes) for spikes in few)
    assert read(tmp_path / "a", format="ntidigits", index=0).sensor == Sensor(64)


def test_stmnist_taxels(tmp_path):
    """Rows 0 to 99 are the taxels, ten a row of the sensor; a time of several spikes keeps them all."""
    moments = [(i * 0.001, {i: 1, (i * 37 + 1) % 100: -1}) for i in range(100)]
    for compressed in (False, True):
        (tmp_path / "a").write_bytes(plain.stmnist(moments, compressed))
        stream = read(tmp_path / "a", format="stmnist")
        found = rows(stream)
        assert stream.sensor == Sensor(10, 10, 2)
        fired = sorted(
            (i * 1000, taxel, int(sign > 0)) for i, (_, row) in enumerate(moments) for taxel, sign in row.items()
        )
        by_row = sorted((t, 10 * y + x, polarity) for t, x, y, polarity in found)
        by_column = sorted((t, 10 * x + y, polarity) for t, x, y, polarity in found)
        assert fired in (by_row, by_column)
        assert [row[0] for row in found] == sorted(row[0] for row in found)


def test_asldvs_keeps_raw_values(check):
    few = events(20, DAVIS)
    for compressed in (False, True):
        check("asldvs", plain.asldvs(few, compressed), few, sensor=DAVIS)


# Arrays and text.


@pytest.mark.parametrize("types", ["i4 i1 i1 i1", "i8 i2 i2 ?", "u4 u2 u2 u1", "f8 f4 f4 i1"])
def test_npy_of_other_types(types, check):
    few = events(12, DVS)
    dtype = np.dtype(list(zip("txyp", types.split(), strict=True)))
    check("npy", plain.npy(plain.structured(few, dtype)), few, sensor=DVS)


def test_npz_of_other_types(check):
    few = events(12, DAVIS)
    columns = plain.columns(few)
    narrow = {"t": columns["t"].astype("u4"), **{name: columns[name].astype("u1") for name in "xy"}}
    check("npz", plain.npz({**narrow, "p": columns["p"].astype(bool)}, compressed=True), few, sensor=DAVIS)


def test_text_of_clock_times(check):
    """Seconds since 1970 with six decimals need all of a float64."""
    expected = [(1_468_939_993_067_945 + i, i, 2, i % 2) for i in range(50)]
    check("text", plain.text(expected), expected, sensor=DAVIS)
    check("text", plain.text(expected, newline="\r\n"), expected, sensor=DAVIS)
    check("text", plain.text(expected).rstrip(b"\n"), expected, sensor=DAVIS)
