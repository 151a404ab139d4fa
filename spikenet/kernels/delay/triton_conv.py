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

import torch
import triton
import triton.language as tl
from torch import Tensor

from spikenet.kernels.delay.triton_halves import Halves, halves, unscaled
from spikenet.kernels.launch import Described, launch

DEPTH = 64  # of a product
TILE = 1 << 14  # numbers of a tile of the sequence; half of it where there are two sums
COLUMNS = 256  # of it, at most
OUTPUTS, INPUTS = 128, 256  # of a tile of the taps' gradient, at most; half of them likewise
BUSY = 0.9  # part of the multiprocessors that shares of the rows are to keep at work


def forward(x: Tensor, k: Tensor, first: int, steps: int, most: float) -> Tensor:
    """See `conv.delay_conv`."""
    if widened(x):
        return forward(x.float(), k.float(), first, steps, most).to(x.dtype)
    y = torch.empty(steps, x.shape[1], len(k), dtype=x.dtype, device=x.device)
    products(halved(x), len(x), x.shape[2], _matrices(k, x), k.shape[2], first, y)
    return y


def gradient_of_input(grad: Tensor, k: Tensor, first: int, steps: int) -> Tensor:
    """See `conv.delay_conv`: the gradient of x."""
    if widened(grad):
        return gradient_of_input(grad.float(), k.float(), first, steps).to(grad.dtype)
    gx = torch.empty(steps, grad.shape[1], k.shape[1], dtype=grad.dtype, device=grad.device)
    products(halved(grad), len(grad), grad.shape[2], _matrices(k, grad), k.shape[2], first, gx, of_input=True)
    return gx


def gradient_of_taps(x: Tensor, grad: Tensor, first: int, taps: int, most: float) -> Tensor:
    """See `conv.delay_conv`: the gradient of K in float32, its taps the slowest axis in memory."""
    if widened(x):
        return gradient_of_taps(x.float(), grad.float(), first, taps, most)
    parts = sums(halved(grad), grad.shape[0], grad.shape[2], halved(x), x, first, taps)
    return (parts.sum(0) if len(parts) > 1 else parts[0]).permute(1, 2, 0)


def products(
    x: Halves, steps_in: int, inputs: int, k: Halves, taps: int, first: int, y: Tensor, of_input: bool = False
) -> None:
    """Write y `[steps, B, N]`, or some of its columns: x `[steps_in, B, inputs]` through K `[taps * N, inputs]`, or the
    gradient of the output as x through K `[taps * inputs, N]`."""
    steps, batch, outputs = y.shape
    rows, both, columns = steps * batch, x.both, _tile(outputs, COLUMNS // 2 if x.both else COLUMNS)
    tall = max(64, min(128, TILE // columns)) // (2 if both else 1)
    shift, step = (-first * batch, batch) if of_input else (first * batch, -batch)
    arrays = (
        _described(x, inputs, (tall, DEPTH)),
        _described(k, outputs if of_input else inputs, (DEPTH, columns) if of_input else (columns, DEPTH)),
        y,
    )
    sizes = rows, steps_in * batch, inputs, outputs, taps, shift, step, x.width, k.width, y.stride(1)
    grid, constants = (_cdiv(rows, tall) * _cdiv(outputs, columns),), (of_input, both, tall, columns, DEPTH)
    launch(_through, grid, (*arrays, x.found, k.found), sizes, constants, num_warps=4, num_stages=4)


def sums(told: Halves, steps: int, outputs: int, heard: Halves, x: Tensor, first: int, taps: int) -> Tensor:
    """Parts of the gradient of K, `[parts, taps, N, M]`, for x `[T, B, M]` and the gradient of y `[steps, B, N]`, whose
    halves are `heard` and `told`."""
    steps_in, batch, inputs = x.shape
    rows, both = steps * batch, heard.both
    tile = _tile(outputs, OUTPUTS), _tile(inputs, INPUTS // 2 if both else INPUTS)
    across = _cdiv(outputs, tile[0]), _cdiv(inputs, tile[1])
    parts = _shares(across[0] * across[1] * taps, rows, x.device)
    share = _cdiv(_cdiv(rows, parts), DEPTH) * DEPTH
    found = torch.empty(parts, taps, outputs, inputs, dtype=torch.float32, device=x.device)
    arrays = _described(told, outputs, (DEPTH, tile[0])), _described(heard, inputs, (DEPTH, tile[1])), found
    sizes = rows, steps_in * batch, inputs, outputs, taps, share, first * batch, batch, told.width, heard.width
    grid, constants = (*across, taps * parts), (both, *tile, DEPTH)
    launch(_of_taps, grid, (*arrays, told.found, heard.found), sizes, constants, num_warps=8, num_stages=4)
    return found


def widened(x: Tensor) -> bool:
    """Triton's interpreter has no bfloat16 products; the same numbers in float32 give the same sums."""
    return x.dtype == torch.bfloat16 and not x.is_cuda


def in_parts(x: Tensor) -> bool:
    """Whether low parts are wanted too."""
    return x.dtype == torch.float32 and not (x.is_cuda and torch.backends.cuda.matmul.allow_tf32)


def halved(x: Tensor) -> Halves:
    """`[..., columns]` as a matrix in half precision."""
    return halves(x.reshape(-1, x.shape[-1]), 2 if in_parts(x) else 1)


def _matrices(k: Tensor, x: Tensor) -> Halves:
    """K `[N, M, taps]` as a matrix `[taps * N, M]` in half precision, as x."""
    return halved(k.to(x.dtype).permute(2, 0, 1))


def _described(x: Halves, columns: int, block: tuple[int, int]) -> Described:
    """What the tensor memory accelerator is told of the first columns of a matrix."""
    return Described(x.values, [x.values.shape[0], x.values.shape[1] if x.both else columns], [x.row, 1], list(block))


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
    y_row,
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
    to = y + r.to(tl.int64)[:, None] * y_row + n[None, :]
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
