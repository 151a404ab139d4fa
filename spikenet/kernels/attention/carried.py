"""What is carried from chunk to chunk: the part of the chunkwise form that goes in turn.

With a chunk's `early`, `late` and `heard` `[C, D]`, `score` `[C, C]`, `decay` `[D or 1, 1]` and `own` `[C, E]`:

    U = own - heard S        O = early S + score U        next S = decay S + late^T U

The rest of the form is products of all chunks at once, which torch does well.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from spikenet.errors import BackendError
from spikenet.kernels.backends import Implementation, Operation, anywhere, lazily
from spikenet.kernels.operators import define
from spikenet.kernels.triton_device import why_not_on

_triton = "spikenet.kernels.attention.triton_carried"


class _Carried(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *given: Any) -> Any:
        with torch._C._AutoDispatchBelowAutograd():
            out, last, states, new = torch.ops.spikenet.carried(*given)
        early, late, score, decay, _, heard, _ = given
        ctx.save_for_backward(early, late, score, decay, heard, states, new)
        ctx.mark_non_differentiable(states, new)
        return out, last, states, new

    @staticmethod
    def backward(ctx: Any, g_out: Tensor, g_last: Tensor, *_: Any) -> Any:
        if torch.is_grad_enabled():
            raise BackendError(
                "the kernels of causal_attention have no second derivative: call grad or backward without "
                'create_graph=True, or use_backend("reference")'
            )
        early, late, score, decay, heard, states, new = ctx.saved_tensors
        g_new, adjoints, first = torch.ops.spikenet.carried_back(early, late, score, decay, heard, g_out, g_last)
        g_decay = None
        if decay is not None:
            g_decay = (adjoints * states).sum(-1, keepdim=True).sum_to_size(decay.shape)
        g_heard = None if heard is None else -g_new @ states.mT
        return g_out @ states.mT, new @ adjoints.mT, g_out @ new.mT, g_decay, g_new, g_heard, first


def _autograd(*given: Any) -> Any:
    if torch.is_grad_enabled() and any(u is not None and u.requires_grad for u in given):
        return _Carried.apply(*given)
    with torch._C._AutoDispatchBelowAutograd():
        return torch.ops.spikenet.carried(*given)


def _fake(early: Tensor, late: Tensor, score: Tensor, decay: Any, own: Tensor, heard: Any, state: Tensor) -> Any:
    states = state.new_empty((len(own), *state.shape))
    return own.new_empty(own.shape), state.new_empty(state.shape), states, own.new_empty(own.shape)


def _fake_back(
    early: Tensor, late: Tensor, score: Tensor, decay: Any, heard: Any, g_out: Tensor, g_last: Tensor
) -> Any:
    adjoints = g_last.new_empty((len(g_out), *g_last.shape))
    return g_out.new_empty(g_out.shape), adjoints, g_last.new_empty(g_last.shape)


define(
    "carried(Tensor early, Tensor late, Tensor score, Tensor? decay, Tensor own, Tensor? heard, Tensor state) "
    "-> (Tensor, Tensor, Tensor, Tensor)",
    lazily(_triton, "forward"),
    _fake,
    _autograd,
)
define(
    "carried_back(Tensor early, Tensor late, Tensor score, Tensor? decay, Tensor? heard, Tensor g_out, Tensor g_last) "
    "-> (Tensor, Tensor, Tensor)",
    lazily(_triton, "backward"),
    _fake_back,
)


def _why_not(early: Tensor, late: Tensor, score: Tensor, decay: Any, own: Tensor, *_: Any) -> str | None:
    if own.dtype != torch.float32:
        return f"the Triton kernel computes in float32, and the input is {own.dtype}"
    return why_not_on(own)


def _by_kernel(*given: Any) -> tuple[Tensor, Tensor]:
    out, last, *_ = torch.ops.spikenet.carried(*given)
    return out, last


def _in_torch(
    early: Tensor,
    late: Tensor,
    score: Tensor,
    decay: Tensor | None,
    own: Tensor,
    heard: Tensor | None,
    state: Tensor,
) -> tuple[Tensor, Tensor]:
    if heard is None:
        before, last = _states(late.mT @ own, decay, state)
        return early @ before + score @ own, last
    rows = []
    for n in range(len(early)):
        new = own[n] - heard[n] @ state
        rows.append(early[n] @ state + score[n] @ new)
        state = (state if decay is None else decay[n] * state) + late[n].mT @ new
    return torch.stack(rows), state


def _states(sums: Tensor, decay: Tensor | None, state: Tensor) -> tuple[Tensor, Tensor]:
    """The state before each chunk, and the last."""
    if decay is None:
        states = torch.cat([state.unsqueeze(0), sums]).cumsum(0)
        return states[:-1], states[-1]
    before = []
    for n in range(len(sums)):
        before.append(state)
        state = decay[n] * state + sums[n]
    return torch.stack(before), state


CARRIED = Operation(
    "carried",
    Implementation("triton", _why_not, _by_kernel),
    Implementation("numba", anywhere, _in_torch),  # it has no loop worth compiling
    Implementation("reference", anywhere, _in_torch),
)
