"""Chunks of Prophesee's ECF codec, in which Metavision keeps HDF5 files. Importing this module imports numba.

A chunk is u32 ``events << 2 | style``, u64 first time, then runs. Times: a byte of step (high 4 bits) and count, count
15 is followed by a 16-bit one; step 15 marks 4 bits of a longer step, lowest first. Then by style, see the readers.
Source: github.com/prophesee-ai/hdf5_ecf, layout alone.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from spikenet.kernels.events.evt import lowest_bit

RUNS, PACKED_XP, PACKED_YXP = 0, 1, 2  # style
HEAD = 12  # bytes before the first run
LARGEST = 29  # bytes that an event may take, if every one begins its own runs
SMALLEST = 3  # events in a byte, at most: columns take no less
_TURNED = np.array([int(f"{bits:05b}"[::-1], 2) for bits in range(32)], np.int64)  # five bits, first one last


@numba.njit(nogil=True, cache=True, error_model="numpy")
def decode(
    data: np.ndarray,  # uint8: one chunk
    t: np.ndarray,  # int64 [E], written, as are x, y and p; E as the chunk's head says
    x: np.ndarray,
    y: np.ndarray,
    p: np.ndarray,
    top: np.ndarray,  # int64 [3]: largest x, y, p, raised
) -> int:
    """Returns 0, or -1 - n where byte n asks for more bytes or more events than there are."""
    at = _times(data, t)
    if at < 0:
        return at
    if data[0] & PACKED_YXP:
        at = _packed_yxp(data, at, x, y, p)
    else:
        at = _rows(data, at, y)
        if at < 0:
            return at
        if data[0] & PACKED_XP:
            at = _packed_xp(data, at, x, p)
        else:
            at = _columns(data, at, x)
            at = _signs(data, at, p) if at >= 0 else at
    if at < 0:
        return at
    for i in range(t.size):
        top[0], top[1], top[2] = max(top[0], x[i]), max(top[1], y[i]), max(top[2], p[i])
    return 0


@numba.njit(nogil=True, cache=True, error_model="numpy", inline="always")
def _u16(data: np.ndarray, at: int) -> Any:
    return np.int64(data[at]) | np.int64(data[at + 1]) << 8


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _times(data: np.ndarray, t: np.ndarray) -> int:
    if data.size < HEAD:
        return -1 - data.size
    now: Any = np.int64(0)
    for k in range(8):
        now |= np.int64(data[4 + k]) << (8 * k)
    at, n = HEAD, 0
    step, shift = np.int64(0), 0
    while n < t.size:
        if at >= data.size:
            return -1 - at
        high = np.int64(data[at] >> 4)
        count: Any = np.int64(data[at] & 15)
        at += 1
        if high == 15:
            if shift > 60:
                return -at
            step |= count << shift
            shift += 4
            continue
        now += step + high
        step, shift = np.int64(0), 0
        if count == 15:
            if at + 2 > data.size:
                return -1 - at
            count = _u16(data, at)
            at += 2
        if n + count > t.size:
            return -at
        for i in range(n, n + count):
            t[i] = now
        n += count
    return at


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _rows(data: np.ndarray, at: int, y: np.ndarray) -> int:
    """16 bits of row and, in 5 bits, count; count 31 is followed by a 16-bit one."""
    n = 0
    while n < y.size:
        if at + 2 > data.size:
            return -1 - at
        word = _u16(data, at)
        row, count = np.int32(word >> 5), word & 31
        at += 2
        if count == 31:
            if at + 2 > data.size:
                return -1 - at
            count = _u16(data, at)
            at += 2
        if n + count > y.size:
            return -at
        for i in range(n, n + count):
            y[i] = row
        n += count
    return at


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _columns(data: np.ndarray, at: int, x: np.ndarray) -> int:
    """16 bits of column and, in 5 bits, which of the next five columns follow.

    The last word's bits may name more events than there are: the codec's own encoder leaves them.
    """
    n = 0
    while n < x.size:
        if at + 2 > data.size:
            return -1 - at
        word = _u16(data, at)
        column, mask = word >> 5, _TURNED[word & 31]
        at += 2
        x[n] = column
        n += 1
        while mask and n < x.size:
            x[n] = column + 1 + lowest_bit(mask)
            mask &= mask - 1
            n += 1
    return at


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _signs(data: np.ndarray, at: int, p: np.ndarray) -> int:
    """A byte of polarity (bit 7) and count; count 127 is followed by a 16-bit one."""
    n = 0
    while n < p.size:
        if at >= data.size:
            return -1 - at
        sign = np.int8(data[at] >> 7)
        count: Any = np.int64(data[at] & 127)
        at += 1
        if count == 127:
            if at + 2 > data.size:
                return -1 - at
            count = _u16(data, at)
            at += 2
        if n + count > p.size:
            return -at
        for i in range(n, n + count):
            p[i] = sign
        n += count
    return at


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _packed_xp(data: np.ndarray, at: int, x: np.ndarray, p: np.ndarray) -> int:
    """Four times 12 bits of column and polarity in three 16-bit words."""
    groups = (x.size + 3) // 4
    if at + 6 * groups > data.size:
        return -1 - data.size
    for g in range(groups):
        a, b, c = _u16(data, at), _u16(data, at + 2), _u16(data, at + 4)
        at += 6
        four = (a >> 4, (a & 0xF) | b >> 8 << 4, (b & 0xFF) | c >> 12 << 8, c & 0xFFF)
        for k in range(min(4, x.size - 4 * g)):
            x[4 * g + k], p[4 * g + k] = four[k] >> 1, four[k] & 1
    return at


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _packed_yxp(data: np.ndarray, at: int, x: np.ndarray, y: np.ndarray, p: np.ndarray) -> int:
    """Four times 24 bits of row, column (11 bits each, row from bit 12) and polarity in three 32-bit words."""
    groups = (x.size + 3) // 4
    if at + 12 * groups > data.size:
        return -1 - data.size
    for g in range(groups):
        a = _u16(data, at) | _u16(data, at + 2) << 16
        b = _u16(data, at + 4) | _u16(data, at + 6) << 16
        c = _u16(data, at + 8) | _u16(data, at + 10) << 16
        at += 12
        four = (a >> 8, (a & 0xFF) | b >> 16 << 8, (b & 0xFFFF) | c >> 24 << 16, c & 0xFFFFFF)
        for k in range(min(4, x.size - 4 * g)):
            i = 4 * g + k
            y[i], x[i], p[i] = four[k] >> 12 & 0x7FF, four[k] >> 1 & 0x7FF, four[k] & 1
    return at


@numba.njit(nogil=True, cache=True, error_model="numpy")
def encode(
    t: np.ndarray,  # int64 [E], ascending, E from 1 to 65535
    x: np.ndarray,  # x and y below 2048
    y: np.ndarray,
    p: np.ndarray,
    style: int,
    data: np.ndarray,  # uint8 [HEAD + LARGEST E], written
) -> int:
    """Returns the number of bytes."""
    at = _put(data, 0, np.int64(t.size) << 2 | style, 4)
    at = _put(data, at, t[0], 8)
    at = _put_times(t, data, at)
    if style == PACKED_YXP:
        return _put_packed_yxp(x, y, p, data, at)
    at = _put_runs(y, 5, data, at)
    if style == PACKED_XP:
        return _put_packed_xp(x, p, data, at)
    at = _put_columns(x, data, at)
    return _put_runs(p, 7, data, at)


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _put(data: np.ndarray, at: int, value: Any, size: int) -> int:
    for k in range(size):
        data[at + k] = value >> (8 * k) & 0xFF
    return at + size


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _put_times(t: np.ndarray, data: np.ndarray, at: int) -> int:
    now, i = t[0], 0
    while i < t.size:
        step = t[i] - now
        now = t[i]
        if step >= 15:
            while step:
                at = _put(data, at, 0xF0 | (step & 15), 1)
                step >>= 4
        count = _run(t, i)
        at = _put(data, at, step << 4 | min(count, 15), 1)
        if count >= 15:
            at = _put(data, at, count, 2)
        i += count
    return at


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _put_runs(values: np.ndarray, bits: int, data: np.ndarray, at: int) -> int:
    """Runs of rows (5 bits of count in 16) or polarities (7 bits in 8)."""
    most, shift = (1 << bits) - 1, 5 if bits == 5 else 7
    i = 0
    while i < values.size:
        count = _run(values, i)
        at = _put(data, at, np.int64(values[i]) << shift | min(count, most), 2 if bits == 5 else 1)
        if count >= most:
            at = _put(data, at, count, 2)
        i += count
    return at


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _run(values: np.ndarray, i: int) -> int:
    j = i + 1
    while j < values.size and values[j] == values[i]:
        j += 1
    return j - i


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _put_columns(x: np.ndarray, data: np.ndarray, at: int) -> int:
    i = 0
    while i < x.size:
        first, mask = np.int64(x[i]), np.int64(0)
        i += 1
        while i < x.size and x[i - 1] < x[i] <= first + 5:
            mask |= 1 << (5 - (x[i] - first))
            i += 1
        at = _put(data, at, first << 5 | mask, 2)
    return at


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _put_packed_xp(x: np.ndarray, p: np.ndarray, data: np.ndarray, at: int) -> int:
    four = np.zeros(4, np.int64)
    for first in range(0, x.size, 4):
        for k in range(4):
            i = min(first + k, x.size - 1)  # the last group is filled up
            four[k] = np.int64(x[i]) << 1 | p[i]
        at = _put(data, at, four[0] << 4 | four[1] & 0xF, 2)
        at = _put(data, at, four[1] >> 4 << 8 | four[2] & 0xFF, 2)
        at = _put(data, at, four[2] >> 8 << 12 | four[3], 2)
    return at


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _put_packed_yxp(x: np.ndarray, y: np.ndarray, p: np.ndarray, data: np.ndarray, at: int) -> int:
    four = np.zeros(4, np.int64)
    for first in range(0, x.size, 4):
        for k in range(4):
            i = min(first + k, x.size - 1)
            four[k] = np.int64(y[i]) << 12 | np.int64(x[i]) << 1 | p[i]
        at = _put(data, at, four[0] << 8 | four[1] & 0xFF, 4)
        at = _put(data, at, four[1] >> 8 << 16 | four[2] & 0xFFFF, 4)
        at = _put(data, at, four[2] >> 16 << 24 | four[3], 4)
    return at
