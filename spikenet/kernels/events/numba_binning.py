"""Binning without a sort: a step's events are counted in a table of all addresses and marked in a bitmap, which gives
them back in order. Serial, for data workers call it. Importing this module imports numba."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numba
import numpy as np
import torch
from numba.cpython.unsafe.numbers import trailing_zeros
from torch import Tensor

_lowest: Any = trailing_zeros  # the number of the lowest bit that is set
_SIX, _LOW = np.uint64(6), np.uint64(63)
_TWO, _THREE, _FOUR = np.uint64(2), np.uint64(3), np.uint64(4)
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


def count_bin(
    content: bytes, dt: int, origin: int, steps: int, sensor: tuple[int, int, int]
) -> tuple[Tensor, Tensor, Tensor] | None:
    """`count` of a ``.bin`` file's 5-byte records, without columns in between. None where that takes more than a look
    at each record: for a cut record, an event outside the sensor, a marker, or steps that do not ascend."""
    plain, *counted = _count_records(np.frombuffer(content, np.uint8), dt, origin, steps, *sensor)
    return _tensors(counted) if plain else None


def stack(parts: Sequence[tuple[Tensor, Tensor, Tensor]], steps: int) -> tuple[Tensor, Tensor, Tensor]:
    """See ``spikenet.kernels.events.binning.stack``."""
    batch = len(parts)
    rows = np.zeros((steps, batch), np.int64)
    for b, (counts, _, _) in enumerate(parts):
        rows[: len(counts), b] = counts.numpy()
    indptr = np.zeros(steps * batch + 1, np.int64)
    np.cumsum(rows, out=indptr[1:])
    indices, values = np.empty(indptr[-1], np.int32), np.empty(indptr[-1], np.float32)
    for b, (_, addresses, counts) in enumerate(parts):
        _place(addresses.numpy(), counts.numpy(), b, batch, indptr, indices, values)
    return torch.from_numpy(indptr), torch.from_numpy(indices), torch.from_numpy(values)


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
    counts, words = np.zeros(width * height * polarities, np.int32), _bitmap(width * height * polarities)
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
                before, found = found, _flush(counts, words, indices, values, found)
                rows[last] += found - before
                last = step
        if inside:
            a = np.uint64((np.int64(p[i]) * height + y[i]) * width + x[i])
            counts[a] += 1
            words[a >> _SIX] |= _ONE << (a & _LOW)
    if last < steps:
        before, found = found, _flush(counts, words, indices, values, found)
        rows[last] += found - before
    return ascending, rows, indices[:found].copy(), values[:found].copy()


@numba.njit(cache=True)
def _count_records(records, dt, origin, steps, width, height, polarities):  # type: ignore[no-untyped-def]
    """The same for records of 5 bytes: column, row, then polarity and 23 bits of time, most significant byte first.
    The first value is also False for a cut record and for one outside the sensor, as markers are."""
    size = len(records) // 5
    counts, words = np.zeros(width * height * polarities, np.int32), _bitmap(width * height * polarities)
    rows, indices, values = np.zeros(steps, np.int64), np.empty(size, np.int32), np.empty(size, np.float32)
    begin, last, inside, plain, found = origin, 0, steps > 0, len(records) % 5 == 0, 0
    for k in range(size):
        i = np.uint64(5 * k)
        x, y, high = np.int64(records[i]), np.int64(records[i + _ONE]), np.int64(records[i + _TWO])
        if x >= width or y >= height or high >> 7 >= polarities:
            plain = False
            break
        t = (high & 0x7F) << 16 | np.int64(records[i + _THREE]) << 8 | np.int64(records[i + _FOUR])
        if t < begin or t - begin >= dt:
            step = (t - origin) // dt
            begin = origin + step * dt
            inside = step >= 0 and step < steps
            if inside and step != last:
                if step < last:
                    plain = False
                    break
                before, found = found, _flush(counts, words, indices, values, found)
                rows[last] += found - before
                last = step
        if inside:
            a = np.uint64(((high >> 7) * height + y) * width + x)
            counts[a] += 1
            words[a >> _SIX] |= _ONE << (a & _LOW)
    if last < steps:
        before, found = found, _flush(counts, words, indices, values, found)
        rows[last] += found - before
    return plain, rows, indices[:found].copy(), values[:found].copy()


@numba.njit(cache=True)
def _bitmap(size: int) -> np.ndarray:
    """One bit an address."""
    return np.zeros((size + 63) // 64, np.uint64)


@numba.njit(cache=True)
def _flush(counts: np.ndarray, words: np.ndarray, indices: np.ndarray, values: np.ndarray, found: int) -> int:
    """Write the marked addresses, ascending, and their counts from number ``found`` on, and clear both tables."""
    for w in range(len(words)):
        left = words[w]
        words[w] = 0
        while left:
            a = np.uint64(w << 6) | np.uint64(_lowest(left))
            left &= left - _ONE
            indices[found] = a
            values[found] = counts[a]
            counts[a] = 0
            found += 1
    return found


@numba.njit(cache=True)
def _place(
    addresses: np.ndarray,  # int32: those of one recording
    counts: np.ndarray,  # float32
    b: int,  # its number in the batch
    batch: int,
    indptr: np.ndarray,  # int64 [T * B + 1]
    indices: np.ndarray,  # int32: receives them
    values: np.ndarray,  # float32
) -> None:
    """Lay a recording's entries into their rows."""
    source = 0
    for row in range(b, len(indptr) - 1, batch):
        first, stop = indptr[row], indptr[row + 1]
        indices[first:stop] = addresses[source : source + stop - first]
        values[first:stop] = counts[source : source + stop - first]
        source += stop - first
