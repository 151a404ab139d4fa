"""Compressing rows that are mostly zeros, in Numba. Importing this module imports numba."""

from __future__ import annotations

from typing import Any, NamedTuple

import numba
import numpy as np
import torch
from torch import Tensor

from spikenet.kernels import buffers
from spikenet.kernels.threads import over_lanes

ROWS = 64  # of the smallest range of a thread


class Events(NamedTuple):
    """Compressed rows (see `event_linear`)."""

    indptr: Tensor
    indices: Tensor
    values: Tensor


def compress(x: Tensor, most: float) -> Events | None:
    """The entries of `x` [R, K], float32 or float64, other than 0 (NaN is), if they are at most that part of all."""
    if most == 0:
        return None
    dense = x.detach().contiguous().numpy()
    indptr = np.zeros(len(x) + 1, np.int64)
    count: Any = _count
    fill: Any = _fill
    over_lanes(lambda start, stop: count(dense, indptr, start, stop), len(x), ROWS, x.numel())
    np.cumsum(indptr, out=indptr)
    events = int(indptr[-1])
    if events > most * x.numel():
        return None
    indices, values = buffers.empty((events,), torch.int32), buffers.empty((events,), x.dtype)
    arrays = dense, indptr, indices.numpy(), values.numpy()
    over_lanes(lambda start, stop: fill(*arrays, start, stop), len(x), ROWS, x.numel())
    return Events(torch.from_numpy(indptr), indices, values)


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _count(x: np.ndarray, indptr: np.ndarray, start: int, stop: int) -> None:
    for r in range(start, stop):
        row, events = x[r], np.int32(0)
        for i in range(row.size):
            events += np.int32(row[i] != 0)
        indptr[r + 1] = events


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _fill(x: np.ndarray, indptr: np.ndarray, indices: np.ndarray, values: np.ndarray, start: int, stop: int) -> None:
    """Every entry is noted, and the next one takes its place if it was 0: no branch to mispredict."""
    noted = np.empty(x.shape[1] + 1, np.int32)
    for r in range(start, stop):
        row, first = x[r], indptr[r]
        if first == indptr[r + 1]:
            continue
        k = 0
        for i in range(row.size):
            noted[k] = i
            k += row[i] != 0
        for j in range(k):
            indices[first + j] = noted[j]
            values[first + j] = row[noted[j]]
