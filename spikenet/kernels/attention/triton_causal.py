"""Causal linear attention in Triton: no decay, or one number a head and step. Importing this module imports triton.

A sequence is cut into segments, and a program takes one segment of one head: chunk by chunk, with the state in
registers. So the state leaves the chip once a segment, and all segments run at once:

    forward     sums of k^T v a segment;  their scan over segments;  the output from each segment's first state
    backward    gradients of q, with the sums of q^T go;  their scan from the end;  gradients of k and v

States are float32. The output's product with one splits it into two parts of the storage type, so that counts of
spikes stay exact up to 2^16 (bfloat16) or 65504 (float16); gradients need only the first. float32 goes by 3xTF32.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from spikenet.kernels.attention.segments import CHUNK, Segments, blocks, segments
from spikenet.kernels.triton_device import interpreted

SEGMENTS, ENTRIES = 32, 128  # of a tile of the scan
WIDE = tl.constexpr(interpreted())  # the interpreter multiplies no bfloat16
OPTIONS = {"sums": (4, 3), "output": (4, 2), "grad_q": (4, 2), "grad_kv": (4, 2)}  # warps, stages


def _options(kernel: str, dtype: torch.dtype) -> dict[str, int]:
    warps, stages = OPTIONS[kernel]
    return {"num_warps": 2 * warps, "num_stages": 1} if dtype == torch.float32 else {
        "num_warps": warps,
        "num_stages": stages,
    }


def forward(
    q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor | None, state: Tensor | None, scale: float
) -> tuple[Tensor, Tensor, Tensor]:
    """The output, the last state, and the state before each segment `[segments, B, H, D, E]`."""
    s = segments(q, v)
    q, k, v = (u if u.stride(-1) == 1 else u.contiguous() for u in (q, k, v))
    sums = q.new_empty((s.count, *q.shape[1:], s.values), dtype=torch.float32)
    totals = None if log_decay is None else q.new_empty((s.count, *q.shape[1:3]), dtype=torch.float32)
    rows = (*k.stride()[:3], *v.stride()[:3])
    _sums[s.grid](k, v, log_decay, sums, totals, *s, *rows, C=CHUNK, **blocks(s.width, s.values), **_options("sums", v.dtype))
    states, last = _scanned(sums, totals, state, s, False)
    out = v.new_empty(v.shape)
    _output[s.grid](
        q, k, v, log_decay, states, out, scale, *s, *q.stride()[:3], *rows, C=CHUNK, **blocks(s.width, s.values),
        **_options("output", v.dtype),
    )
    return out, last, states


def backward(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    log_decay: Tensor | None,
    states: Tensor,
    last: Tensor,
    go: Tensor,
    g_last: Tensor | None,
    scale: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """The gradients of q, k, v, the log-decay (empty if there is none) and the first state."""
    s = segments(q, v)
    q, k, v, go = (u if u.stride(-1) == 1 else u.contiguous() for u in (q, k, v, go))
    gq, gk, gv = (u.new_empty(u.shape) for u in (q, k, v))
    sums = torch.empty_like(states)
    totals, dots = None, None
    if log_decay is not None:
        totals = q.new_empty((s.count, *q.shape[1:3]), dtype=torch.float32)
        dots = q.new_empty((2, *q.shape[:3]), dtype=torch.float32)
    rows = (*q.stride()[:3], *k.stride()[:3], *v.stride()[:3], *go.stride()[:3])
    given, sizes = (q, k, v, log_decay, go), (scale, *s, *rows)
    _grad_q[s.grid](*given, states, sums, totals, gq, dots, *sizes, C=CHUNK, **blocks(s.width, s.values), **_options("grad_q", v.dtype))
    adjoints, first = _scanned(sums, totals, g_last, s, True)
    options = _options("grad_kv", v.dtype)
    _grad_kv[s.grid](*given, adjoints, gk, gv, None if dots is None else dots[1], *sizes, C=CHUNK, **blocks(s.width, s.values), **options)
    if dots is None:
        return gq, gk, gv, q.new_empty(0), first
    g = dots[0] - dots[1]
    if g_last is not None:
        g[-1] += (g_last * last).sum((-2, -1))
    return gq, gk, gv, g.flip(0).cumsum(0).flip(0), first


def _scanned(
    sums: Tensor, totals: Tensor | None, start: Tensor | None, s: Segments, reverse: bool
) -> tuple[Tensor, Tensor]:
    """From the segments' sums, the state before each (`reverse`: after each), and the one that all lead to."""
    states, end = torch.empty_like(sums), torch.empty_like(sums[0])
    entries, n = s.width * s.values, s.batch * s.heads
    grid = (triton.cdiv(entries, ENTRIES), n)
    _scan[grid](sums, totals, start, states, end, s.count, n, entries, reverse, SEGMENTS, ENTRIES)
    return states, end


