"""Causal linear attention step by step, as its equations say it."""

from __future__ import annotations

import torch
from torch import Tensor


def recurrent(
    q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor | None, beta: Tensor | None, state: Tensor, scale: float
) -> tuple[Tensor, Tensor]:
    """See `causal.causal_attention`; `log_decay` is `[T, B, H, 1 or D]`, all of one float32 or float64 dtype."""
    rows = []
    for t in range(len(q)):
        if log_decay is not None:
            state = log_decay[t].exp().unsqueeze(-1) * state
        new = v[t]
        if beta is not None:
            new = beta[t].unsqueeze(-1) * (new - _read(k[t], state))
        state = state + k[t].unsqueeze(-1) * new.unsqueeze(-2)
        rows.append(scale * _read(q[t], state))
    return (torch.stack(rows) if rows else torch.zeros_like(v)), state


def _read(q: Tensor, state: Tensor) -> Tensor:
    """`q S` for `[B, H, D]` and `[B, H, D, E]`."""
    return (q.unsqueeze(-2) @ state).squeeze(-2)
