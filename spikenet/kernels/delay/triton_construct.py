"""The taps of delayed synapses and their gradients, in one pass each, in Triton.

The taps are the slowest axis in memory, as products over taps read them; for tensor cores they are made in half
precision at once. Importing this module imports triton.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from spikenet.kernels.delay.bump import BUMPS, TINY, least
from spikenet.kernels.delay.triton_halves import WIDTH, Halves, scale_of
from spikenet.kernels.launch import launch

TILE = 1 << 12  # synapses times taps of a program
LANES = 32  # synapses side by side in memory, at least
ROUNDED = "rounded"  # beside the bumps' names: the whole weight at the tap next to the delay


def forward(weight: Tensor, delay: Tensor, sigma: Tensor, kernel: str, taps: int) -> Tensor:
    """See `construct.delay_kernel`."""
    k = torch.empty(taps, *weight.shape[:-1], dtype=weight.dtype, device=weight.device)
    synapses = weight.shape[:-1].numel()
    _made(weight.reshape(1, synapses, weight.shape[-1]), delay, sigma, kernel, taps, k, synapses, 1)
    return k.movedim(0, -1)


def gradients(weight: Tensor, delay: Tensor, sigma: Tensor, kernel: str, grad: Tensor) -> tuple[Tensor, Tensor]:
    """See `construct.delay_kernel`: the gradients of weight and delay."""
    gw, gd = (torch.empty(weight.shape, dtype=weight.dtype, device=weight.device) for _ in range(2))
    gradients_from(weight, delay, sigma, kernel, grad.movedim(-1, 0).contiguous().unsqueeze(0), gw, gd)
    return gw, gd


def gradients_from(
    weight: Tensor, delay: Tensor, sigma: Tensor, kernel: str, sums: Tensor, gw: Tensor, gd: Tensor
) -> None:
    """Write the gradients of weight and delay from that of K, the sum of `sums` `[parts, taps, *synapses]`."""
    parts, taps = sums.shape[:2]
    synapses, (grid, block, across) = weight.shape[:-1].numel(), _tiles(weight.shape[:-1].numel(), taps)
    arrays, numbers, constants = _told(weight, delay, sigma, kernel)
    if synapses:
        sizes = parts, synapses, weight.shape[-1], taps
        launch(_gradients, grid, (*arrays, sums, gw, gd), (*sizes, *numbers), (*constants, block, across))


def halved(
    weight: Tensor, delay: Tensor, sigma: Tensor, kernel: str, taps: int, dtype: torch.dtype, both: bool
) -> Halves:
    """K of weights `[N, M, elements]` as a matrix `[taps * N, M]` in half precision: in `dtype`, if that is, or else as
    `triton_halves` has float32, scaled by what it can be at most."""
    outputs, inputs = weight.shape[:2]
    if dtype != torch.float32:
        width = -(-inputs // 8) * 8
        values = torch.empty(taps * outputs, width, dtype=dtype, device=weight.device)
        _made(weight, delay, sigma, kernel, taps, values, width, 1)
        return Halves(values, width, None, False, width)
    width, parts = -(-inputs // WIDTH) * WIDTH, 2 if both else 1
    values = torch.empty(taps * outputs, parts * width, dtype=torch.float16, device=weight.device)
    most = largest(weight)
    found = torch.empty(2, dtype=torch.int32, device=weight.device)
    _made(weight, delay, sigma, kernel, taps, values, width, parts, most, found)
    return Halves(values, width, found, both, parts * width)


def largest(weight: Tensor) -> Tensor:
    """What a tap can be at most."""
    return torch.linalg.vector_norm(weight, math.inf) if weight.shape[-1] == 1 else weight.abs().sum(-1).amax()


def _made(
    weight: Tensor,
    delay: Tensor,
    sigma: Tensor,
    kernel: str,
    taps: int,
    k: Tensor,
    width: int,
    parts: int,
    most: Tensor | None = None,
    found: Tensor | None = None,
) -> None:
    """Write K `[taps, N, parts, width]`, beyond M zeros."""
    outputs, inputs, elements = weight.shape
    arrays, numbers, constants = _told(weight, delay, sigma, kernel)
    grid, block, across = _tiles(outputs * width, taps)
    if k.numel():
        sizes = outputs * width, inputs, width, elements, taps
        given = *arrays, k, most, found
        launch(_forward, grid, given, (*sizes, *numbers), (*constants, inputs != width, parts == 2, block, across))


def spectrum(
    weight: Tensor, delay: Tensor, sigma: Tensor, kernel: str, taps: int, waves: Tensor, scale: Tensor, width: int
) -> Tensor:
    """K's spectrum times `scale`, `[F, 2, N, width]` and 0 from M on, in the dtype of `waves` `[F, 2, taps]`."""
    outputs, inputs, elements = weight.shape
    arrays, numbers, constants = _told(weight, delay, sigma, kernel)
    grid, block, across = _tiles(outputs * width, taps)
    k = torch.empty(*waves.shape[:2], outputs, width, dtype=waves.dtype, device=weight.device)
    sizes = outputs * width, inputs, width, elements, taps, 2 * waves.shape[0]
    launch(_spectrum, grid, (*arrays, waves, k, scale), (*sizes, *numbers), (*constants, block, across))
    return k


