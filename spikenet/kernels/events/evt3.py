"""The 16-bit words of Prophesee EVT3. Importing this module imports numba.

Kind 0: row. Kind 2: an event (column, polarity bit 11). Kind 3: column and polarity that vectors begin at. Kinds 4 and
5: a vector, one bit a column, 12 or 8 columns. Kinds 6 and 8: time bits 0 to 11 and 12 to 23.
"""

from __future__ import annotations

import functools
from typing import Any

import numba
import numpy as np

from spikenet.kernels.events.evt import COUNTERS, EARLY, ORPHAN, TIME_HIGH, first_time_high, lowest_bit, next_high

SHIFT = 12
ROW, EVENT, BASE_X, VECTOR_12, VECTOR_8, TIME_LOW = 0, 2, 3, 4, 5, 6
DROP = 1 << 11  # TIME_HIGH steps back that are a wrap
HIGH_BITS = 12
VECTOR = 32  # columns of the group VECTOR_12, VECTOR_12, VECTOR_8, the only one that all decoders read
KNOWN = np.isin(np.arange(16), [ROW, EVENT, BASE_X, VECTOR_12, VECTOR_8, TIME_LOW])

# State: time of the last TIME_HIGH, wraps included, -1 before the first; low part of time; row and next vector's
# column, -1 while unknown; the vector's polarity; largest x, y, p.
TIME, LOW, Y, X, P, TOP_X, TOP_Y, TOP_P, STATE = 0, 1, 2, 3, 4, 5, 6, 7, 8


def fresh_state() -> tuple[np.ndarray, np.ndarray]:
    """Before the first word: decoder state and counters of what was skipped."""
    state = np.zeros(STATE, np.int64)
    state[[TIME, Y, X]] = -1
    return state, np.zeros(COUNTERS, np.int64)


@functools.cache
def _events_in_word() -> np.ndarray:
    """Events in each of the 65536 words."""
    word = np.arange(1 << 16)
    kind, bits = word >> SHIFT, np.bitwise_count(word & 0xFFF)
    events = np.where(kind == VECTOR_12, bits, 0) + np.where(kind == VECTOR_8, np.bitwise_count(word & 0xFF), 0)
    return (events + (kind == EVENT)).astype(np.uint8)


def begin(words: np.ndarray, state: np.ndarray, skipped: np.ndarray) -> tuple[int, int]:
    """Where decoding begins and how many events follow at most."""
    return _begin(words, state, skipped, _events_in_word())


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _begin(words: np.ndarray, state: np.ndarray, skipped: np.ndarray, events_in: np.ndarray) -> tuple[int, int]:
    first = 0 if state[TIME] >= 0 else first_time_high(words, SHIFT, KNOWN, skipped)
    events = 0
    for i in range(first):
        skipped[EARLY] += events_in[words[i]]
    for i in range(first, words.size):
        events += events_in[words[i]]
    return first, events


@numba.njit(nogil=True, cache=True, error_model="numpy")
def decode(
    words: np.ndarray,  # uint16 [W]
    state: np.ndarray,  # int64 [STATE], carried on
    skipped: np.ndarray,  # int64 [COUNTERS], counted up
    t: np.ndarray,  # int64 [E], written, as are x, y and p; E as `begin` counted
    x: np.ndarray,
    y: np.ndarray,
    p: np.ndarray,
) -> int:
    """Returns the number of events, E but for those that have no row or column."""
    time, low, row, base, sign = state[TIME], state[LOW], state[Y], state[X], np.int8(state[P])
    top_x, top_y, top_p = state[TOP_X], state[TOP_Y], np.int8(state[TOP_P])
    now = time + low
    n = 0
    for i in range(words.size):
        word = np.int64(words[i])
        kind, content = word >> SHIFT, word & 0xFFF
        if kind == EVENT:
            if row < 0:
                skipped[ORPHAN] += 1
                continue
            column, polarity = content & 0x7FF, np.int8(content >> 11)
            t[n], x[n], y[n], p[n] = now, column, row, polarity
            top_x, top_y, top_p = max(top_x, column), max(top_y, row), max(top_p, polarity)
            n += 1
        elif kind in (VECTOR_12, VECTOR_8):
            mask = content if kind == VECTOR_12 else content & 0xFF
            if row < 0 or base < 0:
                skipped[ORPHAN] += 1
                continue
            while mask:
                t[n], x[n], y[n], p[n] = now, base + lowest_bit(mask), row, sign
                mask &= mask - 1
                n += 1
                top_x, top_y, top_p = max(top_x, np.int64(x[n - 1])), max(top_y, row), max(top_p, sign)
            base = min(base + (12 if kind == VECTOR_12 else 8), 1 << 12)
        elif kind == ROW:
            row = content & 0x7FF
        elif kind == BASE_X:
            base, sign = content & 0x7FF, np.int8(content >> 11)
        elif kind == TIME_LOW:
            low = content
            now = time + low
        elif kind == TIME_HIGH:
            old = (time >> 12) & 0xFFF
            if time < 0:
                time = content << 12
            elif old != content:
                wraps = (time >> 24) + (old >= content + DROP)
                time, low = (wraps << 24) | (content << 12), np.int64(0)
            now = time + low
        else:
            skipped[kind] += 1
    state[TIME], state[LOW], state[Y], state[X], state[P] = time, low, row, base, sign
    state[TOP_X], state[TOP_Y], state[TOP_P] = top_x, top_y, top_p
    return n


@numba.njit(nogil=True, cache=True, error_model="numpy")
def encode(t: np.ndarray, x: np.ndarray, y: np.ndarray, p: np.ndarray, words: np.ndarray) -> int:
    """Write the words of a stream as far as there is room for them and return how many there are.

    Returns -1 - n where event n lies before a wrap that came before it.
    """
    at: Any = np.int64(-1)
    low, row = np.int64(-1), np.int64(-1)
    n, i = 0, 0
    while i < t.size:
        goal = t[i] >> 12
        while at != goal:
            at, low = next_high(at, goal, HIGH_BITS, DROP), np.int64(-1)
            if at < 0:
                return -1 - i
            n = _put(words, n, TIME_HIGH, at & 0xFFF)
        if low != t[i] & 0xFFF:
            low = t[i] & 0xFFF
            n = _put(words, n, TIME_LOW, low)
        if row != y[i]:
            row = np.int64(y[i])
            n = _put(words, n, ROW, row)
        mask, j = np.int64(1), i + 1
        while j < t.size and t[j] == t[i] and y[j] == y[i] and p[j] == p[i] and x[j - 1] < x[j] < x[i] + VECTOR:
            mask |= 1 << (x[j] - x[i])
            j += 1
        start = np.int64(p[i]) << 11 | x[i]
        if j - i > 4:  # a vector takes four words, an event one
            n = _put(words, n, BASE_X, start)
            n = _put(words, n, VECTOR_12, mask & 0xFFF)
            n = _put(words, n, VECTOR_12, mask >> 12 & 0xFFF)
            n = _put(words, n, VECTOR_8, mask >> 24)
            i = j
        else:
            n = _put(words, n, EVENT, start)
            i += 1
    return n


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _put(words: np.ndarray, n: int, kind: int, content: Any) -> int:
    if n < words.size:
        words[n] = kind << SHIFT | content
    return n + 1
