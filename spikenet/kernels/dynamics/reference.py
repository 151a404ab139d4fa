"""The plain PyTorch scan over time: the truth that every kernel is tested against.

It works through the recorded operations one by one, and its backward pass is autograd's, so that it shares
no derivative with the kernels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from spikenet.kernels.dynamics.lanes import lane_params, lane_sum
from spikenet.kernels.dynamics.philox import draw
from spikenet.kernels.dynamics.trace import Phase, Program, Value, recorded


class _Blend(torch.autograd.Function):
    """Selects b where z is set, else a; the derivative to z is b - a (see `words.blend`)."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, a: Tensor, b: Tensor) -> Tensor:
        ctx.save_for_backward(z, a, b)
        return torch.where(z != 0, b, a)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        z, a, b = ctx.saved_tensors
        zero = torch.zeros_like(grad)
        return grad * (b - a), torch.where(z != 0, zero, grad), torch.where(z != 0, grad, zero)


class _Emit(torch.autograd.Function):
    """Returns z in the forward direction and scales the gradient by the slope sg in the backward one."""

    @staticmethod
    def forward(ctx: Any, u: Tensor, z: Tensor, sg: Tensor) -> Tensor:
        ctx.save_for_backward(sg)
        return z.clone()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (sg,) = ctx.saved_tensors
        return grad * sg, None, None


_WORDS: dict[str, Callable[..., Tensor]] = {
    "add": torch.add,
    "sub": lambda a, b: a - b,
    "mul": torch.mul,
    "div": lambda a, b: a / b,
    "neg": torch.neg,
    "exp": torch.exp,
    "log": torch.log,
    "sqrt": lambda a: a.double().sqrt().to(a.dtype),  # correctly rounded, as the kernels' is; torch's is not
    "tanh": torch.tanh,
    "sin": torch.sin,
    "cos": torch.cos,
    "atan": torch.atan,
    "erf": torch.erf,
    "floor": torch.floor,
    "lt": torch.lt,
    "le": torch.le,
    "gt": torch.gt,
    "ge": torch.ge,
    "where": torch.where,
    "blend": _Blend.apply,
    "detach": torch.Tensor.detach,
}


def work(phase: Phase, known: dict[str, Tensor]) -> dict[str, Tensor]:
    """Run one phase's operations; adds to `known` and returns the phase's results."""
    like = next(iter(known.values()))

    def value(a: Value) -> Tensor:
        return known[a] if isinstance(a, str) else torch.full((), a, dtype=like.dtype, device=like.device)

    for out, word, args in phase.operations:
        known[out] = _WORDS[word](*(value(a) for a in args)) if word != "blend" else _blend(*(value(a) for a in args))
    return {name: value(v) for name, v in phase.results.items()}


def evaluate(function: Callable[..., Any], **arguments: Tensor) -> Tensor:
    """One function of scalars on tensors that broadcast, passed in the order in which they are named."""
    return work(recorded(function, *arguments), dict(arguments))["value"]


def _blend(z: Tensor, a: Tensor, b: Tensor) -> Tensor:
    return _Blend.apply(*torch.broadcast_tensors(z, a, b))


class Step(NamedTuple):
    """What one time step leaves: the output and the next state."""

    z: Tensor
    state: list[Tensor]


def step(
    program: Program,
    inputs: Sequence[Tensor],
    state: Sequence[Tensor],
    draws: Sequence[Tensor],
    params: Sequence[Tensor],
) -> Step:
    """One time step on tensors of lanes: charge, fire, emit, reset."""
    p = {f"p_{n}": v for n, v in zip(program.params, params, strict=True)}
    s = {f"s_{n}": v for n, v in zip(program.state, state, strict=True)}
    x = {f"x_{n}": v for n, v in zip(program.inputs, inputs, strict=True)}
    d = {f"d_{n}": v for (n, _), v in zip(program.draws, draws, strict=True)}
    like = inputs[0]
    h = {f"h_{n}": v.expand_as(like) for n, v in work(program.charge, x | s | d | p).items()}
    fired = work(program.fire, h | p)
    z = _emit(program, fired, d, p, like)
    following = work(program.reset, h | p | {"z": z})
    return Step(z, [following[n].expand_as(like) for n in program.state])


def _emit(
    program: Program, fired: dict[str, Tensor], d: dict[str, Tensor], p: dict[str, Tensor], like: Tensor
) -> Tensor:
    u = fired["u"].expand_as(like)
    with torch.no_grad():
        known = {"u": u.detach(), "p_alpha": p["p_alpha"], **d}
        z, sg = work(program.emit, dict(known))["z"], work(program.slope, dict(known))["sg"]
        if "gate" in fired:
            z, sg = torch.where(fired["gate"], z, 0.0), torch.where(fired["gate"], sg, 0.0)
    return _Emit.apply(u, z.expand_as(u), sg.expand_as(u))


