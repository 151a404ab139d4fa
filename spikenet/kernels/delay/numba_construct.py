"""The taps of delayed synapses and their gradients in one pass each, in Numba. Importing this module imports numba."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import torch
from torch import Tensor

from spikenet.kernels import buffers
from spikenet.kernels.delay.bump import BUMPS, TINY, least
from spikenet.kernels.threads import over_lanes

SYNAPSES = 256  # of the smallest range of a thread
_GAUSS, _TRIANGLE, _BETWEEN = 0, 1, 2
_SHAPES = {"gauss": _GAUSS, "max": _TRIANGLE, "v1": _TRIANGLE, "v0": _BETWEEN}


def forward(weight: Tensor, delay: Tensor, sigma: Tensor, kernel: str, taps: int) -> Tensor:
    """See `construct.delay_kernel`."""
    rows, elements = weight.shape[:-1].numel(), weight.shape[-1]
    k = buffers.empty((*weight.shape[:-1], taps), weight.dtype)
    arrays = _arrays(weight, delay, BUMPS[kernel].width(sigma), (rows, elements))
    run: Any = _forward
    flat = k.view(rows, taps).numpy()
    numbers = _SHAPES[kernel], BUMPS[kernel].normalised, least(weight.dtype)

    def some(start: int, stop: int) -> None:
        run(*arrays, *numbers, flat, start, stop)

    over_lanes(some, rows, SYNAPSES, k.numel() * elements)
    return k


def gradients(weight: Tensor, delay: Tensor, sigma: Tensor, kernel: str, grad: Tensor) -> tuple[Tensor, Tensor]:
    """See `construct.delay_kernel`: the gradients of weight and delay."""
    rows, elements = weight.shape[:-1].numel(), weight.shape[-1]
    gw, gd = torch.empty(weight.shape, dtype=weight.dtype), torch.empty(weight.shape, dtype=weight.dtype)
    arrays = _arrays(weight, delay, BUMPS[kernel].width(sigma), (rows, elements))
    flat = grad.detach().reshape(rows, grad.shape[-1]).contiguous().numpy()
    out = gw.view(rows, elements).numpy(), gd.view(rows, elements).numpy()
    run: Any = _gradients
    numbers = _SHAPES[kernel], BUMPS[kernel].normalised, least(weight.dtype)

    def some(start: int, stop: int) -> None:
        run(*arrays, *numbers, flat, *out, start, stop)

    over_lanes(some, rows, SYNAPSES, grad.numel() * elements)
    return gw, gd


def _arrays(weight: Tensor, delay: Tensor, width: Tensor, shape: tuple[int, int]) -> list[np.ndarray]:
    return [t.detach().reshape(shape).contiguous().numpy() for t in (weight, delay, width)]


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _values(
    shape: int, delay: float, width: float, least: float, value: np.ndarray, slope: np.ndarray
) -> tuple[int, int]:
    """The bump's values and slopes; the range of taps that it reaches. Outside of it nothing is written."""
    taps = value.size
    one = value.dtype.type(1.0)
    if np.isnan(delay) or np.isnan(width):  # not silence
        value[:], slope[:] = np.nan, np.nan
        return 0, taps
    reach = width * np.sqrt(-2.0 * np.log(least)) if shape == _GAUSS else width
    first = max(0, int(np.floor(min(delay, float(taps)) - reach)))
    last = min(taps, int(np.ceil(max(delay, -1.0) + reach)) + 1)
    for d in range(first, last):
        u = value.dtype.type(d) - delay
        if shape == _GAUSS:
            z = u / width
            g = np.exp(value.dtype.type(-0.5) * (z * z))
            value[d] = g if g >= least else 0.0
            slope[d] = -value[d] * u / (width * width)
        elif shape == _TRIANGLE:
            value[d] = max(width - abs(u), value.dtype.type(0.0))
            slope[d] = -np.sign(u) if abs(u) < width else 0.0
        else:
            value[d] = one - abs(u) if abs(u) < one else 0.0
            slope[d] = (-1.0 if u >= 0.0 else 1.0) if -1.0 <= u < 1.0 else 0.0
    return first, last


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _forward(
    weight: np.ndarray,  # [S, E]
    delay: np.ndarray,  # [S, E]
    width: np.ndarray,  # [S, E]
    shape: int,
    normalised: bool,
    least: float,
    k: np.ndarray,  # [S, D], written
    start: int,  # synapses of this call
    stop: int,
) -> None:
    value, slope = np.empty(k.shape[1], k.dtype), np.empty(k.shape[1], k.dtype)
    for s in range(start, stop):
        k[s, :] = 0.0
        for e in range(weight.shape[1]):
            first, last = _values(shape, delay[s, e], width[s, e], least, value, slope)
            total = k.dtype.type(1.0)
            if normalised:
                total = k.dtype.type(0.0)
                for d in range(first, last):
                    total += value[d]
                total += k.dtype.type(TINY)
            for d in range(first, last):
                k[s, d] += weight[s, e] * (value[d] / total)


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _gradients(
    weight: np.ndarray,  # [S, E]
    delay: np.ndarray,  # [S, E]
    width: np.ndarray,  # [S, E]
    shape: int,
    normalised: bool,
    least: float,
    grad: np.ndarray,  # [S, D]
    gw: np.ndarray,  # [S, E], written
    gd: np.ndarray,  # [S, E], written
    start: int,  # synapses of this call
    stop: int,
) -> None:
    value, slope = np.empty(grad.shape[1], grad.dtype), np.empty(grad.shape[1], grad.dtype)
    nought = grad.dtype.type(0.0)
    for s in range(start, stop):
        for e in range(weight.shape[1]):
            first, last = _values(shape, delay[s, e], width[s, e], least, value, slope)
            total, slopes = grad.dtype.type(1.0), nought
            if normalised:
                total = nought
                for d in range(first, last):
                    total += value[d]
                    slopes += slope[d]
                total += grad.dtype.type(TINY)
            of_weight, of_delay = nought, nought
            for d in range(first, last):
                g = value[d] / total
                of_weight += grad[s, d] * g
                of_delay += grad[s, d] * ((g * slopes - slope[d]) / total)
            gw[s, e], gd[s, e] = of_weight, weight[s, e] * of_delay