@triton.jit
def _dot(a, b):  # type: ignore[no-untyped-def]
    if WIDE:
        a, b = a.to(tl.float32), b.to(tl.float32)
    if a.dtype == tl.float32:
        return tl.dot(a, b, input_precision="tf32x3")
    return tl.dot(a, b)


@triton.jit
def _product(a, s):  # type: ignore[no-untyped-def]
    """`a s` for a float32 `s` with more digits than the storage type of `a` holds."""
    if a.dtype == tl.float32:
        return _dot(a, s)
    high = s.to(a.dtype)
    low = (s - high.to(tl.float32)).to(a.dtype)
    return _dot(a, high) + _dot(a, low)


@triton.jit
def _rows(x, token, steps, column, width, stride):  # type: ignore[no-untyped-def]
    """Rows of `x`, which points at its head: zeros beyond the last token and the last column."""
    inside = (token < steps)[:, None] & (column < width)[None, :]
    return tl.load(x + token.to(tl.int64)[:, None] * stride + column[None, :], mask=inside, other=0.0)


@triton.jit
def _decays(log_decay, token, steps, batch, heads, head):  # type: ignore[no-untyped-def]
    """The logarithms of the decay from the chunk's start up to and with each token, and over the whole chunk."""
    g = tl.load(log_decay + token.to(tl.int64) * batch * heads + head, mask=token < steps, other=0.0)
    return tl.cumsum(g, 0), tl.sum(g, 0)


@triton.jit
def _state_at(states, head, n, D, E, DP: tl.constexpr, EP: tl.constexpr):  # type: ignore[no-untyped-def]
    """Pointers to, and the mask of, a head's state in segment `tl.program_id(0)`."""
    row, column = tl.arange(0, DP), tl.arange(0, EP)
    base = (tl.program_id(0).to(tl.int64) * n + head) * D * E
    return states + base + row[:, None] * E + column[None, :], (row < D)[:, None] & (column < E)[None, :]


