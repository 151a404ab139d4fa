"""Event files that are runs of records of one size. Importing this module imports numba.

Every decoder takes whole records (uint8, read only) and the microseconds to add to their times, fills columns that have
room for an event a record, and returns the number of events and the microseconds to go on with.
"""

from __future__ import annotations

from typing import cast

import numba
import numpy as np

from spikenet.kernels.events.words import byte, word

_MARKER_ROW, _MARKER_US = 240, 8192


# An unsigned index needs no look whether it counts from the end.
_NONE, _ONE = cast(int, np.uint64(0)), cast(int, np.uint64(1))


@numba.njit(cache=True)
def _big(records: np.ndarray, i: int) -> int:
    """The 4 bytes at a place as a big-endian number, int64, not negative."""
    value = word(records, i)
    return (value & 0xFF) << 24 | (value & 0xFF00) << 8 | (value >> 8) & 0xFF00 | value >> 24


@numba.njit(cache=True)
def decode_bin(
    records: np.ndarray, shift: int, t: np.ndarray, x: np.ndarray, y: np.ndarray, p: np.ndarray
) -> tuple[int, int]:
    """5 bytes: column, row, polarity and time; a row of 240 marks an overflow of 8192 us."""
    count = _NONE
    for i in range(0, len(records) - 4, 5):
        bits = _big(records, i + 1)
        row = bits >> 24
        if row == _MARKER_ROW:
            shift += _MARKER_US
            continue
        t[count] = (bits & 0x7FFFFF) + shift
        x[count], y[count], p[count] = byte(records, i), row, bits >> 23 & 1
        count += _ONE
    return count, shift


@numba.njit(cache=True)
def decode_bs1(
    records: np.ndarray, shift: int, t: np.ndarray, x: np.ndarray, y: np.ndarray, p: np.ndarray
) -> tuple[int, int]:
    """5 bytes: column (2), polarity and time."""
    count = len(records) // 5
    for k in range(count):
        i = 5 * k
        bits = _big(records, i + 1)
        t[k] = (bits & 0x7FFFFF) + shift
        x[k], y[k], p[k] = byte(records, i) << 8 | bits >> 24, 0, bits >> 23 & 1
    return count, shift


@numba.njit(cache=True)
def decode_bs3(
    records: np.ndarray, shift: int, t: np.ndarray, x: np.ndarray, y: np.ndarray, p: np.ndarray
) -> tuple[int, int]:
    """7 bytes: column and row of 12 bits each, polarity (a byte), time of 24 bits."""
    count = len(records) // 7
    for k in range(count):
        i = 7 * k
        address, time = _big(records, i), _big(records, i + 3)
        t[k] = (time & 0xFFFFFF) + shift
        x[k], y[k], p[k] = address >> 20, address >> 8 & 0xFFF, time >> 24
    return count, shift


@numba.njit(cache=True)
def decode_aedat1(
    records: np.ndarray, shift: int, t: np.ndarray, x: np.ndarray, y: np.ndarray, p: np.ndarray
) -> tuple[int, int]:
    """6 bytes: a DVS128 address of 16 bits and an unsigned time."""
    count = _NONE
    for i in range(0, len(records) - 5, 6):
        address = _big(records, i) >> 16
        if address & 0x8000:
            continue
        t[count] = _big(records, i + 2) + shift
        x[count], y[count], p[count] = address >> 1 & 0x7F, address >> 8, address & 1
        count += _ONE
    return count, shift


@numba.njit(cache=True)
def decode_dvs128(
    records: np.ndarray, shift: int, t: np.ndarray, x: np.ndarray, y: np.ndarray, p: np.ndarray
) -> tuple[int, int]:
    """8 bytes: a DVS128 address and a signed time; bits 15 and 31 mark what is no event."""
    count = _NONE
    for i in range(0, len(records) - 7, 8):
        address = _big(records, i)
        if address & 0x80008000:
            continue
        t[count] = np.int32(_big(records, i + 4)) + shift
        x[count], y[count], p[count] = address >> 1 & 0x7F, address >> 8 & 0x7F, address & 1
        count += _ONE
    return count, shift


@numba.njit(cache=True)
def decode_davis(
    records: np.ndarray, shift: int, t: np.ndarray, x: np.ndarray, y: np.ndarray, p: np.ndarray
) -> tuple[int, int]:
    """8 bytes: a DAVIS address and a signed time; bit 31 marks frames and IMU samples, bit 10 external events."""
    count = _NONE
    for i in range(0, len(records) - 7, 8):
        address = _big(records, i)
        if address & 0x80000400:
            continue
        t[count] = np.int32(_big(records, i + 4)) + shift
        x[count], y[count], p[count] = address >> 12 & 0x3FF, address >> 22 & 0x1FF, address >> 11 & 1
        count += _ONE
    return count, shift
