"""The operations that local learning rules are made of, and the table of backends of each.

A *trace* remembers the spikes of a lane. Every step it decays, then takes the step's spikes:

    before[t] = decay x[t-1]
    x[t] = before[t] + spikes[t]                                         all-to-all
    x[t] = spikes[t] where there is one, else before[t]                  nearest neighbour

An *update* changes weights by products of a factor of the neuron that hears (rows, `o`) and one of the neuron that is
heard (columns, `i`), summed over the batch entries `b`:

    w <- w - F-(w) sum_b y[t,b,o] loss[t,b,i]                F-(w) = (w - low)^mu_minus
    w <- w + F+(w) sum_b gain[t,b,o] x[t,b,i]                F+(w) = (high - w)^mu_plus

each brought back within low to high. With an eligibility the same products wait there instead:

    e[b,o,i] <- decay e[b,o,i] + F+(w) gain[t,b,o] x[t,b,i] - F-(w) y[t,b,o] loss[t,b,i]
    w <- w + sum_b modulator[t,b,o] e[b,o,i]

`gain` and `loss` are mostly 0: they hold spikes. An *e-prop* step follows how a neuron's spike depends on its weights,
through its potential and its adaptation, and sums the gradient:

    e[b,o,i] = slope[t,b,o] (x[t,b,i] - beta[o] a[b,o,i])
    a[b,o,i] <- (rho - beta[o] slope[t,b,o]) a[b,o,i] + slope[t,b,o] x[t,b,i]              (a = 0 without adaptation)
    f[b,o,i] <- kappa f[b,o,i] + e[b,o,i]
    g[o,i] <- g[o,i] + sum_b signal[t,b,o] f[b,o,i]

Steps follow one another, so that parts of a sequence give what the whole gives, to the last bit. No operation has a
gradient.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
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


class Memory(NamedTuple):
    """The constants of e-prop, see above: decays of the adaptation and of the filtered eligibility."""

    rho: float
    kappa: float


def _triton_why_not(x: Tensor, *_: object) -> str | None:
    if x.dtype == torch.float64:
        return "the Triton kernels compute in float32, and the tensors are torch.float64"
    return why_not_on(x)


_HERE = "spikenet.kernels.plasticity"
TRACE = Operation(
    "plasticity trace",
    Implementation("triton", _triton_why_not, lazily(f"{_HERE}.triton_backend", "trace")),
    Implementation("numba", on_processor, lazily(f"{_HERE}.numba_backend", "trace")),
    Implementation("reference", anywhere, lazily(f"{_HERE}.reference", "trace")),
)
UPDATE = Operation(
    "plasticity update",
    Implementation("triton", _triton_why_not, lazily(f"{_HERE}.triton_backend", "update")),
    Implementation("numba", on_processor, lazily(f"{_HERE}.numba_backend", "update")),
    Implementation("reference", anywhere, lazily(f"{_HERE}.reference", "update")),
)

SPARSE = Operation(
    "plasticity update of sparse weights",
    Implementation("numba", on_processor, lazily(f"{_HERE}.numba_sparse", "update")),
    Implementation("reference", anywhere, lazily(f"{_HERE}.reference", "update_sparse")),
)
EPROP = Operation(
    "plasticity eprop",
    Implementation("triton", _triton_why_not, lazily(f"{_HERE}.triton_backend", "eprop")),
    Implementation("numba", on_processor, lazily(f"{_HERE}.numba_eprop", "eprop")),
    Implementation("reference", anywhere, lazily(f"{_HERE}.reference", "eprop")),
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
    with _in_place(weight, eligibility) as (work, held):
        told = None if modulator is None else modulator.contiguous()
        UPDATE(work, *factors, change, held, told, size=gain.shape[0] * weight.numel())


def update_sparse(
    values: Tensor,
    indptr: Tensor,
    indices: Tensor,
    gain: Tensor,
    x: Tensor,
    y: Tensor,
    loss: Tensor,
    change: Change,
    eligibility: Tensor | None = None,
    modulator: Tensor | None = None,
) -> None:
    """`update` of the weights of compressed rows, in place: row o has `values[indptr[o]:indptr[o + 1]]`.

    Args:
        values: `[E]`.
        indptr: where each row begins, int64 `[O + 1]`.
        indices: column of each weight, int64 `[E]`.
        gain, x, y, loss, change, modulator: see `update`.
        eligibility: `[B, E]`.
    """
    if values.numel() == 0 or gain.shape[0] * gain.shape[1] == 0:
        return
    places = [v.contiguous() for v in (indptr, indices)]
    factors = [v.contiguous() for v in (gain, x, y, loss)]
    with _in_place(values, eligibility) as (work, held):
        told = None if modulator is None else modulator.contiguous()
        SPARSE(work, *places, *factors, change, held, told, size=gain.shape[0] * values.numel())


def eprop(
    x: Tensor,
    slope: Tensor,
    signal: Tensor,
    memory: Memory,
    gradient: Tensor,
    filtered: Tensor,
    beta: Tensor | None = None,
    adaptation: Tensor | None = None,
) -> None:
    """Take e-prop through a sequence: adds to `gradient` and moves `filtered` and `adaptation` on, in place.

    All tensors are of one dtype, float32 or float64.

    Args:
        x: the trace of what is heard, `[T, B, I]`.
        slope: how the neurons' spikes depend on their potential, `[T, B, O]`.
        signal: how the loss depends on the neurons' filtered spikes, `[T, B, O]`.
        memory: the constants.
        gradient: g, `[O, I]`.
        filtered: f, `[B, O, I]`.
        beta: by how much a spike raises each neuron's threshold, `[O]`; neither this nor the next for neurons without
            adaptation.
        adaptation: a, `[B, O, I]`.
    """
    if x.shape[0] * filtered.numel() == 0:
        return
    given = [v.contiguous() for v in (x, slope, signal)]
    rise = None if beta is None else beta.contiguous()
    with _in_place(gradient, filtered, adaptation) as (g, f, a):
        EPROP(*given, memory, g, f, rise, a, size=x.shape[0] * filtered.numel())


@contextmanager
def _in_place(*tensors: Tensor | None) -> Iterator[list[Tensor | None]]:
    """Contiguous tensors to change, whose content goes back to those that were not."""
    work = [None if v is None else v.detach().contiguous() for v in tensors]
    yield work
    for given, changed in zip(tensors, work, strict=True):
        if given is not None and changed is not None and changed.data_ptr() != given.data_ptr():
            given.detach().copy_(changed)
