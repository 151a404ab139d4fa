"""Event-driven convolution in Numba. Importing this module imports numba.

A row's events touch few of its output pixels. Those are kept apart, channels last, so that an event adds vectors of
output channels; the output itself is written once, plane by plane: the bias, then the pixels that were touched.
Backward, pixels of the output's gradient are gathered in the same way when an event first asks for them.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import torch
from torch import Tensor

from spikenet.kernels import buffers
from spikenet.kernels.synapse.geometry import Geometry, as_taps, reached
from spikenet.kernels.threads import over_lanes

ROWS = 4  # of the smallest range of a thread
CHANNELS = 16  # output channels of the smallest range of a thread, backward
PART = 64  # rows of the weight gradient that are added before they join its total, which is float64
LANES = 64  # partial sums of a plane


def forward(
    indptr: Tensor, indices: Tensor, values: Tensor, weight: Tensor, bias: Tensor | None, geometry: Geometry
) -> Tensor:
    """See `event_conv2d`; half precision is widened first."""
    rows, channels = len(indptr) - 1, len(weight)
    y = buffers.empty((rows, channels, *geometry.out), values.dtype)
    start_from = values.new_zeros(channels) if bias is None else bias.to(values.dtype)
    kernel: Any = _forward
    arrays = _arrays(indptr, indices, values, as_taps(weight.to(values.dtype), geometry), start_from)
    places = _places(geometry)

    def some(start: int, stop: int) -> None:
        kernel(*arrays, *places, y.view(rows, channels, -1).numpy(), start, stop)

    over_lanes(some, rows, ROWS, y.numel())
    return y.to(weight.dtype)


def gradients(
    indptr: Tensor, indices: Tensor, values: Tensor, grad: Tensor, wants_bias: bool, geometry: Geometry
) -> tuple[Tensor, Tensor]:
    """See `event_conv2d`: the gradients of weight and bias."""
    rows, channels = grad.shape[:2]
    per_group = channels // geometry.groups
    gw = values.new_zeros(channels, geometry.channels // geometry.groups, *geometry.kernel)
    gb = values.new_zeros(channels)
    gy = grad.to(values.dtype).contiguous().view(rows, channels, -1).numpy()
    kernel: Any = _gradients
    arrays = _arrays(indptr, indices, values)
    places = _places(geometry)

    def some(start: int, stop: int) -> None:
        kernel(*arrays, *places, gy, gw.view(*gw.shape[:2], -1).numpy(), gb.numpy(), per_group, wants_bias, start, stop)

    over_lanes(some, channels, CHANNELS, gy.size)
    return gw.to(grad.dtype), gb.to(grad.dtype)


def of_values(
    indptr: Tensor, indices: Tensor, values: Tensor, weight: Tensor, grad: Tensor, geometry: Geometry
) -> Tensor:
    """See `event_conv2d`: the gradient of the values."""
    gv = torch.empty_like(values)
    gy = grad.to(values.dtype).contiguous().view(*grad.shape[:2], -1)
    kernel: Any = _of_values
    arrays = _arrays(indptr, indices, as_taps(weight.to(values.dtype), geometry), gy, gv)
    places = _places(geometry)

    def some(start: int, stop: int) -> None:
        kernel(*arrays, *places, start, stop)

    over_lanes(some, len(gy), ROWS, gy.numel())
    return gv


def _arrays(*tensors: Tensor) -> list[np.ndarray]:
    return [t.detach().contiguous().numpy() for t in tensors]


def _places(geometry: Geometry) -> tuple[np.ndarray, np.ndarray, int]:
    """For each input row (column) and tap the output row (column) that it reaches, or -1; the output's width."""
    down, across = reached(geometry, torch.device("cpu"))
    return down.numpy(), across.numpy(), geometry.out[1]


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _forward(
    indptr: np.ndarray,  # [R + 1]
    indices: np.ndarray,  # [E]
    values: np.ndarray,  # [E]
    taps: np.ndarray,  # [C, kh * kw, N / groups]
    bias: np.ndarray,  # [N]
    down: np.ndarray,  # int32 [H, kh]
    across: np.ndarray,  # int32 [W, kw]
    width: int,  # of the output
    y: np.ndarray,  # [R, N, P], written
    start: int,  # rows of this call
    stop: int,
) -> None:
    height_in, width_in, channels, per_group = down.shape[0], across.shape[0], bias.size, taps.shape[2]
    per_channel = taps.shape[0] * per_group // channels  # input channels of a group
    slot = np.full(y.shape[2], -1, np.int32)
    touched = np.empty(y.shape[2], np.int32)
    sums = np.empty((y.shape[2], channels), y.dtype)
    grouped = sums.reshape(y.shape[2], channels // per_group, per_group)
    for r in range(start, stop):
        count = 0
        for e in range(indptr[r], indptr[r + 1]):
            c, place = divmod(np.uint32(indices[e]), np.uint32(height_in * width_in))
            row, column = divmod(place, np.uint32(width_in))
            group, v, tap = c // per_channel, values[e], 0
            for ky in range(down.shape[1]):
                for kx in range(across.shape[1]):
                    oy, ox, w = down[row, ky], across[column, kx], taps[c, tap]
                    tap += 1
                    if oy < 0 or ox < 0:
                        continue
                    p = oy * width + ox
                    if slot[p] < 0:
                        slot[p], touched[count] = count, p
                        sums[count] = bias
                        count += 1
                    total = grouped[slot[p], group]
                    for o in range(per_group):
                        total[o] += v * w[o]
        for o in range(channels):
            plane = y[r, o]
            plane[:] = bias[o]
            for j in range(count):
                plane[touched[j]] = sums[j, o]
        for j in range(count):
            slot[touched[j]] = -1


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _gradients(
    indptr: np.ndarray,  # [R + 1]
    indices: np.ndarray,  # [E]
    values: np.ndarray,  # [E]
    down: np.ndarray,  # int32 [H, kh]
    across: np.ndarray,  # int32 [W, kw]
    width: int,  # of the output
    gy: np.ndarray,  # [R, N, P]
    gw: np.ndarray,  # [N, C / groups, kh * kw], written
    gb: np.ndarray,  # [N], written if wanted
    per_group: int,  # output channels of a group
    wants_bias: bool,
    start: int,  # output channels of this call
    stop: int,
) -> None:
    height_in, width_in, per_channel = down.shape[0], across.shape[0], gw.shape[1]
    channels = per_channel * (gy.shape[1] // per_group)
    slot = np.full(gy.shape[2], -1, np.int32)
    touched = np.empty(gy.shape[2], np.int32)
    pixels = np.empty((gy.shape[2], stop - start), gy.dtype)
    sums = np.zeros((channels, gw.shape[2], stop - start), gy.dtype)
    weights = np.zeros(sums.shape, np.float64)
    total = np.zeros(stop - start, np.float64)
    for r in range(gy.shape[0]):
        if r % PART == 0:
            _move(sums.reshape(-1), weights.reshape(-1))
        if wants_bias:
            for o in range(start, stop):
                total[o - start] += _sum(gy[r, o])
        count = 0
        for e in range(indptr[r], indptr[r + 1]):
            c, place = divmod(np.uint32(indices[e]), np.uint32(height_in * width_in))
            row, column = divmod(place, np.uint32(width_in))
            low = max((c // per_channel) * per_group, start) - start
            high = min((c // per_channel + 1) * per_group, stop) - start
            v, tap = values[e], -1
            if low >= high:
                continue
            for ky in range(down.shape[1]):
                for kx in range(across.shape[1]):
                    oy, ox = down[row, ky], across[column, kx]
                    tap += 1
                    if oy < 0 or ox < 0:
                        continue
                    p = oy * width + ox
                    if slot[p] < 0:
                        slot[p], touched[count] = count, p
                        for o in range(start, stop):
                            pixels[count, o - start] = gy[r, o, p]
                        count += 1
                    g, add = pixels[slot[p], low:high], sums[c, tap, low:high]
                    for o in range(high - low):
                        add[o] += v * g[o]
        for j in range(count):
            slot[touched[j]] = -1
    _move(sums.reshape(-1), weights.reshape(-1))
    for o in range(start, stop):
        gb[o] = total[o - start]
        for i in range(per_channel):
            for tap in range(gw.shape[2]):
                gw[o, i, tap] = weights[(o // per_group) * per_channel + i, tap, o - start]


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _move(sums: np.ndarray, weights: np.ndarray) -> None:
    for i in range(sums.size):
        weights[i] += sums[i]
        sums[i] = 0


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _sum(plane: np.ndarray) -> float:
    lanes = np.zeros(LANES, plane.dtype)
    whole = plane.size - plane.size % LANES
    for first in range(0, whole, LANES):
        part = plane[first : first + LANES]
        for i in range(LANES):
            lanes[i] += part[i]
    total = 0.0
    for i in range(LANES):
        total += lanes[i]
    for i in range(whole, plane.size):
        total += plane[i]
    return total


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _of_values(
    indptr: np.ndarray,  # [R + 1]
    indices: np.ndarray,  # [E]
    taps: np.ndarray,  # [C, kh * kw, N / groups]
    gy: np.ndarray,  # [R, N, P]
    gv: np.ndarray,  # [E], written
    down: np.ndarray,  # int32 [H, kh]
    across: np.ndarray,  # int32 [W, kw]
    width: int,  # of the output
    start: int,  # rows of this call
    stop: int,
) -> None:
    height_in, width_in, channels, per_group = down.shape[0], across.shape[0], gy.shape[1], taps.shape[2]
    per_channel = taps.shape[0] * per_group // channels
    slot = np.full(gy.shape[2], -1, np.int32)
    touched = np.empty(gy.shape[2], np.int32)
    pixels = np.empty((gy.shape[2], channels), gy.dtype)
    grouped = pixels.reshape(gy.shape[2], channels // per_group, per_group)
    lanes = np.empty(per_group, gy.dtype)
    for r in range(start, stop):
        count = 0
        for e in range(indptr[r], indptr[r + 1]):
            c, place = divmod(np.uint32(indices[e]), np.uint32(height_in * width_in))
            row, column = divmod(place, np.uint32(width_in))
            group, tap = c // per_channel, 0
            lanes[:] = 0
            for ky in range(down.shape[1]):
                for kx in range(across.shape[1]):
                    oy, ox, w = down[row, ky], across[column, kx], taps[c, tap]
                    tap += 1
                    if oy < 0 or ox < 0:
                        continue
                    p = oy * width + ox
                    if slot[p] < 0:
                        slot[p], touched[count] = count, p
                        for o in range(channels):
                            pixels[count, o] = gy[r, o, p]
                        count += 1
                    g = grouped[slot[p], group]
                    for o in range(per_group):
                        lanes[o] += g[o] * w[o]
            gv[e] = lanes.sum()
        for j in range(count):
            slot[touched[j]] = -1
