"""The 64-bit words of Prophesee EVT2.1. Importing this module imports numba.

Kinds 0 and 1: OFF or ON events of one row and one time, a bit each in bits 0 to 31 (row 32 to 42, column of bit 0 in
43 to 53, low time bits 54 to 59). Kind 8: bits 6 to 33 of time, in bits 32 to 59.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from spikenet.kernels.events.evt import (
    BASE,
    EARLY,
    HIGH_BITS,
    TIME_HIGH,
    TOP_P,
    TOP_X,
    TOP_Y,
    bits_set,
    first_time_high,
    lowest_bit,
    next_base,
    next_high,
)
from spikenet.kernels.events.evt import fresh_state as fresh_state

SHIFT = 60
HIGH_DROP = (1 << 28) - 1  # TIME_HIGH steps back that are a wrap
DROP = HIGH_DROP << 6  # microseconds
KNOWN = np.arange(16) < 2


@numba.njit(nogil=True, cache=True, error_model="numpy")
def swap_halves(words: np.ndarray) -> None:
    """Turn the two 32-bit halves of every uint64 round, in place."""
    for i in range(words.size):
        words[i] = words[i] << np.uint64(32) | words[i] >> np.uint64(32)


@numba.njit(nogil=True, cache=True, error_model="numpy")
def begin(words: np.ndarray, state: np.ndarray, skipped: np.ndarray) -> tuple[int, int]:
    """Where decoding begins and how many events follow."""
    first = 0 if state[BASE] >= 0 else first_time_high(words, SHIFT, KNOWN, skipped)
    skipped[EARLY] += _events(words[:first])
    return first, _events(words[first:])


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _events(words: np.ndarray) -> int:
    events = 0
    for i in range(words.size):
        mask = np.int64(words[i] & np.uint64(0xFFFFFFFF))
        events += bits_set(mask if words[i] < np.uint64(2 << SHIFT) else 0)
    return events


@numba.njit(nogil=True, cache=True, error_model="numpy")
def decode(
    words: np.ndarray,  # uint64 [W]
    state: np.ndarray,  # int64 [STATE], carried on
    skipped: np.ndarray,  # int64 [COUNTERS], counted up
    t: np.ndarray,  # int64 [E], written, as are x, y and p; E as `begin` counted
    x: np.ndarray,
    y: np.ndarray,
    p: np.ndarray,
) -> int:
    base, top_x, top_y, top_p = state[BASE], state[TOP_X], state[TOP_Y], np.int8(state[TOP_P])
    n = 0
    for i in range(words.size):
        word = words[i]
        kind = np.int64(word >> np.uint64(SHIFT))
        high = np.int64((word >> np.uint64(32)) & np.uint64(0x0FFFFFFF))
        if kind < 2:
            now, column, row, sign = base + (high >> 22), (high >> 11) & 0x7FF, high & 0x7FF, np.int8(kind)
            mask = np.int64(word & np.uint64(0xFFFFFFFF))
            if mask:
                top_y, top_p = max(top_y, row), max(top_p, sign)
            last = np.int64(0)
            while mask:
                last = column + lowest_bit(mask)
                t[n], x[n], y[n], p[n] = now, last, row, sign
                mask &= mask - 1
                n += 1
            top_x = max(top_x, last)
        elif kind == TIME_HIGH:
            base = next_base(base, high, DROP)
        else:
            skipped[kind] += 1
    state[BASE], state[TOP_X], state[TOP_Y], state[TOP_P] = base, top_x, top_y, top_p
    return n


@numba.njit(nogil=True, cache=True, error_model="numpy")
def encode(t: np.ndarray, x: np.ndarray, y: np.ndarray, p: np.ndarray, words: np.ndarray) -> int:
    """Write the words of a stream as far as there is room for them and return how many there are.

    Returns -1 - n where event n lies before a wrap that came before it.
    """
    at: Any = np.int64(-1)
    n, i = 0, 0
    while i < t.size:
        goal = t[i] >> 6
        while at != goal:
            at = next_high(at, goal, HIGH_BITS, HIGH_DROP)
            if at < 0:
                return -1 - i
            if n < words.size:
                words[n] = np.uint64(TIME_HIGH << HIGH_BITS | (at & ((1 << HIGH_BITS) - 1))) << np.uint64(32)
            n += 1
        first, j = i, i + 1
        start = np.int64(x[i]) & ~31  # sensors send columns in groups that begin at a multiple of 32
        mask = np.int64(1) << (x[i] - start)
        while j < t.size and t[j] == t[i] and y[j] == y[i] and p[j] == p[i] and x[j - 1] < x[j] < start + 32:
            mask |= np.int64(1) << (x[j] - start)
            j += 1
        i = j
        if n < words.size:
            high = np.int64(p[first]) << 28 | (t[first] & 0x3F) << 22 | start << 11 | y[first]
            words[n] = np.uint64(high) << np.uint64(32) | np.uint64(mask)
        n += 1
    return n
