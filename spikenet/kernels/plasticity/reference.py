"""Traces and updates in plain torch: what the kernels are tested against."""

from __future__ import annotations

import torch
from torch import Tensor

from spikenet.kernels.plasticity.ops import Change, Memory


def trace(spikes: Tensor, start: Tensor, decay: float, nearest: bool) -> tuple[Tensor, Tensor]:
    """See `ops.trace`; spikes are [T, lanes]."""
    before, x = torch.zeros_like(spikes), start
    for t, now in enumerate(spikes):
        before[t] = x * decay
        x = torch.where(now != 0, now, before[t]) if nearest else before[t] + now
    return before, x.clone()


def update(
    weight: Tensor,
    gain: Tensor,
    x: Tensor,
    y: Tensor,
    loss: Tensor,
    change: Change,
    eligibility: Tensor | None,
    modulator: Tensor | None,
) -> None:
    """See `ops.update`."""
    for t in range(len(gain)):
        if eligibility is None or modulator is None:
            down = bounded(weight - change.low, change.mu_minus) * (y[t].T @ loss[t])
            weight.copy_((weight - down).clamp(change.low, change.high))
            step = bounded(change.high - weight, change.mu_plus) * (gain[t].T @ x[t])
        else:
            rise, fall = bounded(change.high - weight, change.mu_plus), bounded(weight - change.low, change.mu_minus)
            parts = [v[t].view(len(eligibility), -1, v.shape[2]) for v in (gain, x, y, loss)]
            up, down = parts[0].mT @ parts[1], parts[2].mT @ parts[3]
            eligibility.copy_(change.decay * eligibility + (rise * up - fall * down))
            step = torch.einsum("bo,boi->oi", modulator[t], eligibility)
        weight.copy_((weight + step).clamp(change.low, change.high))


def update_sparse(
    values: Tensor,
    indptr: Tensor,
    indices: Tensor,
    gain: Tensor,
    x: Tensor,
    y: Tensor,
    loss: Tensor,
    change: Change,
    eligibility: Tensor | None,
    modulator: Tensor | None,
) -> None:
    """See `ops.update_sparse`."""
    rows = torch.repeat_interleave(torch.arange(len(indptr) - 1, device=indptr.device), indptr.diff())
    for t in range(len(gain)):
        up, down = gain[t][:, rows] * x[t][:, indices], y[t][:, rows] * loss[t][:, indices]  # [N, E]
        if eligibility is None or modulator is None:
            less = bounded(values - change.low, change.mu_minus) * down.sum(0)
            values.copy_((values - less).clamp(change.low, change.high))
            step = bounded(change.high - values, change.mu_plus) * up.sum(0)
        else:
            rise, fall = bounded(change.high - values, change.mu_plus), bounded(values - change.low, change.mu_minus)
            each = (rise * up - fall * down).view(len(eligibility), -1, len(values))
            eligibility.copy_(change.decay * eligibility + each.sum(1))
            step = (modulator[t][:, rows] * eligibility).sum(0)
        values.copy_((values + step).clamp(change.low, change.high))


def bounded(room: Tensor, mu: float) -> Tensor | float:
    """(distance to the bound)^mu, and 1 for an exponent of 0."""
    return 1.0 if mu == 0 else room if mu == 1 else room**mu


def eprop(
    x: Tensor,
    slope: Tensor,
    signal: Tensor,
    memory: Memory,
    gradient: Tensor,
    filtered: Tensor,
    beta: Tensor | None,
    adaptation: Tensor | None,
) -> None:
    """See `ops.eprop`."""
    for x_t, slope_t, signal_t in zip(x[:, :, None], slope[..., None], signal, strict=True):
        if beta is None or adaptation is None:
            e = slope_t * x_t
        else:
            e = slope_t * (x_t - beta[:, None] * adaptation)
            adaptation.copy_((memory.rho - beta[:, None] * slope_t) * adaptation + slope_t * x_t)
        filtered.copy_(memory.kappa * filtered + e)
        gradient += torch.einsum("bo,boi->oi", signal_t, filtered)
