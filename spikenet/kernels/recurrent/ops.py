"""The scan of a neuron that hears itself as torch operators, with fakes, autograd and the table of backends.

With `I` the input that the recurrence enters, and `step` one step of the neuron:

    I[t] = x[t] + z[t-1] W^T        (z[t], s[t]) = step(I[t], s[t-1])

and backwards, with `gI` the gradient of `I`, which is that of `x` too:

    gz'[t] = gz[t] + gI[t+1] W      gW = sum_t gI[t]^T z[t-1]      gz[-1] = gI[0] W

Only `I` is kept for the backward pass, and no graph grows with T: a plain scan over `I` gives spikes and states again,
to the last bit, and `gW` is one product over all steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from spikenet.errors import BackendError
from spikenet.kernels.backends import Implementation, Operation, lazily
from spikenet.kernels.dynamics.ops import FORWARD as STEPS
from spikenet.kernels.dynamics.ops import gradients_or_none, refuse_forward_mode, registered, zero_gradient


def _operation(name: str, function: str) -> Operation:
    """A backend goes where it goes without recurrence."""
    modules = {"triton": "triton_backend", "numba": "numba_backend", "reference": "reference"}
    places = {backend: f"spikenet.kernels.recurrent.{module}" for backend, module in modules.items()}
    rows = ((step.backend, step.why_not) for step in STEPS.implementations)
    return Operation(name, *(Implementation(b, why_not, lazily(places[b], function)) for b, why_not in rows))


FORWARD = _operation("recurrent", "forward")
BACKWARD = _operation("recurrent_backward", "backward")

_library = torch.library.Library("spikenet", "FRAGMENT")
_library.define(
    "recurrent(str program, Tensor[] inputs, int into, Tensor weight, Tensor z, Tensor[] state, Tensor[] params, "
    "int[] spans, Tensor? rng, bool keep, bool final, bool trace) -> (Tensor, Tensor[], Tensor[], Tensor)"
)
_library.define(
    "recurrent_backward(str program, Tensor[] inputs, int into, Tensor weight, Tensor[] state, Tensor[] params, "
    "int[] spans, Tensor? rng, Tensor? checkpoints, Tensor gz, Tensor[] g_state, Tensor[] g_sequences, "
    "int[] wanted) -> (Tensor[], Tensor[], Tensor[])"
)


def _forward(program: str, inputs: Sequence[Tensor], *rest: Any) -> Any:
    with torch.autocast(inputs[0].device.type, enabled=False):  # the outputs have the inputs' dtype
        return FORWARD(registered(program), inputs, *rest, size=inputs[0].numel())


def _backward(program: str, inputs: Sequence[Tensor], *rest: Any) -> Any:
    with torch.autocast(inputs[0].device.type, enabled=False):
        return BACKWARD(registered(program), inputs, *rest, size=inputs[0].numel())


def _fake_forward(
    program: str,
    inputs: Any,
    into: int,
    weight: Tensor,
    z: Tensor,
    state: Any,
    params: Any,
    spans: Any,
    rng: Any,
    keep: bool,
    final: bool,
    trace: bool,
) -> Any:
    x, real = inputs[0], params[0].dtype
    after = [x.new_empty(x.shape[1:], dtype=real) for _ in state] if final else []
    sequences = [x.new_empty(x.shape, dtype=real) for _ in state] if trace else []
    return x.new_empty(x.shape), after, sequences, x.new_empty(x.shape if keep else (0,))


def _fake_backward(
    program: str,
    inputs: Any,
    into: int,
    weight: Tensor,
    state: Any,
    params: Any,
    spans: Any,
    rng: Any,
    checkpoints: Any,
    gz: Any,
    g_state: Any,
    g_sequences: Any,
    wanted: Any,
) -> Any:
    x, real = inputs[0], params[0].dtype
    gs = [x.new_empty(x.shape[1:], dtype=real) for _ in state]
    return [x.new_empty(x.shape) for _ in inputs], gs, [torch.empty_like(params[m]) for m in wanted]


class _Call(NamedTuple):
    """What of the arguments is no tensor."""

    program: str
    into: int
    spans: Sequence[int]
    final: bool
    trace: bool
    counts: tuple[int, int, int]  # inputs, states, parameters

    def split(self, tensors: Sequence[Tensor]) -> tuple[Sequence[Tensor], Sequence[Tensor], Sequence[Tensor]]:
        n, m, _ = self.counts
        return tensors[:n], tensors[n : n + m], tensors[n + m :]


class _Recurrent(torch.autograd.Function):
    """The link between the two operators."""

    @staticmethod
    def forward(ctx: Any, call: _Call, rng: Tensor | None, weight: Tensor, before: Tensor, *tensors: Tensor) -> Any:
        inputs, state, params = call.split(tensors)
        with torch._C._AutoDispatchBelowAutograd():
            z, after, sequences, total = torch.ops.spikenet.recurrent(
                *(call.program, inputs, call.into, weight, before, state, params, call.spans, rng),
                *(True, call.final, call.trace),
            )
        seen = [total if k == call.into else x for k, x in enumerate(inputs)]
        ctx.save_for_backward(rng, weight, before, *seen, *state, *params)
        ctx.call = call
        ctx.set_materialize_grads(False)
        return (z, *after, *sequences)

    @staticmethod
    def backward(ctx: Any, gz: Tensor | None, *rest: Tensor | None) -> Any:
        if torch.is_grad_enabled():
            raise BackendError("recurrent has no second derivative: call grad or backward without create_graph=True")
        call, (rng, weight, before, *saved) = ctx.call, ctx.saved_tensors
        inputs, state, params = call.split(saved)
        x, real, n = inputs[call.into], params[0].dtype, call.counts[1] if call.final else 0
        gz = zero_gradient(x, x.shape, x.dtype) if gz is None else gz
        given = gz, gradients_or_none(rest[:n], x, x.shape[1:], real), gradients_or_none(rest[n:], x, x.shape, real)
        learned = call.split(ctx.needs_input_grad[4:])[2]
        wanted = [m for m, wants in enumerate(learned) if wants]
        z, _, _, checkpoints = torch.ops.spikenet.dynamics(
            call.program, inputs, state, params, call.spans, rng, True, False, False
        )
        gx, gs, gp = torch.ops.spikenet.recurrent_backward(
            *(call.program, inputs, call.into, weight, state, params, call.spans, rng, checkpoints),
            *(*given, wanted),
        )
        wants_weight, wants_before = ctx.needs_input_grad[2:4]
        with torch.autocast(x.device.type, enabled=False):
            g_weight = _weight_gradient(gx[call.into], before, z) if wants_weight else None
            g_before = gx[call.into][0] @ weight if wants_before else None
        by_place = dict(zip(wanted, gp, strict=True))
        return None, None, g_weight, g_before, *gx, *gs, *(by_place.get(m) for m in range(len(params)))


def _weight_gradient(gi: Tensor, before: Tensor, z: Tensor) -> Tensor:
    """`sum_t gI[t]^T z[t-1]`; the first step's `z[t-1]` lies apart."""
    return torch.addmm(gi[0].T @ before, gi[1:].flatten(0, 1).T, z[:-1].flatten(0, 1))


