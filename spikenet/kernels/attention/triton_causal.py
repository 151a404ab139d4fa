"""Causal linear attention in Triton: no decay, or one number a head and step. Importing this module imports triton.

A sequence is cut into segments, and a program takes one segment of one head: chunk by chunk, with the state in
registers. So the state leaves the chip once a segment, and all segments run at once:

    forward     sums of k^T v a segment;  their scan over segments;  the output from each segment's first state
    backward    sums of q^T go a segment;  their scan from the end;  the gradients from each segment's last state and
                its adjoint (with decay in two passes: q from the front, k and v from the end)

Where there are sequences enough, one segment is as long as they are: the sums and their scan fall away, and the kernel
of the output begins with the given state, that of the gradients with the given adjoint.

States are float32. The output's product with one splits it into two parts of the storage type, so that counts of
spikes stay exact up to 2^16 (bfloat16) or 65504 (float16); gradients need only the first. float32 goes by 3xTF32.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from spikenet.kernels.attention.segments import CHUNK, Segments, blocks, power_of_two, segments
from spikenet.kernels.attention.triton_products import _dot, _product
from spikenet.kernels.launch import Launch, Plans, layout, on_its_device

SEGMENTS, TILE = 32, 4096  # of the scan: segments at most, and entries of the states in all


def forward(
    q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor | None, state: Tensor | None, scale: float
) -> tuple[Tensor, Tensor, Tensor]:
    """The output, the last state, and the states between segments `[segments + 1, B, H, D, E]`."""
    q, k, v = map(_in_rows, (q, k, v))
    given = q, k, v, log_decay, state
    run = _forwards.at((scale, q.device, *map(layout, given)), lambda: _Forward(*given, scale))
    return on_its_device(run, q, *given)


def backward(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    log_decay: Tensor | None,
    states: Tensor,
    go: Tensor,
    g_last: Tensor | None,
    scale: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """The gradients of q, k, v, the log-decay (empty if there is none) and the first state."""
    q, k, v, go = map(_in_rows, (q, k, v, go))
    given = q, k, v, log_decay, go, g_last
    run = _backwards.at((scale, q.device, *map(layout, given)), lambda: _Backward(*given, scale))
    return on_its_device(run, q, q, k, v, log_decay, states, go, g_last)


class _Forward:
    """The launches of the forward direction."""

    def __init__(
        self, q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor | None, state: Tensor | None, scale: float
    ) -> None:
        s, rows = segments(q, v), (*k.stride()[:3], *v.stride()[:3])
        self.sums = _Sums(s, v, log_decay is not None, 1.0, False, rows) if s.number > 1 else None
        self.shape = 2, s.batch, s.heads, s.width, s.values
        self.output = _launch(_output, s, v.dtype, (scale, *s, *q.stride()[:3], *rows), 3)

    def __call__(
        self, q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor | None, state: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        out = torch.empty(v.shape, dtype=v.dtype, device=v.device)
        if self.sums is not None:
            states, last = self.sums(k, v, log_decay, state)
            self.output(q, k, v, log_decay, states, None, None, out)
            return out, last, states
        states = torch.empty(self.shape, dtype=torch.float32, device=v.device)
        last = torch.empty(self.shape[1:], dtype=torch.float32, device=v.device)
        self.output(q, k, v, log_decay, states, state, last, out)
        return out, last, states


class _Backward:
    """The launches of the backward direction."""

    def __init__(
        self, q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor | None, go: Tensor, g_last: Tensor | None, scale: float
    ) -> None:
        s, rows = segments(q, v), [u.stride()[:3] for u in (q, k, v, go)]
        numbers = scale, *s, *(n for r in rows for n in r)
        self.sums = _Sums(s, v, log_decay is not None, scale, True, (*rows[0], *rows[3])) if s.number > 1 else None
        kernels = (_grad,) if log_decay is None else (_grad_q, _grad_kv)
        self.grads = [_launch(kernel, s, v.dtype, numbers, 2) for kernel in kernels]

    def __call__(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        log_decay: Tensor | None,
        states: Tensor,
        go: Tensor,
        g_last: Tensor | None,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        if self.sums is None:
            first = torch.empty_like(states[0])
            ends: tuple[Tensor | None, ...] = None, g_last, first
        else:
            adjoints, first = self.sums(q, go, log_decay, g_last)
            ends = adjoints, None, None
        gq, gk, gv = (torch.empty(u.shape, dtype=u.dtype, device=u.device) for u in (q, k, v))
        if log_decay is None:
            self.grads[0](q, k, v, go, states, *ends, gq, gk, gv)
            return gq, gk, gv, states.new_empty(0), first
        g = torch.empty_like(log_decay)
        self.grads[0](q, k, v, log_decay, go, states, gq, g)
        self.grads[1](q, k, v, log_decay, go, states, *ends, gk, gv, g)
        return gq, gk, gv, g, first


class _Sums:
    """The states between segments, from the sums of `a^T b` within them, and the one that they lead to.

    In reverse the states are adjoints: they grow from the end.
    """

    def __init__(
        self, s: Segments, b: Tensor, decays: bool, scale: float, reverse: bool, rows: tuple[int, ...]
    ) -> None:
        self.shape, self.decays = (s.number + 1, s.batch, s.heads, s.width, s.values), decays
        options = {"num_warps": 4, "num_stages": 2 if b.dtype == torch.float32 else 3}
        constants = CHUNK, *blocks(s.width, s.values), reverse
        self.sums = Launch(_sums, s.grid, (scale, *s, *rows), constants, **options)
        entries, n = s.width * s.values, s.batch * s.heads
        deep = min(SEGMENTS, power_of_two(s.number + 1))
        tile = deep, min(TILE // deep, power_of_two(entries))
        grid = -(-entries // tile[1]), n
        self.scan = Launch(_scan, grid, (s.number, n, entries), (reverse, *tile), num_warps=4)

    def __call__(self, a: Tensor, b: Tensor, log_decay: Tensor | None, start: Tensor | None) -> tuple[Tensor, Tensor]:
        states = torch.empty(self.shape, dtype=torch.float32, device=a.device)
        totals = states.new_empty(self.shape[:3]) if self.decays else None
        self.sums(a, b, log_decay, states, totals)
        end = states.new_empty(self.shape[1:])
        self.scan(states, totals, start, end)
        return states, end


_forwards: Plans[_Forward] = Plans()
_backwards: Plans[_Backward] = Plans()


def _launch(kernel: Any, s: Segments, dtype: torch.dtype, numbers: tuple[Any, ...], stages: int) -> Launch:
    wide, sizes = dtype == torch.float32, blocks(s.width, s.values)
    warps = 8 if wide and min(sizes) >= 64 else 4
    return Launch(kernel, s.grid, numbers, (CHUNK, *sizes), num_warps=warps, num_stages=1 if wide else stages)


def _in_rows(x: Tensor) -> Tensor:
    return x if x.stride(-1) == 1 else x.contiguous()


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
def _state_at(states, segment, head, n, D, E, DP: tl.constexpr, EP: tl.constexpr):  # type: ignore[no-untyped-def]
    """Pointers to, and the mask of, a head's state before a segment."""
    row, column = tl.arange(0, DP), tl.arange(0, EP)
    base = (segment.to(tl.int64) * n + head) * D * E
    return states + base + row[:, None] * E + column[None, :], (row < D)[:, None] & (column < E)[None, :]


