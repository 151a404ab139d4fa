"""What Triton kernels come in, and the source that they carry along: words beyond arithmetic, random numbers."""

from __future__ import annotations

from typing import NamedTuple


class Variant(NamedTuple):
    """What one compiled kernel is made for.

    `span`: steps of a chunk. `loop`: there may be several chunks. `full`: all chunks are whole. `ahead`: load the
    next chunk before the current one is worked through. `spread`: for each
    parameter, whether lanes differ in it. `strided`: whether lanes lie in two dimensions of a tensor. `aligned`: rows
    start at multiples of 16 elements. `uniform`: initial states are one number for all lanes. `keep`, `final`,
    `trace`: write checkpoints, the last state, the state sequences (or take the gradients of the latter two).
    `wanted`: the parameters whose gradients are wanted. `wants_state`: whether the initial states' are.
    """

    span: int
    loop: bool
    full: bool
    ahead: bool
    spread: tuple[bool, ...]
    strided: bool
    aligned: bool
    uniform: bool
    wanted: tuple[int, ...] = ()
    keep: bool = False
    final: bool = False
    trace: bool = False
    wants_state: bool = False
    interpreted: bool = False


PRELUDE = """\
import triton
import triton.language as tl
from triton.language.extra.libdevice import atan, cos, erf, exp, log, sin, tanh


@triton.jit
def reciprocal(x):
    return tl.inline_asm_elementwise(
        "rcp.approx.ftz.f32 $0, $1;", "=r, r", [x], dtype=tl.float32, is_pure=True, pack=1
    )
"""

# Triton's interpreter has no libdevice: NumPy's functions stand in.
PRELUDE_INTERPRETED = """\
import math

import numpy as np
import triton
import triton.language as tl


def _numpy(function):
    def apply(x):
        with np.errstate(all="ignore"):  # a GPU gives infinities without a word
            handle = type(x.handle)(function(x.handle.data), x.handle.dtype)
        return type(x)(handle, x.type)

    return apply


atan, cos, exp, log = _numpy(np.arctan), _numpy(np.cos), _numpy(np.exp), _numpy(np.log)
erf = _numpy(np.vectorize(math.erf, otypes=[np.float32]))
sin, tanh, reciprocal = _numpy(np.sin), _numpy(np.tanh), _numpy(np.reciprocal)
"""

# Philox4x32-10, word for word as in `philox.py`.
PHILOX = """

@triton.jit
def philox(seed, lane, step, draw: tl.constexpr):
    c0 = lane.to(tl.uint32)
    c1 = tl.zeros_like(c0) + (step & 0xFFFFFFFF).to(tl.uint32)
    c2 = tl.zeros_like(c0) + ((step >> 32) & 0xFFFFFFFF).to(tl.uint32)
    c3 = tl.zeros_like(c0) + draw
    k0 = tl.zeros_like(c0) + (seed & 0xFFFFFFFF).to(tl.uint32)
    k1 = tl.zeros_like(c0) + ((seed >> 32) & 0xFFFFFFFF).to(tl.uint32)
    m0 = tl.full(c0.shape, 0xD2511F53, tl.uint32)
    m1 = tl.full(c0.shape, 0xCD9E8D57, tl.uint32)
    w0 = tl.full(c0.shape, 0x9E3779B9, tl.uint32)
    w1 = tl.full(c0.shape, 0xBB67AE85, tl.uint32)
    for _ in tl.static_range(10):
        high0, low0 = tl.umulhi(m0, c0), m0 * c0
        high1, low1 = tl.umulhi(m1, c2), m1 * c2
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0
        k0, k1 = k0 + w0, k1 + w1
    return c0, c1, c2, c3


@triton.jit
def open_interval(word):
    return ((word >> 9) * 2 + 1).to(tl.float32) * 5.9604644775390625e-08


@triton.jit
def uniform(seed, lane, step, draw: tl.constexpr):
    return open_interval(philox(seed, lane, step, draw)[0])


@triton.jit
def normal(seed, lane, step, draw: tl.constexpr):
    first, second, _, _ = philox(seed, lane, step, draw)
    radius = tl.sqrt_rn(-2.0 * log(open_interval(first)))
    return radius * cos(6.283185307179586 * open_interval(second))
"""