def _autograd(
    program: str,
    inputs: Sequence[Tensor],
    into: int,
    weight: Tensor,
    z: Tensor,
    state: Sequence[Tensor],
    params: Sequence[Tensor],
    spans: Sequence[int],
    rng: Tensor | None,
    keep: bool,
    final: bool,
    trace: bool,
) -> Any:
    watched = (weight, z, *inputs, *state, *params)
    refuse_forward_mode("recurrent", watched)
    if torch.is_grad_enabled() and any(t.requires_grad for t in watched):
        call = _Call(program, into, spans, final, trace, (len(inputs), len(state), len(params)))
        out = _Recurrent.apply(call, rng, *watched)
        n = 1 + (len(state) if final else 0)
        return out[0], list(out[1:n]), list(out[n:]), z.new_empty(0)
    with torch._C._AutoDispatchBelowAutograd():
        return torch.ops.spikenet.recurrent(
            program, inputs, into, weight, z, state, params, spans, rng, keep, final, trace
        )


_library.impl("recurrent", _forward, "CompositeExplicitAutograd")
_library.impl("recurrent_backward", _backward, "CompositeExplicitAutograd")
_library.impl("recurrent", _autograd, "Autograd")
torch.library.register_fake("spikenet::recurrent", _fake_forward, lib=_library)
torch.library.register_fake("spikenet::recurrent_backward", _fake_backward, lib=_library)


def recurrent_scan(
    program: str,
    inputs: Sequence[Tensor],
    state: Sequence[Tensor],
    params: Sequence[Tensor],
    spans: Sequence[int],
    rng: Tensor | None,
    final: bool,
    trace: bool,
    *,
    weight: Tensor,
    z: Tensor,
    into: int = 0,
) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    """Run a program over time with `z[t-1] W^T` added to one of its inputs; see `dynamics.scan` for the rest.

    Args:
        program, inputs, state, params, spans, rng, final, trace: as for `dynamics.scan`, the lanes being `[B, N]`.
        weight: W, `[N, N]`, from column to row, in the inputs' dtype.
        z: the output before the first step, `[B, N]`, in the inputs' dtype.
        into: which of the inputs hears the recurrence.

    Returns:
        As `dynamics.scan`.
    """
    out, after, sequences, _ = torch.ops.spikenet.recurrent(
        program, inputs, into, weight, z, state, params, spans, rng, False, final, trace
    )
    return out, after, sequences
