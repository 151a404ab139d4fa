"""Delayed products as matrix products over taps, in Triton. Importing this module imports triton.

Steps and batch entries are rows, so that a delay of one step is an offset of B rows: nothing is unfolded in memory. A
program adds all taps of its tile in float32 registers. float32 goes through the tensor cores once (TF32) where torch's
own products may, and otherwise three times, with errors of float32's size; half precision goes once.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

ROWS, COLUMNS, DEPTH = 128, 128, 32  # of a tile, at most
PROGRAMS = 512  # from which the rows are not shared among programs, for the taps


def forward(x: Tensor, k: Tensor, first: int, steps: int, most: float) -> Tensor:
    """See `conv.delay_conv`."""
    if _widened(x):
        return forward(x.float(), k.float(), first, steps, most).to(x.dtype)
    return _products(x, k.permute(2, 0, 1).contiguous(), steps, first * x.shape[1], -x.shape[1])


def gradient_of_input(grad: Tensor, k: Tensor, first: int, steps: int) -> Tensor:
    """See `conv.delay_conv`: the gradient of x."""
    if _widened(grad):
        return gradient_of_input(grad.float(), k.float(), first, steps).to(grad.dtype)
    return _products(grad, k.permute(2, 1, 0).contiguous(), steps, -first * grad.shape[1], grad.shape[1])


def gradient_of_taps(x: Tensor, grad: Tensor, first: int, taps: int, most: float) -> Tensor:
    """See `conv.delay_conv`: the gradient of K."""
    if _widened(x):
        return gradient_of_taps(x.float(), grad.float(), first, taps, most).to(x.dtype)
    x, grad = x.contiguous(), grad.contiguous()
    batch, inputs, outputs, rows = x.shape[1], x.shape[2], grad.shape[2], len(grad) * x.shape[1]
    tile = _tile(inputs), _tile(outputs)
    grid = (triton.cdiv(inputs, tile[0]), triton.cdiv(outputs, tile[1]))
    parts = max(1, min(PROGRAMS // (grid[0] * grid[1] * taps), triton.cdiv(rows, 32 * DEPTH)))
    share = triton.cdiv(triton.cdiv(rows, parts), DEPTH) * DEPTH
    sums = torch.empty(parts, taps, inputs, outputs, dtype=torch.float32, device=x.device)
    sizes = rows, len(x) * batch, inputs, outputs, taps, share, first * batch, batch
    _of_taps[(*grid, taps * parts)](x, grad, sums, *sizes, _precision(x), *tile, DEPTH, num_warps=8, num_stages=3)
    return sums.sum(0).permute(2, 1, 0).contiguous().to(x.dtype)


def _products(x: Tensor, k: Tensor, steps: int, shift: int, step: int) -> Tensor:
    """y `[steps, B, N]`: row r hears row `r + shift + d step` of x through `k[d]`, `[N, M]`."""
    x, batch, outputs = x.contiguous(), x.shape[1], k.shape[1]
    y = torch.empty(steps, batch, outputs, dtype=x.dtype, device=x.device)
    rows, tile = steps * batch, (ROWS, _tile(outputs), DEPTH)
    grid = (triton.cdiv(rows, ROWS), triton.cdiv(outputs, tile[1]))
    sizes = rows, len(x) * batch, x.shape[2], outputs, len(k), shift, step
    _forward[grid](x, k, y, *sizes, _precision(x), *tile, num_warps=8, num_stages=3)
    return y


def _widened(x: Tensor) -> bool:
    """Triton's interpreter has no bfloat16 products; the same numbers in float32 give the same sums."""
    return x.dtype == torch.bfloat16 and not x.is_cuda


def _tile(size: int) -> int:
    return min(COLUMNS, max(16, triton.next_power_of_2(size)))


def _precision(x: Tensor) -> str:
    return "tf32" if x.is_cuda and torch.backends.cuda.matmul.allow_tf32 else "tf32x3"


@triton.jit
def _forward(  # type: ignore[no-untyped-def]
    x,
    k,
    y,
    rows,
    rows_in,
    inputs,
    outputs,
    taps,
    shift,
    step,
    PRECISION: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    DEPTH: tl.constexpr,
):
    r = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    n = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    total = tl.zeros((ROWS, COLUMNS), tl.float32)
    blocks = (inputs + DEPTH - 1) // DEPTH
    for i in range(taps * blocks):
        d = i // blocks
        j = (i % blocks) * DEPTH + tl.arange(0, DEPTH)
        u = r + shift + d * step
        heard = ((u >= 0) & (u < rows_in))[:, None] & (j < inputs)[None, :]
        a = tl.load(x + u[:, None] * inputs + j[None, :], mask=heard, other=0.0)
        of = (j < inputs)[:, None] & (n < outputs)[None, :]
        b = tl.load(k + (d * outputs + n).to(tl.int64)[None, :] * inputs + j[:, None], mask=of, other=0.0)
        total = tl.dot(a, b, total, input_precision=PRECISION)
    to = y + r[:, None] * outputs + n[None, :]
    tl.store(to, total.to(y.dtype.element_ty), mask=(r < rows)[:, None] & (n < outputs)[None, :])


@triton.jit
def _of_taps(  # type: ignore[no-untyped-def]
    x,
    grad,
    sums,
    rows,
    rows_in,
    inputs,
    outputs,
    taps,
    share,
    shift,
    batch,
    PRECISION: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    DEPTH: tl.constexpr,
):
    j = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    n = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    part = tl.program_id(2).to(tl.int64)
    d, p = part % taps, part // taps
    total = tl.zeros((ROWS, COLUMNS), tl.float32)
    last = tl.minimum((p + 1) * share, rows)
    for start in range(p * share, last, DEPTH):
        r = start + tl.arange(0, DEPTH)
        u = r + shift - d * batch
        heard = (j < inputs)[:, None] & ((u >= 0) & (u < rows_in) & (r < last))[None, :]
        a = tl.load(x + u[None, :] * inputs + j[:, None], mask=heard, other=0.0)
        here = (r < last)[:, None] & (n < outputs)[None, :]
        b = tl.load(grad + r[:, None] * outputs + n[None, :], mask=here, other=0.0)
        total = tl.dot(a, b, total, input_precision=PRECISION)
    to = sums + ((p * taps + d) * inputs + j)[:, None] * outputs + n[None, :]
    tl.store(to, total, mask=(j < inputs)[:, None] & (n < outputs)[None, :])
