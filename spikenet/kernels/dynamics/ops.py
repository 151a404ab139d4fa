"""The scan over time as torch operators, with fakes, autograd and the table of backends.

`torch.ops.spikenet.dynamics` is opaque to `torch.compile` and seen whole by it. Tensors are flat here: inputs
[T, N], states [N], parameters [M] with the number of neighbouring lanes that share a value.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from spikenet.errors import BackendError
from spikenet.kernels.backends import Implementation, Operation
from spikenet.kernels.dynamics import reference
from spikenet.kernels.dynamics.trace import ALPHA, Program

_programs: dict[str, Program] = {}


def register(program: Program) -> str:
    """Make `program` known to the operators; returns the key by which they are told of it."""
    return _programs.setdefault(program.key, program).key


def _anywhere(*_: Any) -> None:
    return None


def _lane_params(params: Sequence[Tensor], spans: Sequence[int], lanes: int) -> list[Tensor]:
    """Each parameter's value in every lane, or one number for all."""
    lane = torch.arange(lanes, device=params[0].device)
    return [p[0] if p.numel() == 1 else p[(lane // span) % p.numel()] for p, span in zip(params, spans, strict=True)]


def _reference_forward(
    program: Program,
    inputs: Sequence[Tensor],
    state: Sequence[Tensor],
    params: Sequence[Tensor],
    spans: Sequence[int],
    rng: Tensor | None,
    keep: bool,
    trace: bool,
) -> tuple[Tensor, list[Tensor], list[Tensor], Tensor]:
    x = inputs[0]
    real = params[0].dtype
    z, history = reference.scan(
        program, [i.to(real) for i in inputs], list(state), _lane_params(params, spans, x.shape[1]), rng
    )
    sequences = [torch.stack(q) for q in zip(*history[1:], strict=True)] if trace else []
    saved = history[: -1 : reference.CHUNK] if keep else []
    checkpoints = (
        torch.stack([torch.stack(s) if s else x.new_empty(0, x.shape[1], dtype=real) for s in saved])
        if saved
        else _none(inputs, state, real)
    )
    return z.to(x.dtype), [s.clone() for s in history[-1]], sequences, checkpoints


def _none(inputs: Sequence[Tensor], state: Sequence[Tensor], real: torch.dtype) -> Tensor:
    return inputs[0].new_empty((0, len(state), inputs[0].shape[1]), dtype=real)


def _reference_backward(
    program: Program,
    inputs: Sequence[Tensor],
    params: Sequence[Tensor],
    spans: Sequence[int],
    rng: Tensor | None,
    checkpoints: Tensor,
    gz: Tensor,
    g_state: Sequence[Tensor],
    g_sequences: Sequence[Tensor],
    wants_params: bool,
) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    """Autograd through the reference scan, which owes the kernels' derivation nothing."""
    real = params[0].dtype
    lanes = inputs[0].shape[1]
    x = [i.detach().to(real).expand(gz.shape).clone().requires_grad_() for i in inputs]
    s = [v.clone().requires_grad_() for v in checkpoints[0]]
    p = [v.expand(lanes).clone().requires_grad_() for v in _lane_params(params, spans, lanes)]
    with torch.enable_grad():
        z, history = reference.scan(program, x, s, p, rng)
        outputs, gradients = [z, *history[-1]], [gz.to(real), *g_state]
        outputs += [torch.stack(q) for q in zip(*history[1:], strict=True)] if g_sequences else []
        kept = [(o, g) for o, g in zip(outputs, [*gradients, *g_sequences], strict=True) if o.requires_grad]
        grads = torch.autograd.grad([o for o, _ in kept], [*x, *s, *p], [g for _, g in kept], materialize_grads=True)
    gx, gs, gp = grads[: len(x)], grads[len(x) : len(x) + len(s)], grads[len(x) + len(s) :]
    wanted = [g for g, m in zip(gp, program.params, strict=True) if m != ALPHA] if wants_params else []
    return [g.to(inputs[0].dtype) for g in gx], list(gs), wanted


def _numba_why_not(*arguments: Any) -> str | None:
    from spikenet.kernels.dynamics import numba_backend

    return numba_backend.why_not(*arguments)


def _numba_forward(*arguments: Any) -> Any:
    from spikenet.kernels.dynamics import numba_backend

    return numba_backend.forward(*arguments)


def _numba_backward(*arguments: Any) -> Any:
    from spikenet.kernels.dynamics import numba_backend

    return numba_backend.backward(*arguments)


FORWARD = Operation(
    "dynamics",
    Implementation("numba", _numba_why_not, _numba_forward),
    Implementation("reference", _anywhere, _reference_forward),
)
BACKWARD = Operation(
    "dynamics_backward",
    Implementation("numba", _numba_why_not, _numba_backward),
    Implementation("reference", _anywhere, _reference_backward),
)

_library = torch.library.Library("spikenet", "DEF")
_library.define(
    "dynamics(str program, Tensor[] inputs, Tensor[] state, Tensor[] params, int[] spans, Tensor? rng, bool keep, "
    "bool trace) -> (Tensor, Tensor[], Tensor[], Tensor)"
)
_library.define(
    "dynamics_backward(str program, Tensor[] inputs, Tensor[] params, int[] spans, Tensor? rng, Tensor checkpoints, "
    "Tensor gz, Tensor[] g_state, Tensor[] g_sequences, bool wants_params) -> (Tensor[], Tensor[], Tensor[])"
)


def _program(key: str) -> Program:
    if key not in _programs:
        raise BackendError(
            f"the program {key!r} was not traced in this process: build its neuron before running the graph"
        )
    return _programs[key]


def _forward(program: str, inputs: Sequence[Tensor], *rest: Any) -> Any:
    return FORWARD(_program(program), inputs, *rest, size=inputs[0].numel())


def _backward(program: str, inputs: Sequence[Tensor], *rest: Any) -> Any:
    return BACKWARD(_program(program), inputs, *rest, size=inputs[0].numel())


def _fake_forward(
    program: str, inputs: Any, state: Any, params: Any, spans: Any, rng: Any, keep: bool, trace: bool
) -> Any:
    x, real = inputs[0], params[0].dtype
    steps, lanes = x.shape
    chunks = (steps + reference.CHUNK - 1) // reference.CHUNK if keep else 0
    sequences = [x.new_empty((steps, lanes), dtype=real) for _ in state] if trace else []
    checkpoints = x.new_empty((chunks, len(state), lanes), dtype=real)
    return (
        torch.empty_like(x, memory_format=torch.contiguous_format),
        [torch.empty_like(s) for s in state],
        sequences,
        checkpoints,
    )


def _fake_backward(
    program: str,
    inputs: Any,
    params: Any,
    spans: Any,
    rng: Any,
    checkpoints: Any,
    gz: Any,
    g_state: Any,
    g_sequences: Any,
    wants_params: bool,
) -> Any:
    gp = [gz.new_empty((gz.shape[1],), dtype=p.dtype) for p in params[:-1]] if wants_params else []
    gx = [gz.new_empty(gz.shape, dtype=x.dtype) for x in inputs]
    return gx, [torch.empty_like(g) for g in g_state], gp


class _Dynamics(torch.autograd.Function):
    """The link between the two operators. Tensors come flat: inputs, states, parameters."""

    @staticmethod
    def forward(
        ctx: Any,
        program: str,
        spans: list[int],
        rng: Tensor | None,
        trace: bool,
        counts: tuple[int, int],
        *tensors: Tensor,
    ) -> Any:
        n_inputs, n_state = counts
        inputs, state, params = (
            tensors[:n_inputs],
            tensors[n_inputs : n_inputs + n_state],
            tensors[n_inputs + n_state :],
        )
        with torch._C._AutoDispatchBelowAutograd():
            z, final, sequences, checkpoints = torch.ops.spikenet.dynamics(
                program, inputs, state, params, spans, rng, True, trace
            )
        ctx.save_for_backward(checkpoints, *inputs, *params, *([] if rng is None else [rng]))
        ctx.program, ctx.spans, ctx.trace, ctx.counts, ctx.n_params = program, spans, trace, counts, len(params)
        ctx.set_materialize_grads(False)
        ctx.like = z.shape, z.dtype
        ctx.wants_params = any(ctx.needs_input_grad[5 + n_inputs + n_state :])
        return (z, *final, *sequences)

    @staticmethod
    def backward(ctx: Any, gz: Tensor | None, *rest: Tensor | None) -> Any:
        if torch.is_grad_enabled():
            raise BackendError("dynamics has no second derivative: call grad or backward without create_graph=True")
        n_inputs, n_state = ctx.counts
        checkpoints, *saved = ctx.saved_tensors
        inputs, params = saved[:n_inputs], saved[n_inputs : n_inputs + ctx.n_params]
        shape, dtype = ctx.like
        gz = _given(gz, shape, checkpoints, dtype)
        rest = tuple(_given(g, shape if k >= n_state else shape[1:], checkpoints) for k, g in enumerate(rest))
        rng = saved[n_inputs + ctx.n_params] if len(saved) > n_inputs + ctx.n_params else None
        gx, gs, lane_gradients = torch.ops.spikenet.dynamics_backward(
            ctx.program,
            inputs,
            params,
            ctx.spans,
            rng,
            checkpoints,
            gz,
            rest[:n_state],
            rest[n_state:],
            ctx.wants_params,
        )
        gp: list[Tensor | None] = [None] * ctx.n_params  # the last, the surrogate's sharpness, has none
        for k, g in enumerate(lane_gradients):
            gp[k] = _reduced(g, params[k], ctx.spans[k])
        return None, None, None, None, None, *gx, *gs, *gp


def _given(gradient: Tensor | None, shape: torch.Size, like: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """The gradient, or a zero that takes no memory."""
    return like.new_zeros((), dtype=dtype).expand(shape) if gradient is None else gradient


def _reduced(gradient: Tensor, param: Tensor, span: int) -> Tensor:
    """Sum the lanes' gradients over the lanes that share a value."""
    return gradient.view(-1, param.numel(), span).sum(dim=(0, 2)) if param.numel() > 1 else gradient.sum().view(1)


def _autograd(program: str, inputs: Any, state: Any, params: Any, spans: Any, rng: Any, keep: bool, trace: bool) -> Any:
    tensors = [*inputs, *state, *params]
    if forward_ad._current_level >= 0 and any(forward_ad.unpack_dual(t).tangent is not None for t in tensors):
        raise BackendError("dynamics has no forward-mode derivative: use backward, or torch.autograd.grad")
    if torch.is_grad_enabled() and any(t.requires_grad for t in tensors):
        out = _Dynamics.apply(program, spans, rng, trace, (len(inputs), len(state)), *tensors)
        n = len(state)
        return out[0], list(out[1 : n + 1]), list(out[n + 1 :]), inputs[0].new_empty(0)
    with torch._C._AutoDispatchBelowAutograd():
        return torch.ops.spikenet.dynamics(program, inputs, state, params, spans, rng, keep, trace)


_library.impl("dynamics", _forward, "CompositeExplicitAutograd")
_library.impl("dynamics_backward", _backward, "CompositeExplicitAutograd")
_library.impl("dynamics", _autograd, "Autograd")
torch.library.register_fake("spikenet::dynamics", _fake_forward, lib=_library)
torch.library.register_fake("spikenet::dynamics_backward", _fake_backward, lib=_library)


def scan(
    program: str,
    inputs: Sequence[Tensor],
    state: Sequence[Tensor],
    params: Sequence[Tensor],
    spans: Sequence[int],
    rng: Tensor | None,
    trace: bool,
) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    """Run a program over time.

    Args:
        program: its key from `register`.
        inputs: one [T, N] tensor an input, all of one floating dtype.
        state: one [N] tensor a state, float32 (float64 for float64 inputs).
        params: one [M] tensor a kernel parameter, in the state's dtype; the last is `alpha`.
        spans: for each parameter, how many neighbouring lanes share a value: lane n takes `p[(n // span) % M]`.
        rng: [seed, step] in int64 for a program that draws, else None.
        trace: whether the state sequences are wanted.

    Returns:
        The output [T, N] in the inputs' dtype, the states after the last step, and the state sequences
        [T, N] (none if `trace` is false).
    """
    z, final, sequences, _ = torch.ops.spikenet.dynamics(program, inputs, state, params, spans, rng, False, trace)
    return z, final, sequences
