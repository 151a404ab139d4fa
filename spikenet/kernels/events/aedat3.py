"""The packets of AEDAT 3.1. Importing this module imports numba."""

from __future__ import annotations

import numba
import numpy as np

from spikenet.kernels.events.words import word

HEADER, EVENT = 28, 8  # bytes

# What stopped `decode_packets`: the end of the data, or a packet header that cannot be.
GOOD, NEGATIVE, CAPACITY, SIZE, PAST_END = range(5)

# Places in the state that goes from one piece to the next, int64: bytes left of the packet at hand, whether it holds
# events that are wanted, what to add to their times, the source of the first polarity packet (-1: none yet), events
# marked invalid, events with a negative time, events of other packets, events that a cut packet lacks.
LEFT, WANTED, EPOCH, SOURCE, INVALID, BACKWARD, OTHER, MISSING = range(8)

_POLARITY = 1


@numba.njit(cache=True)
def _i32(data: np.ndarray, place: int) -> int:
    return np.int64(np.int32(word(data, place)))


@numba.njit(cache=True)
def _begin(data: np.ndarray, place: int, remaining: int, state: np.ndarray) -> int:
    """Read the packet header at ``data[place]``; ``remaining`` bytes of the file lie behind it."""
    kind = _i32(data, place) & 0xFFFF
    size, overflow = _i32(data, place + 4), _i32(data, place + 12)
    capacity, number = _i32(data, place + 16), _i32(data, place + 20)
    if kind >> 15 or size < 0 or number < 0 or overflow < 0:
        return NEGATIVE
    if capacity != number:
        return CAPACITY
    source = _i32(data, place) >> 16
    if kind == _POLARITY and number:
        if size != EVENT:
            return SIZE
        if state[SOURCE] < 0:
            state[SOURCE] = source & 0xFFFF
    state[WANTED] = kind == _POLARITY and state[SOURCE] == source & 0xFFFF
    state[EPOCH] = overflow << 31
    state[LEFT] = size * number
    present = number
    fault = GOOD
    if state[LEFT] > remaining:
        present = remaining // size
        state[LEFT] = present * size
        state[MISSING] += number - present
        fault = PAST_END
    if not state[WANTED]:
        state[OTHER] += present
    return fault


@numba.njit(cache=True)
def decode_packets(
    data: np.ndarray,
    behind: int,
    state: np.ndarray,
    t: np.ndarray,
    x: np.ndarray,
    y: np.ndarray,
    p: np.ndarray,
) -> tuple[int, int, int]:
    """Decode as many whole packet headers and events as there are.

    Args:
        data: uint8, read only: part of a file, from where the last call stopped.
        behind: bytes of the file that follow ``data``.
        state: int64 ``[8]``, see above.
        t, x, y, p: the columns, with room for an event every 8 bytes.

    Returns:
        What stopped it, bytes used and number of events. After PAST_END the next call goes on with what is there.
    """
    size, place, count = len(data), 0, 0
    while True:
        if state[LEFT] == 0:
            if place + HEADER > size:
                return GOOD, place, count
            fault = _begin(data, place, size - place - HEADER + behind, state)
            if fault and fault != PAST_END:
                return fault, place, count
            place += HEADER
            if fault:
                return fault, place, count
        elif state[WANTED]:
            stop = place + min(state[LEFT], (size - place) // EVENT * EVENT)
            state[LEFT] -= stop - place
            count = _events(data, place, stop, state, t, x, y, p, count)
            place = stop
            if state[LEFT]:
                return GOOD, place, count
        else:
            step = min(state[LEFT], size - place)
            state[LEFT] -= step
            place += step
            if state[LEFT]:
                return GOOD, place, count


@numba.njit(cache=True)
def _events(
    data: np.ndarray,
    place: int,
    stop: int,
    state: np.ndarray,
    t: np.ndarray,
    x: np.ndarray,
    y: np.ndarray,
    p: np.ndarray,
    count: int,
) -> int:
    epoch = state[EPOCH]
    for i in range(place, stop, EVENT):
        bits, time = np.int64(word(data, i)), np.int64(word(data, i + 4))
        if not bits & 1:
            state[INVALID] += 1
        elif time >> 31:
            state[BACKWARD] += 1
        else:
            t[count] = epoch | time
            x[count], y[count], p[count] = bits >> 17, bits >> 2 & 0x7FFF, bits >> 1 & 1
            count += 1
    return count


@numba.njit(cache=True)
def encode_packets(
    t: np.ndarray, x: np.ndarray, y: np.ndarray, p: np.ndarray, longest: int, out: np.ndarray
) -> int:
    """Write polarity packets of at most ``longest`` events that share an overflow count.

    Args:
        t, x, y, p: the columns, all of them valid.
        longest: events in a packet.
        out: int32, with room for ``HEADER // 4`` words a packet and two an event.

    Returns:
        Words written.
    """
    count, place, k = len(t), 0, 0
    while k < count:
        stop = k + 1
        while stop < count and stop - k < longest and t[stop] >> 31 == t[k] >> 31:
            stop += 1
        number = stop - k
        out[place], out[place + 1], out[place + 2], out[place + 3] = 1 << 16 | _POLARITY, EVENT, 4, t[k] >> 31
        out[place + 4], out[place + 5], out[place + 6] = number, number, number
        place += HEADER // 4
        for i in range(k, stop):
            out[place] = np.int32(np.int64(x[i]) << 17 | np.int64(y[i]) << 2 | np.int64(p[i]) << 1 | 1)
            out[place + 1] = t[i] & 0x7FFFFFFF
            place += 2
        k = stop
    return place
