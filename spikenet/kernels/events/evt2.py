"""The 32-bit words of Prophesee EVT2. Importing this module imports numba.

Kinds 0 and 1: an OFF or ON event (low time bits 22 to 27, column 11 to 21, row 0 to 10). Kind 8: bits 6 to 33 of time.
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
    first_time_high,
    next_base,
    next_high,
)
from spikenet.kernels.events.evt import fresh_state as fresh_state

SHIFT = 28
DROP = (((1 << 28) - 1) << 6) - 10_000  # microseconds back that are a wrap
HIGH_DROP = (DROP + 63) >> 6  # the same in steps of TIME_HIGH
KNOWN = np.arange(16) < 2


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
        events += words[i] < np.uint32(2 << SHIFT)
    return events


@numba.njit(nogil=True, cache=True, error_model="numpy")
def decode(
    words: np.ndarray,  # uint32 [W]
    state: np.ndarray,  # int64 [STATE], carried on
    skipped: np.ndarray,  # int64 [COUNTERS], counted up
    t: np.ndarray,  # int64 [E], written, as are x, y and p; E as `begin` counted
    x: np.ndarray,
    y: np.ndarray,
    p: np.ndarray,
) -> int:
    base, top_x, top_y, top_p = state[BASE], np.int32(state[TOP_X]), np.int32(state[TOP_Y]), np.int32(state[TOP_P])
    n = 0
    for i in range(words.size):
        word = words[i]
        kind = word >> np.uint32(SHIFT)
        if kind < 2:
            column, row = np.int32((word >> np.uint32(11)) & np.uint32(0x7FF)), np.int32(word & np.uint32(0x7FF))
            t[n] = base + np.int64((word >> np.uint32(22)) & np.uint32(0x3F))
            x[n], y[n], p[n] = column, row, np.int32(kind)
            top_x, top_y, top_p = max(top_x, column), max(top_y, row), max(top_p, np.int32(kind))
            n += 1
        elif kind == TIME_HIGH:
            base = next_base(base, np.int64(word & np.uint32(0x0FFFFFFF)), DROP)
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
    n = 0
    for i in range(t.size):
        goal = t[i] >> 6
        while at != goal:
            at = next_high(at, goal, HIGH_BITS, HIGH_DROP)
            if at < 0:
                return -1 - i
            if n < words.size:
                words[n] = TIME_HIGH << SHIFT | (at & ((1 << HIGH_BITS) - 1))
            n += 1
        if n < words.size:
            words[n] = np.int64(p[i]) << SHIFT | (t[i] & 0x3F) << 22 | x[i] << 11 | y[i]
        n += 1
    return n
