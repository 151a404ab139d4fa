"""The Triton kernels of causal attention as torch operators, with fakes and autograd."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from spikenet.errors import BackendError
from spikenet.kernels.attention.segments import segments
from spikenet.kernels.backends import lazily
from spikenet.kernels.triton_device import why_not_on

WIDEST = 128  # entries of a head

_library = torch.library.Library("spikenet", "FRAGMENT")
_library.define(
    "causal_attention(Tensor q, Tensor k, Tensor v, Tensor? log_decay, Tensor? state, float scale) "
    "-> (Tensor, Tensor, Tensor)"
)
_library.define(
    "causal_attention_backward(Tensor q, Tensor k, Tensor v, Tensor? log_decay, Tensor states, Tensor go, Tensor? g_last, "
    "float scale) -> (Tensor, Tensor, Tensor, Tensor, Tensor)"
)
_forward = lazily("spikenet.kernels.attention.triton_causal", "forward")
_backward = lazily("spikenet.kernels.attention.triton_causal", "backward")


def why_not(q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor | None, beta: Tensor | None, *_: Any) -> str | None:
    """Why the kernels cannot run, or None."""
    if beta is not None:
        return "the delta rule has no Triton kernel: it goes chunk by chunk in torch"
    if log_decay is not None and log_decay.shape[-1] != 1:
        return "a decay of its own for every channel has no Triton kernel: it goes chunk by chunk in torch"
    if v.dtype == torch.float64:
        return "the Triton kernels compute in float32, and the input is torch.float64"
    if max(q.shape[-1], v.shape[-1]) > WIDEST:
        return f"the Triton kernels take heads of up to {WIDEST}, got {q.shape[-1]} and {v.shape[-1]}"
    return why_not_on(v)


def run(
    q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor | None, beta: None, state: Tensor | None, scale: float
) -> tuple[Tensor, Tensor]:
    """See `causal.causal_attention`; `log_decay` is `[T, B, H, 1]`."""
    g = None if log_decay is None else log_decay.squeeze(-1).contiguous()
    out, last, _ = torch.ops.spikenet.causal_attention(q, k, v, g, state, scale)
    return out, last


class _Causal(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, g: Tensor | None, state: Tensor | None, scale: float) -> Any:
        with torch._C._AutoDispatchBelowAutograd():
            out, last, states = torch.ops.spikenet.causal_attention(q, k, v, g, state, scale)
        ctx.save_for_backward(q, k, v, g, states)
        ctx.scale = scale
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(states)
        return out, last, states

    @staticmethod
    def backward(ctx: Any, go: Tensor | None, g_last: Tensor | None, _: Any) -> Any:
        if torch.is_grad_enabled():
            raise BackendError(
                "causal_attention has no second derivative on CUDA devices: call grad or backward without "
                "create_graph=True, or compute in float64"
            )
        q, k, v, g, states = ctx.saved_tensors
        if go is None:
            go = torch.zeros_like(v)
        gradients = torch.ops.spikenet.causal_attention_backward(q, k, v, g, states, go, g_last, ctx.scale)
        gq, gk, gv, gg, g_state = gradients
        return gq, gk, gv, None if g is None else gg, g_state if ctx.needs_input_grad[4] else None, None


def _autograd(q: Tensor, k: Tensor, v: Tensor, g: Tensor | None, state: Tensor | None, scale: float) -> Any:
    if torch.is_grad_enabled() and any(u is not None and u.requires_grad for u in (q, k, v, g, state)):
        return _Causal.apply(q, k, v, g, state, scale)
    with torch._C._AutoDispatchBelowAutograd():
        return torch.ops.spikenet.causal_attention(q, k, v, g, state, scale)


def _fake(q: Tensor, k: Tensor, v: Tensor, g: Tensor | None, state: Tensor | None, scale: float) -> Any:
    shape, f32 = (*q.shape[1:], v.shape[-1]), torch.float32
    return v.new_empty(v.shape), v.new_empty(shape, dtype=f32), v.new_empty((segments(q, v).count + 1, *shape), dtype=f32)


def _fake_backward(
    q: Tensor, k: Tensor, v: Tensor, g: Any, states: Tensor, go: Any, g_last: Any, scale: float
) -> Any:
    like = [u.new_empty(u.shape) for u in (q, k, v)]
    return *like, q.new_empty(0 if g is None else g.shape, dtype=torch.float32), torch.empty_like(states[0])


_library.impl("causal_attention", _forward, "CompositeExplicitAutograd")
_library.impl("causal_attention_backward", _backward, "CompositeExplicitAutograd")
_library.impl("causal_attention", _autograd, "Autograd")
torch.library.register_fake("spikenet::causal_attention", _fake, lib=_library)
torch.library.register_fake("spikenet::causal_attention_backward", _fake_backward, lib=_library)
