"""The time mixing of RWKV: a causal average with exponential weights, and the shift by one token.

Tokens are time steps: `[T, B, D]`. Both keep a constant state, and a stream carries it.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from spikenet.neurons import Neuron, Param, detach, exp, maximum
from spikenet.neurons.carry import carrier
from spikenet.neurons.surrogate import Identity

__all__ = ["WKV", "TokenShift"]

_NOTHING = -1e38  # the logarithm of no weight at all


class WKV(Neuron):
    """The average of all values so far, weighted by the exponential of their keys and their age, for each channel.

        y[t] = (sum_{i<t} e^{(t-1-i) w + k[i]} v[i] + e^{u + k[t]} v[t]) / (the same with v = 1),   w = -e^{decay} < 0

    It is a neuron that never fires: its state is numerator p and denominator q, both over e^o, where o is the largest
    exponent so far, so that no exponential overflows:

        m = max(o, u + k)       y = (e^{o-m} p + e^{u+k-m} v) / (e^{o-m} q + e^{u+k-m})
        o' = max(w + o, k)      p' = e^{w+o-o'} p + e^{k-o'} v      q' = e^{w+o-o'} q + e^{k-o'}

    The output does not depend on where o lies, so no gradient goes through it.

    Args:
        decay: logarithm of the rate at which weights decay, a number or `[D]`; learned as an `nn.Parameter`.
        first: u, added to the key of the present token, a number or `[D]`.

    Shape:
        keys and values `[T, B, D]` -> `[T, B, D]`; states p, q and o `[B, D]`.

    Source: Zhu et al., "SpikeGPT", TMLR 2024, section 3; the recurrence of its code.
    """

    inputs = ("k", "v")
    state = {"p": 0.0, "q": 0.0, "o": _NOTHING}
    params = {"decay": Param(0.0), "first": Param(0.0)}
    emit = Identity()

    def __init__(self, decay: float | Tensor = 0.0, first: float | Tensor = 0.0) -> None:
        super().__init__(decay=decay, first=first)

    def derive(self, p: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"w": -p["decay"].exp(), "u": p["first"]}

    def charge(self, s: Any, x: Any, d: Any, p: Any) -> dict[str, Any]:
        now = p.u + x.k
        m = detach(maximum(s.o, now))
        old, new = exp(detach(s.o) - m), exp(now - m)
        o = detach(maximum(p.w + s.o, x.k))
        kept, added = exp(p.w + detach(s.o) - o), exp(x.k - o)
        return {
            "y": (old * s.p + new * x.v) / (old * s.q + new),
            "p": kept * s.p + added * x.v,
            "q": kept * s.q + added,
            "o": o,
        }

    def fire(self, h: Any, p: Any) -> Any:
        return h.y

    def reset(self, h: Any, z: Any, p: Any) -> dict[str, Any]:
        return {"p": h.p, "q": h.q, "o": h.o}


class TokenShift(nn.Module):
    """The token before, zero before the first: `[T, B, D]` -> `[T, B, D]`."""

    def forward(self, x: Tensor) -> Tensor:
        running = carrier()
        before = torch.zeros_like(x[:1])
        if running is not None:
            key, carried = running.take(self, x)
            before = before if carried is None else carried
            running.put(key, torch.cat([before, x])[-1:])  # the chunk may be empty
        return torch.cat([before, x])[:-1]
