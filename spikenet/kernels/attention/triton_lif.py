"""Attention among tokens with the neuron that follows, in Triton. Importing this module imports triton.

    forward     `k^T v` of every step and head, and all bits;  `q` times it, and the neuron, over all steps
    backward    the neuron once more and back: gradients of q and of the neuron's input;  those of k and v

`k^T v` is kept between the two, `D E` numbers a head, in float32 or in the input's own type where that holds every
count of the tokens; the scores, the neuron's input and its states are never written. Where q, k and v of a head are
spikes, as the first kernel finds out, the others read their bits, and products in float32 take half the time. Each of
the others is launched twice, for spikes and for other values, and leaves at once where it is not its turn.
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

from spikenet.kernels.attention.launch import Launch, Plans, layout, on_its_device
from spikenet.kernels.attention.segments import CHUNK, blocks, kept_as, kept_shapes, like, row_strides, tiled
from spikenet.kernels.attention.triton_bits import _bytes_at, _dot, _load_spikes, _packed, _spikes_by
from spikenet.kernels.attention.triton_causal import _rows
from spikenet.kernels.dynamics.trace import Program
from spikenet.kernels.sources import load
from spikenet.kernels.triton_device import interpreted

# Tokens of a tile, warps, stages, and registers of a thread where two blocks would else not fit on a multiprocessor.
OPTIONS = {
    "pack": (CHUNK, 8, 2, None),
    "forward": (64, 8, 1, None),
    "backward": (32, 8, 1, None),
    "grad_kv": (64, 8, 2, None),
}
WIDE_OPTIONS = {
    "pack": (32, 4, 1, None),
    "forward": (32, 8, 1, None),
    "backward": (32, 8, 1, 128),
    "grad_kv": (64, 4, 2, None),
}
_HERE = Path(__file__).parent
_PRINTERS = ("trace.py", "derive.py", "printer.py", "triton_source.py", "triton_text.py")


def forward(
    program: Program, q: Tensor, k: Tensor, v: Tensor, state: Sequence[Tensor], params: Sequence[Tensor], scale: float
) -> tuple[Tensor, Tensor, Tensor]:
    """The output, laid out as `v`; `k^T v` `[T, B, H, D, E]`; and the bits of q, k and v."""
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
    bits: Tensor,
    gz: Tensor,
    scale: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of q, k and v."""
    gz = tiled(gz)
    key = program, scale, q.device, layout(q), layout(k), layout(v), layout(gz)
    run = _backwards.at(key, lambda: _Backward(program, q, k, v, gz, scale))
    return on_its_device(run, q, q, k, v, state, params, kv, bits, gz)


class _Forward:
    """Both kernels of the forward direction."""

    def __init__(self, program: Program, q: Tensor, k: Tensor, v: Tensor, scale: float) -> None:
        steps, batch, heads, tokens, width = q.shape
        values, strides = v.shape[-1], [row_strides(u) for u in (q, k, v, like(v))]
        self.shapes, self.dtype = kept_shapes(q, v), kept_as(q.dtype, tokens)
        room = self.shapes[1][-1]
        rows = tokens, heads, width, values, room, *(n for s in strides[:3] for n in s)
        self.pack = _launch("pack", _pack, (steps * batch * heads,), rows, q, v)
        numbers = scale, tokens, batch, heads, width, values, room, *strides[0], *strides[3]
        kernel, grid = _kernel(program, "forward", steps), (batch * heads, tokens)
        self.neuron = [_launch("forward", kernel, grid, numbers, q, v, spikes) for spikes in (True, False)]

    def __call__(
        self, q: Tensor, k: Tensor, v: Tensor, state: Sequence[Tensor], params: Sequence[Tensor]
    ) -> tuple[Tensor, Tensor, Tensor]:
        kv = torch.empty(self.shapes[0], dtype=self.dtype, device=q.device)
        bits = torch.empty(self.shapes[1], dtype=torch.uint8, device=q.device)
        self.pack(q, k, v, kv, bits)
        z = like(v)
        for launch in self.neuron:
            launch(bits, q, kv, *state, *params, z)
        return z, kv, bits


