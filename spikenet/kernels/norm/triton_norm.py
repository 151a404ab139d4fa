"""Batch norm with the neuron that follows, in Triton. Importing this module imports triton.

    forward     sums of a channel's numbers;  its moments of them;  norm and neuron over all steps
    backward    the neuron once more and back, with sums of the gradient;  the weights' gradients;  the input's

The numbers of a channel are summed by several programs, each less the channel's first number, so that little is lost
where the mean is large.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from spikenet.kernels.attention.launch import launch
from spikenet.kernels.attention.segments import power_of_two
from spikenet.kernels.dynamics.trace import Program
from spikenet.kernels.sources import load
from spikenet.kernels.triton_device import interpreted

CHANNELS = 64  # of a tile
PROGRAMS = 1056  # wanted: eight for each multiprocessor of an H100
ROWS = {"moments": 64, "forward": 32, "backward": 16, "gradient": 32}  # of a tile; fewer for more than 4 steps
_HERE = Path(__file__).parent
_PRINTERS = ("trace.py", "derive.py", "printer.py", "triton_source.py", "triton_text.py")


def forward(
    program: Program,
    y: Tensor,
    weight: Tensor,
    bias: Tensor,
    mean: Tensor,
    var: Tensor,
    state: Sequence[Tensor],
    params: Sequence[Tensor],
    momentum: float,
    eps: float,
) -> tuple[Tensor, Tensor]:
    """The output, and the moments `[4, C]`: mean, 1 / standard deviation, scale and shift of the norm."""
    y, steps, channels = y.contiguous(), len(y), len(weight)
    rows = y.numel() // channels
    sums, moments = _summed("moments", _moments, (y,), rows, channels), weight.new_empty((4, channels))
    given = y, sums, weight, bias, mean, var, moments, rows, len(sums), channels, momentum, eps
    launch(_statistics, (-(-channels // 16),), given, (32, 16), num_warps=4)
    z = torch.empty_like(y)
    kernel = _kernel(program, "forward", steps)
    _tiled("forward", kernel, (y, moments, *state, *params, z), rows // steps, channels, steps)
    return z, moments


def backward(
    program: Program,
    y: Tensor,
    weight: Tensor,
    state: Sequence[Tensor],
    params: Sequence[Tensor],
    moments: Tensor,
    gz: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of y, weight and bias."""
    y, gz, steps, channels = y.contiguous(), gz.contiguous(), len(y), len(weight)
    rows, gradient = y.numel() // channels, torch.empty_like(y)
    kernel = _kernel(program, "backward", steps)
    sums = _summed("backward", kernel, (y, moments, *state, *params, gz, gradient), rows // steps, channels, steps)
    of_weights, means = weight.new_empty((2, channels)), weight.new_empty((2, channels))
    given = sums, moments, of_weights, means, rows, len(sums), channels
    launch(_gradient_means, (-(-channels // 16),), given, (32, 16), num_warps=4)
    _tiled("gradient", _gradient, (y, moments, means, gradient), rows, channels)
    return gradient, of_weights[0], of_weights[1]


def _summed(name: str, kernel: Any, tensors: tuple[Tensor, ...], rows: int, channels: int, steps: int = 1) -> Tensor:
    """Launch `kernel` on all rows and channels, in about `PROGRAMS` programs; returns the two sums of each."""
    down, across = -(-rows // _height(name, steps)), -(-channels // CHANNELS)
    tiles = max(down * across // PROGRAMS, 1)
    sums = tensors[0].new_empty((-(-down // tiles), 2, channels), dtype=torch.float32)
    _tiled(name, kernel, (*tensors, sums), rows, channels, steps, tiles)
    return sums


def _tiled(
    name: str, kernel: Any, tensors: tuple[Tensor, ...], rows: int, channels: int, steps: int = 1, tiles: int = 1
) -> None:
    """Launch `kernel` on all rows and channels, with so many tiles for each program."""
    height = _height(name, steps)
    grid = -(-rows // (height * tiles)), -(-channels // CHANNELS)
    given, constants = (*tensors, rows, channels, tiles), (height, CHANNELS)
    launch(kernel, grid, given, constants, num_warps=4, enable_fp_fusion=False)


def _height(name: str, steps: int) -> int:
    """Rows of a tile whose states of all steps fit into the registers."""
    return ROWS[name] * 4 // power_of_two(max(steps, 4))


@functools.cache
def _kernel(program: Program, direction: str, steps: int) -> Any:
    printers = [_HERE / "triton_norm_source.py", *(_HERE.parent / "dynamics" / name for name in _PRINTERS)]
    name = f"{program.key}_norm_{direction}_{steps}{'_interpreted' * interpreted()}"
    return getattr(load(name, functools.partial(_source, program, direction, steps), printers), direction)


def _source(program: Program, direction: str, steps: int) -> str:
    from spikenet.kernels.norm.triton_norm_source import source  # sympy comes with it

    return source(program, direction, steps, interpreted())


@triton.jit
def _moments(y, sums, rows, C, tiles, M: tl.constexpr, N: tl.constexpr):  # type: ignore[no-untyped-def]
    """Sums of `y - pivot` and of its square over the rows of a program, where the pivot is the first row."""
    channel = tl.program_id(1) * N + tl.arange(0, N)
    within = channel < C
    pivot = tl.load(y + channel, mask=within, other=0.0).to(tl.float32)[None, :]
    first, second = tl.zeros([M, N], tl.float32), tl.zeros([M, N], tl.float32)
    for tile in range(tiles):
        row = (tl.program_id(0) * tiles + tile) * M + tl.arange(0, M)
        inside = (row < rows)[:, None] & within[None, :]
        value = tl.load(y + row.to(tl.int64)[:, None] * C + channel[None, :], mask=inside, other=0.0).to(tl.float32)
        value = tl.where(inside, value - pivot, 0.0)
        first += value
        second += value * value
    place = sums + tl.program_id(0) * 2 * C + channel
    tl.store(place, tl.sum(first, 0), mask=within)
    tl.store(place + C, tl.sum(second, 0), mask=within)


@triton.jit
def _total(sums, programs, C, channel, within, P: tl.constexpr, N: tl.constexpr):  # type: ignore[no-untyped-def]
    """Both sums over all programs."""
    first, second = tl.zeros([P, N], tl.float32), tl.zeros([P, N], tl.float32)
    for start in range(0, programs, P):
        program = start + tl.arange(0, P)
        inside = (program < programs)[:, None] & within[None, :]
        place = sums + program[:, None] * 2 * C + channel[None, :]
        first += tl.load(place, mask=inside, other=0.0)
        second += tl.load(place + C, mask=inside, other=0.0)
    return tl.sum(first, 0), tl.sum(second, 0)


@triton.jit
def _statistics(  # type: ignore[no-untyped-def]
    y, sums, weight, bias, mean, var, moments, rows, programs, C, momentum, eps, P: tl.constexpr, N: tl.constexpr
):
    """The moments of each channel, and the running ones moved on."""
    channel = tl.program_id(0) * N + tl.arange(0, N)
    within = channel < C
    first, second = _total(sums, programs, C, channel, within, P, N)
    count = rows.to(tl.float32)
    off = first / count
    m = off + tl.load(y + channel, mask=within, other=0.0).to(tl.float32)
    v = tl.maximum(second / count - off * off, 0.0)
    rstd = 1.0 / tl.sqrt_rn(v + eps)
    scale = tl.load(weight + channel, mask=within, other=0.0) * rstd
    shift = tl.load(bias + channel, mask=within, other=0.0) - m * scale
    tl.store(moments + channel, m, mask=within)
    tl.store(moments + C + channel, rstd, mask=within)
    tl.store(moments + 2 * C + channel, scale, mask=within)
    tl.store(moments + 3 * C + channel, shift, mask=within)
    before = tl.load(mean + channel, mask=within, other=0.0)
    tl.store(mean + channel, before + momentum * (m - before), mask=within)
    before = tl.load(var + channel, mask=within, other=0.0)
    tl.store(var + channel, before + momentum * (v * (count / (count - 1.0)) - before), mask=within)


@triton.jit
def _gradient_means(  # type: ignore[no-untyped-def]
    sums, moments, of_weights, means, rows, programs, C, P: tl.constexpr, N: tl.constexpr
):
    """Gradients of weight and bias, and what the input's gradient loses: its mean, and its share along the input."""
    channel = tl.program_id(0) * N + tl.arange(0, N)
    within = channel < C
    first, second = _total(sums, programs, C, channel, within, P, N)
    rstd = tl.load(moments + C + channel, mask=within, other=0.0)
    tl.store(of_weights + channel, second * rstd, mask=within)
    tl.store(of_weights + C + channel, first, mask=within)
    count = rows.to(tl.float32)
    tl.store(means + channel, first / count, mask=within)
    tl.store(means + C + channel, second * rstd * rstd / count, mask=within)


@triton.jit
def _gradient(y, moments, means, gradient, rows, C, tiles, M: tl.constexpr, N: tl.constexpr):  # type: ignore[no-untyped-def]
    """From the gradient of x to that of y, in place."""
    channel = tl.program_id(1) * N + tl.arange(0, N)
    within = channel < C
    mean = tl.load(moments + channel, mask=within, other=0.0)[None, :]
    scale = tl.load(moments + 2 * C + channel, mask=within, other=0.0)[None, :]
    lost = tl.load(means + channel, mask=within, other=0.0)[None, :]
    along = tl.load(means + C + channel, mask=within, other=0.0)[None, :]
    for tile in range(tiles):
        row = (tl.program_id(0) * tiles + tile) * M + tl.arange(0, M)
        inside = (row < rows)[:, None] & within[None, :]
        place = row.to(tl.int64)[:, None] * C + channel[None, :]
        value = tl.load(y + place, mask=inside, other=0.0).to(tl.float32)
        gx = tl.load(gradient + place, mask=inside, other=0.0).to(tl.float32)
        tl.store(gradient + place, scale * (gx - lost - (value - mean) * along), mask=inside)