def step_draws(program: Program, rng: Tensor | None, t: int, like: Tensor) -> list[Tensor]:
    """The random numbers of step t in lanes like those of `like`."""
    lanes = torch.arange(like.numel(), device=like.device)
    return [
        draw(kind, rng[0], rng[1] + t, lanes, i, like.dtype)  # type: ignore[index]
        for i, (_, kind) in enumerate(program.draws)
    ]


def scan(
    program: Program,
    inputs: Sequence[Tensor],
    state: Sequence[Tensor],
    params: Sequence[Tensor],
    rng: Tensor | None,
) -> tuple[Tensor, list[list[Tensor]]]:
    """Run all steps. `inputs` [T, N] in the state's dtype, `state` [N], `params` broadcastable to [N].

    Returns the output [T, N] and the states before every step and after the last, T + 1 in all.
    """
    current, history, outputs = list(state), [list(state)], []
    for t in range(inputs[0].shape[0]):
        now = [x[t] for x in inputs]
        z, current = step(program, now, current, step_draws(program, rng, t, now[0]), params)
        outputs.append(z)
        history.append(current)
    return torch.stack(outputs), history


def forward(
    program: Program,
    inputs: Sequence[Tensor],
    state: Sequence[Tensor],
    params: Sequence[Tensor],
    spans: Sequence[int],
    rng: Tensor | None,
    keep: bool,
    final: bool,
    trace: bool,
) -> tuple[Tensor, list[Tensor], list[Tensor], Tensor | None]:
    """See `ops.dynamics`."""
    x = inputs[0]
    z, history = _run(program, inputs, state, lane_params(params, spans, x[0].numel()), rng)
    sequences = [torch.stack(q).view(x.shape) for q in zip(*history[1:], strict=True)] if trace else []
    saved = history[program.chunk : -1 : program.chunk] if keep else []
    checkpoints = x.new_empty((len(saved), len(state), x[0].numel()), dtype=params[0].dtype)
    for row, states in zip(checkpoints, saved, strict=True):
        for into, s in zip(row, states, strict=True):
            into.copy_(s)
    after = [s.clone().view(x.shape[1:]) for s in history[-1]] if final else []
    return z.to(x.dtype).view(x.shape), after, sequences, checkpoints if saved else None


def backward(
    program: Program,
    inputs: Sequence[Tensor],
    state: Sequence[Tensor],
    params: Sequence[Tensor],
    spans: Sequence[int],
    rng: Tensor | None,
    checkpoints: Tensor | None,
    gz: Tensor,
    g_state: Sequence[Tensor],
    g_sequences: Sequence[Tensor],
    wanted: Sequence[int],
    wants_state: bool,
) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    """See `ops.dynamics_backward`. Autograd through the scan, which owes the kernels' derivation nothing."""
    real, shape, lanes = params[0].dtype, gz.shape, gz[0].numel()
    x = [i.detach().to(real).expand(shape).clone().requires_grad_() for i in inputs]
    s = [v.detach().clone().requires_grad_() for v in state]
    p = [v.expand(lanes).clone().requires_grad_() for v in lane_params(params, spans, lanes)]
    with torch.enable_grad():
        z, history = _run(program, x, s, p, rng)
        outputs, gradients = [z], [gz.to(real).reshape(len(gz), -1)]
        outputs += history[-1] if g_state else []
        outputs += [torch.stack(q) for q in zip(*history[1:], strict=True)] if g_sequences else []
        gradients += [g.reshape(-1) for g in g_state] + [g.reshape(len(gz), -1) for g in g_sequences]
        kept = [(o, g) for o, g in zip(outputs, gradients, strict=True) if o.requires_grad]
        grads = torch.autograd.grad([o for o, _ in kept], [*x, *s, *p], [g for _, g in kept], materialize_grads=True)
    gx, gs, gp = grads[: len(x)], grads[len(x) : len(x) + len(s)], grads[len(x) + len(s) :]
    sums = [lane_sum(gp[m], params[m], spans[m]) for m in wanted]
    return [g.to(inputs[0].dtype) for g in gx], list(gs) if wants_state else [], sums


def _run(
    program: Program, inputs: Sequence[Tensor], state: Sequence[Tensor], params: Sequence[Tensor], rng: Tensor | None
) -> tuple[Tensor, list[list[Tensor]]]:
    """`scan` on the lanes of tensors of any shape."""
    real, steps = params[0].dtype, len(inputs[0])
    return scan(program, [i.to(real).reshape(steps, -1) for i in inputs], [s.reshape(-1) for s in state], params, rng)
