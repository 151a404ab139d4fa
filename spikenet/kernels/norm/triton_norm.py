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

from spikenet.kernels.dynamics.trace import Program
from spikenet.kernels.launch import Launch, Plans, on_its_device
from spikenet.kernels.norm.fused import Norm
from spikenet.kernels.sources import load
from spikenet.kernels.triton_device import interpreted

CHANNELS = 64  # of a tile
ROWS = {"moments": 64, "forward": 32, "backward": 16, "gradient": 32}  # of a tile; fewer for more than 4 steps
PROGRAMS = 1056  # wanted: eight for each multiprocessor of an H100
_HERE = Path(__file__).parent
_PRINTERS = ("trace.py", "derive.py", "printer.py", "triton_source.py", "triton_text.py")


def forward(program: Program, y: Tensor, *given: Any) -> tuple[Tensor, Tensor]:
    """The output, and the moments `[4, C]`: mean, 1 / standard deviation, scale and shift of the norm; from what
    `_Plan.run_forward` takes."""
    return on_its_device(_plan(program, y).run_forward, y, y.contiguous(), *given)


def backward(program: Program, y: Tensor, *given: Any) -> tuple[Tensor, Tensor]:
    """The gradients of y, and `[5, C]`: those of weight, bias and offset, which is 0, and what y's loses; from what
    `_Plan.run_backward` takes."""
    return on_its_device(_plan(program, y).run_backward, y, y.contiguous(), *given)


