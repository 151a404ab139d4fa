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

TILE = 1 << 11  # synapses times taps of a program


def forward(weight: Tensor, delay: Tensor, sigma: Tensor, kernel: str, taps: int) -> Tensor:
    """See `construct.delay_kernel`."""
    k = torch.empty(*weight.shape[:-1], taps, dtype=weight.dtype, device=weight.device)
    grid, arrays, sizes, options = _call(weight, delay, sigma, kernel, taps)
    if weight.numel():
        _forward[grid](*arrays, k, *sizes, **options)
    return k


def gradients(weight: Tensor, delay: Tensor, sigma: Tensor, kernel: str, grad: Tensor) -> tuple[Tensor, Tensor]:
    """See `construct.delay_kernel`: the gradients of weight and delay."""
    gw, gd = (torch.empty(weight.shape, dtype=weight.dtype, device=weight.device) for _ in range(2))
    grid, arrays, sizes, options = _call(weight, delay, sigma, kernel, grad.shape[-1])
    if weight.numel():
        _gradients[grid](*arrays, grad.contiguous(), gw, gd, *sizes, **options)
    return gw, gd


def _call(weight: Tensor, delay: Tensor, sigma: Tensor, kernel: str, taps: int) -> Any:
    """Grid, arrays, sizes and options of either kernel."""
    shape, across = BUMPS[kernel], triton.next_power_of_2(taps)
    synapses, elements = weight.shape[:-1].numel(), weight.shape[-1]
    block = max(1, TILE // across)
    arrays = [t.contiguous() for t in (weight, delay, shape.width(sigma))]
    options = {"SHAPE": kernel, "NORMALISED": shape.normalised, "BLOCK": block, "TAPS": across}
    numbers = synapses, elements, taps, TINY if shape.normalised else 0.0, least(weight.dtype)
    return (triton.cdiv(synapses, block),), arrays, numbers, options


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
    return value, slope


@triton.jit
def _forward(  # type: ignore[no-untyped-def]
    weight,
    delay,
    width,
    k,
    synapses,
    elements,
    taps,
    tiny,
    least,
    SHAPE: tl.constexpr,
    NORMALISED: tl.constexpr,
    BLOCK: tl.constexpr,
    TAPS: tl.constexpr,
):
    s = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    d = tl.arange(0, TAPS)
    inside = (s < synapses)[:, None] & (d < taps)[None, :]
    total = tl.zeros((BLOCK, TAPS), tl.float32)
    for e in range(elements):
        at = s * elements + e
        w = tl.load(weight + at, mask=s < synapses, other=0.0)
        centre = tl.load(delay + at, mask=s < synapses, other=0.0)
        wide = tl.load(width + at, mask=s < synapses, other=1.0)
        value, _ = _value(d[None, :] - centre[:, None], wide[:, None], least, SHAPE)
        value = tl.where(inside, value, 0.0)
        if NORMALISED:
            value = value / (tl.sum(value, axis=1) + tiny)[:, None]
        total += w[:, None] * value
    tl.store(k + s[:, None].to(tl.int64) * taps + d[None, :], total, mask=inside)


@triton.jit
def _gradients(  # type: ignore[no-untyped-def]
    weight,
    delay,
    width,
    grad,
    gw,
    gd,
    synapses,
    elements,
    taps,
    tiny,
    least,
    SHAPE: tl.constexpr,
    NORMALISED: tl.constexpr,
    BLOCK: tl.constexpr,
    TAPS: tl.constexpr,
):
    s = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    d = tl.arange(0, TAPS)
    inside = (s < synapses)[:, None] & (d < taps)[None, :]
    g = tl.load(grad + s[:, None].to(tl.int64) * taps + d[None, :], mask=inside, other=0.0)
    for e in range(elements):
        at = s * elements + e
        w = tl.load(weight + at, mask=s < synapses, other=0.0)
        centre = tl.load(delay + at, mask=s < synapses, other=0.0)
        wide = tl.load(width + at, mask=s < synapses, other=1.0)
        value, slope = _value(d[None, :] - centre[:, None], wide[:, None], least, SHAPE)
        value, slope = tl.where(inside, value, 0.0), tl.where(inside, slope, 0.0)
        if NORMALISED:
            total = (tl.sum(value, axis=1) + tiny)[:, None]
            value = value / total
            slope = (slope - value * tl.sum(slope, axis=1)[:, None]) / total
        tl.store(gw + at, tl.sum(g * value, axis=1), mask=s < synapses)
        tl.store(gd + at, -w * tl.sum(g * slope, axis=1), mask=s < synapses)
