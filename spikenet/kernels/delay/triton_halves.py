"""float32 matrices for half-precision tensor cores: one or two float16 matrices and a power of two, in Triton.

    x = (high + low) / scale        high = float16(scale x)    low = float16(scale x - high)

`high` alone has the 11 significant bits of TF32, at twice its speed; both have 22. The scale brings the largest
magnitude below 2^15, so that an entry's error is 2^-11 (2^-22) of it or 2^-40 of the largest one, whichever is more.
High parts alone, of a largest magnitude from 1/4 on, stay as they are, spikes above all: 2^-23 of it. The scale is
found on the device; nothing waits for it.

Importing this module imports triton.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from spikenet.kernels.launch import launch

BLOCK = 2048
WIDTH = 64  # columns are filled up with zeros to a multiple of it


class Halves(NamedTuple):
    """A matrix in half precision.

    Args:
        values: `[rows, parts * width]`, or a part of its columns: the high parts, then, if wanted, the low ones; each
            `width` columns.
        width: of a part, `columns` or more.
        found: int32 `[2]`: the bits of the largest magnitude, and whether a low part is other than 0; None for what was
            in half precision already.
        both: whether there are two parts.
        row: from row to row in memory.
    """

    values: Tensor
    width: int
    found: Tensor | None
    both: bool
    row: int

    def of(self, columns: slice) -> Halves:
        """Those columns and all after them."""
        return self._replace(values=self.values[:, columns.start :]) if columns.start else self


def halves(x: Tensor, parts: int) -> Halves:
    """A float32 matrix `[rows, columns]` in float16; one in half precision as it is."""
    if x.dtype != torch.float32:
        values = _aligned(x)
        return Halves(values, values.shape[1], None, False, values.shape[1])
    rows, columns = x.shape
    width = -(-columns // WIDTH) * WIDTH
    values = torch.empty(rows, parts * width, dtype=torch.float16, device=x.device)
    found = torch.zeros(2, dtype=torch.int32, device=x.device)
    x, grid = x.contiguous(), (-(-rows * width // BLOCK),)
    for again in (False, True):
        sizes = rows * width, columns, width
        launch(_halve, grid, (x, values, found), sizes, (columns != width, parts == 2, again, BLOCK))
    return Halves(values, width, found, parts == 2, parts * width)


def _aligned(x: Tensor) -> Tensor:
    """Rows of whole 16 bytes, as the tensor memory accelerator wants them."""
    spare = -x.shape[1] % 8
    x = torch.nn.functional.pad(x, (0, spare)) if spare else x.contiguous()
    return x.clone() if x.data_ptr() % 16 else x


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
