"""The kernels of causal attention as torch operators, with fakes and autograd: one pair of them for each backend.

A pair keeps `states` between its two directions: Triton those between segments, Numba the first and the last.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from spikenet.errors import BackendError
from spikenet.kernels.attention.segments import segments
from spikenet.kernels.backends import lazily, on_processor
from spikenet.kernels.dynamics import may_be_bound
from spikenet.kernels.operators import define
from spikenet.kernels.triton_device import why_not_on

WIDEST = 128  # entries of a head in the Triton kernels


def triton_why_not(q: Tensor, k: Tensor, v: Tensor, *_: Any) -> str | None:
    """Why the Triton kernels cannot run, or None."""
    if v.dtype == torch.float64:
        return "the Triton kernels compute in float32, and the input is torch.float64"
    if max(q.shape[-1], v.shape[-1]) > WIDEST:
        return f"the Triton kernels take heads of up to {WIDEST}, got {q.shape[-1]} and {v.shape[-1]}"
    return why_not_on(v)


def numba_why_not(q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor | None, beta: Any, *_: Any) -> str | None:
    """Why the Numba kernels cannot run, or None."""
    if beta is not None:
        return "the delta rule has no Numba kernel: it goes chunk by chunk in torch"
    return on_processor(v)


class Kernels:
    """The operators `name` and `name_backward`, made of `forward` and `backward` of `module`.

    Args:
        name: of the forward operator.
        module: holds the two functions.
        kept: how many states the forward direction keeps, from q and v.
    """

    def __init__(self, name: str, module: str, kept: Callable[[Tensor, Tensor], int]) -> None:
        self._kept = kept
        self.forward, self.backward = lazily(module, "forward"), lazily(module, "backward")
        self._operator = define(
            f"{name}(Tensor q, Tensor k, Tensor v, Tensor? log_decay, Tensor? state, float scale) "
            "-> (Tensor, Tensor, Tensor)",
            self.forward,
            self._fake,
            self._autograd,
        )
        self.operator_backward = define(
            f"{name}_backward(Tensor q, Tensor k, Tensor v, Tensor? log_decay, Tensor states, Tensor go, "
            "Tensor? g_last, float scale) -> (Tensor, Tensor, Tensor, Tensor, Tensor)",
            self.backward,
            self._fake_backward,
        )

    def __call__(
        self, q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor | None, beta: None, state: Tensor | None, scale: float
    ) -> tuple[Tensor, Tensor]:
        """See `causal.causal_attention`; `log_decay` is `[T, B, H, 1 or D]`."""
        g = None if log_decay is None else log_decay.contiguous()
        start = None if state is None else state.contiguous()
        if not may_be_bound((q, k, v)):
            out, last, _ = self._operator(q, k, v, g, start, scale)
        elif _watched(q, k, v, g, start):  # past the dispatcher, which takes longer than a kernel
            out, last = _Causal.apply(self, True, q, k, v, g, start, scale)
        else:
            out, last, _ = self.forward(q, k, v, g, start, scale)
        return out, last

    def below_autograd(self, *given: Any) -> Any:
        """The forward operator, below autograd."""
        with torch._C._AutoDispatchBelowAutograd():
            return self._operator(*given)

    def _autograd(self, q: Tensor, k: Tensor, v: Tensor, g: Tensor | None, state: Tensor | None, scale: float) -> Any:
        if _watched(q, k, v, g, state):
            return _Causal.apply(self, False, q, k, v, g, state, scale)
        return self.below_autograd(q, k, v, g, state, scale)

    def _fake(self, q: Tensor, k: Tensor, v: Tensor, g: Tensor | None, state: Tensor | None, scale: float) -> Any:
        shape, real = (*q.shape[1:], v.shape[-1]), torch.float64 if v.dtype == torch.float64 else torch.float32
        states = v.new_empty((self._kept(q, v), *shape), dtype=real)
        return v.new_empty(v.shape), v.new_empty(shape, dtype=real), states

    def _fake_backward(
        self, q: Tensor, k: Tensor, v: Tensor, g: Any, states: Tensor, go: Any, g_last: Any, scale: float
    ) -> Any:
        like = [u.new_empty(u.shape) for u in (q, k, v)]
        decay = states.new_empty(0) if g is None else torch.empty_like(g)
        return *like, decay, torch.empty_like(states[0])


def _watched(*given: Tensor | None) -> bool:
    return torch.is_grad_enabled() and any(u is not None and u.requires_grad for u in given)


class _Causal(torch.autograd.Function):
    """`straight`: past the operators, and without the states as an output."""

    @staticmethod
    def forward(
        ctx: Any,
        kernels: Kernels,
        straight: bool,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        g: Tensor | None,
        state: Tensor | None,
        scale: float,
    ) -> Any:
        out, last, states = (kernels.forward if straight else kernels.below_autograd)(q, k, v, g, state, scale)
        ctx.save_for_backward(q, k, v, g, states)
        ctx.kernels, ctx.scale = kernels, scale
        ctx.set_materialize_grads(False)
        if straight:
            return out, last
        ctx.mark_non_differentiable(states)
        return out, last, states

    @staticmethod
    def backward(ctx: Any, go: Tensor | None, g_last: Tensor | None, *_: Any) -> Any:
        if torch.is_grad_enabled():
            raise BackendError(
                "the kernels of causal_attention have no second derivative: call grad or backward without "
                'create_graph=True, or use_backend("reference")'
            )
        q, k, v, g, states = ctx.saved_tensors
        if go is None:
            go = torch.zeros_like(v)
        if g_last is not None:
            g_last = g_last.contiguous()  # it may be expanded or transposed, as a sum or a view makes it
        run = ctx.kernels.backward if may_be_bound((go,)) else ctx.kernels.operator_backward
        gq, gk, gv, gg, g_state = run(q, k, v, g, states, go, g_last, ctx.scale)
        return None, None, gq, gk, gv, None if g is None else gg, g_state if ctx.needs_input_grad[6] else None, None


_HERE = "spikenet.kernels.attention"
by_triton = Kernels("causal_attention", f"{_HERE}.triton_causal", lambda q, v: segments(q, v).number + 1)
by_numba = Kernels("causal_attention_cpu", f"{_HERE}.numba_causal", lambda q, v: 2)
