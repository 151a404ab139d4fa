"""Attention among tokens with the neuron that follows, in Triton. Importing this module imports triton.

    forward     `k^T v` of every step and head;  `q` times it, and the neuron, over all steps
    backward    the neuron once more and back: gradients of q and of the neuron's input;  those of k and v

`k^T v` is kept between the two in float32, `D E` numbers a head; the scores, the neuron's input and its states are
never written.
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
from spikenet.kernels.attention.segments import CHUNK, blocks, kept_as
from spikenet.kernels.attention.triton_causal import _dot, _rows, _sums
from spikenet.kernels.dynamics.trace import Program
from spikenet.kernels.sources import load
from spikenet.kernels.triton_device import interpreted

# Tokens of a tile, warps, stages; float32 products take more registers.
OPTIONS = {"sums": (CHUNK, 4, 4), "forward": (128, 8, 1), "backward": (64, 4, 1), "grad_kv": (64, 4, 2)}
WIDE_OPTIONS = {"sums": (CHUNK, 4, 2), "forward": (32, 4, 1), "backward": (32, 4, 1), "grad_kv": (32, 4, 1)}
_HERE = Path(__file__).parent
_PRINTERS = ("trace.py", "derive.py", "printer.py", "triton_source.py", "triton_text.py")


def forward(
    program: Program, q: Tensor, k: Tensor, v: Tensor, state: Sequence[Tensor], params: Sequence[Tensor], scale: float
) -> tuple[Tensor, Tensor]:
    """The output, laid out as `v`, and `k^T v` `[T, B, H, D, E]`."""
    q, k, v = map(_tiled, (q, k, v))
    steps, batch, heads, tokens, width = q.shape
    values = v.shape[-1]
    kv = q.new_empty((steps, batch, heads, width, values), dtype=kept_as(q.dtype, tokens))
    sizes = batch, heads, width, values
    rows = tokens, steps * batch, heads, width, values, -(-tokens // CHUNK), *_strides(k), *_strides(v)
    _run("sums", _sums, (1, steps * batch * heads), (k, v, None, kv, None, 1.0, *rows), width, values, False)
    z = torch.empty_like(v)
    given = q, kv, *state, *params, z, scale, tokens, *sizes, *_strides(q), *_strides(z)
    _run("forward", _kernel(program, "forward", steps), (batch * heads, tokens), given, width, values)
    return z, kv


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
    gq, gk, gv = (_tiled(torch.empty_like(u)) for u in (q, k, v))
    q, k, v, gz = map(_tiled, (q, k, v, gz))
    steps, batch, heads, tokens, width = q.shape
    values = v.shape[-1]
    # what reaches the neuron's input lies in `gv` in between
    given = q, kv, *state, *params, gz, gq, gv, scale, tokens, batch, heads, width, values
    strides = *_strides(q), *_strides(gz), *_strides(gq), *_strides(gv)
    kernel = _kernel(program, "backward", steps)
    _run("backward", kernel, (batch * heads, tokens), (*given, *strides), width, values)
    given = q, k, v, gk, gv, tokens, heads, width, values
    rows = (n for u in (q, k, v, gk, gv) for n in _strides(u))
    _run("grad_kv", _grad_kv, (steps * batch * heads,), (*given, *rows), width, values)
    return gq, gk, gv


def _run(
    name: str, kernel: Any, grid: tuple[int, ...], arguments: tuple[Any, ...], width: int, values: int, *rest: bool
) -> None:
    """Launch `kernel`; a second number of `grid` counts tokens."""
    tile, warps, stages = (WIDE_OPTIONS if arguments[0].dtype == torch.float32 else OPTIONS)[name]
    grid = (grid[0], -(-grid[1] // tile)) if len(grid) > 1 and name != "sums" else grid
    constants = tile, *blocks(width, values), *rest
    launch(kernel, grid, arguments, constants, num_warps=warps, num_stages=stages, enable_fp_fusion=False)


def _tiled(x: Tensor) -> Tensor:
    """`x` `[T, B, H, N, D]` if its rows are whole and steps follow each other like batch entries; else a copy."""
    whole = x.stride(-1) == 1 and x.stride(0) == x.shape[1] * x.stride(1)
    return x if whole else x.contiguous()


def _strides(x: Tensor) -> tuple[int, int, int]:
    """Between tokens, batch entries and heads."""
    return x.stride(3), x.stride(1), x.stride(2)


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
