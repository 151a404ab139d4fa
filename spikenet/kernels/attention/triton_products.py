"""Exact products with spikes in Triton. Importing this module imports triton.

A number of 24 bits is the sum of three of bfloat16, and a spike is exact in every type: so a product of spikes with
float32 takes three products in bfloat16 where one of two such numbers takes six.
"""

from __future__ import annotations

import triton
import triton.language as tl

from spikenet.kernels.triton_device import interpreted

WIDE = tl.constexpr(interpreted())  # the interpreter multiplies no bfloat16


@triton.jit
def _dot(a, b):  # type: ignore[no-untyped-def]
    if WIDE:
        a, b = a.to(tl.float32), b.to(tl.float32)
    if a.dtype == tl.float32:
        return tl.dot(a, b, input_precision="tf32x3")
    return tl.dot(a, b)


@triton.jit
def _product(a, s):  # type: ignore[no-untyped-def]
    """`a s` for an `s` of the type of `a`, or of float32 with more digits than that holds."""
    if a.dtype == s.dtype:
        product = _dot(a, s)
    else:
        high = s.to(a.dtype)
        low = (s - high.to(tl.float32)).to(a.dtype)
        product = _dot(a, high) + _dot(a, low)
    return product


@triton.jit
def _parts(x):  # type: ignore[no-untyped-def]
    """Three numbers of bfloat16 that add up to one of float32."""
    high = x.to(tl.bfloat16)
    rest = x - high.to(tl.float32)
    middle = rest.to(tl.bfloat16)
    return high, middle, (rest - middle.to(tl.float32)).to(tl.bfloat16)


@triton.jit
def _spikes_by(spikes, x):  # type: ignore[no-untyped-def]
    """`spikes x`."""
    if spikes.dtype == x.dtype:
        product = _dot(spikes, x)
    else:
        high, middle, low = _parts(x)
        product = _dot(spikes, high) + (_dot(spikes, middle) + _dot(spikes, low))
    return product


@triton.jit
def _by_counts(x, counts):  # type: ignore[no-untyped-def]
    """`x counts`, for `x` in float32 and counts in bfloat16, or in float32 up to 2^16."""
    high, middle, low = _parts(x)
    many = counts.to(tl.bfloat16)
    product = _dot(high, many) + (_dot(middle, many) + _dot(low, many))
    if counts.dtype == tl.float32:
        few = (counts - many.to(tl.float32)).to(tl.bfloat16)
        product += _dot(high, few) + _dot(middle, few)
    return product


@triton.jit
def _spikes(byte):  # type: ignore[no-untyped-def]
    """Spikes that are kept in a byte each, in bfloat16."""
    return tl.where(byte != 0, 1.0, 0.0).to(tl.bfloat16)
