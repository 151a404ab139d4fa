"""Attention among tokens with the neuron that follows, in Triton. Importing this module imports triton.

    forward     `k^T v` of every step and head, `q` times it, and the neuron, over all steps
    backward    all that once more, and back: gradients of q, and with all tokens' those of k and v

A kernel each, in which a program takes one head at all steps: scores, sums, the neuron's input and its states are
never written. Spikes are kept in a bit each. Whether a head's q, k and v are spikes is found out on the way forward;
each kernel is launched once for spikes and once for other values, and leaves at once where it is not its turn.
Spikes in float32 go through bfloat16.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from spikenet.kernels.attention.segments import blocks, counts_fit, kept_shape, like, row_strides, tiled
from spikenet.kernels.dynamics.trace import Program
from spikenet.kernels.launch import Launch, Plans, layout, on_its_device
from spikenet.kernels.sources import load
from spikenet.kernels.triton_device import interpreted

# Tokens of a tile of the neurons and of the sums over tokens, warps, stages, and at most how many registers a thread.
Option = tuple[int, int, int, int, int | None]
OPTIONS: dict[str, Option] = {"forward": (64, 64, 4, 3, None), "backward": (16, 64, 4, 1, 128)}
WIDE_OPTIONS: dict[str, Option] = {"forward": (64, 64, 4, 2, None), "backward": (16, 64, 4, 1, 128)}
_HERE = Path(__file__).parent
_PRINTERS = ("trace.py", "derive.py", "printer.py", "triton_source.py", "triton_text.py")


def forward(
    program: Program, q: Tensor, k: Tensor, v: Tensor, state: Sequence[Tensor], params: Sequence[Tensor], scale: float
) -> tuple[Tensor, Tensor]:
    """The output, laid out as `v`, and the bits of spikes."""
    q, k, v = map(tiled, (q, k, v))
    key = program, scale, q.device, layout(q), layout(k), layout(v)
    run = _forwards.at(key, lambda: _Forward(program, q, k, v, scale))
    return on_its_device(run, q, q, k, v, state, params)


def backward(
    program: Program,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    state: Sequence[Tensor],
    params: Sequence[Tensor],
    kept: Tensor,
    gz: Tensor,
    scale: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of q, k and v."""
    gz = tiled(gz)
    key = program, scale, q.device, layout(q), layout(k), layout(v), layout(gz)
    run = _backwards.at(key, lambda: _Backward(program, q, k, v, gz, scale))
    return on_its_device(run, q, q, k, v, state, params, kept, gz)


class _Forward:
    """The forward direction for tensors of one kind."""

    def __init__(self, program: Program, q: Tensor, k: Tensor, v: Tensor, scale: float) -> None:
        self.shape = kept_shape(q, v)
        turns = (True, False) if q.dtype == torch.float32 else (True,)  # else spikes need nothing of their own
        self.turns = _turns(program, "forward", turns, q, v, scale, [q, k, v, like(v)])

    def __call__(
        self, q: Tensor, k: Tensor, v: Tensor, state: Sequence[Tensor], params: Sequence[Tensor]
    ) -> tuple[Tensor, Tensor]:
        z, kept = like(v), torch.empty(self.shape, dtype=torch.uint8, device=q.device)
        for launch in self.turns:
            launch(kept, *state, *params, q, k, v, z)
        return z, kept


class _Backward:
    """The backward direction for tensors of one kind."""

    def __init__(self, program: Program, q: Tensor, k: Tensor, v: Tensor, gz: Tensor, scale: float) -> None:
        sequences = [*map(tiled, (q, k, v)), gz, *map(like, (q, k, v))]
        self.turns = _turns(program, "backward", (True, False), q, v, scale, sequences)

    def __call__(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        state: Sequence[Tensor],
        params: Sequence[Tensor],
        kept: Tensor,
        gz: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        gq, gk, gv = map(like, (q, k, v))
        q, k, v = map(tiled, (q, k, v))
        for launch in self.turns:
            launch(kept, *state, *params, q, k, v, gz, gq, gk, gv)
        return gq, gk, gv


_forwards: Plans[_Forward] = Plans()
_backwards: Plans[_Backward] = Plans()


def _turns(
    program: Program,
    name: str,
    turns: tuple[bool, ...],
    q: Tensor,
    v: Tensor,
    scale: float,
    sequences: Sequence[Tensor],
) -> list[Launch]:
    """A launch for spikes and one for the rest, as `turns` says."""
    steps, batch, heads, tokens, width = q.shape
    wide, sizes = q.dtype == torch.float32, blocks(width, v.shape[-1])
    tile, rows, warps, stages, registers = (WIDE_OPTIONS if wide else OPTIONS)[name]
    warps = warps if min(sizes) >= 64 else min(warps, 4)
    numbers = scale, tokens, batch, heads, width, v.shape[-1], kept_shape(q, v)[-1], *_strides(sequences)
    launches = []
    for spikes in turns:
        few = counts_fit(q.dtype, tokens) and (spikes or not wide)
        limit = registers if spikes else None
        options = {"num_warps": warps, "num_stages": stages, "maxnreg": limit, "enable_fp_fusion": False}
        constants = tile, rows, *sizes, spikes, few, stages
        launches.append(Launch(_kernel(program, name, steps), (batch * heads,), numbers, constants, **options))
    return launches


def _strides(sequences: Sequence[Tensor]) -> list[int]:
    return [stride for x in sequences for stride in row_strides(x)]


@functools.cache
def _kernel(program: Program, direction: str, steps: int) -> Any:
    printers = [_HERE / "triton_lif_source.py", *(_HERE.parent / "dynamics" / name for name in _PRINTERS)]
    name = f"{program.key}_attention_{direction}_{steps}{'_interpreted' * interpreted()}"
    return getattr(load(name, functools.partial(_source, program, direction, steps), printers), direction)


def _source(program: Program, direction: str, steps: int) -> str:
    from spikenet.kernels.attention.triton_lif_source import source  # sympy comes with it

    return source(program, direction, steps, interpreted())
