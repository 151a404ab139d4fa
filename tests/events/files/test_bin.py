"""The record formats of N-MNIST and SLAYER: records by hand, tonic's decoder, damage, the way back."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spikenet.errors import ArgumentError, DataError, FormatError
from spikenet.events import EventStream, Sensor, read, write
from spikenet.events.files.bin import decode_bin, encode_bin
from tests.events.files.aedat_bytes import (
    assert_pieces_agree,
    bin_record,
    random_stream,
    refusal,
    rows,
    sample,
    stored,
    tolerated,
)

NMNIST = Sensor(34, 34, 2)
EVENTS = [(0, 0, 0, 0), (1, 33, 0, 1), (0x7FFFFF, 0, 33, 1), (0x12345, 7, 9, 0)]
CONTENT = b"".join(bin_record(*event) for event in EVENTS)
MARKED = [(10, 1, 1, 0), (5, 9, 240, 1), (11, 2, 2, 1), (0, 0, 240, 0), (7, 3, 240, 0), (12, 3, 3, 0)]


def test_records_by_hand(tmp_path):
    assert rows(read(stored(tmp_path / "a.bin", CONTENT), sensor=NMNIST)) == EVENTS
    assert rows(read(stored(tmp_path / "a.bs2", CONTENT), sensor=NMNIST)) == EVENTS
    assert rows(decode_bin(CONTENT, "x", NMNIST)) == EVENTS


def test_one_record_byte_by_byte():
    """Column 18, row 5, ON, t = 0x01A2B3."""
    assert rows(decode_bin(bytes([0x12, 0x05, 0x81, 0xA2, 0xB3]), "x", NMNIST)) == [(0x01A2B3, 18, 5, 1)]


def test_overflow_markers_add_up_and_are_no_events(tmp_path):
    content = b"".join(bin_record(*event) for event in MARKED)
    expected = [(10, 1, 1, 0), (8192 + 11, 2, 2, 1), (3 * 8192 + 12, 3, 3, 0)]
    assert rows(decode_bin(content, "x", NMNIST)) == expected
    path = stored(tmp_path / "a.bin", content)
    assert rows(read(path, sensor=NMNIST)) == expected
    assert_pieces_agree(path, (1, 5, 7, 10, 100), sensor=NMNIST)
    assert len(decode_bin(bin_record(0, 0, 240, 0), "x", NMNIST)) == 0


def test_empty_file(tmp_path):
    assert len(read(stored(tmp_path / "a.bin"), sensor=NMNIST)) == 0
    assert len(decode_bin(b"", "x", NMNIST)) == 0


def test_the_sensor_is_the_callers_to_name(tmp_path):
    with pytest.raises(ArgumentError, match=r"names no sensor size; sensor=Sensor"):
        read(stored(tmp_path / "a.bin", CONTENT))


@given(st.lists(st.tuples(st.integers(0, 2**23 - 1), st.integers(0, 33), st.integers(0, 33), st.integers(0, 1))))
def test_round_trip(events):
    t, x, y, p = np.array(events, np.int64).reshape(-1, 4).T
    stream = EventStream.from_numpy(t, x, y, p, sensor=NMNIST)
    assert rows(decode_bin(encode_bin(stream), "x", NMNIST)) == events


def test_encoder_writes_the_records_by_hand(tmp_path):
    t, x, y, p = np.array(EVENTS).T
    stream = EventStream.from_numpy(t, x, y, p, sensor=NMNIST)
    write(stream, tmp_path / "a.bin")
    assert (tmp_path / "a.bin").read_bytes() == encode_bin(stream) == CONTENT


@pytest.mark.parametrize(("t", "sensor"), [(2**23, NMNIST), (-1, NMNIST), (0, Sensor(257, 34, 2)), (0, Sensor(9, 241))])
def test_encoder_refuses_what_does_not_fit(t, sensor):
    with pytest.raises(ArgumentError, match=r"\.bin format holds 256 x 240 x 2 .* below 2\^23 us"):
        encode_bin(EventStream.from_numpy([t], [0], sensor=sensor))


def test_truncation_at_every_byte(tmp_path):
    for size in range(len(CONTENT)):
        path = stored(tmp_path / "a.bin", CONTENT[:size])
        whole, left = EVENTS[: size // 5], size % 5
        if left == 0:
            assert rows(decode_bin(CONTENT[:size], "x", NMNIST)) == rows(read(path, sensor=NMNIST)) == whole
            continue
        with pytest.raises(FormatError, match=f"at offset {size - left}: .* {left} are left"):
            decode_bin(CONTENT[:size], "x", NMNIST)
        assert refusal(path, sensor=NMNIST).offset == size - left
        found, dropped = tolerated(path, sensor=NMNIST)
        assert (found, sum(dropped.values())) == (whole, left)


def test_every_flipped_byte_is_read_or_refused():
    """A format without checksum cannot see most damage, but nothing else than these two outcomes may happen."""
    for place in range(len(CONTENT)):
        damaged = bytearray(CONTENT)
        damaged[place] ^= 0xFF
        if max(damaged[place // 5 * 5 : place // 5 * 5 + 2]) < 34:
            decode_bin(bytes(damaged), "x", NMNIST).check()
        else:
            with pytest.raises(FormatError, match=f"at offset {place // 5 * 5}:"):
                decode_bin(bytes(damaged), "x", NMNIST)


def test_events_outside_the_sensor_are_named(tmp_path):
    content = bin_record(0, 0, 240, 0) + bin_record(1, 1, 1, 1) + bin_record(2, 34, 3, 0)
    with pytest.raises(FormatError, match=r"a\.bin at offset 10: event at column 34, row 3, polarity 0 on a 34 x 34"):
        decode_bin(content, "a.bin", NMNIST)
    with pytest.raises(FormatError, match=r"at offset 5: .* polarity 1 on a 35 x 34 x 1 sensor"):
        decode_bin(content, "a.bin", Sensor(35, 34, 1))
    assert len(decode_bin(content, "a.bin", Sensor(35, 34, 2))) == 2
    found, dropped = tolerated(stored(tmp_path / "a.bin", content), sensor=NMNIST)
    assert (found, list(dropped.values())) == ([(8193, 1, 1, 1)], [1])


def test_a_missing_file(tmp_path):
    with pytest.raises(DataError, match="cannot be read: No such file"):
        read(tmp_path / "none.bin", sensor=NMNIST)


def test_one_row_of_slayer_by_hand(tmp_path):
    """Column 0x0123 in 2 bytes, OFF, t = 0x010203; column 5, ON, t = 9."""
    path = stored(tmp_path / "a.bs1", bytes([0x01, 0x23, 0x01, 0x02, 0x03, 0, 5, 0x80, 0, 9]))
    assert rows(read(path, sensor=Sensor(700, 1, 2))) == [(0x010203, 0x0123, 0, 0), (9, 5, 0, 1)]


def test_seven_bytes_of_slayer_by_hand(tmp_path):
    """Column 0x123 and row 0x456 in 3 bytes, polarity 3, t = 0xABCDEF."""
    path = stored(tmp_path / "a.bs3", bytes([0x12, 0x34, 0x56, 3, 0xAB, 0xCD, 0xEF]))
    assert rows(read(path, sensor=Sensor(1280, 1200, 4))) == [(0xABCDEF, 0x123, 0x456, 3)]


@pytest.mark.parametrize(
    ("name", "sensor"), [("bin", NMNIST), ("bs1", Sensor(65536, 1, 2)), ("bs3", Sensor(4096, 4096, 3))]
)
def test_every_format_comes_back(name, sensor, tmp_path):
    stream, path = random_stream(sensor, 300, 2**23), tmp_path / f"a.{name}"
    write(stream, path)
    assert rows(read(path, sensor=sensor)) == rows(stream)
    assert_pieces_agree(path, (1, 11, 64, 1000), sensor=sensor)


@pytest.mark.parametrize(("name", "sensor"), [("bs1", Sensor(9, 2, 2)), ("bs3", Sensor(4097, 1, 1))])
def test_the_others_refuse_what_does_not_fit(name, sensor, tmp_path):
    with pytest.raises(ArgumentError, match=rf"\.{name} format holds"):
        write(random_stream(sensor, 3, 9), tmp_path / f"a.{name}")
    assert not list(tmp_path.iterdir())


def tonic_reader():
    """tonic's decoder, loaded from its file: the package itself imports things that need not be installed."""
    package = importlib.util.find_spec("tonic")
    if package is None or package.origin is None:
        pytest.skip("tonic is not installed")
    spec = importlib.util.spec_from_file_location("tonic_io_alone", Path(package.origin).parent / "io.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def assert_equals_tonic(path):
    tonic = tonic_reader()
    theirs = tonic.read_mnist_file(str(path), dtype=tonic.events_struct)
    mine = read(path, sensor=NMNIST)
    for name in ("t", "x", "y", "p"):
        assert getattr(mine, name).tolist() == theirs[name].astype(np.int64).tolist()
    return mine


def test_real_recording_equals_tonic():
    assert len(assert_equals_tonic(sample("nmnist_bin/tonic_sample_nmnist.bin"))) == 4325


def test_markers_equal_tonic(tmp_path):
    content = [bin_record(t * 100, t % 34, 240 if t % 7 == 3 else t % 34, t % 2) for t in range(60)]
    assert_equals_tonic(stored(tmp_path / "a.bin", *content))
