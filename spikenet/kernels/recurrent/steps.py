"""The recurrent scan from what any backend has: torch's matrix product, and the neuron's kernel for one step.

Every product reads tensors of their own, not slices of a sequence: with the alignment of its arguments a product may
choose another order of summation, and then a chunk would differ from the whole.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from spikenet.kernels.dynamics.trace import Program

Kernel = Callable[..., Any]


def forward(
    run: Kernel,
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
    """See `ops.recurrent`; `run` is a backend's `dynamics.forward`."""
    x, clocks = inputs[into], _clocks(rng, len(inputs[into]))
    outputs, states, totals = [], [], []
    for t in range(len(x)):
        total = torch.addmm(x[t], z, weight.T)[None]
        now = [total if k == into else i[t : t + 1] for k, i in enumerate(inputs)]
        row, state, _, _ = run(program, now, state, params, spans, clocks[t], False, True, False)
        z = row[0]
        outputs.append(z)
        states += [state] if trace else []
        totals += [total] if keep else []
    sequences = [torch.stack(q) for q in zip(*states, strict=True)]
    return torch.stack(outputs), list(state) if final else [], sequences, torch.cat(totals) if keep else x.new_empty(0)


def backward(
    run: Kernel,
    run_back: Kernel,
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
    """See `ops.recurrent_backward`; `run_back` is a backend's `dynamics.backward`.

    Chunk by chunk from the end: the states of a chunk again from its checkpoint, then back step by step.
    """
    steps, chunk, clocks = len(gz), program.chunk, _clocks(rng, len(gz))
    rows: list[list[Tensor]] = []  # of each step, the last one first, the gradients of the inputs
    lam, gp = list(g_state), [torch.zeros_like(params[m]) for m in wanted]
    for first in reversed(range(0, steps, chunk)):
        if first > 0 and checkpoints is not None:
            before = [s.view(gz.shape[1:]) for s in checkpoints[first // chunk - 1]]
        else:
            before = list(state)
        part = [i[first : first + chunk] for i in inputs]
        sequences = run(program, part, before, params, spans, clocks[first], False, False, True)[2]
        for t in reversed(range(first, first + len(part[0]))):
            now = [i[t : t + 1] for i in inputs]
            at = before if t == first else [q[t - first - 1] for q in sequences]
            g = torch.addmm(gz[t], rows[-1][into], weight)[None] if rows else gz[t : t + 1]
            given = [q[t] for q in g_sequences]
            lam = [a + b for a, b in zip(lam, given, strict=True)] if lam and given else lam or given
            gx, lam, more = run_back(program, now, at, params, spans, clocks[t], None, g, lam, [], wanted, True)
            rows.append([r[0] for r in gx])
            gp = [a + b for a, b in zip(gp, more, strict=True)]
    return [torch.stack(r[::-1]) for r in zip(*rows, strict=True)], lam, gp


def _clocks(rng: Tensor | None, steps: int) -> Sequence[Tensor | None]:
    """Seed and step number of each step."""
    if rng is None:
        return [None] * steps
    return list(torch.stack([rng[0].expand(steps), rng[1] + torch.arange(steps, device=rng.device)], 1))
