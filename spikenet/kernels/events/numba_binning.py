"""Binning without a sort: a step's events are counted in a table of all addresses, which is then
looked through, 64 at a time. Importing this module imports numba."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numba
import numpy as np
import torch
from numba.cpython.unsafe.numbers import trailing_zeros
from torch import Tensor

from spikenet.kernels import buffers
from spikenet.kernels.events.numba_files import HERE, read_files
from spikenet.kernels.events.words import big, byte, occupied
from spikenet.kernels.threads import over_lanes

_FAR = 1 << 62  # microseconds between any time and one that is long before or after it
_LATEST = (1 << 23) - 1  # microseconds, in a record
_SHARE = 16  # files that a thread reads one after the other
_ROOM = 1 << 22  # bytes for the files of a batch, at first
_ENTRY = 8  # bytes that placing an entry moves
_EVENT = 20  # and bytes of columns that counting an event reads, about

_lowest: Any = trailing_zeros  # the number of the lowest bit that is set
_NONE, _ONE = np.uint64(0), np.uint64(1)  # numba turns a mixture of signed and unsigned into floats


def count(
    t: Tensor, x: Tensor, y: Tensor, p: Tensor, dt: int, origin: int, steps: int, sensor: tuple[int, int, int]
) -> tuple[Tensor, Tensor, Tensor]:
    """See ``spikenet.kernels.events.binning.count``."""
    columns = [np.ascontiguousarray(column.numpy()) for column in (t, x, y, p)]  # one layout, one compilation
    ascending, *counted = _columns(columns, dt, origin, steps, sensor)
    if not ascending:
        order = np.argsort(columns[0], kind="stable")
        _, *counted = _columns([column[order] for column in columns], dt, origin, steps, sensor)
    return _tensors(counted)


def batch_bin(
    read: Callable[[int, np.ndarray], int],
    batch: int,
    folder: tuple[bytes, np.ndarray] | None,
    dt: int,
    origin: int,
    steps: int,
    sensor: tuple[int, int, int],
) -> tuple[Tensor, Tensor, Tensor] | None:
    """`count` and `stack` of ``.bin`` files without columns in between. Steps are counted one after the other, so that
    the entries are found in the order in which they lie; threads share the steps.

    Args:
        read: writes the bytes of one of the recordings to the beginning of an array, uint8, as far as they fit, and
            returns their number.
        batch: their number ``B``.
        folder: what the paths of the recordings begin with, and what follows, of those that are files of their own.
        dt: length of a step.
        origin: the time at which step 0 begins.
        steps: number of steps ``T``.
        sensor: width, height, polarities.

    Returns:
        What `stack` returns. None where it takes more than a look at each record: for a cut one, an event outside the
        sensor, a marker, or steps that do not ascend.
    """
    records, begins, stops = _together(read, batch, folder)
    rows = np.zeros((steps, batch), np.int64)
    parts: dict[int, Any] = {}

    def some(first: int, last: int) -> None:
        parts[first] = _count_records(records, begins, stops, first, last, last == reached, dt, origin, *sensor, rows)

    # Later steps are empty, and where they begin may be no number of 64 bits.
    reached = max(min(steps, (_LATEST - origin) // dt + 1), 0)
    over_lanes(some, reached, 1, int((stops - begins).sum()))
    counted = [parts[first] for first in sorted(parts)]
    if not all(plain for plain, _, _ in counted):
        return None
    return _tensors((_starts(rows), *(np.concatenate([part[column] for part in counted]) for column in (1, 2))))


def batch_columns(
    columns: Sequence[np.ndarray], stops: np.ndarray, dt: int, origin: int, steps: int, sensor: tuple[int, int, int]
) -> tuple[Tensor, Tensor, Tensor] | None:
    """`count` and `stack` of recordings that lie one after the other; threads share the recordings.

    Args:
        columns: t, x, y, p of all of them.
        stops: where each ends, int64 ``[B]``.
        dt: length of a step.
        origin: the time at which step 0 begins.
        steps: number of steps ``T``.
        sensor: width, height, polarities.

    Returns:
        What `stack` returns; None where the steps of one do not ascend.
    """
    rows = np.zeros((steps, len(stops)), np.int64)
    begins = np.concatenate([[0], stops[:-1]])
    t, x, y, p = columns
    count: Any = _count_joined
    parts: list[tuple[int, int, Any, Any]] = []
    ascending = []

    def counted(first: int, last: int) -> None:
        fine, *found = count(t, x, y, p, begins, stops, first, last, dt, origin, *sensor, rows)
        ascending.append(fine)
        parts.append((first, last, *found))

    over_lanes(counted, len(stops), 1, _EVENT * len(t))
    if not all(ascending):
        return None
    indptr = _starts(rows)
    indices, values = np.empty(indptr[-1], np.int32), np.empty(indptr[-1], np.float32)

    def placed(first: int, last: int) -> None:
        for start, stop, addresses, counts in parts[first:last]:
            _place(addresses, counts, start, stop, len(stops), indptr, indices, values)

    over_lanes(placed, len(parts), 1, _ENTRY * len(indices))
    return _tensors((indptr, indices, values))


def _together(
    read: Callable[[int, np.ndarray], int], batch: int, folder: tuple[bytes, np.ndarray] | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The bytes of all recordings in a buffer that is used again, and where each begins and ends."""
    room = buffers.empty((_ROOM,), torch.uint8).numpy()
    found = read_files(*folder, room, _SHARE) if folder is not None and HERE else None
    return _one_by_one(read, batch, room) if found is None else (room, *found)


