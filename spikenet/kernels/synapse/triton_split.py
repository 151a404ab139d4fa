"""The split of float32 in three bfloat16 parts, in one pass over memory. Importing this module imports triton."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

BLOCK = 1024


def split(x: Tensor) -> list[Tensor]:
    """See `split.split_bfloat16`."""
    x = x.contiguous()
    parts = [torch.empty_like(x, dtype=torch.int16) for _ in range(3)]  # the bits of bfloat16
    if x.numel():
        _split[(triton.cdiv(x.numel(), BLOCK),)](x, *parts, x.numel(), BLOCK)
    return [part.view(torch.bfloat16) for part in parts]


@triton.jit
def _rounded(x):  # type: ignore[no-untyped-def]
    """The upper half of the nearest bfloat16's bits, ties to even; by hand, since the interpreter truncates."""
    bits = x.to(tl.uint32, bitcast=True)
    upper = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
    return tl.where(x == x, upper, 0x7FC0).to(tl.uint32)


@triton.jit
def _widened(upper):  # type: ignore[no-untyped-def]
    return (upper << 16).to(tl.float32, bitcast=True)


@triton.jit
def _split(x, high, middle, low, count, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    entry = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    here = entry < count
    rest = tl.load(x + entry, mask=here, other=0.0)
    first = _rounded(rest)
    rest = rest - _widened(first)
    second = _rounded(rest)
    rest = rest - _widened(second)
    tl.store(high + entry, first.to(tl.int16), mask=here)
    tl.store(middle + entry, second.to(tl.int16), mask=here)
    tl.store(low + entry, _rounded(rest).to(tl.int16), mask=here)
