"""Attention among tokens and the neuron that follows it, in one pass over the time steps.

`spiking_attention_lif` stands in the place of `dynamics.scan`: the neuron's input is the attention's output. On CUDA
devices neither scores, nor sums, nor the neuron's states are written. Elsewhere, and for what the kernels do not do,
it is `spiking_attention` and then `scan`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from spikenet.errors import BackendError, ShapeError
from spikenet.kernels.attention.kernels import WIDEST
from spikenet.kernels.attention.segments import kept_as, kept_shapes, like
from spikenet.kernels.attention.tokens import check_heads, spiking_attention
from spikenet.kernels.backends import Implementation, Operation, anywhere, lazily
from spikenet.kernels.dynamics import may_be_bound, scan
from spikenet.kernels.dynamics.ops import registered
from spikenet.kernels.operators import define
from spikenet.kernels.triton_device import why_not_on

LONGEST = 16  # time steps whose states a program holds in registers

_triton_forward = lazily("spikenet.kernels.attention.triton_lif", "forward")
_triton_backward = lazily("spikenet.kernels.attention.triton_lif", "backward")


def _why_not(
    q: Tensor,
    k: Tensor,
    scale: float,
    program: str,
    inputs: Sequence[Tensor],
    state: Sequence[Tensor],
    params: Sequence[Tensor],
    spans: Sequence[int],
    rng: Tensor | None,
    final: bool,
    trace: bool,
) -> str | None:
    (v,) = inputs
    if v.dtype == torch.float64:
        return "the Triton kernels compute in float32, and the input is torch.float64"
    if len(v) > LONGEST or max(q.shape[-1], v.shape[-1]) > WIDEST:
        return f"the Triton kernels take up to {LONGEST} steps and heads of {WIDEST}, got {tuple(v.shape)}"
    if rng is not None or final or trace:
        return "the Triton kernels draw nothing and keep no states"
    if any(p.requires_grad for p in (*state, *params)):
        return "the Triton kernels have no gradients for states and parameters"
    if any(p.numel() > 1 for p in params) or not all(map(_one_number, state)):
        return "the Triton kernels take one value of every state and parameter for all neurons"
    return why_not_on(v)


def _one_number(state: Tensor) -> bool:
    return all(size == 1 or stride == 0 for size, stride in zip(state.shape, state.stride(), strict=True))


def _run(q: Tensor, k: Tensor, scale: float, program: str, inputs: Sequence[Tensor], *values: Any) -> Any:
    (v,), (state, params, *_) = inputs, values
    if may_be_bound((q, k, v)):  # past torch's dispatcher, which takes longer than a kernel
        if _watched(q, k, v):
            return _Attention.apply(True, q, k, v, program, state, params, scale), [], []
        return _forward(q, k, v, program, state, params, scale)[0], [], []
    first = [s.as_strided((1,), (1,)) for s in state]
    return torch.ops.spikenet.attention_neuron(q, k, v, program, first, params, scale)[0], [], []


def _apart(q: Tensor, k: Tensor, scale: float, program: str, inputs: Sequence[Tensor], *values: Any) -> Any:
    (v,) = inputs
    return scan(program, [spiking_attention(q, k, v, scale)], *values)


FUSED = Operation(
    "spiking_attention_lif",
    Implementation("triton", _why_not, _run),
    Implementation("numba", anywhere, _apart),  # `scan` looks for its own backend
    Implementation("reference", anywhere, _apart),
)


def _watched(q: Tensor, k: Tensor, v: Tensor) -> bool:
    return torch.is_grad_enabled() and (q.requires_grad or k.requires_grad or v.requires_grad)


class _Attention(torch.autograd.Function):
    """`straight`: past the operators, and with the output alone."""

    @staticmethod
    def forward(ctx: Any, straight: bool, q: Tensor, k: Tensor, v: Tensor, *values: Any) -> Any:
        z, kv, kept = (_forward if straight else _below_autograd)(q, k, v, *values)
        ctx.save_for_backward(q, k, v, kv, kept)
        ctx.values = values
        ctx.set_materialize_grads(False)
        if straight:
            return z
        ctx.mark_non_differentiable(kv, kept)
        return z, kv, kept

    @staticmethod
    def backward(ctx: Any, gz: Tensor | None, *_: Any) -> Any:
        if torch.is_grad_enabled():
            raise BackendError(
                "spiking_attention_lif has no second derivative: call grad or backward without create_graph=True"
            )
        if gz is None:
            return (None,) * 8
        q, k, v, kv, kept = ctx.saved_tensors
        *values, scale = ctx.values
        run = _backward if may_be_bound((gz,)) else torch.ops.spikenet.attention_neuron_backward
        return None, *run(q, k, v, *values, kv, kept, gz, scale), None, None, None, None


def _autograd(q: Tensor, k: Tensor, v: Tensor, *values: Any) -> Any:
    if _watched(q, k, v):
        return _Attention.apply(False, q, k, v, *values)
    return _below_autograd(q, k, v, *values)


def _below_autograd(q: Tensor, k: Tensor, v: Tensor, *values: Any) -> Any:
    with torch._C._AutoDispatchBelowAutograd():
        return torch.ops.spikenet.attention_neuron(q, k, v, *values)


def _forward(q: Tensor, k: Tensor, v: Tensor, program: str, *values: Any) -> Any:
    return _triton_forward(registered(program), q, k, v, *values)


def _backward(q: Tensor, k: Tensor, v: Tensor, program: str, *values: Any) -> Any:
    return _triton_backward(registered(program), q, k, v, *values)


def _fake(q: Tensor, k: Tensor, v: Tensor, *_: Any) -> tuple[Tensor, Tensor, Tensor]:
    kv, kept = kept_shapes(q, v)
    return like(v), q.new_empty(kv, dtype=kept_as(q.dtype, q.shape[3])), q.new_empty(kept, dtype=torch.uint8)


def _fake_backward(q: Tensor, k: Tensor, v: Tensor, *_: Any) -> tuple[Tensor, Tensor, Tensor]:
    return like(q), like(k), like(v)


_given = "Tensor q, Tensor k, Tensor v, str program, Tensor[] state, Tensor[] params"
define(f"attention_neuron({_given}, float scale) -> (Tensor, Tensor, Tensor)", _forward, _fake, _autograd)
define(
    f"attention_neuron_backward({_given}, Tensor kv, Tensor kept, Tensor gz, float scale) -> (Tensor, Tensor, Tensor)",
    _backward,
    _fake_backward,
)


def spiking_attention_lif(
    q: Tensor,
    k: Tensor,
    scale: float,
    program: str,
    inputs: Sequence[Tensor],
    state: Sequence[Tensor],
    params: Sequence[Tensor],
    spans: Sequence[int],
    rng: Tensor | None,
    final: bool,
    trace: bool,
) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    """A neuron whose input is `scale (q k^T) v`: `scan` of that, with gradients for q, k, v, states and parameters.

    For a neuron of `spikenet.neurons` with one input: `neuron._scan([v], state, by=partial(spiking_attention_lif, q,
    k, scale))`.

    Args:
        q: queries `[T, B, H, N, D]`.
        k: keys, like `q`.
        scale: factor of the neuron's input.
        program, state, params, spans, rng, final, trace: as `dynamics.scan` takes them, for lanes `[B, H, N, E]`.
        inputs: the values `[T, B, H, N, E]` alone.

    Returns:
        What `dynamics.scan` returns.

    Raises:
        DtypeError: if q, k and v are not of one floating dtype.
        ShapeError: if the shapes do not fit.
    """
    check_heads("spiking_attention_lif", q, k, inputs[0])
    if inputs[0].ndim != 5:
        raise ShapeError(f"spiking_attention_lif takes v of shape [T, B, H, N, E], got {tuple(inputs[0].shape)}")
    return FUSED(q, k, scale, program, inputs, state, params, spans, rng, final, trace)
