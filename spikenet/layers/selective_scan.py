"""The selective state space of Mamba, forwards and backwards over a sequence of tokens."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from spikenet.neurons import Neuron, exp
from spikenet.neurons.surrogate import Identity

__all__ = ["BidirectionalMamba", "SelectiveScan"]


class _Decaying(Neuron):
    """`h[t] = exp(a[t]) h[t-1] + x[t]`, which is also the output."""

    inputs = ("x", "a")
    state = {"h": 0.0}
    emit = Identity()

    def charge(self, s: Any, x: Any, d: Any, p: Any) -> dict[str, Any]:
        return {"h": exp(x.a) * s.h + x.x}

    def fire(self, h: Any, p: Any) -> Any:
        return h.h

    def reset(self, h: Any, z: Any, p: Any) -> dict[str, Any]:
        return {"h": h.h}


class SelectiveScan(nn.Module):
    """A state space whose step, input and output weights follow from the token (S6), behind a short convolution.

        u = SiLU(Conv(x))                       causal, depth-wise
        delta = softplus(W_delta u), B = W_B u, C = W_C u
        h[t] = exp(delta[t] A) h[t-1] + delta[t] B[t] u[t],     A < 0
        y[t] = C[t] . h[t] + D u[t]

    Args:
        width: E, channels.
        states: S, states of each channel.
        kernel: taps of the convolution.

    Shape:
        `[L, B, E]` -> `[L, B, E]`.

    Source: Gu and Dao, "Mamba", 2023, section 3.
    """

    def __init__(self, width: int, states: int = 16, kernel: int = 4) -> None:
        super().__init__()
        self.states, self.rank = states, -(-width // 16)
        self.conv = nn.Conv1d(width, width, kernel, groups=width)
        self.select = nn.Linear(width, self.rank + 2 * states, bias=False)
        self.step = nn.Linear(self.rank, width)
        steps = torch.exp(torch.rand(width) * (math.log(0.1) - math.log(1e-3)) + math.log(1e-3))
        with torch.no_grad():
            self.step.bias.copy_(steps + torch.log(-torch.expm1(-steps)))  # softplus makes them of it
        self.log_a = nn.Parameter(torch.arange(1.0, states + 1).log().repeat(width, 1))
        self.skip = nn.Parameter(torch.ones(width))
        self.scan = _Decaying()

    def forward(self, x: Tensor) -> Tensor:
        past = self.conv.kernel_size[0] - 1
        u = functional.silu(self.conv(functional.pad(x.permute(1, 2, 0), (past, 0))).permute(2, 0, 1))
        rank, b, c = self.select(u).split([self.rank, self.states, self.states], -1)
        delta = functional.softplus(self.step(rank)).unsqueeze(-1)
        h = self.scan(delta * b.unsqueeze(-2) * u.unsqueeze(-1), delta * -self.log_a.exp())
        return (h * c.unsqueeze(-2)).sum(-1) + self.skip * u


class BidirectionalMamba(nn.Module):
    """Two selective scans, one forwards and one backwards over all tokens of all steps, gated: `W_o((y + y') SiLU(z))`.

    It sees all steps at once, so `Stream` refuses it.

    Args:
        dim: D, features of a token.
        states: states of each channel.
        expand: channels of the scans over D.

    Shape:
        `[T, B, *space, D]` -> the same; what is returned is to be added to the input.

    Source: Zhu et al., "Vision Mamba", ICML 2024; in SpikMamba, ACM MM Asia 2024.
    """

    def __init__(self, dim: int, states: int = 16, expand: int = 2) -> None:
        super().__init__()
        self.norm = nn.RMSNorm(dim)
        self.widen = nn.Linear(dim, 2 * expand * dim, bias=False)
        self.forwards, self.backwards = (SelectiveScan(expand * dim, states) for _ in range(2))
        self.narrow = nn.Linear(expand * dim, dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.norm(x).flatten(2, -2).transpose(1, 2)  # [T, N, B, D]
        u, z = self.widen(tokens.flatten(0, 1)).chunk(2, -1)
        y = self.forwards(u) + self.backwards(u.flip(0)).flip(0)
        out = self.narrow(y * functional.silu(z))
        return out.unflatten(0, tokens.shape[:2]).transpose(1, 2).reshape(x.shape)
