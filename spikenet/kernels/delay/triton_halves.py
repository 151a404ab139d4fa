"""float32 matrices for half-precision tensor cores: one or two float16 matrices and a power of two, in Triton.

    x = (high + low) / scale        high = float16(scale x)    low = float16(scale x - high)

`high` alone has the 11 significant bits of TF32, at twice its speed; both have 22. The scale brings the largest
magnitude below 2^15, so that an entry's error is 2^-11 (2^-22) of it or 2^-40 of the largest one, whichever is more.
High parts alone, of a largest magnitude from 1/4 on, stay as they are, spikes above all: 2^-23 of it. The scale is
found on the device; nothing waits for it.

Such a matrix is one tensor: the high parts and, if wanted, the low ones, `[rows, parts * width]`, and behind them in
memory what the programs found: `PROGRAMS` times, as int32, the bits of a largest magnitude, then whether a low part is
other than 0. What is in half precision already stays as it is; it has no parts.

Importing this module imports triton.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from spikenet.kernels.launch import Blocks, Launch

BLOCK = 2048
PROGRAMS = 1024  # that halve a matrix, at most
WIDTH = 64  # columns are filled up with zeros to a multiple of it


class Halved(NamedTuple):
    """How a matrix `[rows, columns]` is halved: programs, numbers and constants, and the float16s that it takes."""

    programs: int
    numbers: tuple[int, ...]
    filled: bool
    size: int


NOTHING = Halved(0, (0,) * 5, False, 0)


def halved(rows: int, columns: int, parts: int) -> Halved:
    width = width_of(columns, parts)
    count = rows * width
    tiles = -(-count // (BLOCK * PROGRAMS))
    programs = -(-count // (BLOCK * tiles))
    return Halved(programs, (programs, count, columns, width, tiles), columns != width, room(rows, width, parts))


def room(rows: int, width: int, parts: int) -> int:
    """The float16s that a matrix takes, with what is found of it."""
    return rows * width * parts + 4 * PROGRAMS


def halver(sizes: Sequence[tuple[int, int]], parts: int) -> Callable[..., list[Tensor]]:
    """What brings one or two matrices `[rows, columns]`, contiguous, to half precision."""
    if not parts:
        return lambda *matrices: [in_rows(x) for x in matrices]
    one, other = halved(*sizes[0], parts), halved(*sizes[1], parts) if len(sizes) > 1 else NOTHING
    grid, numbers = (one.programs + other.programs,), (*one.numbers, *other.numbers[1:])
    constants = one.filled, other.filled, parts == 2
    first, again = (Launch(_halve, grid, numbers, (*constants, n, BLOCK, PROGRAMS)) for n in (False, True))

    def run(x: Tensor, y: Tensor | None = None) -> list[Tensor]:
        halves = torch.empty(one.size, dtype=torch.float16, device=x.device)
        if y is None:
            first(x, halves, None, None)
            again(x, halves, None, None)
            return [halves]
        others = torch.empty(other.size, dtype=torch.float16, device=x.device)
        first(x, halves, y, others)
        again(x, halves, y, others)
        return [halves, others]

    return run


def in_rows(x: Tensor) -> Tensor:
    """What is in half precision, its rows of whole 16 bytes, as the tensor memory accelerator wants them."""
    spare = -x.shape[-1] % 8
    x = torch.nn.functional.pad(x, (0, spare)) if spare else x
    return x.clone() if x.data_ptr() % 16 else x


def width_of(columns: int, parts: int) -> int:
    """Of a part, or of the whole."""
    filled = WIDTH if parts else 8
    return -(-columns // filled) * filled


def blocks_of(rows: int, columns: int, parts: int, block: list[int], start: int = 0, of: int = 0) -> Blocks:
    """How a matrix in half precision is read: `columns` from `start` on, of `of` in all if there are more."""
    row = width_of(of or columns, parts) * max(1, parts)
    return Blocks([rows, row - start if parts == 2 else columns], [row, 1], block, 2 * start)


@triton.jit
def found_of(values, count, BOTH: tl.constexpr):  # type: ignore[no-untyped-def]
    """Where it lies what was found of a matrix of `count` numbers."""
    return (values + tl.full((), 2 if BOTH else 1, tl.int64) * count).to(tl.pointer_type(tl.int32))


@triton.jit
def scale_of(found, BOTH: tl.constexpr, PROGRAMS: tl.constexpr):  # type: ignore[no-untyped-def]
    """The exponent, as in float32, of the power of two, from the bits of the largest magnitude."""
    peak = tl.max(tl.load(found + tl.arange(0, PROGRAMS)), axis=0)
    exponent = peak >> 23
    enough = 141 if BOTH else 125
    power = tl.where((peak == 0) | ((exponent >= enough) & (exponent < 142)), 127, tl.maximum(268 - exponent, 1))
    return tl.minimum(power, 253).to(tl.uint32)


@triton.jit
def unscaled(found, BOTH: tl.constexpr, PROGRAMS: tl.constexpr):  # type: ignore[no-untyped-def]
    """1 / scale."""
    return ((254 - scale_of(found, BOTH, PROGRAMS)) << 23).to(tl.float32, bitcast=True)


@triton.jit
def has_low(found, PROGRAMS: tl.constexpr):  # type: ignore[no-untyped-def]
    """1 if a low part is other than 0."""
    return tl.max(tl.load(found + PROGRAMS + tl.arange(0, PROGRAMS)), axis=0)


@triton.jit
def note(found, p, programs, peak, low, BOTH: tl.constexpr, PROGRAMS: tl.constexpr):  # type: ignore[no-untyped-def]
    """What program p of so many found; the first one speaks for those that there are not."""
    tl.store(found + p, peak)
    if BOTH:
        tl.store(found + PROGRAMS + p, low)
    if p == 0:
        i = tl.arange(0, PROGRAMS)
        tl.store(found + i, i * 0, mask=i >= programs)
        if BOTH:
            tl.store(found + PROGRAMS + i, i * 0, mask=i >= programs)


@triton.jit
def halve(  # type: ignore[no-untyped-def]
    x, values, p, programs, count, columns, width, tiles, FILLED: tl.constexpr, BOTH: tl.constexpr,
    AGAIN: tl.constexpr, BLOCK: tl.constexpr, PROGRAMS: tl.constexpr,
):  # fmt: skip
    """Program p: first as they are, noting the largest magnitude; again, if that asks for a scale."""
    found = found_of(values, count, BOTH)
    power = tl.full((), 127, tl.uint32)
    if AGAIN:
        power = scale_of(found, BOTH, PROGRAMS)
    if (not AGAIN) or (power != 127):
        peaks, lows = tl.zeros([BLOCK], tl.int32), tl.zeros([BLOCK], tl.int32)
        for tile in range(tiles):
            at = (p.to(tl.int64) * tiles + tile) * BLOCK + tl.arange(0, BLOCK)
            if FILLED:
                row, column = at // width, at % width
                v = tl.load(x + row * columns + column, mask=(at < count) & (column < columns), other=0.0)
            else:
                v = tl.load(x + at, mask=at < count, other=0.0)
            if not AGAIN:
                peaks = tl.maximum(peaks, tl.abs(v).to(tl.int32, bitcast=True))
                v = tl.minimum(tl.maximum(v, -65504.0), 65504.0)  # what is beyond is done again
            v = v * (power << 23).to(tl.float32, bitcast=True)
            high = v.to(tl.float16)
            if BOTH:
                low = (v - high.to(tl.float32)).to(tl.float16)
                to = values + at + at // width * width
                tl.store(to, high, mask=at < count)
                tl.store(to + width, low, mask=at < count)
                lows = lows | (low != 0).to(tl.int32)
            else:
                tl.store(values + at, high, mask=at < count)
        if not AGAIN:
            note(found, p, programs, tl.max(peaks, axis=0), tl.max(lows, axis=0), BOTH, PROGRAMS)
        elif BOTH:
            tl.store(found + PROGRAMS + p, tl.max(lows, axis=0))


@triton.jit
def _halve(  # type: ignore[no-untyped-def]
    x, values, y, others, programs, count, columns, width, tiles, y_count, y_columns, y_width, y_tiles,
    FILLED: tl.constexpr, Y_FILLED: tl.constexpr, BOTH: tl.constexpr, AGAIN: tl.constexpr, BLOCK: tl.constexpr,
    PROGRAMS: tl.constexpr,
):  # fmt: skip
    p = tl.program_id(0)
    if y is None or p < programs:
        halve(x, values, p, programs, count, columns, width, tiles, FILLED, BOTH, AGAIN, BLOCK, PROGRAMS)
    else:
        rest, p = tl.num_programs(0) - programs, p - programs
        halve(y, others, p, rest, y_count, y_columns, y_width, y_tiles, Y_FILLED, BOTH, AGAIN, BLOCK, PROGRAMS)