@triton.jit
def _sums(  # type: ignore[no-untyped-def]
    k, v, log_decay, states, totals, steps, batch, heads, D, E, length,
    k_t, k_b, k_h, v_t, v_b, v_h,
    C: tl.constexpr, DP: tl.constexpr, EP: tl.constexpr,
):  # fmt: skip
    head = tl.program_id(1)
    k += (head // heads).to(tl.int64) * k_b + (head % heads) * k_h
    v += (head // heads).to(tl.int64) * v_b + (head % heads) * v_h
    d, e = tl.arange(0, DP), tl.arange(0, EP)
    state = tl.zeros([DP, EP], tl.float32)
    total = 0.0
    first = tl.program_id(0) * length
    for chunk in range(first, tl.minimum(first + length, tl.cdiv(steps, C))):
        token = chunk * C + tl.arange(0, C)
        key, value = _rows(k, token, steps, d, D, k_t), _rows(v, token, steps, e, E, v_t)
        if log_decay is not None:
            b, whole = _decays(log_decay, token, steps, batch, heads, head)
            value = (value * tl.exp(whole - b)[:, None]).to(value.dtype)
            state = state * tl.exp(whole)
            total += whole
        state += _dot(tl.trans(key), value)
    at, inside = _state_at(states, head, batch * heads, D, E, DP, EP)
    tl.store(at, state, mask=inside)
    if log_decay is not None:
        tl.store(totals + tl.program_id(0) * batch * heads + head, total)


@triton.jit
def _then(a1, b1, a2, b2):  # type: ignore[no-untyped-def]
    """`s -> a1 s + b1`, then `s -> a2 s + b2`."""
    return a1 * a2, a2 * b1 + b2


@triton.jit
def _scan(  # type: ignore[no-untyped-def]
    sums, totals, start, states, end, segments, n, entries,
    REVERSE: tl.constexpr, SEGMENTS: tl.constexpr, ENTRIES: tl.constexpr,
):  # fmt: skip
    head, entry = tl.program_id(1).to(tl.int64), tl.program_id(0) * ENTRIES + tl.arange(0, ENTRIES)
    here = entry < entries
    if start is None:
        carried = tl.zeros([ENTRIES], tl.float32)
    else:
        carried = tl.load(start + head * entries + entry, mask=here, other=0.0)
    place = tl.arange(0, SEGMENTS)
    for first in range(0, segments + 1, SEGMENTS):  # the state before segment i holds the sums up to i - 1
        at = first + place
        before, known = at - 1, (at > 0) & (at <= segments)
        segment = (segments - 1 - before if REVERSE else before).to(tl.int64)
        mask = known[:, None] & here[None, :]
        value = tl.load(sums + (segment[:, None] * n + head) * entries + entry[None, :], mask=mask, other=0.0)
        if totals is None:
            state = tl.cumsum(value, 0) + carried[None, :]
        else:
            factor = tl.exp(tl.load(totals + segment * n + head, mask=known, other=0.0))
            factors = tl.broadcast_to(factor[:, None], (SEGMENTS, ENTRIES))
            power, inner = tl.associative_scan((factors, value), 0, _then)
            state = power * carried[None, :] + inner
        segment = (segments - 1 - at if REVERSE else at).to(tl.int64)
        mask = (at < segments)[:, None] & here[None, :]
        tl.store(states + (segment[:, None] * n + head) * entries + entry[None, :], state, mask=mask)
        carried = tl.sum(tl.where((place == SEGMENTS - 1)[:, None], state, 0.0), axis=0)
    tl.store(end + head * entries + entry, carried, mask=here)


@triton.jit
def _seen(C: tl.constexpr, b, LOG: tl.constexpr):  # type: ignore[no-untyped-def]
    """What token j of a chunk weighs for token i: 1 if j <= i, times the decay in between where there is one."""
    i = tl.arange(0, C)
    earlier = i[:, None] >= i[None, :]
    if LOG:
        return tl.exp(tl.where(earlier, b[:, None] - b[None, :], float("-inf")))
    return tl.where(earlier, 1.0, 0.0)


@triton.jit
def _output(  # type: ignore[no-untyped-def]
    q, k, v, log_decay, states, out, scale, steps, batch, heads, D, E, length,
    q_t, q_b, q_h, k_t, k_b, k_h, v_t, v_b, v_h,
    C: tl.constexpr, DP: tl.constexpr, EP: tl.constexpr,
):  # fmt: skip
    head = tl.program_id(1)
    q += (head // heads).to(tl.int64) * q_b + (head % heads) * q_h
    k += (head // heads).to(tl.int64) * k_b + (head % heads) * k_h
    v += (head // heads).to(tl.int64) * v_b + (head % heads) * v_h
    d, e = tl.arange(0, DP), tl.arange(0, EP)
    at, inside = _state_at(states, head, batch * heads, D, E, DP, EP)
    state = tl.load(at, mask=inside, other=0.0)
    first = tl.program_id(0) * length
    for chunk in range(first, tl.minimum(first + length, tl.cdiv(steps, C))):
        token = chunk * C + tl.arange(0, C)
        query, key = _rows(q, token, steps, d, D, q_t), _rows(k, token, steps, d, D, k_t)
        value = _rows(v, token, steps, e, E, v_t)
        result = _product(query, state)
        if log_decay is None:
            seen = _seen(C, 0.0, False)
            state += _dot(tl.trans(key), value)
        else:
            b, whole = _decays(log_decay, token, steps, batch, heads, head)
            seen = _seen(C, b, True)
            result = result * tl.exp(b)[:, None]
            late = (value * tl.exp(whole - b)[:, None]).to(value.dtype)
            state = state * tl.exp(whole) + _dot(tl.trans(key), late)
        score = _dot(query, tl.trans(key)) * seen
        result += _dot(score.to(value.dtype), value)
        place = (token.to(tl.int64)[:, None] * batch * heads + head) * E + e[None, :]
        tl.store(out + place, result * scale, mask=(token < steps)[:, None] & (e < E)[None, :])


@triton.jit
def _grad_q(  # type: ignore[no-untyped-def]
    q, k, v, log_decay, go, states, sums, totals, gq, dots, scale, steps, batch, heads, D, E, length,
    q_t, q_b, q_h, k_t, k_b, k_h, v_t, v_b, v_h, g_t, g_b, g_h,
    C: tl.constexpr, DP: tl.constexpr, EP: tl.constexpr,
):  # fmt: skip
    """Gradients of q; and the segment's sum of q^T go, decayed back to its start."""
    head = tl.program_id(1)
    q += (head // heads).to(tl.int64) * q_b + (head % heads) * q_h
    k += (head // heads).to(tl.int64) * k_b + (head % heads) * k_h
    v += (head // heads).to(tl.int64) * v_b + (head % heads) * v_h
    go += (head // heads).to(tl.int64) * g_b + (head % heads) * g_h
    d, e = tl.arange(0, DP), tl.arange(0, EP)
    at, inside = _state_at(states, head, batch * heads, D, E, DP, EP)
    state = tl.load(at, mask=inside, other=0.0)
    total_sum = tl.zeros([DP, EP], tl.float32)
    total = 0.0
    first = tl.program_id(0) * length
    for chunk in range(first, tl.minimum(first + length, tl.cdiv(steps, C))):
        token = chunk * C + tl.arange(0, C)
        query, key = _rows(q, token, steps, d, D, q_t), _rows(k, token, steps, d, D, k_t)
        value, grad = _rows(v, token, steps, e, E, v_t), _rows(go, token, steps, e, E, g_t)
        result = _dot(grad, tl.trans(state).to(grad.dtype))
        if log_decay is None:
            seen = _seen(C, 0.0, False)
            state += _dot(tl.trans(key), value)
            total_sum += _dot(tl.trans(query), grad)
        else:
            b, whole = _decays(log_decay, token, steps, batch, heads, head)
            seen = _seen(C, b, True)
            result = result * tl.exp(b)[:, None]
            late = (value * tl.exp(whole - b)[:, None]).to(value.dtype)
            state = state * tl.exp(whole) + _dot(tl.trans(key), late)
            total_sum += _dot(tl.trans(query), (grad * tl.exp(total + b)[:, None]).to(grad.dtype))
            total += whole
        score = _dot(grad, tl.trans(value)) * seen
        result += _dot(score.to(key.dtype), key)
        result *= scale
        place = (token.to(tl.int64)[:, None] * batch * heads + head) * D + d[None, :]
        tl.store(gq + place, result, mask=(token < steps)[:, None] & (d < D)[None, :])
        if log_decay is not None:
            dot = tl.sum(query * result, 1)
            tl.store(dots + token.to(tl.int64) * batch * heads + head, dot, mask=token < steps)
    at, inside = _state_at(sums, head, batch * heads, D, E, DP, EP)
    tl.store(at, total_sum * scale, mask=inside)
    if log_decay is not None:
        tl.store(totals + tl.program_id(0) * batch * heads + head, total)


@triton.jit
def _grad_kv(  # type: ignore[no-untyped-def]
    q, k, v, log_decay, go, adjoints, gk, gv, dots, scale, steps, batch, heads, D, E, length,
    q_t, q_b, q_h, k_t, k_b, k_h, v_t, v_b, v_h, g_t, g_b, g_h,
    C: tl.constexpr, DP: tl.constexpr, EP: tl.constexpr,
):  # fmt: skip
    """Gradients of k and v, from the segment's end, where `adjoints` is the gradient of the state."""
    head = tl.program_id(1)
    q += (head // heads).to(tl.int64) * q_b + (head % heads) * q_h
    k += (head // heads).to(tl.int64) * k_b + (head % heads) * k_h
    v += (head // heads).to(tl.int64) * v_b + (head % heads) * v_h
    go += (head // heads).to(tl.int64) * g_b + (head % heads) * g_h
    d, e = tl.arange(0, DP), tl.arange(0, EP)
    at, inside = _state_at(adjoints, head, batch * heads, D, E, DP, EP)
    adjoint = tl.load(at, mask=inside, other=0.0)
    first = tl.program_id(0) * length
    beyond = tl.minimum(first + length, tl.cdiv(steps, C))
    for back in range(0, beyond - first):
        token = (beyond - 1 - back) * C + tl.arange(0, C)
        query, key = _rows(q, token, steps, d, D, q_t), _rows(k, token, steps, d, D, k_t)
        value, grad = _rows(v, token, steps, e, E, v_t), _rows(go, token, steps, e, E, g_t)
        rounded = adjoint.to(key.dtype)
        g_value, g_key = _dot(key, rounded), _dot(value, tl.trans(rounded))
        if log_decay is None:
            seen = _seen(C, 0.0, False)
            adjoint += _dot(tl.trans(query), grad) * scale
        else:
            b, whole = _decays(log_decay, token, steps, batch, heads, head)
            seen = _seen(C, b, True)
            late = tl.exp(whole - b)[:, None]
            g_value, g_key = g_value * late, g_key * late
            early = (grad * tl.exp(b)[:, None]).to(grad.dtype)
            adjoint = adjoint * tl.exp(whole) + _dot(tl.trans(query), early) * scale
        seen = tl.trans(seen) * scale
        g_value += _dot((_dot(key, tl.trans(query)) * seen).to(grad.dtype), grad)
        g_key += _dot((_dot(value, tl.trans(grad)) * seen).to(query.dtype), query)
        place, known = token.to(tl.int64)[:, None] * batch * heads + head, (token < steps)[:, None]
        tl.store(gk + place * D + d[None, :], g_key, mask=known & (d < D)[None, :])
        tl.store(gv + place * E + e[None, :], g_value, mask=known & (e < E)[None, :])
        if log_decay is not None:
            tl.store(dots + token.to(tl.int64) * batch * heads + head, tl.sum(key * g_key, 1), mask=token < steps)
