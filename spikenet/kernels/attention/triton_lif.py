"""Attention among tokens with the neuron that follows, in Triton. Importing this module imports triton.

    forward     `k^T v` of every step and head;  `q` times it, and the neuron, over all steps
    backward    the neuron once more and back: gradients of q and of the neuron's input;  those of k and v

`k^T v` is kept between the two, `D E` numbers a head, in float32 or in the input's own type where that holds every
count of the tokens; the scores, the neuron's input and its states are never written.
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
from spikenet.kernels.attention.segments import CHUNK, blocks, kept_as, like, row_strides, tiled
from spikenet.kernels.attention.triton_causal import _dot, _rows, _sums
from spikenet.kernels.dynamics.trace import Program
from spikenet.kernels.sources import load
from spikenet.kernels.triton_device import interpreted

# Tokens of a tile, warps, stages; float32 products take more registers.
OPTIONS = {"sums": (CHUNK, 4, 4), "forward": (64, 8, 1), "backward": (32, 8, 1), "grad_kv": (64, 4, 2)}
WIDE_OPTIONS = {"sums": (CHUNK, 4, 2), "forward": (32, 4, 1), "backward": (32, 4, 1), "grad_kv": (32, 4, 1)}
_HERE = Path(__file__).parent
_PRINTERS = ("trace.py", "derive.py", "printer.py", "triton_source.py", "triton_text.py")


def forward(
    program: Program, q: Tensor, k: Tensor, v: Tensor, state: Sequence[Tensor], params: Sequence[Tensor], scale: float
) -> tuple[Tensor, Tensor]:
    """The output, laid out as `v`, and `k^T v` `[T, B, H, D, E]`."""
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
    gz: Tensor,
    scale: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of q, k and v."""
    gz = tiled(gz)
    key = program, scale, q.device, layout(q), layout(k), layout(v), layout(gz)
    run = _backwards.at(key, lambda: _Backward(program, q, k, v, gz, scale))
    return on_its_device(run, q, q, k, v, state, params, kv, gz)


