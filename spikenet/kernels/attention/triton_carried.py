"""The states from chunk to chunk in Triton, by columns of the state, which know nothing of each other. Importing this
module imports triton."""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from spikenet.kernels.attention.segments import power_of_two
from spikenet.kernels.attention.triton_products import _dot
from spikenet.kernels.launch import Launch, Plans, layout, on_its_device

COLUMNS = 32  # of a program's part of the state

_plans: Plans[Launch] = Plans()


def forward(
    early: Tensor, late: Tensor, score: Tensor, decay: Tensor | None, own: Tensor, heard: Tensor | None, state: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The output, the last state, the states before each chunk, and `U`."""
    states = state.new_empty((len(own), *state.shape))
    out, new, last = own.new_empty(own.shape), own.new_empty(own.shape), state.new_empty(state.shape)
    _run(_forward, (early, late, score, decay, own, heard, state), (out, new, states, last))
    return out, last, states, new


def backward(
    early: Tensor,
    late: Tensor,
    score: Tensor,
    decay: Tensor | None,
    heard: Tensor | None,
    g_out: Tensor,
    g_last: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of `U`, of the states after each chunk, and of the first state."""
    adjoints = g_last.new_empty((len(g_out), *g_last.shape))
    g_new, first = g_out.new_empty(g_out.shape), g_last.new_empty(g_last.shape)
    _run(_backward, (early, late, score, decay, g_out, heard, g_last), (g_new, adjoints, first))
    return g_new, adjoints, first


def _run(kernel: triton.JITFunction, given: tuple[Tensor | None, ...], results: tuple[Tensor, ...]) -> None:
    given = tuple(None if u is None else u.contiguous() for u in given)
    key = kernel, results[0].device, *map(layout, given)
    launch = _plans.at(key, lambda: _plan(kernel, *given))  # type: ignore[arg-type]
    on_its_device(launch, results[0], *given, *results)


def _plan(
    kernel: triton.JITFunction,
    early: Tensor,
    late: Tensor,
    score: Tensor,
    decay: Tensor | None,
    own: Tensor,
    *_: Tensor,
) -> Launch:
    chunks, batch, heads, size, width = early.shape
    values, n = own.shape[-1], batch * heads
    columns = max(16, min(COLUMNS if width <= 64 else 16, power_of_two(values)))
    numbers = chunks, n, width, values, 1 if decay is None else decay.shape[-2]
    constants = size, max(16, power_of_two(width)), columns
    return Launch(kernel, (n, -(-values // columns)), numbers, constants, num_warps=4, num_stages=1)


@triton.jit
def _block(x, at, columns, width, C: tl.constexpr):  # type: ignore[no-untyped-def]
    """`[C, columns]` of a chunk's `[C, width]`."""
    place = x + at * C * width + tl.arange(0, C)[:, None] * width + columns[None, :]
    return tl.load(place, mask=(columns < width)[None, :], other=0.0)


@triton.jit
def _forward(  # type: ignore[no-untyped-def]
    early, late, score, decay, own, heard, state, out, new, states, last, chunks, n, D, E, decays,
    C: tl.constexpr, DP: tl.constexpr, EP: tl.constexpr,
):  # fmt: skip
    head, e, d = tl.program_id(0).to(tl.int64), tl.program_id(1) * EP + tl.arange(0, EP), tl.arange(0, DP)
    entry, inside = d[:, None] * E + e[None, :], (d < D)[:, None] & (e < E)[None, :]
    row, known = tl.arange(0, C)[:, None] * E + e[None, :], (e < E)[None, :]
    carried = tl.load(state + head * D * E + entry, mask=inside, other=0.0)
    for chunk in range(chunks):
        at = chunk * n + head
        tl.store(states + at * D * E + entry, carried, mask=inside)
        fresh = _block(own, at, e, E, C)
        if heard is not None:
            fresh -= _dot(_block(heard, at, d, D, C), carried)
        tl.store(new + at * C * E + row, fresh, mask=known)
        result = _dot(_block(early, at, d, D, C), carried) + _dot(_block(score, at, tl.arange(0, C), C, C), fresh)
        tl.store(out + at * C * E + row, result, mask=known)
        if decay is not None:
            carried *= tl.load(decay + at * decays + d % decays, mask=d < D, other=0.0)[:, None]
        carried += _dot(tl.trans(_block(late, at, d, D, C)), fresh)
    tl.store(last + head * D * E + entry, carried, mask=inside)


@triton.jit
def _backward(  # type: ignore[no-untyped-def]
    early, late, score, decay, g_out, heard, g_last, g_new, adjoints, first, chunks, n, D, E, decays,
    C: tl.constexpr, DP: tl.constexpr, EP: tl.constexpr,
):  # fmt: skip
    head, e, d = tl.program_id(0).to(tl.int64), tl.program_id(1) * EP + tl.arange(0, EP), tl.arange(0, DP)
    entry, inside = d[:, None] * E + e[None, :], (d < D)[:, None] & (e < E)[None, :]
    row, known = tl.arange(0, C)[:, None] * E + e[None, :], (e < E)[None, :]
    adjoint = tl.load(g_last + head * D * E + entry, mask=inside, other=0.0)
    for back in range(chunks):
        at = (chunks - 1 - back) * n + head
        tl.store(adjoints + at * D * E + entry, adjoint, mask=inside)
        grad = _block(g_out, at, e, E, C)
        fresh = _dot(tl.trans(_block(score, at, tl.arange(0, C), C, C)), grad)
        fresh += _dot(_block(late, at, d, D, C), adjoint)
        tl.store(g_new + at * C * E + row, fresh, mask=known)
        if decay is not None:
            adjoint *= tl.load(decay + at * decays + d % decays, mask=d < D, other=0.0)[:, None]
        adjoint += _dot(tl.trans(_block(early, at, d, D, C)), grad)
        if heard is not None:
            adjoint -= _dot(tl.trans(_block(heard, at, d, D, C)), fresh)
    tl.store(first + head * D * E + entry, adjoint, mask=inside)
