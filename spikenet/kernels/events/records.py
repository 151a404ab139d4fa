"""Event files that are runs of records of one size. Importing this module imports numba.

Every decoder takes whole records (uint8, read only) and the microseconds to add to their times, fills columns that have
room for an event a record, and returns the number of events, the microseconds to go on with, and the largest column,
row and polarity, as the records have them.
"""

from __future__ import annotations

from typing import Any, cast

import numba
import numpy as np

from spikenet.kernels.events.words import big, byte

_MARKER_ROW, _MARKER_US = 240, 8192
Decoded = tuple[int, int, int, int, int]


# An unsigned index needs no look whether it counts from the end.
_NONE, _ONE = cast(int, np.uint64(0)), cast(int, np.uint64(1))


@numba.njit(cache=True)
def decode_bin(records: np.ndarray, shift: int, t: np.ndarray, x: np.ndarray, y: np.ndarray, p: np.ndarray) -> Decoded:
    """5 bytes: column, row, polarity and time; a row of 240 marks an overflow of 8192 us."""
    count, top_x, top_y, top_p = _NONE, 0, 0, 0
    for i in range(0, len(records) - 4, 5):
        bits = big(records, i + 1)
        row = bits >> 24
        if row == _MARKER_ROW:
            shift += _MARKER_US
            continue
        t[count] = (bits & 0x7FFFFF) + shift
        column, polarity = byte(records, i), bits >> 23 & 1
        x[count], y[count], p[count] = column, row, polarity
        top_x, top_y, top_p = max(top_x, column), max(top_y, row), max(top_p, polarity)
        count += _ONE
    return count, shift, top_x, top_y, top_p


@numba.njit(cache=True)
def decode_bs1(records: np.ndarray, shift: int, t: np.ndarray, x: np.ndarray, y: np.ndarray, p: np.ndarray) -> Decoded:
    """5 bytes: column (2), polarity and time."""
    count, top_x, top_p = len(records) // 5, 0, 0
    for k in range(count):
        i = 5 * k
        bits = big(records, i + 1)
        t[k] = (bits & 0x7FFFFF) + shift
        column, polarity = byte(records, i) << 8 | bits >> 24, bits >> 23 & 1
        x[k], y[k], p[k] = column, 0, polarity
        top_x, top_p = max(top_x, column), max(top_p, polarity)
    return count, shift, top_x, 0, top_p


@numba.njit(cache=True)
def decode_bs3(records: np.ndarray, shift: int, t: np.ndarray, x: np.ndarray, y: np.ndarray, p: np.ndarray) -> Decoded:
    """7 bytes: column and row of 12 bits each, polarity (a byte), time of 24 bits."""
    count, top_x, top_y, top_p = len(records) // 7, 0, 0, 0
    for k in range(count):
        i = 7 * k
        address, time = big(records, i), big(records, i + 3)
        t[k] = (time & 0xFFFFFF) + shift
        column, row, polarity = address >> 20, address >> 8 & 0xFFF, time >> 24
        x[k], y[k], p[k] = column, row, polarity
        top_x, top_y, top_p = max(top_x, column), max(top_y, row), max(top_p, polarity)
    return count, shift, top_x, top_y, top_p


@numba.njit(cache=True)
def decode_aedat1(
    records: np.ndarray, shift: int, t: np.ndarray, x: np.ndarray, y: np.ndarray, p: np.ndarray
) -> Decoded:
    """6 bytes: a DVS128 address of 16 bits and an unsigned time."""
    count, top_x, top_y, top_p = _NONE, 0, 0, 0
    for i in range(0, len(records) - 5, 6):
        address = big(records, i) >> 16
        if address & 0x8000:
            continue
        t[count] = big(records, i + 2) + shift
        column, row, polarity = address >> 1 & 0x7F, address >> 8, address & 1
        x[count], y[count], p[count] = column, row, polarity
        top_x, top_y, top_p = max(top_x, column), max(top_y, row), max(top_p, polarity)
        count += _ONE
    return count, shift, top_x, top_y, top_p


@numba.njit(cache=True)
def decode_dvs128(records: np.ndarray, shift: int, t: np.ndarray, x: np.ndarray, y: np.ndarray, p: np.ndarray) -> Any:
    """8 bytes: a DVS128 address and a signed time; bits 15 and 31 mark what is no event."""
    plain, top_x, top_y, top_p = _plain_dvs128(records, shift, t, x, y, p)
    if plain:
        return np.uint64(len(records) // 8), shift, top_x, top_y, top_p
    count, top_x, top_y, top_p = _NONE, 0, 0, 0
    for i in range(0, len(records) - 7, 8):
        address = big(records, i)
        if address & 0x80008000:
            continue
        t[count] = np.int32(big(records, i + 4)) + shift
        column, row, polarity = address >> 1 & 0x7F, address >> 8 & 0x7F, address & 1
        x[count], y[count], p[count] = column, row, polarity
        top_x, top_y, top_p = max(top_x, column), max(top_y, row), max(top_p, polarity)
        count += _ONE
    return count, shift, top_x, top_y, top_p


@numba.njit(cache=True)
def _plain_dvs128(records: np.ndarray, shift: int, t: np.ndarray, x: np.ndarray, y: np.ndarray, p: np.ndarray) -> Any:
    """Every record taken for an event, in a loop that is worked through several at a time. Whether that was true, and
    the largest column, row and polarity."""
    seen, top_x, top_y, top_p = np.int32(0), np.int32(0), np.int32(0), np.int32(0)
    for k in range(len(records) // 8):
        address = np.int32(big(records, 8 * k))
        seen |= address
        t[k] = np.int64(np.int32(big(records, 8 * k + 4))) + shift
        column, row = (
            np.int32(address >> np.int32(1) & np.int32(0x7F)),
            np.int32(address >> np.int32(8) & np.int32(0x7F)),
        )
        polarity = np.int32(address & np.int32(1))
        x[k], y[k], p[k] = column, row, polarity
        top_x, top_y, top_p = max(top_x, column), max(top_y, row), max(top_p, polarity)
    return np.int64(seen) & 0x80008000 == 0, np.int64(top_x), np.int64(top_y), np.int64(top_p)


@numba.njit(cache=True)
def decode_davis(
    records: np.ndarray, shift: int, t: np.ndarray, x: np.ndarray, y: np.ndarray, p: np.ndarray
) -> Decoded:
    """8 bytes: a DAVIS address and a signed time; bit 31 marks frames and IMU samples, bit 10 external events."""
    count, top_x, top_y, top_p = _NONE, 0, 0, 0
    for i in range(0, len(records) - 7, 8):
        address = big(records, i)
        if address & 0x80000400:
            continue
        t[count] = np.int32(big(records, i + 4)) + shift
        column, row, polarity = address >> 12 & 0x3FF, address >> 22 & 0x1FF, address >> 11 & 1
        x[count], y[count], p[count] = column, row, polarity
        top_x, top_y, top_p = max(top_x, column), max(top_y, row), max(top_p, polarity)
        count += _ONE
    return count, shift, top_x, top_y, top_p
