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
from collections.abc import Callable

import torch
import triton
import triton.language as tl
from torch import Tensor

from spikenet.kernels.delay.triton_halves import PROGRAMS, blocks_of, found_of, halver, has_low, unscaled, width_of
from spikenet.kernels.launch import Launch, Plans, on_its_device

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
    _multiply(x, k, first, y)
    return y


def gradient_of_input(grad: Tensor, k: Tensor, first: int, steps: int) -> Tensor:
    """See `conv.delay_conv`: the gradient of x."""
    if widened(grad):
        return gradient_of_input(grad.float(), k.float(), first, steps).to(grad.dtype)
    gx = torch.empty(steps, grad.shape[1], k.shape[1], dtype=grad.dtype, device=grad.device)
    _multiply(grad, k, first, gx, of_input=True)
    return gx


def gradient_of_taps(x: Tensor, grad: Tensor, first: int, taps: int, most: float) -> Tensor:
    """See `conv.delay_conv`: the gradient of K in float32, its taps the slowest axis in memory."""
    if widened(x):
        return gradient_of_taps(x.float(), grad.float(), first, taps, most)
    key = x.shape, grad.shape, x.dtype, x.device, first, taps, parts_of(x)
    run = _sums.at(key, lambda: _sums_of(x, grad, first, taps))
    parts = on_its_device(run, x, x.contiguous(), grad.contiguous())
    return (parts.sum(0) if len(parts) > 1 else parts[0]).permute(1, 2, 0)


_products: Plans[Callable[[Tensor, Tensor, Tensor], None]] = Plans()
_sums: Plans[Callable[[Tensor, Tensor], Tensor]] = Plans()


def _multiply(x: Tensor, k: Tensor, first: int, y: Tensor, of_input: bool = False) -> None:
    """Write y: x through K `[N, M, taps]`, or the gradient of the output as x."""
    key = x.shape, x.dtype, x.device, k.shape, first, y.shape, of_input, parts_of(x)
    run = _products.at(key, lambda: _product_of(x, k, first, y, of_input))
    on_its_device(run, x, x.contiguous(), k.to(x.dtype).permute(2, 0, 1).contiguous(), y)


def _product_of(
    x: Tensor, k: Tensor, first: int, y: Tensor, of_input: bool
) -> Callable[[Tensor, Tensor, Tensor], None]:
    (outputs, inputs, taps), parts = k.shape, parts_of(x)
    halve = halver([(x.shape[0] * x.shape[1], x.shape[2]), (taps * outputs, inputs)], parts)
    multiply = product(x.shape, y.shape, inputs, taps, first, parts, of_input=of_input)

    def run(x: Tensor, k: Tensor, y: Tensor) -> None:
        halves, halves_of_k = halve(x, k)
        multiply(halves, halves_of_k, y)

    return run


def _sums_of(x: Tensor, grad: Tensor, first: int, taps: int) -> Callable[[Tensor, Tensor], Tensor]:
    parts = parts_of(x)
    halve = halver([(u.shape[0] * u.shape[1], u.shape[2]) for u in (grad, x)], parts)
    _, add_up = summer(x.shape, grad.shape, taps, first, parts, x.device)

    def run(x: Tensor, grad: Tensor) -> Tensor:
        sent, heard = halve(grad, x)
        return add_up(sent, heard)

    return run