def gradients_of_spectrum(
    weight: Tensor,
    delay: Tensor,
    sigma: Tensor,
    kernel: str,
    spectrum: list[Tensor],
    waves: Tensor,
    gw: Tensor,
    gd: Tensor,
) -> None:
    """Write the gradients of weight and delay from the spectrum of K's, real and imaginary `[F, N, width]`, through
    `waves` `[2, taps, F]`."""
    outputs, inputs, elements = weight.shape
    width, taps, count = spectrum[0].shape[2], waves.shape[1], waves.shape[2]
    arrays, numbers, constants = _told(weight, delay, sigma, kernel)
    _, block, across = _tiles(1, taps)
    block = max(block, 64)
    sizes = count, outputs * width, inputs, width, elements, taps
    given = *arrays, *spectrum, waves, gw, gd
    grid = (-(-outputs * width // block),)
    launch(_gradients_of_spectrum, grid, given, (*sizes, *numbers), (*constants, block, across), num_warps=8)


def _told(weight: Tensor, delay: Tensor, sigma: Tensor, kernel: str) -> Any:
    """Arrays, numbers and constants of either kernel."""
    if kernel == ROUNDED:
        return (weight.contiguous(), delay.contiguous(), delay), (0.0, 0.0, 0.0), (kernel, False, False, False)
    shape, one = BUMPS[kernel], sigma.numel() == 1 or not any(sigma.stride())  # a number that was expanded
    arrays = weight.contiguous(), delay.contiguous(), sigma if one else sigma.contiguous()
    numbers = shape.spread, TINY if shape.normalised else 0.0, least(weight.dtype)
    return arrays, numbers, (kernel, shape.normalised, shape.uses_sigma, one)


def _tiles(synapses: int, taps: int) -> tuple[tuple[int], int, int]:
    """The grid, and a tile's synapses and taps."""
    across = max(16, 1 << (taps - 1).bit_length())
    block = max(LANES, TILE // across)
    return (-(-synapses // block),), block, across


@triton.jit
def _value(u, width, least, SHAPE: tl.constexpr):  # type: ignore[no-untyped-def]
    """The bump at the distances `u`, and its slope."""
    if SHAPE == "gauss":
        z = u / width
        g = tl.exp(-0.5 * (z * z))
        value = tl.where(g >= least, g, 0.0)
        slope = -value * u / (width * width)
    elif SHAPE == "rounded":
        value = tl.where(u == 0.0, 1.0, 0.0)
        slope = u * 0.0
    elif SHAPE == "v0":
        value = tl.where(tl.abs(u) < 1.0, 1.0 - tl.abs(u), 0.0)
        slope = tl.where((u >= 0.0) & (u < 1.0), -1.0, tl.where((u >= -1.0) & (u < 0.0), 1.0, 0.0))
    else:
        value = tl.maximum(width - tl.abs(u), 0.0)
        slope = tl.where(tl.abs(u) < width, tl.where(u > 0.0, -1.0, tl.where(u < 0.0, 1.0, 0.0)), 0.0)
    value = tl.where(u != u, u, value)  # a delay that is no number is not silence
    return value, slope


@triton.jit
def _rounded(delay, taps):  # type: ignore[no-untyped-def]
    """The tap next to a delay, as `taps.rounded` has it; not a number where the delay is not finite."""
    half = (taps - 1 - taps // 2) * 1.0
    back = tl.minimum(tl.maximum(half - delay, -4194304.0), 4194304.0)
    tap = half - ((back + 12582912.0) - 12582912.0)  # to the nearest whole number, a tie to the even one
    tap = tl.minimum(tl.maximum(tap, 0.0), (taps - 1) * 1.0)
    return tl.where(tl.abs(delay) < float("inf"), tap, float("nan"))


@triton.jit
def _bump(  # type: ignore[no-untyped-def]
    delay,
    sigma,
    at,
    d,
    here,
    inside,
    taps,
    spread,
    least,
    SHAPE: tl.constexpr,
    USES_SIGMA: tl.constexpr,
    ONE: tl.constexpr,
):
    """Values and slopes `[taps, synapses]` of the synapses `at`."""
    centre = tl.load(delay + at, mask=here, other=0.0)
    if SHAPE == "rounded":
        centre = _rounded(centre, taps)
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
    most,
    found,
    places,
    inputs,
    width,
    elements,
    taps,
    spread,
    tiny,
    least,
    SHAPE: tl.constexpr,
    NORMALISED: tl.constexpr,
    USES_SIGMA: tl.constexpr,
    ONE: tl.constexpr,
    FILLED: tl.constexpr,
    BOTH: tl.constexpr,
    BLOCK: tl.constexpr,
    TAPS: tl.constexpr,
):
    p, d = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK), tl.arange(0, TAPS)
    s, here, to = p, p < places, p.to(tl.int64)
    if FILLED:
        s = p // width * inputs + p % width
        here = here & (p % width < inputs)
    if BOTH:
        to += p // width * width
    inside = (d < taps)[:, None] & here[None, :]
    total = tl.zeros((TAPS, BLOCK), tl.float32)
    for e in range(elements):
        at = s * elements + e
        value, _ = _bump(delay, sigma, at, d, here, inside, taps, spread, least, SHAPE, USES_SIGMA, ONE)
        if NORMALISED:
            value = value / (tl.sum(value, axis=0) + tiny)[None, :]
        total += tl.load(weight + at, mask=here, other=0.0)[None, :] * value
    if found is not None:
        peak = tl.load(most).to(tl.int32, bitcast=True)
        total = total * (scale_of(peak, BOTH) << 23).to(tl.float32, bitcast=True)
        if tl.program_id(0) == 0:
            tl.store(found, peak)
            tl.store(found + 1, 1)
    to = k + d[:, None].to(tl.int64) * places * (2 if BOTH else 1) + to[None, :]
    kept = (d < taps)[:, None] & (p < places)[None, :]
    high = total.to(k.dtype.element_ty)
    tl.store(to, high, mask=kept)
    if BOTH:
        tl.store(to + width, (total - high.to(tl.float32)).to(k.dtype.element_ty), mask=kept)


@triton.jit
def _reduced(  # type: ignore[no-untyped-def]
    g,
    weight,
    delay,
    sigma,
    gw,
    gd,
    s,
    d,
    here,
    inside,
    elements,
    taps,
    spread,
    tiny,
    least,
    SHAPE: tl.constexpr,
    NORMALISED: tl.constexpr,
    USES_SIGMA: tl.constexpr,
    ONE: tl.constexpr,
):
    """From the gradient of K `[taps, synapses]` to those of weight and delay."""
    for e in range(elements):
        at = s * elements + e
        value, slope = _bump(delay, sigma, at, d, here, inside, taps, spread, least, SHAPE, USES_SIGMA, ONE)
        if NORMALISED:
            total = (tl.sum(value, axis=0) + tiny)[None, :]
            value = value / total
            slope = (slope - value * tl.sum(slope, axis=0)[None, :]) / total
        w = tl.load(weight + at, mask=here, other=0.0)
        tl.store(gw + at, tl.sum(g * value, axis=0), mask=here)
        tl.store(gd + at, -w * tl.sum(g * slope, axis=0), mask=here)


@triton.jit
def _gradients(  # type: ignore[no-untyped-def]
    weight,
    delay,
    sigma,
    grad,
    gw,
    gd,
    parts,
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
    of_k, g = grad + d[:, None].to(tl.int64) * synapses + s[None, :], tl.zeros((TAPS, BLOCK), tl.float32)
    for _ in range(parts):
        g += tl.load(of_k, mask=inside, other=0.0)
        of_k += taps * synapses
    _reduced(
        g,
        weight,
        delay,
        sigma,
        gw,
        gd,
        s,
        d,
        here,
        inside,
        elements,
        taps,
        spread,
        tiny,
        least,
        SHAPE,
        NORMALISED,
        USES_SIGMA,
        ONE,
    )


@triton.jit
def _spectrum(  # type: ignore[no-untyped-def]
    weight,
    delay,
    sigma,
    rows,
    k,
    scale,
    places,
    inputs,
    width,
    elements,
    taps,
    count,
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
    p, d = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK), tl.arange(0, TAPS)
    s, here = p // width * inputs + p % width, (p < places) & (p % width < inputs)
    inside = (d < taps)[:, None] & here[None, :]
    total = tl.zeros((TAPS, BLOCK), tl.float32)
    for e in range(elements):
        at = s * elements + e
        value, _ = _bump(delay, sigma, at, d, here, inside, taps, spread, least, SHAPE, USES_SIGMA, ONE)
        if NORMALISED:
            value = value / (tl.sum(value, axis=0) + tiny)[None, :]
        total += tl.load(weight + at, mask=here, other=0.0)[None, :] * value
    heard = (total * tl.load(scale)).to(k.dtype.element_ty)
    for start in range(0, count, 64):
        r = start + tl.arange(0, 64)
        wave = tl.load(
            rows + r[:, None] * taps + d[None, :], mask=(r < count)[:, None] & (d < taps)[None, :], other=0.0
        )
        to = k + r.to(tl.int64)[:, None] * places + p[None, :]
        tl.store(to, tl.dot(wave, heard).to(k.dtype.element_ty), mask=(r < count)[:, None] & (p < places)[None, :])


@triton.jit
def _gradients_of_spectrum(  # type: ignore[no-untyped-def]
    weight,
    delay,
    sigma,
    real,
    imaginary,
    waves,
    gw,
    gd,
    count,
    places,
    inputs,
    width,
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
    p, d = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK), tl.arange(0, TAPS)
    s, here = p // width * inputs + p % width, (p < places) & (p % width < inputs)
    inside = (d < taps)[:, None] & here[None, :]
    g = tl.zeros((TAPS, BLOCK), tl.float32)
    for start in range(0, count, 32):
        f = start + tl.arange(0, 32)
        of_k, known = f.to(tl.int64)[:, None] * places + p[None, :], (f < count)[:, None] & here[None, :]
        wave, inner = waves + d[:, None] * count + f[None, :], (d < taps)[:, None] & (f < count)[None, :]
        a, b = tl.load(wave, mask=inner, other=0.0), tl.load(real + of_k, mask=known, other=0.0)
        g = tl.dot(a, b, g, input_precision="tf32")
        a, b = tl.load(wave + taps * count, mask=inner, other=0.0), tl.load(imaginary + of_k, mask=known, other=0.0)
        g = tl.dot(a, b, g, input_precision="tf32")
    _reduced(
        g,
        weight,
        delay,
        sigma,
        gw,
        gd,
        s,
        d,
        here,
        inside,
        elements,
        taps,
        spread,
        tiny,
        least,
        SHAPE,
        NORMALISED,
        USES_SIGMA,
        ONE,
    )
