"""Delayed products as matrix products over taps, in Triton. Importing this module imports triton.

Steps and batch entries are rows, so that a delay of one step is an offset of B rows: nothing is unfolded in memory, and
rows before the first step and after the last are read as 0. A program adds all taps of its tile in float32 registers.

Everything goes through the half-precision tensor cores. float32 goes in float16 (see `triton_halves`): once where
torch's own products may use TF32, with errors of that size, and otherwise as high and low parts, with errors of
float32's size: three products, or two where one side is exact in float16, as spikes are. Tensor cores cut their running
sums off rather than round them, so that these are added up in float32 every four blocks.
"""

from __future__ import annotations

import functools
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.tools.tensor_descriptor import TensorDescriptor

from spikenet.kernels.delay.triton_halves import Halves, halves, unscaled

DEPTH = 64  # of a product
TILE = 1 << 14  # numbers of a tile of the sequence; half of it where there are two sums
COLUMNS = 256  # of it, at most
OUTPUTS, INPUTS = 128, 256  # of a tile of the taps' gradient, at most; half of them likewise
BUSY = 0.9  # part of the multiprocessors that shares of the rows are to keep at work


def forward(x: Tensor, k: Tensor, first: int, steps: int, most: float) -> Tensor:
    """See `conv.delay_conv`."""
    if _widened(x):
        return forward(x.float(), k.float(), first, steps, most).to(x.dtype)
    return _products(x, k, steps, first * x.shape[1], -x.shape[1], of_input=False)


def gradient_of_input(grad: Tensor, k: Tensor, first: int, steps: int) -> Tensor:
    """See `conv.delay_conv`: the gradient of x."""
    if _widened(grad):
        return gradient_of_input(grad.float(), k.float(), first, steps).to(grad.dtype)
    return _products(grad, k, steps, -first * grad.shape[1], grad.shape[1], of_input=True)


