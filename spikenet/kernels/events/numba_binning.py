"""Binning without a sort: a step's events are counted in a table of all addresses, which is then
looked through, 64 at a time. Importing this module imports numba."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numba
import numpy as np
import torch
from numba.cpython.unsafe.numbers import trailing_zeros
from torch import Tensor

from spikenet.kernels.events.words import occupied
from spikenet.kernels.threads import over_lanes

_ENTRY = 8  # bytes that placing an entry moves
_EVENT = 20  # and bytes of columns that counting an event reads, about

Part = tuple[int, int, np.ndarray, np.ndarray]

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
    parts: list[Part] = []
    ascending = []

    def counted(first: int, last: int) -> None:
        fine, *found = count(t, x, y, p, begins, stops, first, last, dt, origin, *sensor, rows)
        ascending.append(fine)
        parts.append((first, last, *found))

    over_lanes(counted, len(stops), 1, _EVENT * len(t))
    if not all(ascending):
        return None
    return laid(parts, rows)


def stack(parts: Sequence[tuple[Tensor, Tensor, Tensor]], steps: int) -> tuple[Tensor, Tensor, Tensor]:
    """See ``spikenet.kernels.events.binning.stack``."""
    rows = np.zeros((steps, len(parts)), np.int64)
    for b, (counts, _, _) in enumerate(parts):
        rows[: len(counts), b] = counts.numpy()
    return laid([(b, b + 1, part[1].numpy(), part[2].numpy()) for b, part in enumerate(parts)], rows)


def laid(parts: Sequence[Part], rows: np.ndarray) -> tuple[Tensor, Tensor, Tensor]:
    """The entries of a batch in the order of its rows.

    Args:
        parts: the first of some recordings, the one after their last, their addresses and counts.
        rows: entries in each step of each recording, int64 ``[T, B]``.

    Returns:
        What `stack` returns.
    """
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
    counts = table(width * height * polarities)
    marked = marks(counts)
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
                before, found = found, flush(counts, marked, indices, values, found)
                rows[last] += found - before
                last = step
        if inside:
            a = np.uint64((np.int64(p[i]) * height + y[i]) * width + x[i])
            counts[a] += 1
    if last < steps:
        before, found = found, flush(counts, marked, indices, values, found)
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


@numba.njit(cache=True)
def table(size: int) -> np.ndarray:
    """A count for every address, 64 at a time."""
    return np.zeros((size + 63) // 64 * 64, np.int32)


@numba.njit(cache=True)
def marks(counts: np.ndarray) -> np.ndarray:
    """Room for `flush`, uint64: which of 64 counts are not 0, and the address of their first."""
    return np.empty((2, len(counts) // 64 + 2), np.uint64)


@numba.njit(cache=True)
def flush(counts: np.ndarray, marked: np.ndarray, indices: np.ndarray, values: np.ndarray, found: int) -> int:
    """Write the addresses that were counted, ascending, and their counts from number ``found`` on, and clear them.

    One loop goes over all of them: a loop for each 64 would end where no processor foresees it.
    """
    occupation, firsts = marked[0], marked[1]
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
