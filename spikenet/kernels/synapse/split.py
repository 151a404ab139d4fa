"""float32 matrix products on bfloat16 tensor cores: a float32 number is the sum of three bfloat16 ones.

A bfloat16 holds 8 of float32's 24 significant bits, at the same exponents:

    x1 = bfloat16(x)        x2 = bfloat16(x - x1)        x3 = bfloat16(x - x1 - x2)        x1 + x2 + x3 = x

The differences are exact in float32, and so is the sum wherever the last bit of `x` is one of bfloat16's: for
`2^-110 <= |x| < 2^128 - 2^119`, and for 0. Below, x3 may round, by at most 2^-134; above, x1 overflows, and infinities
and NaNs become NaN. Products of bfloat16 numbers are exact in float32, so that only their sums round, as float32's do.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from spikenet.errors import DtypeError
from spikenet.kernels.backends import Implementation, Operation
from spikenet.kernels.triton_device import why_not_on


class Parts(NamedTuple):
    """Three bfloat16 tensors, the largest first."""

    high: Tensor
    middle: Tensor
    low: Tensor


def _reference(x: Tensor) -> Parts:
    high = x.bfloat16()
    rest = x - high.float()
    middle = rest.bfloat16()
    return Parts(high, middle, (rest - middle.float()).bfloat16())


def _triton(x: Tensor) -> Parts:
    from spikenet.kernels.synapse import triton_split

    return Parts(*triton_split.split(x))


SPLIT = Operation(
    "split_bfloat16",
    Implementation("triton", why_not_on, _triton),
    Implementation("reference", lambda x: None, _reference),
)


def split_bfloat16(x: Tensor) -> Parts:
    """`x`, float32, as three bfloat16 tensors of its shape whose sum it is (see above for the range).

    Raises:
        DtypeError: if `x` is not float32.
    """
    if x.dtype != torch.float32:
        raise DtypeError(f"split_bfloat16 takes float32, got {x.dtype}")
    return SPLIT(x)


def product_of_exact(spikes: Tensor, parts: Parts) -> Tensor:
    """`spikes @ x` in float32, for bfloat16 `spikes` `[M, K]` and `x` `[K, N]` split in parts: three products.

    Nothing but sums rounds: the error is that of a float32 product.
    """
    return _summed((spikes, part) for part in reversed(parts))


def product_with_exact(parts: Parts, spikes: Tensor) -> Tensor:
    """`x @ spikes` in float32, for `x` `[M, K]` split in parts and bfloat16 `spikes` `[K, N]`: three products."""
    return _summed((part, spikes) for part in reversed(parts))


def product_of_both(a: Parts, b: Parts) -> Tensor:
    """`a @ b` in float32, both split: six products. The three left out are below 2^-23 of `|a| |b|`."""
    return _summed([(a[i], b[total - i]) for total in (2, 1, 0) for i in range(total + 1)])


def transposed(parts: Parts) -> Parts:
    """The parts of the transposed matrix, without a copy."""
    return Parts(*(part.t() for part in parts))


def _summed(pairs: Iterable[tuple[Tensor, Tensor]]) -> Tensor:
    """The sum of the pairs' products, the smallest terms first."""
    total: Any = None
    for a, b in pairs:
        total = _added(total, a, b)
    return total


def _added(total: Tensor | None, a: Tensor, b: Tensor) -> Tensor:
    """`total + a @ b` with float32 sums; without tensor cores, as a float32 product of the same numbers."""
    if not a.is_cuda:
        product = a.float() @ b.float()
        return product if total is None else total.add_(product)
    if total is None:
        return torch.mm(a, b, out_dtype=torch.float32)
    return torch.addmm(total, a, b, out_dtype=torch.float32, out=total)
