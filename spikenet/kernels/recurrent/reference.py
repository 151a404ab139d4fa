"""The plain PyTorch scan with recurrence: a loop whose backward pass is autograd's."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from spikenet.kernels.dynamics.lanes import lane_params, lane_sum
from spikenet.kernels.dynamics.reference import step, step_draws
from spikenet.kernels.dynamics.trace import Program


def forward(
    program: Program,
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
) -> tuple[Tensor, list[Tensor], list[Tensor], Tensor]:
    """See `ops.recurrent`."""
    x, real = inputs[into], params[0].dtype
    lanes = lane_params(params, spans, z.numel())
    current, outputs, states, totals = [s.reshape(-1) for s in state], [], [], []
    for t in range(len(x)):
        totals.append((x[t].to(real) + z.to(real) @ weight.to(real).T).to(x.dtype))
        now = [(totals[-1] if k == into else i[t]).to(real).reshape(-1) for k, i in enumerate(inputs)]
        row, current = step(program, now, current, step_draws(program, rng, t, now[0]), lanes)
        z = row.to(x.dtype).view(z.shape)
        outputs.append(z)
        states.append(current)
    sequences = [torch.stack(q).view(x.shape) for q in zip(*states, strict=True)] if trace else []
    after = [s.clone().view(z.shape) for s in current] if final else []
    return torch.stack(outputs), after, sequences, torch.stack(totals) if keep else x.new_empty(0)


def backward(
    program: Program,
    inputs: Sequence[Tensor],
    into: int,
    weight: Tensor,
    state: Sequence[Tensor],
    params: Sequence[Tensor],
    spans: Sequence[int],
    rng: Tensor | None,
    checkpoints: Tensor | None,
    gz: Tensor,
    g_state: Sequence[Tensor],
    g_sequences: Sequence[Tensor],
    wanted: Sequence[int],
) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    """See `ops.recurrent_backward`. Autograd through the loop: it owes the equations there nothing.

    The known total input takes the place of `x[t] + z[t-1] W^T`, whose gradients it is given.
    """
    real, lanes = params[0].dtype, gz[0].numel()
    x = [i.detach().to(real).reshape(len(gz), -1).requires_grad_() for i in inputs]
    s = [v.detach().reshape(-1).clone().requires_grad_() for v in state]
    p = [v.expand(lanes).clone().requires_grad_() for v in lane_params(params, spans, lanes)]
    with torch.enable_grad():
        outputs, states = _again(program, into, weight.to(real), x, s, p, rng, gz.shape[1:])
        pairs = [(torch.stack(outputs), gz.to(real).reshape(len(gz), -1))]
        pairs += [(v, g.reshape(-1)) for v, g in zip(states[-1], g_state, strict=False)]
        traced = [torch.stack(q) for q in zip(*states, strict=True)]
        pairs += [(q, g.reshape(len(gz), -1)) for q, g in zip(traced, g_sequences, strict=False)]
        pairs = [(o, g) for o, g in pairs if o.requires_grad]
        grads = torch.autograd.grad([o for o, _ in pairs], [*x, *s, *p], [g for _, g in pairs], materialize_grads=True)
    gx, gs, gp = grads[: len(x)], grads[len(x) : len(x) + len(s)], grads[len(x) + len(s) :]
    return (
        [g.to(gz.dtype).view(gz.shape) for g in gx],
        [g.view(gz.shape[1:]) for g in gs],
        [lane_sum(gp[m], params[m], spans[m]) for m in wanted],
    )


def _again(
    program: Program,
    into: int,
    weight: Tensor,
    x: Sequence[Tensor],
    state: list[Tensor],
    params: Sequence[Tensor],
    rng: Tensor | None,
    shape: torch.Size,
) -> tuple[list[Tensor], list[list[Tensor]]]:
    """Outputs and states of all steps from known totals, to which the recurrence adds its gradient alone."""
    outputs: list[Tensor] = []
    states: list[list[Tensor]] = []
    for t in range(len(x[0])):
        now = [i[t] for i in x]
        if outputs:
            heard = (outputs[-1].view(shape) @ weight.T).reshape(-1)
            now[into] = now[into] + (heard - heard.detach())
        z, state = step(program, now, state, step_draws(program, rng, t, now[0]), params)
        outputs.append(z)
        states.append(state)
    return outputs, states
