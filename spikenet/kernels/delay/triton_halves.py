"""float32 matrices for half-precision tensor cores: one or two float16 matrices and a power of two, in Triton.

    x = (high + low) / scale        high = float16(scale x)    low = float16(scale x - high)

`high` alone has the 11 significant bits of TF32, at twice its speed; both have 22. The scale brings the largest
magnitude below 2^15, so that an entry's error is 2^-11 (2^-22) of it or 2^-40 of the largest one, whichever is more.
High parts alone, of a largest magnitude from 1/4 on, stay as they are, spikes above all: 2^-23 of it. The scale is
found on the device; nothing waits for it.

Importing this module imports triton.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from spikenet.kernels.launch import Blocks, Launch

BLOCK = 2048
WIDTH = 64  # columns are filled up with zeros to a multiple of it


class Halves(NamedTuple):
    """A matrix in half precision.

    Args:
        values: `[rows, parts * width]`: the high parts, then, if wanted, the low ones; each `width_of` columns.
        found: int32 `[2]`: the bits of the largest magnitude, and whether a low part is other than 0; None for what was
            in half precision already.
    """

    values: Tensor
    found: Tensor | None

    def of(self, start: int) -> Halves:
        """The columns from `start` on."""
        return Halves(self.values.flatten(0, -2)[:, start:], self.found) if start else self


Halver = Callable[[Tensor, Tensor | None], Halves]


def halver(rows: int, columns: int, dtype: torch.dtype, parts: int) -> Halver:
    """What brings `[.., columns]`, contiguous, of so many rows to half precision, if it is not: given it, and one of
    `founds`, which is kept."""
    if dtype != torch.float32:
        return _in_half
    width = width_of(columns, dtype)
    sizes, grid = (rows * width, columns, width), (-(-rows * width // BLOCK),)
    both, shape = parts == 2, (rows, parts * width)
    first, again = (Launch(_halve, grid, sizes, (columns != width, both, n, BLOCK)) for n in (False, True))

    def halved(x: Tensor, found: Tensor | None) -> Halves:
        values = torch.empty(shape, dtype=torch.float16, device=x.device)
        first(x, values, found)
        again(x, values, found)
        return Halves(values, found)

    return halved


def founds(x: Tensor, number: int) -> tuple[Tensor | None, ...]:
    """Zeros for what is found of so many matrices of the dtype of x, if anything is."""
    if x.dtype != torch.float32:
        return (None,) * number
    return torch.zeros(number, 4, dtype=torch.int32, device=x.device).unbind()  # each begins where 16 bytes do


def width_of(columns: int, dtype: torch.dtype) -> int:
    """Of a part."""
    filled = WIDTH if dtype == torch.float32 else 8
    return -(-columns // filled) * filled


def _in_half(x: Tensor, _: Tensor | None) -> Halves:
    """Rows of whole 16 bytes, as the tensor memory accelerator wants them."""
    spare = -x.shape[-1] % 8
    x = torch.nn.functional.pad(x, (0, spare)) if spare else x
    return Halves(x.clone() if x.data_ptr() % 16 else x, None)


def blocks_of(rows: int, columns: int, width: int, both: bool, block: list[int], start: int = 0) -> Blocks:
    """How a matrix in half precision is read, from its column `start` on; each part has `width` columns."""
    row = width * (2 if both else 1)
    return Blocks([rows, row - start if both else columns], [row, 1], block)


@triton.jit
def scale_of(peak, BOTH: tl.constexpr):  # type: ignore[no-untyped-def]
    """The exponent, as in float32, of the power of two, from the bits of the largest magnitude."""
    exponent = peak >> 23
    enough = 141 if BOTH else 125
    power = tl.where((peak == 0) | ((exponent >= enough) & (exponent < 142)), 127, tl.maximum(268 - exponent, 1))
    return tl.minimum(power, 253).to(tl.uint32)


@triton.jit
def unscaled(found, BOTH: tl.constexpr):  # type: ignore[no-untyped-def]
    """1 / scale."""
    return ((254 - scale_of(tl.load(found), BOTH)) << 23).to(tl.float32, bitcast=True)


@triton.jit
def _halve(  # type: ignore[no-untyped-def]
    x,
    values,
    found,
    count,
    columns,
    width,
    FILLED: tl.constexpr,
    BOTH: tl.constexpr,
    AGAIN: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """First as they are, noting the largest magnitude; again, if that asks for a scale."""
    power = tl.full((), 127, tl.uint32)
    if AGAIN:
        power = scale_of(tl.load(found), BOTH)
    if (not AGAIN) or (power != 127):
        at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
        if FILLED:
            row, column = at // width, at % width
            v = tl.load(x + row * columns + column, mask=(at < count) & (column < columns), other=0.0)
        else:
            v = tl.load(x + at, mask=at < count, other=0.0)
        if not AGAIN:
            tl.atomic_max(found, tl.max(tl.abs(v).to(tl.int32, bitcast=True), axis=0), sem="relaxed")
            v = tl.minimum(tl.maximum(v, -65504.0), 65504.0)  # what is beyond is done again
        v = v * (power << 23).to(tl.float32, bitcast=True)
        high = v.to(tl.float16)
        if BOTH:
            low = (v - high.to(tl.float32)).to(tl.float16)
            to = values + at + at // width * width
            tl.store(to, high, mask=at < count)
            tl.store(to + width, low, mask=at < count)
            if tl.max((low != 0).to(tl.int32), axis=0) > 0:
                tl.store(found + 1, 1)
        else:
            tl.store(values + at, high, mask=at < count)
