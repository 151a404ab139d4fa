"""What a program does with one head at one step, in Triton: spikes kept in bits, `k^T v`, gradients of k and v.

Importing this module imports triton.
"""

from __future__ import annotations

import triton
import triton.language as tl

from spikenet.kernels.attention.triton_causal import _rows
from spikenet.kernels.attention.triton_products import _dot, _spikes_by


@triton.jit
def _pack(x, bits, token, tokens, width):  # type: ignore[no-untyped-def]
    """Write whether each entry of `x` is 1, a bit each. What is returned is below 256 if all entries are 0 or 1."""
    value = tl.where(x == 1, 1 << tl.arange(0, x.shape[1])[None, :] % 8, tl.where(x == 0, 0, 256))
    sums = tl.sum(tl.reshape(value, [x.shape[0], x.shape[1] // 8, 8]), 2)
    group, groups = tl.arange(0, x.shape[1] // 8), tl.cdiv(width, 8)
    inside = (token < tokens)[:, None] & (group < groups)[None, :]
    tl.store(bits + token[:, None] * groups + group[None, :], sums.to(tl.uint8), mask=inside)
    return sums


@triton.jit
def _eighths(byte, i: tl.constexpr, j: tl.constexpr, kind: tl.constexpr):  # type: ignore[no-untyped-def]
    """Bits `i` and `j` of each byte, side by side."""
    one, zero = tl.full(byte.shape, 1.0, tl.float32).to(kind), tl.full(byte.shape, 0.0, tl.float32).to(kind)
    return tl.interleave(tl.where(byte & (1 << i) != 0, one, zero), tl.where(byte & (1 << j) != 0, one, zero))


@triton.jit
def _unpack(bits, token, tokens, width, DP: tl.constexpr, kind: tl.constexpr):  # type: ignore[no-untyped-def]
    """Those entries as 0 and 1 of type `kind`, which float32 leaves to bfloat16."""
    group, groups = tl.arange(0, DP // 8), tl.cdiv(width, 8)
    inside = (token < tokens)[:, None] & (group < groups)[None, :]
    byte = tl.load(bits + token[:, None] * groups + group[None, :], mask=inside, other=0).to(tl.int32)
    kind = tl.bfloat16 if kind == tl.float32 else kind
    # entry 8 g + i is bit i of byte g: a thread holds all eight, in the order in which they are stored
    even = tl.interleave(_eighths(byte, 0, 4, kind), _eighths(byte, 2, 6, kind))
    odd = tl.interleave(_eighths(byte, 1, 5, kind), _eighths(byte, 3, 7, kind))
    return tl.interleave(even, odd)


@triton.jit
def _seen(x, bits, token, tokens, column, width, stride, SPIKES: tl.constexpr):  # type: ignore[no-untyped-def]
    """Rows of `x`, from their bits if they are spikes."""
    if SPIKES:
        rows = _unpack(bits, token, tokens, width, column.shape[0], x.dtype.element_ty)
    else:
        rows = _rows(x, token, tokens, column, width, stride)
    return rows


@triton.jit
def _sum(k, v, k_bits, v_bits, tokens, d, e, D, E, k_n, v_n, M: tl.constexpr, SPIKES: tl.constexpr):  # type: ignore[no-untyped-def]
    """`k^T v`."""
    total = tl.zeros([d.shape[0], e.shape[0]], tl.float32)
    for tile in tl.range(tl.cdiv(tokens, M)):
        token = tile * M + tl.arange(0, M)
        key = _seen(k, k_bits, token, tokens, d, D, k_n, SPIKES)
        value = _seen(v, v_bits, token, tokens, e, E, v_n, SPIKES)
        total += _dot(tl.trans(key), value)
    return total


@triton.jit
def _sum_packing(  # type: ignore[no-untyped-def]
    k, v, k_bits, v_bits, tokens, d, e, D, E, k_n, v_n, M: tl.constexpr, SPIKES: tl.constexpr, STAGES: tl.constexpr
):
    """`k^T v`, and the largest that `_pack` says of both."""
    total = tl.zeros([d.shape[0], e.shape[0]], tl.float32)
    keys, values = tl.zeros([M, d.shape[0] // 8], tl.int32), tl.zeros([M, e.shape[0] // 8], tl.int32)
    for tile in tl.range(tl.cdiv(tokens, M), num_stages=STAGES):
        token = tile * M + tl.arange(0, M)
        key, value = _rows(k, token, tokens, d, D, k_n), _rows(v, token, tokens, e, E, v_n)
        keys = tl.maximum(keys, _pack(key, k_bits, token, tokens, D))
        values = tl.maximum(values, _pack(value, v_bits, token, tokens, E))
        if SPIKES and k.dtype.element_ty == tl.float32:
            key, value = key.to(tl.bfloat16), value.to(tl.bfloat16)
        total += _dot(tl.trans(key), value)
    return total, tl.maximum(tl.max(tl.max(keys, 1), 0), tl.max(tl.max(values, 1), 0))


@triton.jit
def _grads(  # type: ignore[no-untyped-def]
    q, q_bits, k, k_bits, v, v_bits, gk, gv, tokens, d, e, D, E, q_n, k_n, v_n, gk_n, gv_n,
    M: tl.constexpr, SPIKES: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    """With `s = q^T gx`, where `gx` is what `gv` holds: `gk = v s^T` and `gv = k s`."""
    total = tl.zeros([d.shape[0], e.shape[0]], tl.float32)
    for tile in tl.range(tl.cdiv(tokens, M), num_stages=STAGES):
        token = tile * M + tl.arange(0, M)
        query = _seen(q, q_bits, token, tokens, d, D, q_n, SPIKES)
        total += _spikes_by(tl.trans(query), _rows(gv, token, tokens, e, E, gv_n))
    tl.debug_barrier()  # all has been read
    total = total.to(gv.dtype.element_ty)
    for tile in tl.range(tl.cdiv(tokens, M)):
        token = tile * M + tl.arange(0, M)
        key = _seen(k, k_bits, token, tokens, d, D, k_n, SPIKES)
        value = _seen(v, v_bits, token, tokens, e, E, v_n, SPIKES)
        row, inside = token[:, None], (token < tokens)[:, None]
        g_key, g_value = _spikes_by(value, tl.trans(total)), _spikes_by(key, total)
        tl.store(gk + row * gk_n + d[None, :], g_key, mask=inside & (d < D)[None, :])
        tl.store(gv + row * gv_n + e[None, :], g_value, mask=inside & (e < E)[None, :])
