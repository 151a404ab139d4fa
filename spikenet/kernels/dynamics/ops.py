"""The scan over time as torch operators, with fakes, autograd and the table of backends.

`torch.ops.spikenet.dynamics` is opaque to `torch.compile` and seen whole by it. A step's elements are its lanes, in
row-major order; parameters come flat, with the number of neighbouring lanes that share a value (see `lanes`).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from spikenet.errors import BackendError
from spikenet.kernels.backends import Implementation, Operation, anywhere, lazily
from spikenet.kernels.dynamics import reference
from spikenet.kernels.dynamics.trace import Program
from spikenet.kernels.operators import define

_HERE = "spikenet.kernels.dynamics"
_programs: dict[str, Program] = {}


def register(program: Program) -> str:
    """Make `program` known to the operators; returns the key by which they are told of it."""
    return _programs.setdefault(program.key, program).key


def _operation(name: str, function: str) -> Operation:
    triton, numba = (functools.partial(lazily, f"{_HERE}.{backend}_backend") for backend in ("triton", "numba"))
    return Operation(
        name,
        Implementation("triton", triton("why_not"), triton(function), triton("Bound")),
        Implementation("numba", numba("why_not"), numba(function)),
        Implementation("reference", anywhere, getattr(reference, function)),
    )


FORWARD = _operation("dynamics", "forward")
BACKWARD = _operation("dynamics_backward", "backward")


def registered(key: str) -> Program:
    """The program of that key."""
    if key not in _programs:
        raise BackendError(
            f"the program {key!r} was not traced in this process: build its neuron before running the graph"
        )
    return _programs[key]


def _forward(program: str, inputs: Sequence[Tensor], *rest: Any) -> Any:
    return FORWARD(registered(program), inputs, *rest, size=inputs[0].numel())


def _backward(program: str, inputs: Sequence[Tensor], *rest: Any) -> Any:
    return BACKWARD(registered(program), inputs, *rest, size=inputs[0].numel())


def _fake_forward(
    program: str, inputs: Any, state: Any, params: Any, spans: Any, rng: Any, keep: bool, final: bool, trace: bool
) -> Any:
    x, real, chunk = inputs[0], params[0].dtype, registered(program).chunk
    sequences = [x.new_empty(x.shape, dtype=real) for _ in state] if trace else []
    after = [x.new_empty(x.shape[1:], dtype=real) for _ in state] if final else []
    z = torch.empty_like(x, memory_format=torch.contiguous_format)
    chunks = (len(x) + chunk - 1) // chunk
    if not keep or chunks == 1:
        return z, after, sequences, None
    return z, after, sequences, x.new_empty((chunks - 1, len(state), math.prod(x.shape[1:])), dtype=real)


def _fake_backward(
    program: str,
    inputs: Any,
    state: Any,
    params: Any,
    spans: Any,
    rng: Any,
    checkpoints: Any,
    gz: Any,
    g_state: Any,
    g_sequences: Any,
    wanted: Any,
    wants_state: bool,
) -> Any:
    x, real = inputs[0], params[0].dtype
    gx = [torch.empty_like(i, memory_format=torch.contiguous_format) for i in inputs]
    gs = [x.new_empty(x.shape[1:], dtype=real) for _ in state] if wants_state else []
    return gx, gs, [torch.empty_like(params[m]) for m in wanted]


def _plain(x: Tensor) -> bool:
    """Whether nobody listens to the operators that run on `x`: then they need not go through torch's dispatcher."""
    return (
        type(x) is Tensor
        and not torch.compiler.is_compiling()
        and torch._C._len_torch_dispatch_stack() == 0
        and torch._C._functorch.peek_interpreter_stack() is None
        and not x.is_neg()  # resolved by the dispatcher
    )


@dataclass(slots=True)
class _Call:
    """One call of `dynamics`, and what its backward pass needs that autograd need not look after."""

    program: str
    inputs: Sequence[Tensor]
    state: Sequence[Tensor]
    params: Sequence[Tensor]
    spans: Sequence[int]
    rng: Tensor | None
    final: bool
    trace: bool
    versions: Sequence[int] = ()
    learned_state: bool = False

    def run(self, keep: bool) -> tuple[Tensor, list[Tensor], list[Tensor], Tensor | None]:
        given = self.program, self.inputs, self.state, self.params, self.spans, self.rng
        if _plain(self.inputs[0]):
            return _forward(*given, keep, self.final, self.trace)
        with torch._C._AutoDispatchBelowAutograd():
            return torch.ops.spikenet.dynamics(*given, keep, self.final, self.trace)