class _Backward:
    """Both kernels of the backward direction; what reaches the neuron's input lies in `gv` in between."""

    def __init__(self, program: Program, q: Tensor, k: Tensor, v: Tensor, gz: Tensor, scale: float) -> None:
        steps, batch, heads, tokens, width = q.shape
        gq, gk, gv = map(row_strides, map(like, (q, k, v)))
        q_, k_, v_ = map(row_strides, map(tiled, (q, k, v)))
        room = kept_shapes(q, v)[1][-1]
        numbers = scale, tokens, batch, heads, width, v.shape[-1], room, *q_, *row_strides(gz), *gq, *gv
        kernel, grid = _kernel(program, "backward", steps), (batch * heads, tokens)
        self.neuron = [_launch("backward", kernel, grid, numbers, q, v, spikes) for spikes in (True, False)]
        rows = tokens, heads, width, v.shape[-1], room, *q_, *k_, *v_, *gk, *gv
        all_heads = (steps * batch * heads,)
        self.rest = [_launch("grad_kv", _grad_kv, all_heads, rows, q, v, spikes) for spikes in (True, False)]

    def __call__(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        state: Sequence[Tensor],
        params: Sequence[Tensor],
        kv: Tensor,
        bits: Tensor,
        gz: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        gq, gk, gv = map(like, (q, k, v))
        q, k, v = map(tiled, (q, k, v))
        for launch in self.neuron:
            launch(bits, q, kv, *state, *params, gz, gq, gv)
        for launch in self.rest:
            launch(bits, q, k, v, gk, gv)
        return gq, gk, gv


_forwards: Plans[_Forward] = Plans()
_backwards: Plans[_Backward] = Plans()


def _launch(
    name: str, kernel: Any, grid: tuple[int, ...], numbers: tuple[Any, ...], q: Tensor, v: Tensor, *spikes: bool
) -> Launch:
    """A second number of `grid` counts tokens."""
    tile, warps, stages, registers = (WIDE_OPTIONS if q.dtype == torch.float32 else OPTIONS)[name]
    grid = (grid[0], -(-grid[1] // tile)) if len(grid) > 1 else grid
    few = (q.dtype != torch.float16 and q.shape[3] <= 256,) if name in ("forward", "backward") else ()
    sizes = blocks(q.shape[-1], v.shape[-1])
    warps = warps if min(sizes) >= 64 else min(warps, 4)
    constants = tile, *sizes, *spikes, *few
    options = {"num_warps": warps, "num_stages": stages, "maxnreg": registers, "enable_fp_fusion": False}
    return Launch(kernel, grid, numbers, constants, **options)


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
    q, k, v, kv, bits, tokens, heads, D, E, room, q_n, q_b, q_h, k_n, k_b, k_h, v_n, v_b, v_h,
    M: tl.constexpr, DP: tl.constexpr, EP: tl.constexpr,
):  # fmt: skip
    """`k^T v` of a step and head, the bits of q, k and v in turn, and 16 bytes beyond whether they lose anything."""
    b, h = (tl.program_id(0) // heads).to(tl.int64), tl.program_id(0) % heads
    q, k, v = q + b * q_b + h * q_h, k + b * k_b + h * k_h, v + b * v_b + h * v_h
    bits += tl.program_id(0).to(tl.int64) * room
    d, e = tl.arange(0, DP), tl.arange(0, EP)
    total = tl.zeros([DP, EP], tl.float32)
    odd, odd_values = tl.zeros([M, DP // 8], tl.int32), tl.zeros([M, EP // 8], tl.int32)
    for tile in range(tl.cdiv(tokens, M)):
        token = tile * M + tl.arange(0, M)
        query, key = _rows(q, token, tokens, d, D, q_n), _rows(k, token, tokens, d, D, k_n)
        value = _rows(v, token, tokens, e, E, v_n)
        place, inside = _bytes_at(bits, token, tokens, DP)
        byte, lost = _packed(query, M, DP)
        tl.store(place, byte, mask=inside)
        odd += lost
        byte, lost = _packed(key, M, DP)
        tl.store(place + tokens * (DP // 8), byte, mask=inside)
        odd += lost
        place, inside = _bytes_at(bits + tokens * (DP // 4), token, tokens, EP)
        byte, lost = _packed(value, M, EP)
        tl.store(place, byte, mask=inside)
        odd_values += lost
        if key.dtype == tl.float32:
            total += _dot(tl.trans(key.to(tl.bfloat16)), value.to(tl.bfloat16))
        else:
            total += _dot(tl.trans(key), value)
    lost = tl.sum(tl.sum(odd, 1), 0) + tl.sum(tl.sum(odd_values, 1), 0)
    tl.store(bits + room - 16, (lost > 0).to(tl.uint8))
    if k.dtype.element_ty == tl.float32:  # noqa: SIM102 - this one is decided at compile time
        if lost > 0:  # once more, in full
            total = tl.zeros([DP, EP], tl.float32)
            for tile in range(tl.cdiv(tokens, M)):
                token = tile * M + tl.arange(0, M)
                key, value = _rows(k, token, tokens, d, D, k_n), _rows(v, token, tokens, e, E, v_n)
                total += _dot(tl.trans(key), value)
    kv += tl.program_id(0).to(tl.int64) * D * E
    tl.store(kv + d[:, None] * E + e[None, :], total, mask=(d < D)[:, None] & (e < E)[None, :])


@triton.jit
def _grad_kv(  # type: ignore[no-untyped-def]
    bits, q, k, v, gk, gv, tokens, heads, D, E, room,
    q_n, q_b, q_h, k_n, k_b, k_h, v_n, v_b, v_h, gk_n, gk_b, gk_h, gv_n, gv_b, gv_h,
    M: tl.constexpr, DP: tl.constexpr, EP: tl.constexpr, SPIKES: tl.constexpr,
):  # fmt: skip
    """With `s = q^T gx`, where `gx` is what `gv` holds: `gk = v s^T` and `gv = k s`. For spikes, or for the rest."""
    b, h = (tl.program_id(0) // heads).to(tl.int64), tl.program_id(0) % heads
    q, k, v, gk, gv = (
        q + b * q_b + h * q_h, k + b * k_b + h * k_h, v + b * v_b + h * v_h, gk + b * gk_b + h * gk_h,
        gv + b * gv_b + h * gv_h,
    )  # fmt: skip
    bits += tl.program_id(0).to(tl.int64) * room
    if (tl.load(bits + room - 16) == 0) != SPIKES:
        return
    d, e = tl.arange(0, DP), tl.arange(0, EP)
    total = tl.zeros([DP, EP], tl.float32)
    for tile in range(tl.cdiv(tokens, M)):
        token = tile * M + tl.arange(0, M)
        grad = _rows(gv, token, tokens, e, E, gv_n)
        if SPIKES:
            total += _spikes_by(tl.trans(_load_spikes(bits, q, token, tokens, M, DP)), grad)
        else:
            total += _dot(tl.trans(_rows(q, token, tokens, d, D, q_n)), grad)
    tl.debug_barrier()  # all has been read
    total = total.to(gv.dtype.element_ty)
    for tile in range(tl.cdiv(tokens, M)):
        token = tile * M + tl.arange(0, M)
        if SPIKES:
            key = _load_spikes(bits + tokens * (DP // 8), k, token, tokens, M, DP)
            value = _load_spikes(bits + tokens * (DP // 4), v, token, tokens, M, EP)
            g_key, g_value = _spikes_by(value, tl.trans(total)), _spikes_by(key, total)
        else:
            key, value = _rows(k, token, tokens, d, D, k_n), _rows(v, token, tokens, e, E, v_n)
            g_key, g_value = _dot(value, tl.trans(total)), _dot(key, total)
        row, inside = token[:, None], (token < tokens)[:, None]
        tl.store(gk + row * gk_n + d[None, :], g_key, mask=inside & (d < D)[None, :])
        tl.store(gv + row * gv_n + e[None, :], g_value, mask=inside & (e < E)[None, :])