def product(
    shape: tuple[int, ...],
    result: tuple[int, ...],
    inputs: int,
    taps: int,
    first: int,
    parts: int,
    some: slice | None = None,
    of_input: bool = False,
) -> Callable[[Tensor, Tensor, Tensor], None]:
    """What writes y, given x and K in half precision: x `[T, B, M]` through K `[taps * N, M]`, or the gradient of the
    output as x `[T, B, N]` through it.

    Args:
        shape: x's.
        result: y's.
        inputs: M.
        taps, first: as for `conv.delay_conv`.
        parts: of x and K.
        some: of the outputs, if K has not all: then y begins at the first, or of x no others are read.
        of_input: whether it is the input's gradient.
    """
    (steps_in, batch, width), (steps, _, row) = shape, result
    start, stop, _ = (some or slice(None)).indices(width if of_input else row)
    read, written = (stop - start, row) if of_input else (width, stop - start)
    both, rows, columns = parts == 2, steps * batch, _tile(written, COLUMNS // 2 if parts == 2 else COLUMNS)
    tall = max(64, min(128, TILE // columns)) // (2 if both else 1)
    shift, step = (-first * batch, batch) if of_input else (first * batch, -batch)
    sizes = (
        rows,
        steps_in * batch,
        read,
        written,
        taps,
        shift,
        step,
        width_of(width, parts),
        width_of(inputs, parts),
        row,
    )
    grid, constants = (_cdiv(rows, tall) * _cdiv(written, columns),), (of_input, both, tall, columns, DEPTH, PROGRAMS)
    block = [DEPTH, columns] if of_input else [columns, DEPTH]
    blocks = (
        blocks_of(steps_in * batch, read, parts, [tall, DEPTH], start if of_input else 0, width),
        blocks_of(taps * (stop - start), inputs, parts, block),
    )
    run = Launch(_through, grid, sizes, constants, described=blocks, num_warps=4, num_stages=4)

    def multiply(x: Tensor, k: Tensor, y: Tensor) -> None:
        run(x, k, y, *((x, k) if parts else (None, None)))

    return multiply


def summer(
    shape: tuple[int, ...],
    shape_of_grad: tuple[int, ...],
    taps: int,
    first: int,
    parts: int,
    device: torch.device,
    some: slice | None = None,
) -> tuple[int, Callable[[Tensor, Tensor], Tensor]]:
    """How many shares of the gradient of K there are, and what gives them, `[shares, taps, N, M]`, for the gradient of
    y `[steps, B, N]`, or of `some` outputs, and x `[T, B, M]` in half precision."""
    (steps_in, batch, inputs), (steps, _, row) = shape, shape_of_grad
    start, stop, _ = (some or slice(None)).indices(row)
    both, rows, outputs = parts == 2, steps * batch, stop - start
    tile = _tile(outputs, OUTPUTS), _tile(inputs, INPUTS // 2 if both else INPUTS)
    across = _cdiv(outputs, tile[0]), _cdiv(inputs, tile[1])
    shares = _shares(across[0] * across[1] * taps, rows, device)
    share = _cdiv(_cdiv(rows, shares), DEPTH) * DEPTH
    sizes = rows, steps_in * batch, inputs, outputs, taps, share, first * batch, batch
    blocks = (
        blocks_of(rows, outputs, parts, [DEPTH, tile[0]], start, row),
        blocks_of(steps_in * batch, inputs, parts, [DEPTH, tile[1]]),
    )
    run = Launch(
        _of_taps,
        (*across, taps * shares),
        (*sizes, width_of(row, parts), width_of(inputs, parts)),
        (both, *tile, DEPTH, PROGRAMS),
        described=blocks,
        num_warps=8,
        num_stages=4,
    )
    result = shares, taps, outputs, inputs

    def add_up(grad: Tensor, x: Tensor) -> Tensor:
        sums = torch.empty(result, dtype=torch.float32, device=device)
        run(grad, x, sums, *((grad, x) if parts else (None, None)))
        return sums

    return shares, add_up


def widened(x: Tensor) -> bool:
    """Triton's interpreter has no bfloat16 products; the same numbers in float32 give the same sums."""
    return x.dtype == torch.bfloat16 and not x.is_cuda


def parts_of(x: Tensor) -> int:
    """Of x in half precision: none where it is in half precision already, and low parts unless TF32 will do."""
    if x.dtype != torch.float32:
        return 0
    return 1 if x.is_cuda and torch.backends.cuda.matmul.allow_tf32 else 2


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
def _pairs(a_found, b_found, PROGRAMS: tl.constexpr):  # type: ignore[no-untyped-def]
    """How many products of parts there are, and whether b's low part is in one."""
    low = has_low(b_found, PROGRAMS)
    return 1 + low + has_low(a_found, PROGRAMS), low


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
def _through(  # type: ignore[no-untyped-def]
    x, k, y, x_halves, k_halves,
    rows, rows_in, inputs, outputs, taps, shift, step, x_width, k_width, y_row,
    OF_INPUT: tl.constexpr, BOTH: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, DEPTH: tl.constexpr,
    PROGRAMS: tl.constexpr,
):  # fmt: skip
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
    if x_halves is not None:
        x_found = found_of(x_halves, tl.full((), rows_in, tl.int64) * x_width, BOTH)
        k_found = found_of(k_halves, tl.full((), inputs if OF_INPUT else outputs, tl.int64) * taps * k_width, BOTH)
    if BOTH:
        pairs, k_low = _pairs(x_found, k_found, PROGRAMS)
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
    total += part
    if x_halves is not None:
        total = total * unscaled(x_found, BOTH, PROGRAMS) * unscaled(k_found, BOTH, PROGRAMS)
    r, n = r0 + tl.arange(0, ROWS), n0 + tl.arange(0, COLUMNS)
    to = y + r.to(tl.int64)[:, None] * y_row + n[None, :]
    tl.store(to, total.to(y.dtype.element_ty), mask=(r < rows)[:, None] & (n < outputs)[None, :])


@triton.jit
def _of_taps(  # type: ignore[no-untyped-def]
    grad, x, sums, grad_halves, x_halves,
    rows, rows_in, inputs, outputs, taps, share, shift, batch, grad_width, x_width,
    BOTH: tl.constexpr, OUTPUTS: tl.constexpr, INPUTS: tl.constexpr, DEPTH: tl.constexpr, PROGRAMS: tl.constexpr,
):  # fmt: skip
    n0, j0 = tl.program_id(0) * OUTPUTS, tl.program_id(1) * INPUTS
    d, p = tl.program_id(2) % taps, tl.program_id(2) // taps
    ahead = shift - d * batch
    start = tl.maximum(p * share, -ahead) // DEPTH * DEPTH
    blocks = tl.cdiv(tl.maximum(tl.minimum(tl.minimum((p + 1) * share, rows), rows_in - ahead) - start, 0), DEPTH)
    pairs, x_low = 1, 0
    if x_halves is not None:
        grad_found = found_of(grad_halves, tl.full((), rows, tl.int64) * grad_width, BOTH)
        x_found = found_of(x_halves, tl.full((), rows_in, tl.int64) * x_width, BOTH)
    if BOTH:
        pairs, x_low = _pairs(grad_found, x_found, PROGRAMS)
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
    total += part
    if x_halves is not None:
        total = total * unscaled(grad_found, BOTH, PROGRAMS) * unscaled(x_found, BOTH, PROGRAMS)
    n, j = n0 + tl.arange(0, OUTPUTS), j0 + tl.arange(0, INPUTS)
    to = sums + (p * taps + d).to(tl.int64) * outputs * inputs + n[:, None] * inputs + j[None, :]
    tl.store(to, total, mask=(n < outputs)[:, None] & (j < inputs)[None, :])