class _Dynamics(torch.autograd.Function):
    """The link between the two operators.

    Only the inputs, and what needs a gradient of states and parameters, pass through it. The rest stays in the call,
    with its versions: each tensor that autograd looks after costs host time.
    """

    @staticmethod
    def forward(ctx: Any, call: _Call, *tensors: Tensor) -> Any:
        z, after, sequences, checkpoints = call.run(True)
        ctx.save_for_backward(
            checkpoints, *tensors[: len(call.inputs) + (len(call.state) if call.learned_state else 0)]
        )
        call.inputs, call.state = (), () if call.learned_state else call.state
        call.versions = _versions(call)
        ctx.call, ctx.like = call, (z.shape, z.dtype, len(after))
        ctx.set_materialize_grads(False)
        return (z, *after, *sequences)

    @staticmethod
    def backward(ctx: Any, gz: Tensor | None, *rest: Tensor | None) -> Any:
        _refuse_second_derivative()
        call, (shape, dtype, n_after) = ctx.call, ctx.like
        if _versions(call) != call.versions:
            raise BackendError("a state, parameter or seed of dynamics was changed in place before its backward pass")
        n_inputs = len(registered(call.program).inputs)
        checkpoints, *saved = ctx.saved_tensors
        inputs, state = saved[:n_inputs], saved[n_inputs:] if call.learned_state else call.state
        if gz is None:
            gz = zero_gradient(inputs[0], shape, dtype)
        real = call.params[0].dtype
        g_after = gradients_or_none(rest[:n_after], inputs[0], shape[1:], real)
        g_sequences = gradients_or_none(rest[n_after:], inputs[0], shape, real)
        wanted = [m for m, p in enumerate(call.params) if p.requires_grad]
        run = _backward if _plain(gz) else torch.ops.spikenet.dynamics_backward
        gx, gs, gp = run(
            *(call.program, inputs, state, call.params, call.spans, call.rng, checkpoints, gz, g_after, g_sequences),
            *(wanted, call.learned_state),
        )
        return None, *gx, *gs, *gp


class Bound:
    """A program with values that stay as they are, on inputs of one shape, dtype and device: the short way to the
    output alone, past every lookup. At few time steps these take longer than the kernels.

    Args:
        program: its key from `register`; it draws nothing.
        kernels: what the backend has bound.
        state, params, spans: as `scan` takes them; nobody else may change them.
    """

    def __init__(self, program: str, kernels: Any, *values: Any) -> None:
        self.program, self.kernels, self.values = program, kernels, values

    def __call__(self, inputs: Sequence[Tensor]) -> Tensor:
        if torch.is_grad_enabled():
            for x in inputs:
                if x.requires_grad:
                    output: Tensor = _BoundDynamics.apply(self, *inputs)
                    return output
        return self.kernels.forward(inputs, False)[0]

    def backward(self, inputs: Sequence[Tensor], checkpoints: Tensor | None, gz: Tensor) -> list[Tensor]:
        if _plain(gz):
            return self.kernels.backward(inputs, checkpoints, gz)
        given = self.program, inputs, *self.values, None, checkpoints, gz
        return torch.ops.spikenet.dynamics_backward(*given, [], [], [], False)[0]


class _BoundDynamics(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, bound: Bound, *inputs: Tensor) -> Tensor:
        z, checkpoints = bound.kernels.forward(inputs, True)
        ctx.save_for_backward(checkpoints, *inputs)
        ctx.bound = bound
        ctx.set_materialize_grads(False)
        return z

    @staticmethod
    def backward(ctx: Any, gz: Tensor | None) -> Any:
        _refuse_second_derivative()
        checkpoints, *inputs = ctx.saved_tensors
        if gz is None:
            return None, *[None for _ in inputs]
        return None, *ctx.bound.backward(inputs, checkpoints, gz)


def bind(program: str, inputs: Sequence[Tensor], *values: Any) -> Bound | None:
    """A `Bound` for inputs like these, if the backend that takes them has one. `values`: state, parameters, spans."""
    kernels = FORWARD.bind(registered(program), inputs, *values)
    return None if kernels is None else Bound(program, kernels, *values)


