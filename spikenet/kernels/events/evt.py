"""What the word formats EVT2, EVT2.1 and EVT3 share. Importing this module imports numba.

A word's four highest bits are its kind. Time is kept in a coarse part, sent by TIME_HIGH words, that wraps; a decoder
takes a step back by ``drop`` or more as a wrap.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numba.core import types
from numba.extending import intrinsic

TIME_HIGH = 8
KINDS = 16
EARLY = KINDS  # where events before the first TIME_HIGH are counted
ORPHAN = KINDS + 1  # where words of events without a row or a column are counted
COUNTERS = KINDS + 2

# EVT2 and EVT2.1: a TIME_HIGH word brings bits 6 to 33 of time.
HIGH_BITS = 28
WRAP = 1 << 34  # microseconds
BASE, TOP_X, TOP_Y, TOP_P, STATE = 0, 1, 2, 3, 4  # time of the last TIME_HIGH, wraps included; largest x, y, p


def fresh_state() -> tuple[np.ndarray, np.ndarray]:
    """Before the first word of EVT2 or EVT2.1: decoder state and counters of what was skipped."""
    state = np.zeros(STATE, np.int64)
    state[BASE] = -1
    return state, np.zeros(COUNTERS, np.int64)


@numba.njit(nogil=True, cache=True, error_model="numpy")
def next_base(base: Any, high: Any, drop: int) -> Any:
    """Time of a TIME_HIGH word of EVT2 or EVT2.1, wraps included, after one of time ``base`` (-1: the first)."""
    now = high << 6
    now += base & ~np.int64(WRAP - 1) if base >= 0 else 0
    return now + WRAP if base - now >= drop else now


def _lowest_bit(context: Any, bits: Any) -> Any:
    """The number of the lowest bit that is set, int64; ``bits`` is an int64 that is not 0."""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.cttz(arguments[0], context.get_constant(types.boolean, True))

    return types.int64(types.int64), build


def _bits_set(context: Any, bits: Any) -> Any:
    """How many bits of an int64 are set, int64."""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.ctpop(arguments[0])

    return types.int64(types.int64), build


lowest_bit: Any = intrinsic(_lowest_bit)
bits_set: Any = intrinsic(_bits_set)


@numba.njit(nogil=True, cache=True, error_model="numpy")
def first_time_high(
    words: np.ndarray,  # unsigned [W]
    shift: int,  # of the four bits of kind
    known: np.ndarray,  # bool [16]: kinds that are not counted here, events among them
    skipped: np.ndarray,  # int64 [COUNTERS], counted up
) -> int:
    """The place of the first TIME_HIGH, or W: nothing before it has a time."""
    for i in range(words.size):
        kind = np.int64(words[i] >> shift)
        if kind == TIME_HIGH:
            return i
        if not known[kind]:
            skipped[kind] += 1
    return words.size


@numba.njit(nogil=True, cache=True, error_model="numpy")
def next_high(at: Any, goal: Any, bits: int, drop: int) -> Any:
    """What an encoder's next TIME_HIGH brings a decoder to, on its way from ``at`` to ``goal`` (wraps included).

    ``at`` is -1 before the first. A wrap is a step back by ``drop`` or more, so longer ways back take several steps.
    Returns -1 where there is no way: a decoder never goes back behind a wrap.
    """
    period = 1 << bits
    if at < 0:
        return min(goal, period - 1)
    if at >> bits > goal >> bits:
        return -1
    if at >> bits == goal >> bits:
        return max(goal, at - drop + 1)
    coarse = at & (period - 1)
    if (at >> bits) + 1 == goal >> bits and coarse - (goal & (period - 1)) >= drop:
        return goal
    return at + 1 if coarse == period - 1 else at - coarse + period - 1
