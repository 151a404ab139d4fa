"""The taps of delayed synapses and their gradients, in one pass each, in Triton.

Importing this module imports triton.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from spikenet.kernels.delay.bump import BUMPS, TINY, least

TILE = 1 << 12  # synapses times taps of a program
LANES = 32  # synapses side by side in memory, at least


def forward(weight: Tensor, delay: Tensor, sigma: Tensor, kernel: str, taps: int) -> Tensor:
    """See `construct.delay_kernel`; the taps are the slowest axis in memory, as products over taps read them."""
    k = torch.empty(taps, *weight.shape[:-1], dtype=weight.dtype, device=weight.device)
    grid, arrays, sizes, options = _call(weight, delay, sigma, kernel, taps)
    if weight.numel():
        _forward[grid](*arrays, k, *sizes, **options)
    return k.movedim(0, -1)


def gradients(weight: Tensor, delay: Tensor, sigma: Tensor, kernel: str, grad: Tensor) -> tuple[Tensor, Tensor]:
    """See `construct.delay_kernel`: the gradients of weight and delay."""
    gw, gd = (torch.empty(weight.shape, dtype=weight.dtype, device=weight.device) for _ in range(2))
    grid, arrays, sizes, options = _call(weight, delay, sigma, kernel, grad.shape[-1])
    if weight.numel():
        _gradients[grid](*arrays, grad.movedim(-1, 0).contiguous(), gw, gd, *sizes, **options)
    return gw, gd


def _call(weight: Tensor, delay: Tensor, sigma: Tensor, kernel: str, taps: int) -> Any:
    """Grid, arrays, sizes and options of either kernel."""
    shape, across = BUMPS[kernel], 1 << (taps - 1).bit_length()
    synapses, elements = weight.shape[:-1].numel(), weight.shape[-1]
    block = max(LANES, TILE // across)
    one = not any(sigma.stride())  # a number that was expanded
    arrays = [weight.contiguous(), delay.contiguous(), sigma if one else sigma.contiguous()]
    options = {"SHAPE": kernel, "NORMALISED": shape.normalised, "USES_SIGMA": shape.uses_sigma, "ONE": one}
    numbers = synapses, elements, taps, shape.spread, TINY if shape.normalised else 0.0, least(weight.dtype)
    return (-(-synapses // block),), arrays, numbers, options | {"BLOCK": block, "TAPS": across}


@triton.jit
def _value(u, width, least, SHAPE: tl.constexpr):  # type: ignore[no-untyped-def]
    """The bump at the distances `u`, and its slope."""
    if SHAPE == "gauss":
        z = u / width
        g = tl.exp(-0.5 * (z * z))
        value = tl.where(g >= least, g, 0.0)
        slope = -value * u / (width * width)
    elif SHAPE == "v0":
        value = tl.where(tl.abs(u) < 1.0, 1.0 - tl.abs(u), 0.0)
        slope = tl.where((u >= 0.0) & (u < 1.0), -1.0, tl.where((u >= -1.0) & (u < 0.0), 1.0, 0.0))
    else:
        value = tl.maximum(width - tl.abs(u), 0.0)
        slope = tl.where(tl.abs(u) < width, tl.where(u > 0.0, -1.0, tl.where(u < 0.0, 1.0, 0.0)), 0.0)
    value = tl.where(u != u, u, value)  # a delay that is no number is not silence
    return value, slope


@triton.jit
def _bump(  # type: ignore[no-untyped-def]
    delay,
    sigma,
    at,
    d,
    here,
    inside,
    spread,
    least,
    SHAPE: tl.constexpr,
    USES_SIGMA: tl.constexpr,
    ONE: tl.constexpr,
):
    """Values and slopes `[taps, synapses]` of the synapses `at`."""
    centre = tl.load(delay + at, mask=here, other=0.0)
    width = tl.full(at.shape, spread, tl.float32)
    if USES_SIGMA:
        width += tl.abs(tl.load(sigma + (at * 0 if ONE else at), mask=here, other=1.0))
    value, slope = _value(d[:, None] - centre[None, :], width[None, :], least, SHAPE)
    return tl.where(inside, value, 0.0), tl.where(inside, slope, 0.0)


@triton.jit
def _forward(  # type: ignore[no-untyped-def]
    weight,
    delay,
    sigma,
    k,
    synapses,
    elements,
    taps,
    spread,
    tiny,
    least,
    SHAPE: tl.constexpr,
    NORMALISED: tl.constexpr,
    USES_SIGMA: tl.constexpr,
    ONE: tl.constexpr,
    BLOCK: tl.constexpr,
    TAPS: tl.constexpr,
):
    s, d = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK), tl.arange(0, TAPS)
    here = s < synapses
    inside = (d < taps)[:, None] & here[None, :]
    total = tl.zeros((TAPS, BLOCK), tl.float32)
    for e in range(elements):
        at = s * elements + e
        value, _ = _bump(delay, sigma, at, d, here, inside, spread, least, SHAPE, USES_SIGMA, ONE)
        if NORMALISED:
            value = value / (tl.sum(value, axis=0) + tiny)[None, :]
        total += tl.load(weight + at, mask=here, other=0.0)[None, :] * value
    tl.store(k + d[:, None].to(tl.int64) * synapses + s[None, :], total, mask=inside)


@triton.jit
def _gradients(  # type: ignore[no-untyped-def]
    weight,
    delay,
    sigma,
    grad,
    gw,
    gd,
    synapses,
    elements,
    taps,
    spread,
    tiny,
    least,
    SHAPE: tl.constexpr,
    NORMALISED: tl.constexpr,
    USES_SIGMA: tl.constexpr,
    ONE: tl.constexpr,
    BLOCK: tl.constexpr,
    TAPS: tl.constexpr,
):
    s, d = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK), tl.arange(0, TAPS)
    here = s < synapses
    inside = (d < taps)[:, None] & here[None, :]
    g = tl.load(grad + d[:, None].to(tl.int64) * synapses + s[None, :], mask=inside, other=0.0)
    for e in range(elements):
        at = s * elements + e
        value, slope = _bump(delay, sigma, at, d, here, inside, spread, least, SHAPE, USES_SIGMA, ONE)
        if NORMALISED:
            total = (tl.sum(value, axis=0) + tiny)[None, :]
            value = value / total
            slope = (slope - value * tl.sum(slope, axis=0)[None, :]) / total
        w = tl.load(weight + at, mask=here, other=0.0)
        tl.store(gw + at, tl.sum(g * value, axis=0), mask=here)
        tl.store(gd + at, -w * tl.sum(g * slope, axis=0), mask=here)
