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
    times, *rest = (np.ascontiguousarray(column.numpy()) for column in (t, x, y, p))  # one layout, one compilation
    address, ends = np.empty(len(times), np.int32), np.zeros(steps, np.int64)
    grid = (dt, origin, steps, sensor[0], sensor[1])
    if not _addresses(times, rest[0], rest[1], rest[2], *grid, address, ends):
        order = np.argsort(times, kind="stable")
        _addresses(times[order], rest[0][order], rest[1][order], rest[2][order], *grid, address, ends)
    rows, indices, values = _count(address, ends, sensor[0] * sensor[1] * sensor[2])
    return torch.from_numpy(rows), torch.from_numpy(indices), torch.from_numpy(values)


def count_bin(
    content: bytes, dt: int, origin: int, steps: int, sensor: tuple[int, int, int]
) -> tuple[Tensor, Tensor, Tensor] | None:
    """`count` of a ``.bin`` file's 5-byte records, without columns in between. None where that takes more than a look
    at each record: for a cut record, an event outside the sensor, a marker, or steps that do not ascend."""
    records = np.frombuffer(content, np.uint8)
    address, ends = np.empty(len(records) // 5, np.int32), np.zeros(steps, np.int64)
    if len(records) % 5 or not _bin_addresses(records, dt, origin, steps, *sensor, address, ends):
        return None
    rows, indices, values = _count(address, ends, sensor[0] * sensor[1] * sensor[2])
    return torch.from_numpy(rows), torch.from_numpy(indices), torch.from_numpy(values)


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
    step, begin, end = 0, origin, origin + dt
    last, found = 0, 0
    for i in range(len(t)):
        if t[i] < begin or t[i] >= end:
            step = (t[i] - origin) // dt
            begin = origin + step * dt
            end = begin + dt
        if step < 0 or step >= steps:
            continue
        if step < last:
            return False
        while last < step:
            ends[last] = found
            last += 1
        address[found] = (np.int64(p[i]) * height + y[i]) * width + x[i]
        found += 1
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
    step, begin, end = 0, origin, origin + dt
    last, found = 0, 0
    for i in range(0, len(records), 5):
        x, y, high = np.int64(records[i]), np.int64(records[i + 1]), np.int64(records[i + 2])
        if x >= width or y >= height or high >> 7 >= polarities:
            return False
        t: Any = (high & 0x7F) << 16 | np.int64(records[i + 3]) << 8 | np.int64(records[i + 4])
        if t < begin or t >= end:
            step = (t - origin) // dt
            begin = origin + step * dt
            end = begin + dt
        if step < 0 or step >= steps:
            continue
        if step < last:
            return False
        while last < step:
            ends[last] = found
            last += 1
        address[found] = ((high >> 7) * height + y) * width + x
        found += 1
    ends[last:] = found
    return True


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
    return rows, indices[:found], values[:found]


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
        for target in range(indptr[row], indptr[row + 1]):
            indices[target] = addresses[source]
            values[target] = counts[source]
            source += 1