class _Plan:
    """All kernels for inputs of one shape, dtype and device."""

    def __init__(self, program: Program, y: Tensor) -> None:
        steps, self.channels = len(y), y.shape[-1]
        rows = y.numel() // self.channels
        scans = (_kernel(program, direction, steps) for direction in ("forward", "backward"))
        self.moments = self._summing(_moments, "moments", rows, 1)
        self.forward = self._tiled(next(scans), "forward", rows // steps, steps, 1)
        self.backward = self._summing(next(scans), "backward", rows // steps, steps)
        self.gradient = self._tiled(_gradient, "gradient", rows, 1, 1)
        self.statistics = self._each_channel(_statistics, rows, self.moments)
        self.means = self._each_channel(_gradient_means, rows, self.backward)

    def run_forward(
        self, y: Tensor, norm: Norm, state: Sequence[Tensor], params: Sequence[Tensor]
    ) -> tuple[Tensor, Tensor]:
        weight, bias, mean, var, momentum, eps, offset, calls = norm
        z, sums = torch.empty_like(y), self._sums(y, self.moments)
        moments = weight.new_empty((4, y.shape[-1]))
        self.moments(y, sums)
        offset = None if offset is None else offset.float()  # a launch takes one dtype; it has no gradient
        floats = float(momentum), float(eps)
        self.statistics(y, sums, weight, bias, offset, mean, var, calls, moments, floats=floats)
        self.forward(y, moments, *state, *params, z)
        return z, moments

    def run_backward(
        self,
        y: Tensor,
        weight: Tensor,
        state: Sequence[Tensor],
        params: Sequence[Tensor],
        moments: Tensor,
        gz: Tensor,
    ) -> tuple[Tensor, Tensor]:
        gradient, sums = torch.empty_like(y), self._sums(y, self.backward)
        channels = weight.new_empty((5, len(weight)))
        self.backward(y, moments, *state, *params, gz.contiguous(), gradient, sums)
        self.means(sums, moments, channels)
        self.gradient(y, moments, channels, gradient)
        return gradient, channels

    def _tiled(self, kernel: Any, name: str, rows: int, steps: int, tiles: int) -> Launch:
        """On all rows and channels, with so many tiles for each program."""
        height = _height(name, steps)
        grid = -(-rows // (height * tiles)), -(-self.channels // CHANNELS)
        return _launch(kernel, grid, (rows, self.channels, tiles), (height, CHANNELS))

    def _summing(self, kernel: Any, name: str, rows: int, steps: int) -> Launch:
        """The same in about `PROGRAMS` programs, each of which leaves two sums a channel."""
        tiles = -(-rows // _height(name, steps)) * -(-self.channels // CHANNELS) // PROGRAMS
        return self._tiled(kernel, name, rows, steps, max(tiles, 1))

    def _each_channel(self, kernel: Any, rows: int, summing: Launch) -> Launch:
        return _launch(kernel, (-(-self.channels // 16),), (rows, summing.grid[0], self.channels), (32, 16))

    def _sums(self, y: Tensor, summing: Launch) -> Tensor:
        """Room for what `summing` leaves."""
        return y.new_empty((summing.grid[0], 2, self.channels), dtype=torch.float32)


_plans: Plans[_Plan] = Plans()


def _plan(program: Program, y: Tensor) -> _Plan:
    return _plans.at((program.key, y.shape, y.dtype, y.device), lambda: _Plan(program, y))


def _launch(kernel: Any, grid: tuple[int, ...], numbers: tuple[int, ...], constants: tuple[int, int]) -> Launch:
    return Launch(kernel, grid, numbers, constants, num_warps=4, enable_fp_fusion=False)


def _height(name: str, steps: int) -> int:
    """Rows of a tile whose states of all steps fit into the registers."""
    return ROWS[name] * 4 // (1 << max(steps - 1, 3).bit_length())


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
    y, sums, weight, bias, offset, mean, var, calls, moments, rows, programs, C, momentum, eps,
    P: tl.constexpr, N: tl.constexpr,
):  # fmt: skip
    """The moments of each channel, the running ones moved on, and one more of the calls."""
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
    if calls is not None:  # noqa: SIM102 - decided at compile time
        if tl.program_id(0) == 0:
            tl.store(calls, tl.load(calls) + 1)
    if offset is not None:
        m += tl.load(offset + channel, mask=within, other=0.0)
    before = tl.load(mean + channel, mask=within, other=0.0)
    tl.store(mean + channel, before + momentum * (m - before), mask=within)
    before = tl.load(var + channel, mask=within, other=0.0)
    tl.store(var + channel, before + momentum * (v * (count / (count - 1.0)) - before), mask=within)


@triton.jit
def _gradient_means(  # type: ignore[no-untyped-def]
    sums, moments, channels, rows, programs, C, P: tl.constexpr, N: tl.constexpr
):
    """Gradients of weight, bias and offset, and what the input's loses: its mean, and its share along the input."""
    channel = tl.program_id(0) * N + tl.arange(0, N)
    within = channel < C
    first, second = _total(sums, programs, C, channel, within, P, N)
    rstd = tl.load(moments + C + channel, mask=within, other=0.0)
    count, place = rows.to(tl.float32), channels + channel
    tl.store(place, second * rstd, mask=within)
    tl.store(place + C, first, mask=within)
    tl.store(place + 2 * C, tl.zeros([N], tl.float32), mask=within)
    tl.store(place + 3 * C, first / count, mask=within)
    tl.store(place + 4 * C, second * rstd * rstd / count, mask=within)


@triton.jit
def _gradient(y, moments, channels, gradient, rows, C, tiles, M: tl.constexpr, N: tl.constexpr):  # type: ignore[no-untyped-def]
    """From the gradient of x to that of y, in place."""
    channel = tl.program_id(1) * N + tl.arange(0, N)
    within = channel < C
    mean = tl.load(moments + channel, mask=within, other=0.0)[None, :]
    scale = tl.load(moments + 2 * C + channel, mask=within, other=0.0)[None, :]
    lost = tl.load(channels + 3 * C + channel, mask=within, other=0.0)[None, :]
    along = tl.load(channels + 4 * C + channel, mask=within, other=0.0)[None, :]
    for tile in range(tiles):
        row = (tl.program_id(0) * tiles + tile) * M + tl.arange(0, M)
        inside = (row < rows)[:, None] & within[None, :]
        place = row.to(tl.int64)[:, None] * C + channel[None, :]
        value = tl.load(y + place, mask=inside, other=0.0).to(tl.float32)
        gx = tl.load(gradient + place, mask=inside, other=0.0).to(tl.float32)
        tl.store(gradient + place, scale * (gx - lost - (value - mean) * along), mask=inside)
