"""Attention among tokens with the neuron that follows, in Triton. Importing this module imports triton.

    forward     `k^T v` of every step and head;  `q` times it, and the neuron, over all steps
    backward    the neuron once more and back: gradients of q and of the neuron's input;  those of k and v

`k^T v` is kept between the two, `D E` numbers a head, in float32 or in the input's own type where that holds every
count of the tokens; the scores, the neuron's input and its states are never written.

Spikes in float32 go through bfloat16, and a byte each is kept of them. Whether a head's q, k and v are spikes is found
out by the first kernel; each of the others is launched twice, for spikes and for other values, and leaves at once where
it is not its turn.
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

from spikenet.kernels.attention.segments import CHUNK, blocks, kept_as, kept_shapes, like, row_strides, tiled
from spikenet.kernels.attention.triton_causal import _rows, _sums
from spikenet.kernels.attention.triton_products import _dot, _spikes, _spikes_by
from spikenet.kernels.dynamics.trace import Program
from spikenet.kernels.launch import Launch, Plans, layout, on_its_device
from spikenet.kernels.sources import load
from spikenet.kernels.triton_device import interpreted

# Tokens of a tile, warps, stages, and at most how many registers a thread: chosen so that several blocks fit on a
# multiprocessor, which hide each other's waits.
Option = tuple[int, int, int, int | None]
OPTIONS: dict[str, Option] = {
    "sums": (CHUNK, 4, 3, None),
    "forward": (128, 8, 1, None),
    "backward": (16, 4, 1, 128),
    "grad_kv": (64, 4, 2, None),
}
SPIKE_OPTIONS: dict[str, Option] = {  # in float32, the turn of spikes
    "sums": (16, 4, 3, 128),
    "forward": (128, 8, 1, 128),
    "backward": (32, 4, 1, None),
    "grad_kv": (32, 4, 2, None),
}
WIDE_OPTIONS: dict[str, Option] = {  # and that of other values
    "sums": (32, 4, 2, None),
    "forward": (64, 8, 1, None),
    "backward": (32, 8, 1, None),
    "grad_kv": (32, 4, 2, None),
}
_HERE = Path(__file__).parent
_PRINTERS = ("trace.py", "derive.py", "printer.py", "triton_source.py", "triton_text.py")


def forward(
    program: Program, q: Tensor, k: Tensor, v: Tensor, state: Sequence[Tensor], params: Sequence[Tensor], scale: float
) -> tuple[Tensor, Tensor, Tensor]:
    """The output, laid out as `v`; `k^T v` `[T, B, H, D, E]`; and the spikes of float32 in bytes."""
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
    kv: Tensor,
    kept: Tensor,
    gz: Tensor,
    scale: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of q, k and v."""
    gz = tiled(gz)
    key = program, scale, q.device, layout(q), layout(k), layout(v), layout(gz)
    run = _backwards.at(key, lambda: _Backward(program, q, k, v, gz, scale))
    return on_its_device(run, q, q, k, v, state, params, kv, kept, gz)


