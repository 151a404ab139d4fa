"""The corners of each format, from its description: what is no event, what wraps, what steps back, what runs long."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from spikenet.errors import ArgumentError, SpikenetError
from spikenet.events import Sensor, read
from tests.events.files.agreement import refused, rows
from tests.events.files.encoders import aedat, aedat4, lz4_frame, plain
from tests.events.files.samples import DAVIS, DVS, SPIKES, events, spike_events

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
