"""The .bin reader against records written by hand and against tonic's decoder."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spikenet.data.bin_format import decode_bin, encode_bin, read_bin
from spikenet.errors import ArgumentError, DataError, FormatError
from spikenet.events import EventStream, Sensor

EVENTS = [(0, 0, 0, 0), (1, 33, 0, 1), (0x7FFFFF, 0, 33, 1), (0x12345, 7, 9, 0)]


def rows(stream):
    return list(zip(*(column.tolist() for column in (stream.t, stream.x, stream.y, stream.p)), strict=True))


def test_records_by_hand(record, tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(b"".join(record(*event) for event in EVENTS))
    assert rows(read_bin(path)) == EVENTS


def test_one_record_byte_by_byte():
    """Column 18, row 5, ON, t = 0x01A2B3."""
    assert rows(decode_bin(bytes([0x12, 0x05, 0x81, 0xA2, 0xB3]), "x")) == [(0x01A2B3, 18, 5, 1)]


def test_overflow_markers_add_up_and_are_no_events(record):
    marker = record(5, 9, 240, 1)
    content = [record(10, 1, 1, 0), marker, record(11, 2, 2, 1), marker, marker, record(12, 3, 3, 0)]
    assert rows(decode_bin(b"".join(content), "x")) == [(10, 1, 1, 0), (8192 + 11, 2, 2, 1), (3 * 8192 + 12, 3, 3, 0)]
    assert len(decode_bin(record(0, 0, 240, 0), "x")) == 0


def test_empty_file(tmp_path):
    (tmp_path / "a.bin").write_bytes(b"")
    assert len(read_bin(tmp_path / "a.bin")) == 0


@given(st.lists(st.tuples(st.integers(0, 2**23 - 1), st.integers(0, 33), st.integers(0, 33), st.integers(0, 1))))
def test_round_trip(events):
    t, x, y, p = np.array(events, np.int64).reshape(-1, 4).T
    stream = EventStream.from_numpy(t, x, y, p, sensor=Sensor(34, 34, 2))
    assert rows(decode_bin(encode_bin(stream), "x")) == events


def test_encoder_writes_the_records_by_hand(record):
    t, x, y, p = np.array(EVENTS).T
    stream = EventStream.from_numpy(t, x, y, p, sensor=Sensor(34, 34, 2))
    assert encode_bin(stream) == b"".join(record(*event) for event in EVENTS)


@pytest.mark.parametrize(
    ("t", "sensor"),
    [(2**23, Sensor(34, 34, 2)), (-1, Sensor(34, 34, 2)), (0, Sensor(257, 34, 2)), (0, Sensor(9, 241, 2))],
)
def test_encoder_refuses_what_does_not_fit(t, sensor):
    with pytest.raises(ArgumentError, match=r"\.bin format holds"):
        encode_bin(EventStream.from_numpy([t], [0], sensor=sensor))


def test_truncation_at_every_byte(record):
    content = b"".join(record(*event) for event in EVENTS)
    for size in range(len(content)):
        if size % 5 == 0:
            assert rows(decode_bin(content[:size], "x")) == EVENTS[: size // 5]
        else:
            with pytest.raises(FormatError, match=f"at offset {size // 5 * 5}: .* {size % 5} are left"):
                decode_bin(content[:size], "x")


def test_every_flipped_byte_is_read_or_refused(record):
    """A format without checksum cannot see most damage, but nothing else than these two outcomes may happen."""
    content = b"".join(record(*event) for event in EVENTS)
    for place in range(len(content)):
        damaged = bytearray(content)
        damaged[place] ^= 0xFF
        row, column = damaged[place // 5 * 5 : place // 5 * 5 + 2]
        if max(row, column) < 34:
            decode_bin(bytes(damaged), "x").check()
        else:
            with pytest.raises(FormatError, match=f"at offset {place // 5 * 5}:"):
                decode_bin(bytes(damaged), "x")


def test_events_outside_the_sensor_are_named(record):
    content = record(1, 1, 1, 1) + record(2, 34, 3, 0)
    with pytest.raises(FormatError, match=r"a\.bin at offset 5: event at column 34, row 3 on a 34 x 34 sensor"):
        decode_bin(content, "a.bin")
    assert len(decode_bin(content, "a.bin", Sensor(35, 34, 2))) == 2


def test_a_missing_file(tmp_path):
    with pytest.raises(DataError, match="cannot be read: No such file"):
        read_bin(tmp_path / "none.bin")


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
    mine = read_bin(path)
    for name in ("t", "x", "y", "p"):
        assert getattr(mine, name).tolist() == theirs[name].astype(np.int64).tolist()
    return mine


def test_real_recording_equals_tonic(shared):
    mine = assert_equals_tonic(shared("samples/nmnist_bin/tonic_sample_nmnist.bin"))
    assert len(mine) == 4325


def test_markers_equal_tonic(record, tmp_path):
    path = tmp_path / "a.bin"
    content = [record(t * 100, t % 34, 240 if t % 7 == 3 else t % 34, t % 2) for t in range(60)]
    path.write_bytes(b"".join(content))
    assert_equals_tonic(path)
