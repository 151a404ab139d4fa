"""The two operations that local learning rules are made of, and the table of backends of each.

A *trace* remembers the spikes of a lane. Every step it decays, then takes the step's spikes:

    before[t] = decay x[t-1]
    x[t] = before[t] + spikes[t]                                         all-to-all
    x[t] = spikes[t] where there is one, else before[t]                  nearest neighbour

An *update* changes weights by products of a factor of the neuron that hears (rows, `o`) and one of the neuron that is
heard (columns, `i`), summed over the batch entries `b`:

    h[b,o,i] = F+(w) gain[t,b,o] x[t,b,i] - F-(w) y[t,b,o] loss[t,b,i]
    F+(w) = (high - w)^mu_plus        F-(w) = (w - low)^mu_minus

    without eligibility     w <- min(max(w + sum_b h[b,o,i], low), high)
    with eligibility        e[b,o,i] <- decay e[b,o,i] + sum over the entries of b of h
                            w <- min(max(w + sum_b modulator[t,b,o] e[b,o,i], low), high)

`gain` and `loss` are mostly 0: they hold spikes. Steps follow one another, so that parts of a sequence give what the
whole gives, to the last bit. Neither operation has a gradient.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from spikenet.kernels.backends import Implementation, Operation, anywhere, lazily, on_processor
from spikenet.kernels.triton_device import why_not_on


class Change(NamedTuple):
    """The constants of an update, see above. An exponent of 0 stands for F = 1, whatever the bound."""

    low: float
    high: float
    mu_plus: float = 0.0
    mu_minus: float = 0.0
    decay: float = 1.0  # of the eligibility


def _triton_why_not(x: Tensor, *_: object) -> str | None:
    if x.dtype == torch.float64:
        return "the Triton kernels compute in float32, and the tensors are torch.float64"
    return why_not_on(x)


_HERE = "spikenet.kernels.plasticity"
TRACE = Operation(
    "plasticity trace",
    Implementation("numba", on_processor, lazily(f"{_HERE}.numba_backend", "trace")),
    Implementation("reference", anywhere, lazily(f"{_HERE}.reference", "trace")),
)
UPDATE = Operation(
    "plasticity update",
    Implementation("numba", on_processor, lazily(f"{_HERE}.numba_backend", "update")),
    Implementation("reference", anywhere, lazily(f"{_HERE}.reference", "update")),
)


def trace(spikes: Tensor, start: Tensor, decay: float, nearest: bool) -> tuple[Tensor, Tensor]:
    """A trace's value in every step before it takes the step's spikes.

    Args:
        spikes: `[T, *lanes]`, float32 or float64.
        start: the trace after the step before, `[*lanes]`, of the same dtype.
        decay: what is left of it after a step.
        nearest: whether a spike replaces what is left.

    Returns:
        `before` `[T, *lanes]`, and the trace after the last step `[*lanes]`.
    """
    if spikes.numel() == 0:
        return torch.zeros_like(spikes), start.clone()
    flat = spikes.reshape(len(spikes), -1).contiguous()
    before, last = TRACE(flat, start.reshape(-1).contiguous(), decay, nearest, size=flat.numel())
    return before.view(spikes.shape), last.view(start.shape)


def update(
    weight: Tensor,
    gain: Tensor,
    x: Tensor,
    y: Tensor,
    loss: Tensor,
    change: Change,
    eligibility: Tensor | None = None,
    modulator: Tensor | None = None,
) -> None:
    """Change `weight`, and `eligibility` where there is one, in place.

    All tensors are of the weights' dtype, float32 or float64.

    Args:
        weight: `[O, I]`.
        gain, y: factors of the rows, `[T, N, O]`; the N entries of a step are `L` for each of the `B` of the
            eligibility, one after the other.
        x, loss: factors of the columns, `[T, N, I]`.
        change: the constants.
        eligibility: `[B, O, I]`.
        modulator: `[T, B, O]`; goes with an eligibility.
    """
    if weight.numel() == 0 or gain.shape[0] * gain.shape[1] == 0:
        return
    factors = [v.contiguous() for v in (gain, x, y, loss)]
    work = weight.detach().contiguous()
    held = None if eligibility is None else eligibility.contiguous()
    told = None if modulator is None else modulator.contiguous()
    UPDATE(work, *factors, change, held, told, size=gain.shape[0] * weight.numel())
    if work.data_ptr() != weight.data_ptr():
        weight.detach().copy_(work)
    if eligibility is not None and held is not None and held.data_ptr() != eligibility.data_ptr():
        eligibility.copy_(held)