class _Forward:
    """Both kernels of the forward direction."""

    def __init__(self, program: Program, q: Tensor, k: Tensor, v: Tensor, scale: float) -> None:
        steps, batch, heads, tokens, width = q.shape
        values, strides = v.shape[-1], [row_strides(u) for u in (q, k, v, like(v))]
        self.shapes, self.dtype = kept_shapes(q, v), kept_as(q.dtype, tokens)
        room, n = self.shapes[1][-1], steps * batch * heads
        if q.dtype == torch.float32:
            rows = tokens, heads, width, values, room, *(n for s in strides[:3] for n in s)
            self.sums = _twins("sums", _pack, (n,), rows, q, v)
        else:
            sizes = tokens, steps * batch, heads, width, values, -(-tokens // CHUNK)
            self.sums = [_launch("sums", _sums, (1, n), (1.0, *sizes, *strides[1], *strides[2]), q, v, True)]
        numbers = scale, tokens, batch, heads, width, values, room, *strides[0], *strides[3]
        self.neuron = _twins("forward", _kernel(program, "forward", steps), (batch * heads, tokens), numbers, q, v)

    def __call__(
        self, q: Tensor, k: Tensor, v: Tensor, state: Sequence[Tensor], params: Sequence[Tensor]
    ) -> tuple[Tensor, Tensor, Tensor]:
        kv = torch.empty(self.shapes[0], dtype=self.dtype, device=q.device)
        kept = torch.empty(self.shapes[1], dtype=torch.uint8, device=q.device)
        for launch in self.sums:
            launch(*((q, k, v, kv, kept) if q.dtype == torch.float32 else (k, v, None, kv, None)))
        z = like(v)
        for launch in self.neuron:
            launch(kept, q, kv, *state, *params, z)
        return z, kv, kept


class _Backward:
    """Both kernels of the backward direction; what reaches the neuron's input lies in `gv` in between."""

    def __init__(self, program: Program, q: Tensor, k: Tensor, v: Tensor, gz: Tensor, scale: float) -> None:
        steps, batch, heads, tokens, width = q.shape
        gq, gk, gv = map(row_strides, map(like, (q, k, v)))
        q_, k_, v_ = map(row_strides, map(tiled, (q, k, v)))
        room = kept_shapes(q, v)[1][-1]
        numbers = scale, tokens, batch, heads, width, v.shape[-1], room, *q_, *row_strides(gz), *gq, *gv
        self.neuron = _twins("backward", _kernel(program, "backward", steps), (batch * heads, tokens), numbers, q, v)
        rows = tokens, heads, width, v.shape[-1], room, *q_, *k_, *v_, *gk, *gv
        self.rest = _twins("grad_kv", _grad_kv, (steps * batch * heads,), rows, q, v)

    def __call__(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        state: Sequence[Tensor],
        params: Sequence[Tensor],
        kv: Tensor,
        kept: Tensor,
        gz: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        gq, gk, gv = map(like, (q, k, v))
        q, k, v = map(tiled, (q, k, v))
        for launch in self.neuron:
            launch(kept, q, kv, *state, *params, gz, gq, gv)
        for launch in self.rest:
            launch(kept, q, k, v, gk, gv)
        return gq, gk, gv


_forwards: Plans[_Forward] = Plans()
_backwards: Plans[_Backward] = Plans()


def _twins(
    name: str, kernel: Any, grid: tuple[int, ...], numbers: tuple[Any, ...], q: Tensor, v: Tensor
) -> list[Launch]:
    """In float32 a launch for spikes and one for the rest; else one for both."""
    turns = (True, False) if q.dtype == torch.float32 else (False,)
    return [_launch(name, kernel, grid, numbers, q, v, spikes) for spikes in turns]


def _launch(
    name: str, kernel: Any, grid: tuple[int, ...], numbers: tuple[Any, ...], q: Tensor, v: Tensor, *flags: bool
) -> Launch:
    """A second number of `grid` counts tokens, but for the sums."""
    options = OPTIONS if q.dtype != torch.float32 else SPIKE_OPTIONS if flags[0] else WIDE_OPTIONS
    tile, warps, stages, registers = options[name]
    grid = (grid[0], -(-grid[1] // tile)) if len(grid) > 1 and name != "sums" else grid
    few = (q.shape[3] <= 256,) if name in ("forward", "backward") else ()  # counts that bfloat16 holds
    sizes = blocks(q.shape[-1], v.shape[-1])
    warps = warps if min(sizes) >= 64 else min(warps, 4)
    compiled = {"num_warps": warps, "num_stages": stages, "maxnreg": registers, "enable_fp_fusion": False}
    return Launch(kernel, grid, numbers, (tile, *sizes, *flags, *few), **compiled)


@functools.cache
def _kernel(program: Program, direction: str, steps: int) -> Any:
    printers = [_HERE / "triton_lif_source.py", *(_HERE.parent / "dynamics" / name for name in _PRINTERS)]
    name = f"{program.key}_attention_{direction}_{steps}{'_interpreted' * interpreted()}"
    return getattr(load(name, functools.partial(_source, program, direction, steps), printers), direction)


def _source(program: Program, direction: str, steps: int) -> str:
    from spikenet.kernels.attention.triton_lif_source import source  # sympy comes with it

    return source(program, direction, steps, interpreted())


@triton.jit
def _pack(  # type: ignore[no-untyped-def]
    q, k, v, kv, kept, tokens, heads, D, E, room, q_n, q_b, q_h, k_n, k_b, k_h, v_n, v_b, v_h,
    M: tl.constexpr, DP: tl.constexpr, EP: tl.constexpr, SPIKES: tl.constexpr,
):  # fmt: skip
    """`k^T v` of a step and head, a byte each of q, k and v in turn, and behind them whether they are not spikes.

    The turn of other values comes after that of spikes, and does the sum once more, in full.
    """
    b, h = (tl.program_id(0) // heads).to(tl.int64), tl.program_id(0) % heads
    q, k, v = q + b * q_b + h * q_h, k + b * k_b + h * k_h, v + b * v_b + h * v_h
    kept += tl.program_id(0).to(tl.int64) * room
    if not SPIKES:  # noqa: SIM102 - decided at compile time
        if tl.load(kept + room - 16) == 0:
            return
    d, e = tl.arange(0, DP), tl.arange(0, EP)
    total = tl.zeros([DP, EP], tl.float32)
    odd, odd_values = tl.zeros([M, DP], tl.float32), tl.zeros([M, EP], tl.float32)
    for tile in range(tl.cdiv(tokens, M)):
        token = tile * M + tl.arange(0, M)
        key, value = _rows(k, token, tokens, d, D, k_n), _rows(v, token, tokens, e, E, v_n)
        if SPIKES:
            query = _rows(q, token, tokens, d, D, q_n)
            place, inside = kept + token[:, None] * D + d[None, :], (token < tokens)[:, None] & (d < D)[None, :]
            tl.store(place, (query == 1).to(tl.uint8), mask=inside)
            tl.store(place + tokens * D, (key == 1).to(tl.uint8), mask=inside)
            odd += tl.abs(query * (query - 1)) + tl.abs(key * (key - 1))  # 0 for 0 and 1 alone
            place, inside = kept + token[:, None] * E + e[None, :], (token < tokens)[:, None] & (e < E)[None, :]
            tl.store(place + 2 * tokens * D, (value == 1).to(tl.uint8), mask=inside)
            odd_values += tl.abs(value * (value - 1))
            total += _dot(tl.trans(key.to(tl.bfloat16)), value.to(tl.bfloat16))
        else:
            total += _dot(tl.trans(key), value)
    if SPIKES:
        spikes = tl.sum(tl.sum(odd, 1), 0) + tl.sum(tl.sum(odd_values, 1), 0) == 0
        tl.store(kept + room - 16, tl.where(spikes, 0, 1).to(tl.uint8))
    kv += tl.program_id(0).to(tl.int64) * D * E
    tl.store(kv + d[:, None] * E + e[None, :], total, mask=(d < D)[:, None] & (e < E)[None, :])


@triton.jit
def _grad_kv(  # type: ignore[no-untyped-def]
    kept, q, k, v, gk, gv, tokens, heads, D, E, room,
    q_n, q_b, q_h, k_n, k_b, k_h, v_n, v_b, v_h, gk_n, gk_b, gk_h, gv_n, gv_b, gv_h,
    M: tl.constexpr, DP: tl.constexpr, EP: tl.constexpr, SPIKES: tl.constexpr,
):  # fmt: skip
    """With `s = q^T gx`, where `gx` is what `gv` holds: `gk = v s^T` and `gv = k s`."""
    b, h = (tl.program_id(0) // heads).to(tl.int64), tl.program_id(0) % heads
    q, k, v, gk, gv = (
        q + b * q_b + h * q_h, k + b * k_b + h * k_h, v + b * v_b + h * v_h, gk + b * gk_b + h * gk_h,
        gv + b * gv_b + h * gv_h,
    )  # fmt: skip
    kept += tl.program_id(0).to(tl.int64) * room
    if q.dtype.element_ty == tl.float32:  # noqa: SIM102 - decided at compile time
        if (tl.load(kept + room - 16) == 0) != SPIKES:
            return
    d, e = tl.arange(0, DP), tl.arange(0, EP)
    total = tl.zeros([DP, EP], tl.float32)
    for tile in range(tl.cdiv(tokens, M)):
        token = tile * M + tl.arange(0, M)
        grad = _rows(gv, token, tokens, e, E, gv_n)
        if SPIKES:
            total += _spikes_by(tl.trans(_spikes(_rows(kept, token, tokens, d, D, D))), grad)
        else:
            total += _dot(tl.trans(_rows(q, token, tokens, d, D, q_n)), grad)
    tl.debug_barrier()  # all has been read
    total = total.to(gv.dtype.element_ty)
    for tile in range(tl.cdiv(tokens, M)):
        token = tile * M + tl.arange(0, M)
        if SPIKES:
            key = _spikes(_rows(kept + tokens * D, token, tokens, d, D, D))
            value = _spikes(_rows(kept + 2 * tokens * D, token, tokens, e, E, E))
            g_key, g_value = _spikes_by(value, tl.trans(total)), _spikes_by(key, total)
        else:
            key, value = _rows(k, token, tokens, d, D, k_n), _rows(v, token, tokens, e, E, v_n)
            g_key, g_value = _dot(value, tl.trans(total)), _dot(key, total)
        row, inside = token[:, None], (token < tokens)[:, None]
        tl.store(gk + row * gk_n + d[None, :], g_key, mask=inside & (d < D)[None, :])
        tl.store(gv + row * gv_n + e[None, :], g_value, mask=inside & (e < E)[None, :])