def _one_by_one(
    read: Callable[[int, np.ndarray], int], batch: int, room: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    stops = np.zeros(batch + 1, np.int64)
    at = 0
    for number in range(batch):
        while at + (size := read(number, room[at:])) > len(room):
            larger = buffers.empty((2 * (at + size),), torch.uint8).numpy()
            larger[:at] = room[:at]
            room = larger
        at += size
        stops[number + 1] = at
    return room, stops[:-1], stops[1:]


def stack(parts: Sequence[tuple[Tensor, Tensor, Tensor]], steps: int) -> tuple[Tensor, Tensor, Tensor]:
    """See ``spikenet.kernels.events.binning.stack``."""
    rows = np.zeros((steps, len(parts)), np.int64)
    for b, (counts, _, _) in enumerate(parts):
        rows[: len(counts), b] = counts.numpy()
    indptr = _starts(rows)
    indices, values = np.empty(indptr[-1], np.int32), np.empty(indptr[-1], np.float32)

    def some(first: int, last: int) -> None:
        for b in range(first, last):
            _place(parts[b][1].numpy(), parts[b][2].numpy(), b, b + 1, len(parts), indptr, indices, values)

    over_lanes(some, len(parts), 1, _ENTRY * len(indices))
    return _tensors((indptr, indices, values))


def _starts(rows: np.ndarray) -> np.ndarray:
    """Where each row begins, and the end, of entries in ``rows``."""
    return np.concatenate([[0], np.cumsum(rows, dtype=np.int64)])


def _columns(columns: Sequence[np.ndarray], dt: int, origin: int, steps: int, sensor: tuple[int, int, int]) -> Any:
    t, x, y, p = columns
    return _count_columns(t, x, y, p, dt, origin, steps, *sensor)


def _tensors(arrays: Sequence[np.ndarray]) -> tuple[Tensor, Tensor, Tensor]:
    rows, indices, values = map(torch.from_numpy, arrays)
    return rows, indices, values


@numba.njit(cache=True)
def _count_columns(t, x, y, p, dt, origin, steps, width, height, polarities):  # type: ignore[no-untyped-def]
    """Whether the steps ascend, and if so, the distinct addresses in each step, the addresses, how often each occurs.

    A step is divided out only where time leaves the one before.
    """
    counts = _table(width * height * polarities)
    marks = _marks(counts)
    rows, indices, values = np.zeros(steps, np.int64), np.empty(len(t), np.int32), np.empty(len(t), np.float32)
    begin, last, inside, ascending, found = origin, 0, steps > 0, True, 0
    for i in range(len(t)):
        if t[i] < begin or t[i] - begin >= dt:
            step = (t[i] - origin) // dt
            begin = origin + step * dt
            inside = step >= 0 and step < steps
            if inside and step != last:
                if step < last:
                    ascending = False
                    break
                before, found = found, _flush(counts, marks, indices, values, found)
                rows[last] += found - before
                last = step
        if inside:
            a = np.uint64((np.int64(p[i]) * height + y[i]) * width + x[i])
            counts[a] += 1
    if last < steps:
        before, found = found, _flush(counts, marks, indices, values, found)
        rows[last] += found - before
    return ascending, rows, indices[:found].copy(), values[:found].copy()


@numba.njit(cache=True, nogil=True)
def _count_joined(t, x, y, p, begins, stops, first, last, dt, origin, width, height, polarities, rows):  # type: ignore[no-untyped-def]
    """`_count_columns` of the recordings from ``first`` on and before ``last``, whose entries follow one another;
    ``rows`` receives how many each has in each step."""
    total = 0
    for b in range(first, last):
        total += stops[b] - begins[b]
    indices, values = np.empty(total, np.int32), np.empty(total, np.float32)
    found = 0
    for b in range(first, last):
        low, high = begins[b], stops[b]
        ascending, counted, addresses, counts = _count_columns(
            t[low:high], x[low:high], y[low:high], p[low:high], dt, origin, len(rows), width, height, polarities
        )
        if not ascending:
            return False, indices[:0], values[:0]
        rows[:, b] = counted
        indices[found : found + len(addresses)] = addresses
        values[found : found + len(addresses)] = counts
        found += len(addresses)
    return True, indices[:found], values[:found]


@numba.njit(cache=True, nogil=True)
def _count_records(records, begins, stops, first, last, rest, dt, origin, width, height, polarities, rows):  # type: ignore[no-untyped-def]
    """Records of 5 bytes (column, row, then polarity and 23 bits of time, most significant byte first) of recordings
    that begin and end at the bytes ``begins`` and ``stops``: the entries of the steps from ``first`` on and before
    ``last``, step by step and recording by recording. ``rows`` receives how many each has. ``rest`` says that no step
    follows.

    Returns whether all records are plain, the addresses, how often each occurs.
    """
    at, ends = np.empty(len(stops), np.int64), np.empty(len(stops), np.int64)
    room, plain = 0, True
    for k in range(len(stops)):
        start = begins[k]
        plain &= (stops[k] - start) % 5 == 0
        at[k] = _from(records, start, stops[k], origin + first * dt) if first else start
        ends[k] = stops[k] if rest else _from(records, start, stops[k], origin + last * dt)
        room += max(ends[k] - at[k], 0) // 5
    indices, values = np.empty(room, np.int32), np.empty(room, np.float32)
    if not plain:
        return plain, indices[:0], values[:0]
    counts, outside = _table(width * height * polarities), _table(width * height * polarities)
    marks, found = _marks(counts), 0
    if first == 0:
        for k in range(len(stops)):
            at[k] = _tally(records, at[k], ends[k], origin - _FAR, _FAR, width, height, polarities, outside)
    for step in range(first, last):
        for k in range(len(stops)):
            place = _tally(records, at[k], ends[k], origin + step * dt, dt, width, height, polarities, counts)
            if place > at[k]:
                before, found = found, _flush(counts, marks, indices, values, found)
                rows[step, k] = found - before
                at[k] = place
    for k in range(len(stops)):
        if rest:
            at[k] = _tally(records, at[k], ends[k], origin + last * dt, _FAR, width, height, polarities, outside)
        plain &= at[k] == ends[k]
    return plain, indices[:found], values[:found]


@numba.njit(cache=True, nogil=True)
def _from(records: np.ndarray, start: int, stop: int, time: int) -> int:
    """The first record that is not before a time, where times ascend."""
    low, high = 0, (stop - start) // 5
    while low < high:
        middle = (low + high) // 2
        if big(records, start + 5 * middle + 1) & 0x7FFFFF < time:
            low = middle + 1
        else:
            high = middle
    return start + 5 * low


@numba.njit(cache=True, nogil=True)
def _tally(records, place, stop, begin, dt, width, height, polarities, counts):  # type: ignore[no-untyped-def]
    """Count records up to the first that lies outside the step or the sensor. Returns where that is."""
    for i in range(place, stop, 5):
        x, bits = byte(records, i), big(records, i + 1)
        y, p, t = bits >> 24, bits >> 23 & 1, bits & 0x7FFFFF
        if x >= width or y >= height or p >= polarities or np.uint64(t - begin) >= np.uint64(dt):
            return i
        counts[np.uint64((p * height + y) * width + x)] += 1
    return max(place, stop)


@numba.njit(cache=True)
def _table(size: int) -> np.ndarray:
    """A count for every address, 64 at a time."""
    return np.zeros((size + 63) // 64 * 64, np.int32)


@numba.njit(cache=True)
def _marks(counts: np.ndarray) -> np.ndarray:
    """Room for `_flush`, uint64: which of 64 counts are not 0, and the address of their first."""
    return np.empty((2, len(counts) // 64 + 2), np.uint64)


@numba.njit(cache=True)
def _flush(counts: np.ndarray, marks: np.ndarray, indices: np.ndarray, values: np.ndarray, found: int) -> int:
    """Write the addresses that were counted, ascending, and their counts from number ``found`` on, and clear them.

    One loop goes over all of them: a loop for each 64 would end where no processor foresees it.
    """
    occupation, firsts = marks[0], marks[1]
    used, at = _NONE, _NONE
    for first in range(0, len(counts), 64):
        left: Any = occupied(counts, first)
        occupation[used], firsts[used] = left, np.uint64(first)
        used += np.uint64(left != 0)
    left, following = occupation[_NONE], occupation[_ONE]
    while at < used:
        a = firsts[at] | np.uint64(_lowest(left))
        left &= left - _ONE
        indices[found], values[found] = a, counts[a]
        counts[a] = 0
        found += 1
        over = left == 0
        left = following if over else left
        at += np.uint64(over)
        following = occupation[at + _ONE]  # loaded before it is wanted
    return found


@numba.njit(cache=True, nogil=True)
def _place(
    addresses: np.ndarray,  # int32: those of some recordings, one after the other
    counts: np.ndarray,  # float32
    first: int,  # their numbers in the batch
    stop: int,
    batch: int,
    indptr: np.ndarray,  # int64 [T * B + 1]
    indices: np.ndarray,  # int32: receives them
    values: np.ndarray,  # float32
) -> None:
    """Lay the entries of some recordings into their rows."""
    source = 0
    for b in range(first, stop):
        for row in range(b, len(indptr) - 1, batch):
            for place in range(indptr[row], indptr[row + 1]):
                indices[place], values[place] = addresses[source], counts[source]
                source += 1
