"""The taps of delayed synapses and their gradients, in one pass each, in Triton.

The taps are the slowest axis in memory, as products over taps read them; for tensor cores they are made in half
precision at once. Importing this module imports triton.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from spikenet.kernels.delay.bump import BUMPS, TINY, least
from spikenet.kernels.delay.triton_halves import BLOCK as HALVED
from spikenet.kernels.delay.triton_halves import (
    NOTHING,
    PROGRAMS,
    Halved,
    found_of,
    halve,
    halved,
    in_rows,
    note,
    room,
    scale_of,
    width_of,
)
from spikenet.kernels.delay.triton_scale import BLOCK as LOOKED_AT
from spikenet.kernels.delay.triton_scale import largest, power, shift_of
from spikenet.kernels.launch import Launch, Plans, on_its_device

TILE = 1 << 12  # synapses times taps of a program
LANES = 32  # synapses side by side in memory, at least
ROUNDED = "rounded"  # beside the bumps' names: the whole weight at the tap next to the delay


def forward(weight: Tensor, delay: Tensor, sigma: Tensor, kernel: str, taps: int) -> Tensor:
    """See `construct.delay_kernel`."""
    k = torch.empty(taps, *weight.shape[:-1], dtype=weight.dtype, device=weight.device)
    if k.numel():
        shape, one = (1, weight.shape[:-1].numel(), weight.shape[-1]), _is_one(sigma)
        key = "forward", shape, kernel, one, taps, weight.device
        run = _launches.at(key, lambda: _maker(shape, told(kernel, one), taps, shape[1], 0))
        on_its_device(run, weight, weight.contiguous(), delay.contiguous(), _whole(sigma), k, None, None)
    return k.movedim(0, -1)


def gradients(weight: Tensor, delay: Tensor, sigma: Tensor, kernel: str, grad: Tensor) -> tuple[Tensor, Tensor]:
    """See `construct.delay_kernel`: the gradients of weight and delay."""
    gw, gd = (torch.empty(weight.shape, dtype=weight.dtype, device=weight.device) for _ in range(2))
    if gw.numel():
        shape, taps, one = (weight.shape[:-1].numel(), weight.shape[-1]), grad.shape[-1], _is_one(sigma)
        key = "gradients", shape, kernel, one, taps, weight.device
        run = _launches.at(key, lambda: reducer(*shape, told(kernel, one), 1, taps))
        arrays = weight.contiguous(), delay.contiguous(), _whole(sigma), grad.movedim(-1, 0).contiguous()
        on_its_device(run, weight, *arrays, gw, gd)
    return gw, gd


_launches: Plans[Launch] = Plans()


def _is_one(sigma: Tensor) -> bool:
    return sigma.numel() == 1 or not any(sigma.stride())  # a number that was expanded


def _whole(sigma: Tensor) -> Tensor:
    return sigma if _is_one(sigma) else sigma.contiguous()


def reducer(synapses: int, elements: int, bump: Any, parts: int, taps: int) -> Launch:
    """For `weight, delay, sigma, sums, gw, gd`: the gradients of weight and delay from that of K, the sum of `sums`
    `[parts, taps, synapses]`; `bump` is what `told` says of it."""
    grid, block, across = _tiles(synapses, taps)
    numbers, constants = bump
    return Launch(_gradients, grid, (parts, synapses, elements, taps, *numbers), (*constants, block, across))


def tapper(
    shape: tuple[int, ...], bump: Any, taps: int, dtype: torch.dtype, parts: int
) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """What makes, of weights `[N, M, elements]`, delays and sigma, K as a matrix `[taps * N, M]` in half precision: in
    `dtype`, if that is, or else of so many parts, scaled by what it can be at most (see `triton_halves`)."""
    look, make, size = _looker_and_maker(shape, bump, taps, parts, NOTHING)
    dtype = torch.float16 if parts else dtype

    def made(weight: Tensor, delay: Tensor, sigma: Tensor) -> Tensor:
        k = torch.empty(size, dtype=dtype, device=weight.device)
        if parts:
            look(weight, k, None, None)
        make(weight, delay, sigma, k, None, None)
        return k

    return made


def preparer(
    shape: tuple[int, ...], bump: Any, taps: int, dtype: torch.dtype, parts: int, rows: int
) -> Callable[[Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]:
    """What makes K, as `tapper` has it, and brings a sequence of so many rows to half precision with it."""
    if not parts:
        taps_of = tapper(shape, bump, taps, dtype, parts)
        return lambda weight, delay, sigma, x: (taps_of(weight, delay, sigma), in_rows(x))
    of_x = halved(rows, shape[1], parts)
    look, make, size = _looker_and_maker(shape, bump, taps, parts, of_x)

    def prepared(weight: Tensor, delay: Tensor, sigma: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        k = torch.empty(size, dtype=torch.float16, device=weight.device)
        halves = torch.empty(of_x.size, dtype=torch.float16, device=weight.device)
        look(weight, k, x, halves)
        make(weight, delay, sigma, k, x, halves)
        return k, halves

    return prepared


def _looker_and_maker(
    shape: tuple[int, ...], bump: Any, taps: int, parts: int, of_x: Halved
) -> tuple[Launch, Launch, int]:
    """The launches of a tapper, with a sequence that is halved, if there is one, and the numbers that K takes."""
    width, rows = width_of(shape[1], parts), taps * shape[0]
    size = room(rows, width, parts) if parts else rows * width
    return _looker(shape, taps, width, parts, of_x), _maker(shape, bump, taps, width, parts, of_x), size


def _looker(shape: tuple[int, ...], taps: int, width: int, parts: int, of_x: Halved) -> Launch:
    """For `weight, k, x, halves`: notes the largest sum of weights' magnitudes behind K, and halves x, if there is one,
    for the first time."""
    outputs, inputs, elements = shape
    tiles = -(-outputs * inputs // (LOOKED_AT * PROGRAMS))
    programs = -(-outputs * inputs // (LOOKED_AT * tiles))
    numbers = programs, outputs * inputs, elements, tiles, taps * outputs * width, *of_x.numbers
    constants = of_x.filled, parts == 2, LOOKED_AT, HALVED, PROGRAMS
    return Launch(_look, (of_x.programs + programs,), numbers, constants)


def _maker(shape: tuple[int, ...], bump: Any, taps: int, width: int, parts: int, of_x: Halved = NOTHING) -> Launch:
    """For `weight, delay, sigma, k, x, halves`: K `[taps, N, parts, width]`, beyond M zeros; and x, if there is one, is
    halved again."""
    (outputs, inputs, elements), (numbers, constants) = shape, bump
    (grid,), block, across = _tiles(outputs * width, taps)
    sizes = outputs * width, inputs, width, elements, taps, *numbers, *of_x.numbers
    flags = inputs != width, parts > 0, parts == 2, block, across, of_x.filled, HALVED, PROGRAMS
    return Launch(_forward, (of_x.programs + grid,), sizes, (*constants, *flags))


def spectrum(
    synapses: Any, outputs: slice, sizes: tuple[int, ...], taps: int, waves: tuple[int, int], most: int, width: int
) -> Launch:
    """For `weight, delay, sigma, waves, found, k`: K's spectrum `[F, 2, n, width]` of some outputs, and 0 from M on.

    Args:
        synapses: what `told` says of them.
        outputs: which.
        sizes: M and elements.
        taps: of K.
        waves: F and, in eights, L of the waves `[2, F, L]`.
        most: the weights, whose peak is `found`, are brought below 2 to the power of it.
        width: M or more.
    """
    (inputs, elements), places, (numbers, constants) = sizes, (outputs.stop - outputs.start) * width, synapses
    grid, block, across = _tiles(places, taps)
    given = places, outputs.start * inputs, inputs, width, elements, taps, *waves, most, *numbers
    return Launch(_spectrum, grid, given, (*constants, block, across))


def gradients_of_spectrum(
    synapses: Any, outputs: slice, sizes: tuple[int, ...], taps: int, waves: tuple[int, int], most: tuple[int, int]
) -> Launch:
    """For `weight, delay, sigma, waves, found, gk, gw, gd`: the gradients of weight and delay from the spectrum of K's,
    `[F, 2, n, width]`, which was brought up by the two powers `most` of the peaks `found`; see `spectrum`."""
    (inputs, elements, width), (numbers, constants) = sizes, synapses
    places, (_, block, across) = (outputs.stop - outputs.start) * width, _tiles(1, taps)
    block = max(block, 64)
    given = places, outputs.start * inputs, inputs, width, elements, taps, *waves, *most, *numbers
    return Launch(_gradients_of_spectrum, (-(-places // block),), given, (*constants, block, across), num_warps=8)


def told(kernel: str, one: bool = True) -> Any:
    """Numbers and constants of a bump, or of `ROUNDED`; `one`: of one sigma for all synapses."""
    if kernel == ROUNDED:
        return (0.0, 0.0, 0.0), (kernel, False, False, False)
    shape = BUMPS[kernel]
    numbers = shape.spread, TINY if shape.normalised else 0.0, least(torch.float32)
    return numbers, (kernel, shape.normalised, shape.uses_sigma, one)


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
    delay, sigma, at, d, here, inside, taps, spread, least,
    SHAPE: tl.constexpr, USES_SIGMA: tl.constexpr, ONE: tl.constexpr,
):  # fmt: skip
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
def _look(  # type: ignore[no-untyped-def]
    weight, k, x, halves, programs, synapses, elements, looks, places, x_programs, count, columns, width, tiles,
    FILLED: tl.constexpr, BOTH: tl.constexpr, LOOKED_AT: tl.constexpr, HALVED: tl.constexpr, PROGRAMS: tl.constexpr,
):  # fmt: skip
    p = tl.program_id(0)
    if p < programs:
        peak = largest(weight, p, synapses, elements, looks, LOOKED_AT)
        note(found_of(k, places, BOTH), p, programs, peak, 1, BOTH, PROGRAMS)
    elif x is not None:
        p -= programs
        halve(x, halves, p, x_programs, count, columns, width, tiles, FILLED, BOTH, False, HALVED, PROGRAMS)


@triton.jit
def _forward(  # type: ignore[no-untyped-def]
    weight, delay, sigma, k, x, halves,
    places, inputs, width, elements, taps, spread, tiny, least, x_programs, count, x_columns, x_width, tiles,
    SHAPE: tl.constexpr, NORMALISED: tl.constexpr, USES_SIGMA: tl.constexpr, ONE: tl.constexpr, FILLED: tl.constexpr,
    SCALED: tl.constexpr, BOTH: tl.constexpr, BLOCK: tl.constexpr, TAPS: tl.constexpr, X_FILLED: tl.constexpr,
    HALVED: tl.constexpr, PROGRAMS: tl.constexpr,
):  # fmt: skip
    pid = tl.program_id(0)
    if pid * BLOCK < places:
        p, d = pid * BLOCK + tl.arange(0, BLOCK), tl.arange(0, TAPS)
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
        if SCALED:
            scale = scale_of(found_of(k, tl.full((), places, tl.int64) * taps, BOTH), BOTH, PROGRAMS)
            total = total * (scale << 23).to(tl.float32, bitcast=True)
        to = k + d[:, None].to(tl.int64) * places * (2 if BOTH else 1) + to[None, :]
        kept = (d < taps)[:, None] & (p < places)[None, :]
        high = total.to(k.dtype.element_ty)
        tl.store(to, high, mask=kept)
        if BOTH:
            tl.store(to + width, (total - high.to(tl.float32)).to(k.dtype.element_ty), mask=kept)
    elif x is not None:
        pid -= tl.cdiv(places, BLOCK)
        halve(x, halves, pid, x_programs, count, x_columns, x_width, tiles, X_FILLED, BOTH, True, HALVED, PROGRAMS)


@triton.jit
def _reduced(  # type: ignore[no-untyped-def]
    g, weight, delay, sigma, gw, gd, s, d, here, inside, elements, taps, spread, tiny, least,
    SHAPE: tl.constexpr, NORMALISED: tl.constexpr, USES_SIGMA: tl.constexpr, ONE: tl.constexpr,
):  # fmt: skip
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
    weight, delay, sigma, grad, gw, gd, parts, synapses, elements, taps, spread, tiny, least,
    SHAPE: tl.constexpr, NORMALISED: tl.constexpr, USES_SIGMA: tl.constexpr, ONE: tl.constexpr, BLOCK: tl.constexpr,
    TAPS: tl.constexpr,
):  # fmt: skip
    s, d = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK), tl.arange(0, TAPS)
    here = s < synapses
    inside = (d < taps)[:, None] & here[None, :]
    of_k, g = grad + d[:, None].to(tl.int64) * synapses + s[None, :], tl.zeros((TAPS, BLOCK), tl.float32)
    for _ in range(parts):
        g += tl.load(of_k, mask=inside, other=0.0)
        of_k += taps * synapses
    _reduced(
        g, weight, delay, sigma, gw, gd, s, d, here, inside, elements, taps, spread, tiny, least,
        SHAPE, NORMALISED, USES_SIGMA, ONE,
    )  # fmt: skip


@triton.jit
def _spectrum(  # type: ignore[no-untyped-def]
    weight, delay, sigma, waves, found, k,
    places, origin, inputs, width, elements, taps, F, L, most, spread, tiny, least,
    SHAPE: tl.constexpr, NORMALISED: tl.constexpr, USES_SIGMA: tl.constexpr, ONE: tl.constexpr, BLOCK: tl.constexpr,
    TAPS: tl.constexpr,
):  # fmt: skip
    p, d = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK), tl.arange(0, TAPS)
    s, here = origin + p // width * inputs + p % width, (p < places) & (p % width < inputs)
    inside = (d < taps)[:, None] & here[None, :]
    total = tl.zeros((TAPS, BLOCK), tl.float32)
    for e in range(elements):
        at = s * elements + e
        value, _ = _bump(delay, sigma, at, d, here, inside, taps, spread, least, SHAPE, USES_SIGMA, ONE)
        if NORMALISED:
            value = value / (tl.sum(value, axis=0) + tiny)[None, :]
        total += tl.load(weight + at, mask=here, other=0.0)[None, :] * value
    L, heard = L * 8, (total * power(shift_of(found, most))).to(tl.float16)
    for start in range(0, 2 * F, 64):  # real and imaginary in turn
        r = start + tl.arange(0, 64)
        wave = waves + (r % 2 * F + r // 2)[:, None] * L + d[None, :]
        wave = tl.load(wave, mask=(r < 2 * F)[:, None] & (d < L)[None, :], other=0.0)
        to = k + r.to(tl.int64)[:, None] * places + p[None, :]
        tl.store(to, tl.dot(wave, heard).to(tl.float16), mask=(r < 2 * F)[:, None] & (p < places)[None, :])


@triton.jit
def _gradients_of_spectrum(  # type: ignore[no-untyped-def]
    weight, delay, sigma, waves, found, gk, gw, gd,
    places, origin, inputs, width, elements, taps, F, L, most, most_of_grad, spread, tiny, least,
    SHAPE: tl.constexpr, NORMALISED: tl.constexpr, USES_SIGMA: tl.constexpr, ONE: tl.constexpr, BLOCK: tl.constexpr,
    TAPS: tl.constexpr,
):  # fmt: skip
    p, d = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK), tl.arange(0, TAPS)
    s, here = origin + p // width * inputs + p % width, (p < places) & (p % width < inputs)
    inside, L = (d < taps)[:, None] & here[None, :], L * 8
    g = tl.zeros((TAPS, BLOCK), tl.float32)
    for start in range(0, 2 * F, 64):
        r = start + tl.arange(0, 64)
        wave = waves + (r % 2 * F + r // 2)[None, :] * L + d[:, None]
        wave = tl.load(wave, mask=(r < 2 * F)[None, :] & (d < L)[:, None], other=0.0)
        half = tl.where((r < 2) | (r // 2 * 2 == L), 0.5, 1.0).to(tl.float16)  # exact
        known = (r < 2 * F)[:, None] & (p < places)[None, :]  # beyond the inputs it is 0
        of_k = tl.load(gk + r.to(tl.int64)[:, None] * places + p[None, :], mask=known, other=0.0)
        g = tl.dot(wave * half[None, :], of_k, g)
    g *= power(-shift_of(found, most)) * (2.0 / L)
    g *= power(-shift_of(found + 1, most_of_grad))
    _reduced(
        g, weight, delay, sigma, gw, gd, s, d, here, inside, elements, taps, spread, tiny, least,
        SHAPE, NORMALISED, USES_SIGMA, ONE,
    )  # fmt: skip
