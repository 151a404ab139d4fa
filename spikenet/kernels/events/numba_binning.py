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
    recordings: Sequence[tuple[Tensor, Tensor, Tensor, Tensor]],
    dt: int,
    origin: int,
    steps: int,
    sensor: tuple[int, int, int],
) -> tuple[Tensor, Tensor, Tensor]:
    """See ``spikenet.kernels.events.binning.count``."""
    batch, size = len(recordings), int(np.prod(sensor))
    sizes = [len(recording[0]) for recording in recordings]
    grid = (dt, origin, steps, sensor[0], sensor[1])
    table = (np.zeros(size, np.int32), np.zeros(-(-size // 64), np.uint64))
    address, ends = np.empty(max(sizes), np.int32), np.zeros(steps, np.int64)
    indices, values = np.empty(sum(sizes), np.int32), np.empty(sum(sizes), np.float32)
    rows = np.zeros((steps, batch), np.int64)
    filled = np.zeros(batch + 1, np.int64)
    for b, recording in enumerate(recordings):
        t, x, y, p = (np.ascontiguousarray(column.numpy()) for column in recording)  # one layout, one compilation
        if not _addresses(t, x, y, p, *grid, address, ends):
            order = np.argsort(t, kind="stable")
            _addresses(t[order], x[order], y[order], p[order], *grid, address, ends)
        at = filled[b]
        filled[b + 1] = at + _count(address, ends, *table, indices[at:], values[at:], rows[:, b])
    indptr = np.zeros(steps * batch + 1, np.int64)
    np.cumsum(rows, out=indptr[1:])
    if batch > 1:
        indices, values = _interleave(indices, values, filled, indptr)
    nnz = filled[-1]
    return torch.from_numpy(indptr), torch.from_numpy(indices[:nnz]), torch.from_numpy(values[:nnz])


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
def _count(
    address: np.ndarray,
    ends: np.ndarray,
    counts: np.ndarray,  # int32 [addresses], zero on entry and on return, as is the bitmap
    words: np.ndarray,  # uint64: one bit an address
    indices: np.ndarray,  # int32: receives the distinct addresses of each step, ascending
    values: np.ndarray,  # float32: receives how often each occurs
    rows: np.ndarray,  # int64 [T]: receives how many there are in each step
) -> int:
    """The number of distinct addresses in all steps."""
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
    return found


@numba.njit(cache=True)
def _interleave(
    indices: np.ndarray,
    values: np.ndarray,
    filled: np.ndarray,  # int64 [B + 1]: where each recording's entries begin
    indptr: np.ndarray,  # int64 [T * B + 1]
) -> tuple[np.ndarray, np.ndarray]:
    """Entries that lie recording by recording, laid out step by step."""
    placed, weights = np.empty_like(indices), np.empty_like(values)
    batch = len(filled) - 1
    for b in range(batch):
        source = filled[b]
        for row in range(b, len(indptr) - 1, batch):
            for target in range(indptr[row], indptr[row + 1]):
                placed[target] = indices[source]
                weights[target] = values[source]
                source += 1
    return placed, weights
