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
from spikenet.kernels.events.words import big, byte, occupied
from spikenet.kernels.threads import over_lanes, read_ahead

_Part = tuple[int, int, np.ndarray, np.ndarray]  # recordings from .. to, the addresses and the counts of all of them
_TOGETHER = 16  # files read before they are counted
_ENTRY = 8  # and placing an entry

_lowest: Any = trailing_zeros  # the number of the lowest bit that is set
_ONE = np.uint64(1)  # numba turns a mixture of signed and unsigned into floats


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
    dt: int,
    origin: int,
    steps: int,
    sensor: tuple[int, int, int],
) -> tuple[Tensor, Tensor, Tensor] | None:
    """`count` and `stack` of ``.bin`` files without columns in between. Some recordings are counted by other threads
    while this one reads the next; a data worker has one thread.

    Args:
        read: writes the bytes of one of the recordings to the beginning of an array, uint8, as far as they fit, and
            returns their number.
        batch: their number ``B``.
        dt: length of a step.
        origin: the time at which step 0 begins.
        steps: number of steps ``T``.
        sensor: width, height, polarities.

    Returns:
        What `stack` returns. None where it takes more than a look at each record: for a cut one, an event outside the
        sensor, a marker, or steps that do not ascend.
    """
    rows = np.zeros((steps, batch), np.int64)
    parts: list[_Part] = []
    plain = []

    def content(piece: int) -> tuple[range, tuple[np.ndarray, np.ndarray]]:
        numbers = range(piece * _TOGETHER, min((piece + 1) * _TOGETHER, batch))
        return numbers, _side_by_side(read, numbers)

    def counted(piece: tuple[range, tuple[np.ndarray, np.ndarray]]) -> None:
        numbers, (records, stops) = piece
        fine, indices, values = _count_records(records, stops, numbers.start, dt, origin, *sensor, rows)
        plain.append(fine)
        parts.append((numbers.start, numbers.stop, indices, values))

    read_ahead(content, counted, -(-batch // _TOGETHER))
    return _laid(rows, parts) if all(plain) else None


def _side_by_side(read: Callable[[int, np.ndarray], int], numbers: range) -> tuple[np.ndarray, np.ndarray]:
    """The bytes of some recordings, one after the other, in a buffer that is used again, and where each ends."""
    room, stop = buffers.empty((buffers.SMALLEST,), torch.uint8).numpy(), 0
    stops = np.empty(len(numbers), np.int64)
    for k, number in enumerate(numbers):
        while stop + (size := read(number, room[stop:])) > len(room):
            wider = buffers.empty((2 * (stop + size),), torch.uint8).numpy()
            wider[:stop] = room[:stop]
            room = wider
        stop += size
        stops[k] = stop
    return room[:stop], stops


def stack(parts: Sequence[tuple[Tensor, Tensor, Tensor]], steps: int) -> tuple[Tensor, Tensor, Tensor]:
    """See ``spikenet.kernels.events.binning.stack``."""
    rows = np.zeros((steps, len(parts)), np.int64)
    for b, (counts, _, _) in enumerate(parts):
        rows[: len(counts), b] = counts.numpy()
    return _laid(rows, [(b, b + 1, part[1].numpy(), part[2].numpy()) for b, part in enumerate(parts)])


def _laid(rows: np.ndarray, parts: Sequence[_Part]) -> tuple[Tensor, Tensor, Tensor]:
    """The entries of the parts in the order of the rows; ``rows`` counts them, ``[T, B]``."""
    indptr = np.zeros(rows.size + 1, np.int64)
    np.cumsum(rows, out=indptr[1:])
    indices, values = np.empty(indptr[-1], np.int32), np.empty(indptr[-1], np.float32)

    def some(first: int, last: int) -> None:
        for start, stop, addresses, counts in parts[first:last]:
            _place(addresses, counts, start, stop, rows.shape[1], indptr, indices, values)

    over_lanes(some, len(parts), 1, _ENTRY * len(indices))
    return _tensors((indptr, indices, values))


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
                before, found = found, _flush(counts, indices, values, found)
                rows[last] += found - before
                last = step
        if inside:
            a = np.uint64((np.int64(p[i]) * height + y[i]) * width + x[i])
            counts[a] += 1
    if last < steps:
        before, found = found, _flush(counts, indices, values, found)
        rows[last] += found - before
    return ascending, rows, indices[:found].copy(), values[:found].copy()


@numba.njit(cache=True, nogil=True)
def _count_records(records, stops, first, dt, origin, width, height, polarities, rows):  # type: ignore[no-untyped-def]
    """Records of 5 bytes (column, row, then polarity and 23 bits of time, most significant byte first) of recordings
    that end at the bytes ``stops``; numbers from ``first`` on are theirs in ``rows``, which receives their entries.

    Returns whether all are plain; the addresses and how often each occurs, recording by recording.
    """
    steps, room = len(rows), len(records) // 5
    counts = _table(width * height * polarities)
    indices, values = np.empty(room, np.int32), np.empty(room, np.float32)
    found, place, plain = 0, 0, True
    for k in range(len(stops)):
        begin, last, inside = origin, 0, steps > 0
        plain &= (stops[k] - place) % 5 == 0
        for i in range(place, stops[k] - 4, 5):
            x, bits = byte(records, i), big(records, i + 1)
            y, p, t = bits >> 24, bits >> 23 & 1, bits & 0x7FFFFF
            if x >= width or y >= height or p >= polarities:
                plain = False
                break
            if t < begin or t - begin >= dt:
                step = (t - origin) // dt
                begin = origin + step * dt
                inside = step >= 0 and step < steps
                if inside and step != last:
                    if step < last:
                        plain = False
                        break
                    before, found = found, _flush(counts, indices, values, found)
                    rows[last, first + k] += found - before
                    last = step
            if inside:
                a = np.uint64((p * height + y) * width + x)
                counts[a] += 1
        if not plain:
            break
        if last < steps:
            before, found = found, _flush(counts, indices, values, found)
            rows[last, first + k] += found - before
        place = stops[k]
    return plain, indices[:found], values[:found]


@numba.njit(cache=True)
def _table(size: int) -> np.ndarray:
    """A count for every address, 64 at a time."""
    return np.zeros((size + 63) // 64 * 64, np.int32)


@numba.njit(cache=True)
def _flush(counts: np.ndarray, indices: np.ndarray, values: np.ndarray, found: int) -> int:
    """Write the addresses that were counted, ascending, and their counts from number ``found`` on, and clear them."""
    for first in range(0, len(counts), 64):
        left: Any = occupied(counts, first)
        while left:
            a = np.uint64(first) | np.uint64(_lowest(left))
            left &= left - _ONE
            indices[found] = a
            values[found] = counts[a]
            counts[a] = 0
            found += 1
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