def may_be_bound(inputs: Sequence[Tensor]) -> bool:
    """Whether nobody listens to what is done with `inputs`."""
    return forward_ad._current_level < 0 and all(map(_plain, inputs))


def _refuse_second_derivative() -> None:
    if torch.is_grad_enabled():
        raise BackendError("dynamics has no second derivative: call grad or backward without create_graph=True")


def _versions(call: _Call) -> list[int]:
    """Of the tensors that autograd does not watch."""
    return [t._version for t in (*call.state, *call.params, call.rng) if t is not None and not t.is_inference()]


def zero_gradient(like: Tensor, shape: torch.Size, dtype: torch.dtype) -> Tensor:
    """A zero gradient that takes no memory."""
    return like.new_zeros((), dtype=dtype).expand(shape)


def gradients_or_none(
    gradients: Sequence[Tensor | None], like: Tensor, shape: torch.Size, dtype: torch.dtype
) -> list[Tensor]:
    """The gradients, zeros where one is missing; none if all are."""
    if all(g is None for g in gradients):
        return []
    return [zero_gradient(like, shape, dtype) if g is None else g for g in gradients]


def refuse_forward_mode(name: str, tensors: Sequence[Tensor]) -> None:
    """Rather than drop the tangents in silence."""
    if forward_ad._current_level >= 0 and any(forward_ad.unpack_dual(t).tangent is not None for t in tensors):
        raise BackendError(f"{name} has no forward-mode derivative: use backward, or torch.autograd.grad")


def _autograd(
    program: str,
    inputs: Sequence[Tensor],
    state: Sequence[Tensor],
    params: Sequence[Tensor],
    spans: Sequence[int],
    rng: Tensor | None,
    keep: bool,
    final: bool,
    trace: bool,
) -> Any:
    call = _Call(program, inputs, state, params, spans, rng, final, trace)
    watched = (*inputs, *state, *params)
    refuse_forward_mode("dynamics", watched)
    if torch.is_grad_enabled() and any(t.requires_grad for t in watched):
        call.learned_state = any(s.requires_grad for s in state)
        learned = [p for p in params if p.requires_grad]
        out = _Dynamics.apply(call, *inputs, *(state if call.learned_state else ()), *learned)
        n = 1 + (len(state) if final else 0)
        return out[0], list(out[1:n]), list(out[n:]), None
    return call.run(keep)


_given = "str program, Tensor[] inputs, Tensor[] state, Tensor[] params, int[] spans, Tensor? rng"
define(
    f"dynamics({_given}, bool keep, bool final, bool trace) -> (Tensor, Tensor[], Tensor[], Tensor?)",
    _forward,
    _fake_forward,
    _autograd,
)
define(
    f"dynamics_backward({_given}, Tensor? checkpoints, Tensor gz, Tensor[] g_state, Tensor[] g_sequences, "
    "int[] wanted, bool wants_state) -> (Tensor[], Tensor[], Tensor[])",
    _backward,
    _fake_backward,
)


def scan(
    program: str,
    inputs: Sequence[Tensor],
    state: Sequence[Tensor],
    params: Sequence[Tensor],
    spans: Sequence[int],
    rng: Tensor | None,
    final: bool,
    trace: bool,
) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    """Run a program over time.

    Args:
        program: its key from `register`.
        inputs: one [T, *lanes] tensor an input, all of one shape and floating dtype.
        state: one [*lanes] tensor a state, float32 (float64 for float64 inputs).
        params: one [M] tensor a kernel parameter, in the state's dtype; the last is `alpha`.
        spans: for each parameter, how many neighbouring lanes share a value: lane n takes `p[(n // span) % M]`.
        rng: [seed, step] in int64 for a program that draws, else None.
        final: whether the states after the last step are wanted.
        trace: whether the state sequences are wanted.

    Returns:
        The output [T, *lanes] in the inputs' dtype, the states after the last step (none if `final` is false), and
        the state sequences [T, *lanes] (none if `trace` is false).
    """
    call = _autograd if all(map(_plain, inputs)) else torch.ops.spikenet.dynamics
    z, after, sequences, _ = call(program, inputs, state, params, spans, rng, False, final, trace)
    return z, after, sequences
