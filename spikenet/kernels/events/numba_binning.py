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
    """Whether the steps ascend, and if so, what `_count` returns."""
    address, ends = np.empty(len(t), np.int32), np.zeros(steps, np.int64)
    ascending = _addresses(t, x, y, p, dt, origin, steps, width, height, address, ends)
    if not ascending:
        ends[:] = 0
    rows, indices, values = _count(address, ends, width * height * polarities)
    return ascending, rows, indices, values


@numba.njit(cache=True)
def _count_records(records, dt, origin, steps, width, height, polarities):  # type: ignore[no-untyped-def]
    """Whether the records of 5 bytes are plain ones, and if so, what `_count` returns."""
    address, ends = np.empty(len(records) // 5, np.int32), np.zeros(steps, np.int64)
    plain = len(records) % 5 == 0
    plain = plain and _bin_addresses(records, dt, origin, steps, width, height, polarities, address, ends)
    if not plain:
        ends[:] = 0
    rows, indices, values = _count(address, ends, width * height * polarities)
    return plain, rows, indices, values


@numba.njit(cache=True)
def _addresses(
    t: np.ndarray,  # int64 [E]
    x: np.ndarray,  # int32 [E]
    y: np.ndarray,  # int32 [E]
    p: np.ndarray,  # int8 [E]
    dt: int,
    origin: int,
    steps: int,
    width: int,
    height: int,
    address: np.ndarray,  # int32 [E or more]: receives the address of each event on the grid
    ends: np.ndarray,  # int64 [T]: receives where each step's events end
) -> bool:
    """Whether the steps ascend. A step is divided out only where time leaves the one before."""
    begin, inside = origin, steps > 0
    last, found = 0, 0
    for i in range(len(t)):
        if t[i] < begin or t[i] - begin >= dt:
            step = (t[i] - origin) // dt
            begin = origin + step * dt
            inside = step >= 0 and step < steps
            if inside:
                if step < last:
                    return False
                ends[last:step] = found
                last = step
        address[found] = (np.int64(p[i]) * height + y[i]) * width + x[i]
        found += inside
    ends[last:] = found
    return True


@numba.njit(cache=True)
def _bin_addresses(
    records: np.ndarray,  # uint8 [5 E]: column, row, then polarity and 23 bits of time, most significant byte first
    dt: int,
    origin: int,
    steps: int,
    width: int,
    height: int,
    polarities: int,
    address: np.ndarray,
    ends: np.ndarray,
) -> bool:
    """`_addresses` of records; also False for one outside the sensor."""
    begin, inside, outside = origin, steps > 0, False
    last, found = 0, 0
    for i in range(0, len(records), 5):
        x, y, high = np.int64(records[i]), np.int64(records[i + 1]), np.int64(records[i + 2])
        outside |= (x >= width) | (y >= height) | (high >> 7 >= polarities)
        t: Any = (high & 0x7F) << 16 | np.int64(records[i + 3]) << 8 | np.int64(records[i + 4])
        if t < begin or t - begin >= dt:
            step = (t - origin) // dt
            begin = origin + step * dt
            inside = step >= 0 and step < steps
            if inside:
                if step < last:
                    return False
                ends[last:step] = found
                last = step
        address[found] = ((high >> 7) * height + y) * width + x
        found += inside
    ends[last:] = found
    return not outside


@numba.njit(cache=True)
def _count(address: np.ndarray, ends: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """How many distinct addresses each step has [T], which, ascending, and how often each occurs."""
    counts = np.zeros(size, np.int32)
    words = np.zeros((size + 63) // 64, np.uint64)  # one bit an address
    total = ends[-1] if len(ends) else 0
    rows = np.zeros(len(ends), np.int64)
    indices, values = np.empty(total, np.int32), np.empty(total, np.float32)
    begin, found = 0, 0
    for step in range(len(ends)):
        before = found
        for i in range(begin, ends[step]):
            a = address[i]
            counts[a] += 1
            words[a >> 6] |= _ONE << np.uint64(a & 63)
        if ends[step] > begin:
            for w in range(len(words)):
                left = words[w]
                words[w] = 0
                while left:
                    a = w << 6 | np.int64(_lowest(left))
                    left &= left - _ONE
                    indices[found] = a
                    values[found] = counts[a]
                    counts[a] = 0
                    found += 1
        rows[step] = found - before
        begin = ends[step]
    return rows, indices[:found].copy(), values[:found].copy()


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
