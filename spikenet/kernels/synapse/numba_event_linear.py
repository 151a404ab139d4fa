"""Event-driven linear products in Numba. Importing this module imports numba.

Forward, a row of the output stays in the first-level cache while the columns of `W` that its events name are added.
Backward, each thread owns some outputs and takes the rows in chunks that stay in the second-level cache, input by
input, so that `gW^T` is touched once for every chunk and input, not once for every event. The sums of the chunks are
added in ascending order: the number of threads changes no bit, and long sums do not gather rounding errors.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import torch
from torch import Tensor

from spikenet.kernels import buffers
from spikenet.kernels.threads import over_lanes

ROWS = 64  # of the smallest range of a thread, forward
OUTPUTS = 128  # of the smallest range of a thread, backward
TILE = 1 << 19  # bytes of the output's gradient that a thread keeps at hand
PART = 64  # rows of the bias gradient that are added before they join its total, which is float64
LANES = 64  # partial sums of a dot product


def forward(indptr: Tensor, indices: Tensor, values: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """See `event_linear`; half precision is widened first."""
    rows, outputs = len(indptr) - 1, len(weight)
    y = buffers.empty((rows, outputs), values.dtype)
    columns = weight.to(values.dtype).t().contiguous()
    start_from = values.new_zeros(outputs) if bias is None else bias.to(values.dtype).contiguous()
    kernel: Any = _forward
    arrays = _arrays(indptr, indices, values, columns, start_from)

    def some(start: int, stop: int) -> None:
        kernel(*arrays, y.numpy(), start, stop)

    over_lanes(some, rows, ROWS, y.numel())
    return y.to(weight.dtype)


def gradients(
    indptr: Tensor, indices: Tensor, values: Tensor, grad: Tensor, features: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    """See `event_linear`: the gradients of weight and bias."""
    outputs, inputs = features
    gw, gb = buffers.empty((outputs, inputs), values.dtype), values.new_empty(outputs)
    gy = grad.to(values.dtype).contiguous()
    rows = max(1, min(len(gy), TILE // (OUTPUTS * values.itemsize)))
    plan = _by_input(indptr, indices, values, inputs, rows)
    kernel: Any = _gradients

    def some(start: int, stop: int) -> None:
        kernel(*plan, rows, gy.numpy(), gw.numpy(), gb.numpy(), start, stop)

    over_lanes(some, outputs, OUTPUTS, gy.numel())
    return gw.to(grad.dtype), gb.to(grad.dtype)


def of_values(indptr: Tensor, indices: Tensor, values: Tensor, weight: Tensor, grad: Tensor) -> Tensor:
    """See `event_linear`: the gradient of the values."""
    gv = torch.empty_like(values)
    columns, gy = weight.to(values.dtype).t().contiguous(), grad.to(values.dtype).contiguous()
    kernel: Any = _of_values
    arrays = _arrays(indptr, indices, columns, gy, gv)

    def some(start: int, stop: int) -> None:
        kernel(*arrays, start, stop)

    over_lanes(some, len(gy), ROWS, values.numel() * len(weight))
    return gv


def _arrays(*tensors: Tensor) -> list[np.ndarray]:
    return [t.detach().contiguous().numpy() for t in tensors]


def _by_input(indptr: Tensor, indices: Tensor, values: Tensor, inputs: int, rows: int) -> list[np.ndarray]:
    """The events of every `rows` rows, sorted by input: where each input begins, the row in its chunk, the value."""
    chunks = -(-(len(indptr) - 1) // rows)
    begins, row = np.empty((chunks, inputs + 1), np.int64), np.empty(len(indices), np.uint32)
    sorted_values = np.empty(len(indices), values.numpy().dtype)
    kernel: Any = _sort
    arrays = _arrays(indptr, indices, values)

    def some(start: int, stop: int) -> None:
        kernel(*arrays, rows, begins, row, sorted_values, start, stop)

    over_lanes(some, chunks, 1, 8 * len(indices))
    return [begins, row, sorted_values]


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _forward(
    indptr: np.ndarray,  # [R + 1]
    indices: np.ndarray,  # [E]
    values: np.ndarray,  # [E]
    columns: np.ndarray,  # W^T [K, N]
    bias: np.ndarray,  # [N]
    y: np.ndarray,  # [R, N], written
    start: int,  # rows of this call
    stop: int,
) -> None:
    outputs = bias.size
    for r in range(start, stop):
        out, e, last = y[r], indptr[r], indptr[r + 1]
        for o in range(outputs):
            out[o] = bias[o]
        while e + 4 <= last:  # in order, as one by one
            c0, c1 = columns[indices[e]], columns[indices[e + 1]]
            c2, c3 = columns[indices[e + 2]], columns[indices[e + 3]]
            v0, v1, v2, v3 = values[e], values[e + 1], values[e + 2], values[e + 3]
            for o in range(outputs):
                out[o] = out[o] + v0 * c0[o] + v1 * c1[o] + v2 * c2[o] + v3 * c3[o]
            e += 4
        while e < last:
            c0, v0 = columns[indices[e]], values[e]
            for o in range(outputs):
                out[o] += v0 * c0[o]
            e += 1


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _sort(
    indptr: np.ndarray,  # [R + 1]
    indices: np.ndarray,  # [E]
    values: np.ndarray,  # [E]
    rows: int,  # of a chunk
    begins: np.ndarray,  # [C, K + 1], written
    row: np.ndarray,  # uint32 [E], written
    sorted_values: np.ndarray,  # [E], written
    start: int,  # chunks of this call
    stop: int,
) -> None:
    """A counting sort of each chunk."""
    inputs = begins.shape[1] - 1
    for c in range(start, stop):
        place = begins[c]
        first, last = c * rows, min((c + 1) * rows, indptr.size - 1)
        place[:] = 0
        for e in range(indptr[first], indptr[last]):
            place[indices[e] + 1] += 1
        place[0] = indptr[first]
        for i in range(inputs):
            place[i + 1] += place[i]
        for r in range(first, last):
            for e in range(indptr[r], indptr[r + 1]):
                k = place[indices[e]]
                place[indices[e]] = k + 1
                row[k], sorted_values[k] = r - first, values[e]
        for i in range(inputs, 0, -1):  # each place has moved on to the next one's begin
            place[i] = place[i - 1]
        place[0] = indptr[first]


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _gradients(
    begins: np.ndarray,  # [C, K + 1]
    row: np.ndarray,  # uint32 [E]
    values: np.ndarray,  # [E]
    rows: int,  # of a chunk
    gy: np.ndarray,  # [R, N]
    gw: np.ndarray,  # [N, K], written
    gb: np.ndarray,  # [N], written
    start: int,  # outputs of this call
    stop: int,
) -> None:
    outputs, inputs = stop - start, gw.shape[1]
    tile = np.empty((rows, outputs), gy.dtype)
    part = np.empty(outputs, gy.dtype)
    sums = np.zeros((inputs, outputs), gy.dtype)
    total = np.zeros(outputs, np.float64)
    for c in range(begins.shape[0]):
        first, last = c * rows, min((c + 1) * rows, gy.shape[0])
        for begin in range(first, last, PART):
            part[:] = 0
            for r in range(begin, min(begin + PART, last)):
                to, come = tile[r - first], gy[r, start:stop]
                for o in range(outputs):
                    to[o] = come[o]
                    part[o] += come[o]
            for o in range(outputs):
                total[o] += part[o]
        for i in range(inputs):
            k, end = begins[c, i], begins[c, i + 1]
            if k < end:
                part[:] = 0
                _add_rows(tile, row, values, k, end, part)
                into = sums[i]
                for o in range(outputs):
                    into[o] += part[o]
    for o in range(outputs):
        gb[start + o] = total[o]
        for i in range(inputs):
            gw[start + o, i] = sums[i, o]


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _add_rows(tile: np.ndarray, row: np.ndarray, values: np.ndarray, k: int, end: int, total: np.ndarray) -> None:
    """`total += sum of values[k] tile[row[k]]`, in order, as one by one."""
    while k + 4 <= end:
        t0, t1, t2, t3 = tile[row[k]], tile[row[k + 1]], tile[row[k + 2]], tile[row[k + 3]]
        v0, v1, v2, v3 = values[k], values[k + 1], values[k + 2], values[k + 3]
        for o in range(total.size):
            total[o] = total[o] + v0 * t0[o] + v1 * t1[o] + v2 * t2[o] + v3 * t3[o]
        k += 4
    while k < end:
        t0, v0 = tile[row[k]], values[k]
        for o in range(total.size):
            total[o] += v0 * t0[o]
        k += 1


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _of_values(
    indptr: np.ndarray,  # [R + 1]
    indices: np.ndarray,  # [E]
    columns: np.ndarray,  # W^T [K, N]
    gy: np.ndarray,  # [R, N]
    gv: np.ndarray,  # [E], written
    start: int,  # rows of this call
    stop: int,
) -> None:
    lanes = np.empty(LANES, gy.dtype)
    outputs = gy.shape[1]
    whole = outputs - outputs % LANES
    for r in range(start, stop):
        g = gy[r]
        for e in range(indptr[r], indptr[r + 1]):
            w = columns[indices[e]]
            lanes[:] = 0
            for first in range(0, whole, LANES):
                gs, ws = g[first : first + LANES], w[first : first + LANES]
                for o in range(LANES):
                    lanes[o] += gs[o] * ws[o]
            total = lanes.sum()
            for o in range(whole, outputs):
                total += g[o] * w[o]
            gv[e] = total
