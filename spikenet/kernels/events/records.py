"""Event files that are runs of records of one size. Importing this module imports numba.

Every decoder takes whole records (uint8, read only) and the microseconds to add to their times, fills columns that have
room for an event a record, and returns the number of events and the microseconds to go on with.
"""

from __future__ import annotations

import numba
import numpy as np

_MARKER_ROW, _MARKER_US = 240, 8192


@numba.njit(cache=True)
def _time(records: np.ndarray, i: int) -> int:
    """23 bits of time beside one of polarity, most significant byte first."""
    return (np.int64(records[i]) & 0x7F) << 16 | np.int64(records[i + 1]) << 8 | np.int64(records[i + 2])


@numba.njit(cache=True)
def _u32(records: np.ndarray, i: int) -> int:
    high = np.int64(records[i]) << 24 | np.int64(records[i + 1]) << 16
    return high | np.int64(records[i + 2]) << 8 | np.int64(records[i + 3])


@numba.njit(cache=True)
def decode_bin(
    records: np.ndarray, shift: int, t: np.ndarray, x: np.ndarray, y: np.ndarray, p: np.ndarray
) -> tuple[int, int]:
    """5 bytes: column, row, polarity and time; a row of 240 marks an overflow of 8192 us."""
    count = 0
    for i in range(0, len(records) - 4, 5):
        row = records[i + 1]
        if row == _MARKER_ROW:
            shift += _MARKER_US
            continue
        t[count] = _time(records, i + 2) + shift
        x[count], y[count], p[count] = records[i], row, records[i + 2] >> 7
        count += 1
    return count, shift


@numba.njit(cache=True)
def decode_bs1(
    records: np.ndarray, shift: int, t: np.ndarray, x: np.ndarray, y: np.ndarray, p: np.ndarray
) -> tuple[int, int]:
    """5 bytes: column (2), polarity and time."""
    count = len(records) // 5
    for k in range(count):
        i = 5 * k
        t[k] = _time(records, i + 2) + shift
        x[k], y[k], p[k] = np.int32(records[i]) << 8 | np.int32(records[i + 1]), 0, records[i + 2] >> 7
    return count, shift


@numba.njit(cache=True)
def decode_bs3(
    records: np.ndarray, shift: int, t: np.ndarray, x: np.ndarray, y: np.ndarray, p: np.ndarray
) -> tuple[int, int]:
    """7 bytes: column and row of 12 bits each, polarity (a byte), time of 24 bits."""
    count = len(records) // 7
    for k in range(count):
        i = 7 * k
        middle = np.int32(records[i + 1])
        t[k] = (_u32(records, i + 3) & 0xFFFFFF) + shift
        x[k] = np.int32(records[i]) << 4 | middle >> 4
        y[k] = (middle & 15) << 8 | np.int32(records[i + 2])
        p[k] = records[i + 3]
    return count, shift


@numba.njit(cache=True)
def decode_aedat1(
    records: np.ndarray, shift: int, t: np.ndarray, x: np.ndarray, y: np.ndarray, p: np.ndarray
) -> tuple[int, int]:
    """6 bytes: a DVS128 address of 16 bits and an unsigned time."""
    count = 0
    for i in range(0, len(records) - 5, 6):
        high, low = np.int32(records[i]), np.int32(records[i + 1])
        if high & 0x80:
            continue
        t[count] = _u32(records, i + 2) + shift
        x[count], y[count], p[count] = low >> 1, high, low & 1
        count += 1
    return count, shift


@numba.njit(cache=True)
def decode_dvs128(
    records: np.ndarray, shift: int, t: np.ndarray, x: np.ndarray, y: np.ndarray, p: np.ndarray
) -> tuple[int, int]:
    """8 bytes: a DVS128 address and a signed time; bits 15 and 31 mark what is no event."""
    count = 0
    for i in range(0, len(records) - 7, 8):
        address = _u32(records, i)
        if address & 0x80008000:
            continue
        t[count] = np.int32(_u32(records, i + 4)) + shift
        x[count], y[count], p[count] = address >> 1 & 0x7F, address >> 8 & 0x7F, address & 1
        count += 1
    return count, shift


@numba.njit(cache=True)
def decode_davis(
    records: np.ndarray, shift: int, t: np.ndarray, x: np.ndarray, y: np.ndarray, p: np.ndarray
) -> tuple[int, int]:
    """8 bytes: a DAVIS address and a signed time; bit 31 marks frames and IMU samples, bit 10 external events."""
    count = 0
    for i in range(0, len(records) - 7, 8):
        address = _u32(records, i)
        if address & 0x80000400:
            continue
        t[count] = np.int32(_u32(records, i + 4)) + shift
        x[count], y[count], p[count] = address >> 12 & 0x3FF, address >> 22 & 0x1FF, address >> 11 & 1
        count += 1
    return count, shift
