"""The packets of AEDAT 3.1. Importing this module imports numba."""

from __future__ import annotations

import numba
import numpy as np

from spikenet.kernels.events.words import signed_word, word

HEADER, EVENT = 28, 8  # bytes

# What is wrong with a packet header, in ``state[FAULT]``.
GOOD, NEGATIVE, CAPACITY, SIZE, PAST_END = range(5)
FAULTS = {
    NEGATIVE: "a negative kind, size, number or overflow count",
    CAPACITY: "a capacity that is not its number of events",
    SIZE: "polarity events of another size than 8 bytes",
}

# Places in the state that goes from one piece to the next, int64: bytes left of the packet at hand, whether it holds
# events that are wanted, what to add to their times, the source of the first polarity packet (-1: none yet), events
# marked invalid, events of other packets, events with a negative time and where the first is in the data; then a
# header's fault, where it is in the data, and how many events the file lacks for it.
LEFT, WANTED, EPOCH, SOURCE, INVALID, OTHER, NEGATIVE_TIME, NEGATIVE_AT, FAULT, FAULT_AT, MISSING = range(11)

_POLARITY = 1


@numba.njit(cache=True)
def _begin(data: np.ndarray, place: int, remaining: int, state: np.ndarray) -> int:
    """Read the packet header at ``data[place]``; ``remaining`` bytes of the file lie behind it."""
    kind = signed_word(data, place) & 0xFFFF
    size, overflow = signed_word(data, place + 4), signed_word(data, place + 12)
    capacity, number = signed_word(data, place + 16), signed_word(data, place + 20)
    if kind >> 15 or size < 0 or number < 0 or overflow < 0:
        return NEGATIVE
    if capacity != number:
        return CAPACITY
    source = signed_word(data, place) >> 16
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
) -> tuple[int, int]:
    """Decode as many whole packet headers and events as there are, up to the first header that cannot be.

    Args:
        data: uint8, read only: part of a file, from where the last call stopped.
        behind: bytes of the file that follow ``data``.
        state: int64 ``[11]``, see above.
        t, x, y, p: the columns, with room for an event every 8 bytes.

    Returns:
        Bytes used and number of events.
    """
    size, place, count = len(data), 0, 0
    while True:
        if state[LEFT] == 0:
            if state[FAULT] or place + HEADER > size:
                return place, count
            state[FAULT] = _begin(data, place, size - place - HEADER + behind, state)
            state[FAULT_AT] = place
            place += HEADER
        else:
            unit = EVENT if state[WANTED] else 1
            stop = place + min(state[LEFT], (size - place) // unit * unit)
            state[LEFT] -= stop - place
            if state[WANTED]:
                count = _events(data, place, stop, state, t, x, y, p, count)
            place = stop
            if state[LEFT]:
                return place, count


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
        bits, time = word(data, i), word(data, i + 4)
        if not bits & 1:
            state[INVALID] += 1
        elif time >> 31:
            if not state[NEGATIVE_TIME]:
                state[NEGATIVE_AT] = i
            state[NEGATIVE_TIME] += 1
        else:
            t[count] = epoch | time
            x[count], y[count], p[count] = bits >> 17, bits >> 2 & 0x7FFF, bits >> 1 & 1
            count += 1
    return count


@numba.njit(cache=True)
def encode_packets(t: np.ndarray, x: np.ndarray, y: np.ndarray, p: np.ndarray, longest: int, out: np.ndarray) -> int:
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
