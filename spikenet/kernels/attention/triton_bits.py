"""Spikes as bits in Triton, and exact products with them. Importing this module imports triton.

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
        return _dot(a, s)
    high = s.to(a.dtype)
    low = (s - high.to(tl.float32)).to(a.dtype)
    return _dot(a, high) + _dot(a, low)


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
        return _dot(spikes, x)
    high, middle, low = _parts(x)
    return _dot(spikes, high) + (_dot(spikes, middle) + _dot(spikes, low))


@triton.jit
def _by_counts(x, counts):  # type: ignore[no-untyped-def]
    """`x counts`, for counts in bfloat16, or in the type of `x`, up to 2^16 if that is float32."""
    if x.dtype != tl.float32:
        return _dot(x, counts.to(x.dtype))
    high, middle, low = _parts(x)
    many = counts.to(tl.bfloat16)
    total = _dot(high, many) + (_dot(middle, many) + _dot(low, many))
    if counts.dtype == tl.float32:
        few = (counts - many.to(tl.float32)).to(tl.bfloat16)
        total += _dot(high, few) + _dot(middle, few)
    return total


@triton.jit
def _packed(x, M: tl.constexpr, W: tl.constexpr):  # type: ignore[no-untyped-def]
    """The bits of `x` `[M, W]`, eight a byte, and how many of each eight values are neither 0 nor 1."""
    eights = tl.reshape(x, (M, W // 8, 8))
    on = eights != 0
    byte = tl.sum(on.to(tl.int32) << tl.arange(0, 8)[None, None, :], 2)
    return byte.to(tl.uint8), tl.sum((on & (eights != 1)).to(tl.int32), 2)


@triton.jit
def _spikes(byte, x, M: tl.constexpr, W: tl.constexpr):  # type: ignore[no-untyped-def]
    """Spikes `[M, W]` of bits, in the type to which `x` points, in bfloat16 for float32."""
    on = (byte.to(tl.int32)[:, :, None] >> tl.arange(0, 8)[None, None, :]) & 1
    kind: tl.constexpr = tl.bfloat16 if x.dtype.element_ty == tl.float32 else x.dtype.element_ty
    return tl.reshape(tl.where(on != 0, 1.0, 0.0), (M, W)).to(kind)


@triton.jit
def _bytes_at(bits, token, tokens, W: tl.constexpr):  # type: ignore[no-untyped-def]
    """Places of the tokens' bits `[M, W / 8]`, and which of them there are `[M, 1]`."""
    return bits + token[:, None] * (W // 8) + tl.arange(0, W // 8)[None, :], (token < tokens)[:, None]


@triton.jit
def _load_spikes(bits, x, token, tokens, M: tl.constexpr, W: tl.constexpr):  # type: ignore[no-untyped-def]
    """Spikes of those tokens, zeros beyond the last."""
    place, inside = _bytes_at(bits, token, tokens, W)
    return _spikes(tl.load(place, mask=inside, other=0), x, M, W)
