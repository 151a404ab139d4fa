"""Powers of two that bring tensors to where float16 has room for them, in Triton: found on the device, so that nothing
waits for them. Importing this module imports triton."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from spikenet.kernels.launch import Launch

BLOCK = 4096
PROGRAMS = 1056  # at most: eight for each multiprocessor of an H100


def peak(count: int, elements: int) -> Launch:
    """For x of `count * elements` numbers and int32 `found`, 0 at first: the bits of the largest sum of magnitudes."""
    programs = min(-(-count // BLOCK), PROGRAMS)
    return Launch(_peak, (programs,), (count, elements, -(-count // (BLOCK * programs))), (BLOCK,), num_warps=8)


def nothing_found(x: Tensor, number: int) -> Tensor:
    return torch.zeros(number, dtype=torch.int32, device=x.device)


@triton.jit
def _peak(x, found, count, elements, tiles, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    tl.atomic_max(found, largest(x, tl.program_id(0), count, elements, tiles, BLOCK), sem="relaxed")


@triton.jit
def largest(x, p, count, elements, tiles, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    """The bits of the largest sum of magnitudes among those that program p looks at."""
    most = tl.zeros([BLOCK], tl.int32)
    for tile in range(tiles):
        at = (p.to(tl.int64) * tiles + tile) * BLOCK + tl.arange(0, BLOCK)
        total = tl.zeros([BLOCK], tl.float32)
        for e in range(elements):
            total += tl.abs(tl.load(x + at * elements + e, mask=at < count, other=0.0).to(tl.float32))
        most = tl.maximum(most, total.to(tl.int32, bitcast=True))
    return tl.max(most, axis=0)


@triton.jit
def shift_of(found, most):  # type: ignore[no-untyped-def]
    """The exponent of the power of two that brings a largest magnitude below `2^most`."""
    exponent = tl.load(found) >> 23
    return tl.where(exponent == 0, 0, tl.minimum(tl.maximum(most + 126 - exponent, -100), 100))


@triton.jit
def power(shift):  # type: ignore[no-untyped-def]
    """`2^shift`, of -126 to 127."""
    return ((shift + 127) << 23).to(tl.float32, bitcast=True)