@triton.jit
def _carried_in(states, start, alone, place, head, n, D, E, DP: tl.constexpr, EP: tl.constexpr):  # type: ignore[no-untyped-def]
    """What a segment begins with: the one of `states` at that place, or for a segment that is alone `start`."""
    if alone is None:
        at, inside = _state_at(states, place, head, n, D, E, DP, EP)
        state = tl.load(at, mask=inside, other=0.0)
    elif start is None:
        state = tl.zeros([DP, EP], tl.float32)
    else:
        at, inside = _state_at(start, tl.program_id(0), head, n, D, E, DP, EP)
        state = tl.load(at, mask=inside, other=0.0)
    return state


@triton.jit
def _sums(  # type: ignore[no-untyped-def]
    a, b, log_decay, states, totals, scale, steps, batch, heads, D, E, length,
    a_t, a_b, a_h, b_t, b_b, b_h,
    C: tl.constexpr, DP: tl.constexpr, EP: tl.constexpr, REVERSE: tl.constexpr,
):  # fmt: skip
    """`scale` times the segment's sum of `a^T b`, decayed up to its end, in reverse back to before its first token: for
    the time being in the place of the state that it leads to."""
    head = tl.program_id(1)
    a += (head // heads).to(tl.int64) * a_b + (head % heads) * a_h
    b += (head // heads).to(tl.int64) * b_b + (head % heads) * b_h
    d, e = tl.arange(0, DP), tl.arange(0, EP)
    state = tl.zeros([DP, EP], tl.float32)
    total = 0.0
    first = tl.program_id(0) * length
    for chunk in range(first, tl.minimum(first + length, tl.cdiv(steps, C))):
        token = chunk * C + tl.arange(0, C)
        left, right = _rows(a, token, steps, d, D, a_t), _rows(b, token, steps, e, E, b_t)
        if log_decay is not None:
            passed, whole = _decays(log_decay, token, steps, batch, heads, head)
            if REVERSE:
                right = (right * tl.exp(total + passed)[:, None]).to(right.dtype)
            else:
                right = (right * tl.exp(whole - passed)[:, None]).to(right.dtype)
                state = state * tl.exp(whole)
            total += whole
        state += _dot(tl.trans(left), right)
    place = tl.program_id(0) if REVERSE else tl.program_id(0) + 1
    at, inside = _state_at(states, place, head, batch * heads, D, E, DP, EP)
    tl.store(at, state * scale, mask=inside)
    if log_decay is not None:
        tl.store(totals + tl.program_id(0) * batch * heads + head, total)


@triton.jit
def _then(a1, b1, a2, b2):  # type: ignore[no-untyped-def]
    """`s -> a1 s + b1`, then `s -> a2 s + b2`."""
    return a1 * a2, a2 * b1 + b2


@triton.jit
def _scan(  # type: ignore[no-untyped-def]
    states, totals, start, end, segments, n, entries,
    REVERSE: tl.constexpr, SEGMENTS: tl.constexpr, ENTRIES: tl.constexpr,
):  # fmt: skip
    """From the segments' sums in `states` to the states between segments, in place."""
    head, entry = tl.program_id(1).to(tl.int64), tl.program_id(0) * ENTRIES + tl.arange(0, ENTRIES)
    here = entry < entries
    if start is None:
        carried = tl.zeros([ENTRIES], tl.float32)
    else:
        carried = tl.load(start + head * entries + entry, mask=here, other=0.0)
    place = tl.arange(0, SEGMENTS)
    for first in range(0, segments + 1, SEGMENTS):
        at = first + place
        slot = (segments - at if REVERSE else at).to(tl.int64)
        here_at = states + (slot[:, None] * n + head) * entries + entry[None, :]
        known = (at > 0) & (at <= segments)
        value = tl.load(here_at, mask=known[:, None] & here[None, :], other=0.0)
        if totals is None:
            state = tl.cumsum(value, 0) + carried[None, :]
        else:
            segment = slot if REVERSE else slot - 1
            factor = tl.exp(tl.load(totals + segment * n + head, mask=known, other=0.0))
            factors = tl.broadcast_to(factor[:, None], (SEGMENTS, ENTRIES))
            power, inner = tl.associative_scan((factors, value), 0, _then)
            state = power * carried[None, :] + inner
        tl.store(here_at, state, mask=(at <= segments)[:, None] & here[None, :])
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
    q, k, v, log_decay, states, start, last, out, scale, steps, batch, heads, D, E, length,
    q_t, q_b, q_h, k_t, k_b, k_h, v_t, v_b, v_h,
    C: tl.constexpr, DP: tl.constexpr, EP: tl.constexpr,
):  # fmt: skip
    head = tl.program_id(1)
    q += (head // heads).to(tl.int64) * q_b + (head % heads) * q_h
    k += (head // heads).to(tl.int64) * k_b + (head % heads) * k_h
    v += (head // heads).to(tl.int64) * v_b + (head % heads) * v_h
    d, e = tl.arange(0, DP), tl.arange(0, EP)
    state = _carried_in(states, start, last, tl.program_id(0), head, batch * heads, D, E, DP, EP)
    if last is not None:
        at, inside = _state_at(states, tl.program_id(0), head, batch * heads, D, E, DP, EP)
        tl.store(at, state, mask=inside)
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
    if last is not None:
        at, inside = _state_at(states, tl.program_id(0) + 1, head, batch * heads, D, E, DP, EP)
        tl.store(at, state, mask=inside)
        at, inside = _state_at(last, tl.program_id(0), head, batch * heads, D, E, DP, EP)
        tl.store(at, state, mask=inside)


@triton.jit
def _grad(  # type: ignore[no-untyped-def]
    q, k, v, go, states, adjoints, end, first, gq, gk, gv, scale, steps, batch, heads, D, E, length,
    q_t, q_b, q_h, k_t, k_b, k_h, v_t, v_b, v_h, g_t, g_b, g_h,
    C: tl.constexpr, DP: tl.constexpr, EP: tl.constexpr,
):  # fmt: skip
    """All gradients without decay, from the segment's end: what a chunk wrote is taken off the state again."""
    head = tl.program_id(1)
    q += (head // heads).to(tl.int64) * q_b + (head % heads) * q_h
    k += (head // heads).to(tl.int64) * k_b + (head % heads) * k_h
    v += (head // heads).to(tl.int64) * v_b + (head % heads) * v_h
    go += (head // heads).to(tl.int64) * g_b + (head % heads) * g_h
    d, e = tl.arange(0, DP), tl.arange(0, EP)
    at, inside = _state_at(states, tl.program_id(0) + 1, head, batch * heads, D, E, DP, EP)
    state = tl.load(at, mask=inside, other=0.0)
    adjoint = _carried_in(adjoints, end, first, tl.program_id(0) + 1, head, batch * heads, D, E, DP, EP)
    begin = tl.program_id(0) * length
    beyond = tl.minimum(begin + length, tl.cdiv(steps, C))
    for back in range(beyond - begin):
        token = (beyond - 1 - back) * C + tl.arange(0, C)
        query, key = _rows(q, token, steps, d, D, q_t), _rows(k, token, steps, d, D, k_t)
        value, grad = _rows(v, token, steps, e, E, v_t), _rows(go, token, steps, e, E, g_t)
        place, known = token.to(tl.int64)[:, None] * batch * heads + head, (token < steps)[:, None]
        seen = _seen(C, 0.0, False) * scale
        state -= _dot(tl.trans(key), value)
        score = (_dot(grad, tl.trans(value)) * seen).to(key.dtype)
        result = _dot(grad, tl.trans(state).to(grad.dtype)) * scale + _dot(score, key)
        tl.store(gq + place * D + d[None, :], result, mask=known & (d < D)[None, :])
        rounded = adjoint.to(key.dtype)
        result = _dot(value, tl.trans(rounded)) + _dot(tl.trans(score), query)
        tl.store(gk + place * D + d[None, :], result, mask=known & (d < D)[None, :])
        score = (_dot(query, tl.trans(key)) * seen).to(key.dtype)
        result = _dot(key, rounded) + _dot(tl.trans(score), grad)
        tl.store(gv + place * E + e[None, :], result, mask=known & (e < E)[None, :])
        adjoint += _dot(tl.trans(query), grad) * scale
    if first is not None:
        at, inside = _state_at(first, tl.program_id(0), head, batch * heads, D, E, DP, EP)
        tl.store(at, adjoint, mask=inside)


@triton.jit
def _grad_q(  # type: ignore[no-untyped-def]
    q, k, v, log_decay, go, states, gq, g, scale, steps, batch, heads, D, E, length,
    q_t, q_b, q_h, k_t, k_b, k_h, v_t, v_b, v_h, g_t, g_b, g_h,
    C: tl.constexpr, DP: tl.constexpr, EP: tl.constexpr,
):  # fmt: skip
    """Gradients of q, and into `g` each token's `q . gq`."""
    head = tl.program_id(1)
    q += (head // heads).to(tl.int64) * q_b + (head % heads) * q_h
    k += (head // heads).to(tl.int64) * k_b + (head % heads) * k_h
    v += (head // heads).to(tl.int64) * v_b + (head % heads) * v_h
    go += (head // heads).to(tl.int64) * g_b + (head % heads) * g_h
    d, e = tl.arange(0, DP), tl.arange(0, EP)
    at, inside = _state_at(states, tl.program_id(0), head, batch * heads, D, E, DP, EP)
    state = tl.load(at, mask=inside, other=0.0)
    first = tl.program_id(0) * length
    for chunk in range(first, tl.minimum(first + length, tl.cdiv(steps, C))):
        token = chunk * C + tl.arange(0, C)
        query, key = _rows(q, token, steps, d, D, q_t), _rows(k, token, steps, d, D, k_t)
        value, grad = _rows(v, token, steps, e, E, v_t), _rows(go, token, steps, e, E, g_t)
        passed, whole = _decays(log_decay, token, steps, batch, heads, head)
        score = _dot(grad, tl.trans(value)) * _seen(C, passed, True)
        result = _dot(grad, tl.trans(state).to(grad.dtype)) * tl.exp(passed)[:, None]
        result = (result + _dot(score.to(key.dtype), key)) * scale
        late = (value * tl.exp(whole - passed)[:, None]).to(value.dtype)
        state = state * tl.exp(whole) + _dot(tl.trans(key), late)
        place = token.to(tl.int64) * batch * heads + head
        tl.store(gq + place[:, None] * D + d[None, :], result, mask=(token < steps)[:, None] & (d < D)[None, :])
        tl.store(g + place, tl.sum(query * result, 1), mask=token < steps)


@triton.jit
def _grad_kv(  # type: ignore[no-untyped-def]
    q, k, v, log_decay, go, states, adjoints, end, first, gk, gv, g, scale, steps, batch, heads, D, E, length,
    q_t, q_b, q_h, k_t, k_b, k_h, v_t, v_b, v_h, g_t, g_b, g_h,
    C: tl.constexpr, DP: tl.constexpr, EP: tl.constexpr,
):  # fmt: skip
    """Gradients of k and v, from the segment's end, and those of the log-decay.

    A log-decay scales all that is carried over its token: its gradient is the sum of `q . gq - k . gk` over the tokens
    from there to the segment's end, and of the state there times its adjoint.
    """
    head = tl.program_id(1)
    q += (head // heads).to(tl.int64) * q_b + (head % heads) * q_h
    k += (head // heads).to(tl.int64) * k_b + (head % heads) * k_h
    v += (head // heads).to(tl.int64) * v_b + (head % heads) * v_h
    go += (head // heads).to(tl.int64) * g_b + (head % heads) * g_h
    d, e = tl.arange(0, DP), tl.arange(0, EP)
    adjoint = _carried_in(adjoints, end, first, tl.program_id(0) + 1, head, batch * heads, D, E, DP, EP)
    at, inside = _state_at(states, tl.program_id(0) + 1, head, batch * heads, D, E, DP, EP)
    later = tl.sum(tl.sum(adjoint * tl.load(at, mask=inside, other=0.0), 1), 0)
    begin = tl.program_id(0) * length
    beyond = tl.minimum(begin + length, tl.cdiv(steps, C))
    for back in range(beyond - begin):
        token = (beyond - 1 - back) * C + tl.arange(0, C)
        query, key = _rows(q, token, steps, d, D, q_t), _rows(k, token, steps, d, D, k_t)
        value, grad = _rows(v, token, steps, e, E, v_t), _rows(go, token, steps, e, E, g_t)
        passed, whole = _decays(log_decay, token, steps, batch, heads, head)
        rounded, late = adjoint.to(key.dtype), tl.exp(whole - passed)[:, None]
        seen = tl.trans(_seen(C, passed, True)) * scale
        g_value = _dot(key, rounded) * late
        g_value += _dot((_dot(key, tl.trans(query)) * seen).to(grad.dtype), grad)
        g_key = _dot(value, tl.trans(rounded)) * late
        g_key += _dot((_dot(value, tl.trans(grad)) * seen).to(query.dtype), query)
        early = (grad * tl.exp(passed)[:, None]).to(grad.dtype)
        adjoint = adjoint * tl.exp(whole) + _dot(tl.trans(query), early) * scale
        place, known = token.to(tl.int64) * batch * heads + head, token < steps
        tl.store(gk + place[:, None] * D + d[None, :], g_key, mask=known[:, None] & (d < D)[None, :])
        tl.store(gv + place[:, None] * E + e[None, :], g_value, mask=known[:, None] & (e < E)[None, :])
        own = tl.load(g + place, mask=known, other=0.0) - tl.sum(key * g_key, 1)
        tl.store(g + place, later + tl.cumsum(own, 0, reverse=True), mask=known)
        later += tl.sum(own, 0)
    if first is not None:
        at, inside = _state_at(first, tl.program_id(0), head, batch * heads, D, E, DP, EP)
        tl.store(at, adjoint, mask=inside)