def gradient_of_taps(x: Tensor, grad: Tensor, first: int, taps: int, most: float) -> Tensor:
    """See `conv.delay_conv`: the gradient of K in float32, its taps the slowest axis in memory."""
    if _widened(x):
        return gradient_of_taps(x.float(), grad.float(), first, taps, most)
    batch, inputs, outputs, rows = x.shape[1], x.shape[2], grad.shape[2], len(grad) * x.shape[1]
    told, heard = _halved(grad), _halved(x)
    tile = _tile(outputs, OUTPUTS), _tile(inputs, INPUTS // 2 if _both(x) else INPUTS)
    grid = _cdiv(outputs, tile[0]), _cdiv(inputs, tile[1])
    parts = _shares(grid[0] * grid[1] * taps, rows, x.device)
    share = _cdiv(_cdiv(rows, parts), DEPTH) * DEPTH
    sums = torch.empty(parts, taps, outputs, inputs, dtype=torch.float32, device=x.device)
    arrays = _described(told, outputs, (DEPTH, tile[0])), _described(heard, inputs, (DEPTH, tile[1])), sums
    sizes = rows, len(x) * batch, inputs, outputs, taps, share, first * batch, batch, told.width, heard.width
    options = {"num_warps": 8, "num_stages": 4}
    _of_taps[(*grid, taps * parts)](*arrays, told.found, heard.found, *sizes, _both(x), *tile, DEPTH, **options)
    return (sums.sum(0) if parts > 1 else sums[0]).permute(1, 2, 0)


def _products(x: Tensor, k: Tensor, steps: int, shift: int, step: int, of_input: bool) -> Tensor:
    """y `[steps, B, N]`: row r hears row `r + shift + d step` of x through tap d, or that transposed."""
    batch, taps, (outputs, inputs) = x.shape[1], k.shape[2], k.shape[:2] if not of_input else (k.shape[1], k.shape[0])
    y = torch.empty(steps, batch, outputs, dtype=x.dtype, device=x.device)
    matrices = k.to(x.dtype).permute(2, 0, 1).reshape(taps * k.shape[0], k.shape[1])
    heard, through = _halved(x), _halved(matrices)
    rows, columns = steps * batch, _tile(outputs, COLUMNS // 2 if _both(x) else COLUMNS)
    tall = max(64, min(128, TILE // columns)) // (2 if _both(x) else 1)
    arrays = (
        _described(heard, inputs, (tall, DEPTH)),
        _described(through, k.shape[1], (DEPTH, columns) if of_input else (columns, DEPTH)),
        y,
    )
    sizes = rows, len(x) * batch, inputs, outputs, taps, shift, step, heard.width, through.width
    grid = (_cdiv(rows, tall) * _cdiv(outputs, columns),)
    tile, options = (tall, columns, DEPTH), {"num_warps": 4, "num_stages": 4}
    _through[grid](*arrays, heard.found, through.found, *sizes, of_input, _both(x), *tile, **options)
    return y


def _widened(x: Tensor) -> bool:
    """Triton's interpreter has no bfloat16 products; the same numbers in float32 give the same sums."""
    return x.dtype == torch.bfloat16 and not x.is_cuda


def _both(x: Tensor) -> bool:
    """Whether low parts are wanted too."""
    return x.dtype == torch.float32 and not (x.is_cuda and torch.backends.cuda.matmul.allow_tf32)


def _halved(x: Tensor) -> Halves:
    """`[..., columns]` as a matrix in half precision."""
    return halves(x.reshape(-1, x.shape[-1]), 2 if _both(x) else 1)


def _described(x: Halves, columns: int, block: tuple[int, int]) -> Any:
    """What the tensor memory accelerator is told of a matrix; beyond it, it reads zeros."""
    values = x.values
    shape = [len(values), columns if values.shape[1] == x.width else values.shape[1]]
    return TensorDescriptor(values, shape, [values.stride(0), 1], list(block))


def _tile(size: int, most: int) -> int:
    return min(most, max(16, 1 << (size - 1).bit_length()))


def _cdiv(a: int, b: int) -> int:
    """As Triton's, which takes ten times as long."""
    return -(-a // b)


@functools.lru_cache(64)
def _shares(programs: int, rows: int, device: torch.device) -> int:
    """Into how many parts the rows go, so that few multiprocessors are idle at the end."""
    processors, most = _processors(device), max(1, min(8, rows // (8 * DEPTH)))

    def busy(parts: int) -> float:
        return programs * parts / (_cdiv(programs * parts, processors) * processors)

    enough = (parts for parts in range(1, most + 1) if busy(parts) >= BUSY)
    return next(enough, max(range(1, most + 1), key=busy))


@functools.cache
def _processors(device: torch.device) -> int:
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 8


@triton.jit
def _pairs(a_found, b_found):  # type: ignore[no-untyped-def]
    """How many products of parts there are, and whether b's low part is in one."""
    low = tl.load(b_found + 1)
    return 1 + low + tl.load(a_found + 1), low


@triton.jit
def _parts(pair, low, a_width, b_width):  # type: ignore[no-untyped-def]
    """Where the parts of a pair begin: both high, then b's low one with a's high one, then a's low one."""
    second = (pair == 1) & (low == 1)
    return tl.where((pair > 0) & (second == 0), a_width, 0), tl.where(second, b_width, 0)


@triton.jit
def _flushed(total, part, i):  # type: ignore[no-untyped-def]
    """Every fourth time, the running sum goes into the total."""
    full = i % 4 == 3
    return tl.where(full, total + part, total), tl.where(full, 0.0, part)


@triton.jit
def _unscaled(total, a_found, b_found, BOTH: tl.constexpr):  # type: ignore[no-untyped-def]
    if a_found is not None:
        total = total * unscaled(a_found, BOTH) * unscaled(b_found, BOTH)
    return total


@triton.jit
def _through(  # type: ignore[no-untyped-def]
    x,
    k,
    y,
    x_found,
    k_found,
    rows,
    rows_in,
    inputs,
    outputs,
    taps,
    shift,
    step,
    x_width,
    k_width,
    OF_INPUT: tl.constexpr,
    BOTH: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    DEPTH: tl.constexpr,
):
    tiles, across = tl.cdiv(rows, ROWS), tl.cdiv(outputs, COLUMNS)
    m, n0 = tl.program_id(0) // across, (tl.program_id(0) % across) * COLUMNS
    if step < 0:  # the first rows hear few taps: they come last, when a multiprocessor is left over
        lead = tl.minimum((1 - taps) * step // ROWS, tiles - 1)
        m = tl.where(m < tiles - lead, m + lead, tiles - 1 - m)
    r0 = m * ROWS
    if step < 0:
        low = tl.maximum(0, (r0 + shift - rows_in) // -step)
        high = tl.minimum(taps, (r0 + ROWS - 1 + shift) // -step + 1)
    else:
        low = tl.maximum(0, -(r0 + ROWS + shift) // step)
        high = tl.minimum(taps, tl.cdiv(tl.maximum(rows_in - r0 - shift, 0), step))
    blocks = tl.cdiv(inputs, DEPTH)
    products = tl.maximum(high - low, 0) * blocks
    pairs, k_low = 1, 0
    if BOTH:
        pairs, k_low = _pairs(x_found, k_found)
    total, part = tl.zeros((ROWS, COLUMNS), tl.float32), tl.zeros((ROWS, COLUMNS), tl.float32)
    for i in range(pairs * products):
        rest, of_x, of_k = i, 0, 0
        if BOTH:
            rest = i % products
            of_x, of_k = _parts(i // products, k_low, x_width, k_width)
        d, j = low + rest // blocks, (rest % blocks) * DEPTH
        a = x.load([r0 + shift + d * step, j + of_x])
        if OF_INPUT:
            b = k.load([d * inputs + j, n0 + of_k])
        else:
            b = k.load([d * outputs + n0, j + of_k]).T
        part = tl.dot(a, b, part)
        if BOTH:
            total, part = _flushed(total, part, i)
    total = _unscaled(total + part, x_found, k_found, BOTH)
    r, n = r0 + tl.arange(0, ROWS), n0 + tl.arange(0, COLUMNS)
    to = y + r.to(tl.int64)[:, None] * outputs + n[None, :]
    tl.store(to, total.to(y.dtype.element_ty), mask=(r < rows)[:, None] & (n < outputs)[None, :])


@triton.jit
def _of_taps(  # type: ignore[no-untyped-def]
    grad,
    x,
    sums,
    grad_found,
    x_found,
    rows,
    rows_in,
    inputs,
    outputs,
    taps,
    share,
    shift,
    batch,
    grad_width,
    x_width,
    BOTH: tl.constexpr,
    OUTPUTS: tl.constexpr,
    INPUTS: tl.constexpr,
    DEPTH: tl.constexpr,
):
    n0, j0 = tl.program_id(0) * OUTPUTS, tl.program_id(1) * INPUTS
    d, p = tl.program_id(2) % taps, tl.program_id(2) // taps
    ahead = shift - d * batch
    start = tl.maximum(p * share, -ahead) // DEPTH * DEPTH
    blocks = tl.cdiv(tl.maximum(tl.minimum(tl.minimum((p + 1) * share, rows), rows_in - ahead) - start, 0), DEPTH)
    pairs, x_low = 1, 0
    if BOTH:
        pairs, x_low = _pairs(grad_found, x_found)
    total, part = tl.zeros((OUTPUTS, INPUTS), tl.float32), tl.zeros((OUTPUTS, INPUTS), tl.float32)
    for i in range(pairs * blocks):
        rest, of_grad, of_x = i, 0, 0
        if BOTH:
            rest = i % blocks
            of_grad, of_x = _parts(i // blocks, x_low, grad_width, x_width)
        r = start + rest * DEPTH
        a = grad.load([r, n0 + of_grad])
        b = x.load([r + ahead, j0 + of_x])
        part = tl.dot(a.T, b, part)
        if BOTH:
            total, part = _flushed(total, part, i)
    total = _unscaled(total + part, grad_found, x_found, BOTH)
    n, j = n0 + tl.arange(0, OUTPUTS), j0 + tl.arange(0, INPUTS)
    to = sums + (p * taps + d).to(tl.int64) * outputs * inputs + n[:, None] * inputs + j[None, :]
    tl.store(to, total, mask=(n < outputs)[:, None] & (j < inputs)[None, :])