class _Forward:
    """Both kernels of the forward direction."""

    def __init__(self, program: Program, q: Tensor, k: Tensor, v: Tensor, scale: float) -> None:
        steps, batch, heads, tokens, width = q.shape
        values, n = v.shape[-1], steps * batch * heads
        self.shape, self.dtype = (steps, batch, heads, width, values), kept_as(q.dtype, tokens)
        rows = tokens, steps * batch, heads, width, values, -(-tokens // CHUNK), *row_strides(k), *row_strides(v)
        self.sums = _launch("sums", _sums, (1, n), (1.0, *rows), q, v, False)
        numbers = scale, tokens, batch, heads, width, values, *row_strides(q), *row_strides(like(v))
        self.neuron = _launch("forward", _kernel(program, "forward", steps), (batch * heads, tokens), numbers, q, v)

    def __call__(
        self, q: Tensor, k: Tensor, v: Tensor, state: Sequence[Tensor], params: Sequence[Tensor]
    ) -> tuple[Tensor, Tensor]:
        kv = torch.empty(self.shape, dtype=self.dtype, device=q.device)
        self.sums(k, v, None, kv, None)
        z = like(v)
        self.neuron(q, kv, *state, *params, z)
        return z, kv


class _Backward:
    """Both kernels of the backward direction; what reaches the neuron's input lies in `gv` in between."""

    def __init__(self, program: Program, q: Tensor, k: Tensor, v: Tensor, gz: Tensor, scale: float) -> None:
        steps, batch, heads, tokens, width = q.shape
        gq, gk, gv = map(row_strides, map(like, (q, k, v)))
        q_, k_, v_ = map(row_strides, map(tiled, (q, k, v)))
        numbers = scale, tokens, batch, heads, width, v.shape[-1], *q_, *row_strides(gz), *gq, *gv
        self.neuron = _launch("backward", _kernel(program, "backward", steps), (batch * heads, tokens), numbers, q, v)
        numbers = tokens, heads, width, v.shape[-1], *q_, *k_, *v_, *gk, *gv
        self.rest = _launch("grad_kv", _grad_kv, (steps * batch * heads,), numbers, q, v)

    def __call__(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        state: Sequence[Tensor],
        params: Sequence[Tensor],
        kv: Tensor,
        gz: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        gq, gk, gv = map(like, (q, k, v))
        q, k, v = map(tiled, (q, k, v))
        self.neuron(q, kv, *state, *params, gz, gq, gv)
        self.rest(q, k, v, gk, gv)
        return gq, gk, gv


_forwards: Plans[_Forward] = Plans()
_backwards: Plans[_Backward] = Plans()


def _launch(
    name: str, kernel: Any, grid: tuple[int, ...], numbers: tuple[Any, ...], q: Tensor, v: Tensor, *rest: bool
) -> Launch:
    """A second number of `grid` counts tokens."""
    tile, warps, stages = (WIDE_OPTIONS if q.dtype == torch.float32 else OPTIONS)[name]
    grid = (grid[0], -(-grid[1] // tile)) if len(grid) > 1 and name != "sums" else grid
    constants = tile, *blocks(q.shape[-1], v.shape[-1]), *rest
    return Launch(kernel, grid, numbers, constants, num_warps=warps, num_stages=stages, enable_fp_fusion=False)


@functools.cache
def _kernel(program: Program, direction: str, steps: int) -> Any:
    printers = [_HERE / "triton_lif_source.py", *(_HERE.parent / "dynamics" / name for name in _PRINTERS)]
    name = f"{program.key}_attention_{direction}_{steps}{'_interpreted' * interpreted()}"
    return getattr(load(name, functools.partial(_source, program, direction, steps), printers), direction)


def _source(program: Program, direction: str, steps: int) -> str:
    from spikenet.kernels.attention.triton_lif_source import source  # sympy comes with it

    return source(program, direction, steps, interpreted())


@triton.jit
def _grad_kv(  # type: ignore[no-untyped-def]
    q, k, v, gk, gv, tokens, heads, D, E,
    q_n, q_b, q_h, k_n, k_b, k_h, v_n, v_b, v_h, gk_n, gk_b, gk_h, gv_n, gv_b, gv_h,
    M: tl.constexpr, DP: tl.constexpr, EP: tl.constexpr,
):  # fmt: skip
    """With `s = q^T gx`, where `gx` is what `gv` holds: `gk = v s^T` and `gv = k s`."""
    b, h = (tl.program_id(0) // heads).to(tl.int64), tl.program_id(0) % heads
    q, k, v, gk, gv = (
        q + b * q_b + h * q_h, k + b * k_b + h * k_h, v + b * v_b + h * v_h, gk + b * gk_b + h * gk_h,
        gv + b * gv_b + h * gv_h,
    )  # fmt: skip
    d, e = tl.arange(0, DP), tl.arange(0, EP)
    total = tl.zeros([DP, EP], tl.float32)
    for tile in range(tl.cdiv(tokens, M)):
        token = tile * M + tl.arange(0, M)
        total += _dot(tl.trans(_rows(q, token, tokens, d, D, q_n)), _rows(gv, token, tokens, e, E, gv_n))
    tl.debug_barrier()  # all has been read
    total = total.to(gv.dtype.element_ty)
    for tile in range(tl.cdiv(tokens, M)):
        token = tile * M + tl.arange(0, M)
        key, value = _rows(k, token, tokens, d, D, k_n), _rows(v, token, tokens, e, E, v_n)
        row, inside = token[:, None], (token < tokens)[:, None]
        tl.store(gk + row * gk_n + d[None, :], _dot(value, tl.trans(total)), mask=inside & (d < D)[None, :])
        tl.store(gv + row * gv_n + e[None, :], _dot(key, total), mask=inside & (e < E)[None, :])
