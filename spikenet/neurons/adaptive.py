"""Adaptive neurons for learning: a threshold or a current that remembers the neuron's own spikes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from spikenet.kernels.dynamics.words import blend, detach
from spikenet.neurons.base import Neuron, Param
from spikenet.neurons.surrogate import Surrogate

__all__ = ["ALIF", "SEAdLIF", "SiLIF"]


class ALIF(Neuron):
    """LIF neuron whose threshold rises with every spike and falls back slowly.

        v[t] = keep v[t-1] + x[t] - v_threshold z[t-1]              keep = exp(-dt / tau)
        b[t] = keep_b b[t-1] + z[t-1]                               keep_b = exp(-dt / tau_adapt)
        z[t] = 1 if v[t] >= v_threshold + beta b[t] else 0

    The states are those after the spike: `v[t] - v_threshold z[t] / keep` and `b[t+1]`.

    Args:
        tau: membrane time constant, in the unit of `dt`. A number or tensor is fixed, an `nn.Parameter` learned;
            shapes `()`, per channel `[C, 1, 1]` or per neuron `[*features]`. So are the next three.
        tau_adapt: time constant of the adaptation.
        beta: rise of the threshold per spike; 0 gives a LIF neuron.
        v_threshold: threshold at rest, and what a spike takes from the potential.
        surrogate: slope of the spike in the backward pass, or its name.
        dt: length of a time step.

    Shape:
        `[T, B, *features]` -> `[T, B, *features]`; states `v` and `b` `[B, *features]`, 0 before the first step.

    Raises:
        ArgumentError: if `tau`, `tau_adapt` or `dt` is not above 0.

    Source: Bellec et al., "Long short-term memory and learning-to-learn in networks of spiking neurons", NeurIPS 2018;
    discrete form of Bellec et al., "A solution to the learning dilemma for recurrent networks of spiking neurons",
    Nature Communications 11, 2020, without its refractory period.
    """

    state = {"v": 0.0, "b": 0.0}
    params = {
        "tau": Param(20.0, "time", above=0.0),
        "tau_adapt": Param(200.0, "time", above=0.0),
        "beta": 0.2,
        "v_threshold": 1.0,
    }

    def __init__(
        self,
        tau: float | Tensor = 20.0,
        tau_adapt: float | Tensor = 200.0,
        beta: float | Tensor = 0.2,
        v_threshold: float | Tensor = 1.0,
        *,
        surrogate: Surrogate | str = "atan",
        dt: float = 1.0,
    ) -> None:
        given = {"tau": tau, "tau_adapt": tau_adapt, "beta": beta, "v_threshold": v_threshold}
        super().__init__(surrogate=surrogate, dt=dt, **given)

    def derive(self, p: dict[str, Tensor]) -> dict[str, Tensor]:
        keep, keep_b = (torch.exp(-self.dt / p[name]) for name in ("tau", "tau_adapt"))
        # A spike's jump does not decay in the step after it: divided by `keep` here, multiplied by it in `charge`.
        jump = p["v_threshold"] / keep
        return {"keep": keep, "keep_b": keep_b, "jump": jump, "beta": p["beta"], "v_threshold": p["v_threshold"]}

    def charge(self, s: Any, x: Any, d: Any, p: Any) -> dict[str, Any]:
        return {"v": s.v * p.keep + x.x, "b": s.b}

    def fire(self, h: Any, p: Any) -> Any:
        return h.v - (p.v_threshold + p.beta * h.b)

    def reset(self, h: Any, z: Any, p: Any) -> dict[str, Any]:
        return {"v": h.v - z * p.jump, "b": h.b * p.keep_b + z}


class SEAdLIF(Neuron):
    """Adaptive LIF neuron, symplectic Euler: the adaptation hears the potential and the spike of the same step.

        h[t] = keep v[t-1] + (1 - keep) (x[t] - w[t-1])                          keep = exp(-dt / tau)
        z[t] = 1 if h[t] >= v_threshold else 0
        v[t] = h[t] (1 - z[t])                                                   (z without gradient)
        w[t] = keep_w w[t-1] + (1 - keep_w) q (a v[t] + b z[t])                  keep_w = exp(-dt / tau_w)

    `a` acts clamped to [0, 1] and `b` to [0, 2]. In a recurrent layer the input includes what the neurons' last spikes
    send.

    Args:
        tau: membrane time constant, in the unit of `dt`. A number or tensor is fixed, an `nn.Parameter` learned;
            shapes `()`, per channel `[C, 1, 1]` or per neuron `[*features]`. So are the parameters below.
        tau_w: time constant of the adaptation current.
        a: coupling of the adaptation to the potential.
        b: coupling of the adaptation to the spike.
        q: scale of both.
        v_threshold: potential at which the neuron fires.
        surrogate: slope of the spike in the backward pass, or its name.
        dt: length of a time step.

    Shape:
        `[T, B, *features]` -> `[T, B, *features]`; states `v` and `w` `[B, *features]`, 0 before the first step.

    Raises:
        ArgumentError: if `tau`, `tau_w` or `dt` is not above 0.

    Source: Baronig et al., "Advancing spatio-temporal processing in spiking neural networks through adaptation",
    arXiv 2408.07517; the equations of its code, github.com/IGITUGraz/SE-adlif.
    """

    state = {"v": 0.0, "w": 0.0}
    params = {
        "tau": Param(15.0, "time", above=0.0),
        "tau_w": Param(180.0, "time", above=0.0),
        "a": 0.5,
        "b": 1.0,
        "q": 120.0,
        "v_threshold": 1.0,
    }

    def __init__(
        self,
        tau: float | Tensor = 15.0,
        tau_w: float | Tensor = 180.0,
        a: float | Tensor = 0.5,
        b: float | Tensor = 1.0,
        *,
        q: float | Tensor = 120.0,
        v_threshold: float | Tensor = 1.0,
        surrogate: Surrogate | str = "atan",
        dt: float = 1.0,
    ) -> None:
        given = {"tau": tau, "tau_w": tau_w, "a": a, "b": b, "q": q, "v_threshold": v_threshold}
        super().__init__(surrogate=surrogate, dt=dt, **given)

    @classmethod
    def learned(cls, features: int, **options: Any) -> SEAdLIF:
        """`tau`, `tau_w`, `a`, `b` learned per neuron, drawn as the source draws them: from U(5, 25), U(60, 300),
        U(0, 1) and U(0, 2)."""
        ranges = {"tau": (5.0, 25.0), "tau_w": (60.0, 300.0), "a": (0.0, 1.0), "b": (0.0, 2.0)}
        options |= {name: _uniform(features, *r) for name, r in ranges.items()}
        return cls(**options)

    def derive(self, p: dict[str, Tensor]) -> dict[str, Tensor]:
        keep, keep_w = (torch.exp(-self.dt / p[name]) for name in ("tau", "tau_w"))
        gain = (1 - keep_w) * p["q"]
        a, b = gain * p["a"].clamp(0, 1), gain * p["b"].clamp(0, 2)
        return {"keep": keep, "rate": 1 - keep, "keep_w": keep_w, "a": a, "b": b, "v_threshold": p["v_threshold"]}

    def charge(self, s: Any, x: Any, d: Any, p: Any) -> dict[str, Any]:
        return {"v": s.v * p.keep + (x.x - s.w) * p.rate, "w": s.w}

    def reset(self, h: Any, z: Any, p: Any) -> dict[str, Any]:
        v = blend(detach(z), h.v, 0.0)
        return {"v": v, "w": h.w * p.keep_w + p.a * v + p.b * z}


class SiLIF(Neuron):
    """Adaptive LIF neuron in the parametrisation of state-space models: logarithms of rates and of a step are learned.

        keep = exp(-exp(log_rate + log_step)),   keep_w = exp(-exp(log_rate_w + log_step))
        w[t] = keep_w w[t-1] + a v[t-1] + b z[t-1]
        v[t] = keep (v[t-1] - v_threshold z[t-1]) + (1 - keep) (x[t] - w[t])
        z[t] = 1 if v[t] >= v_threshold else 0

    `a` acts clamped to [0, 1] and `b` to [0, 2]. The states are those after the spike: `v[t] - v_threshold z[t]` and
    `w[t+1]`; both start at 0, while the source draws them from U(0, 1).

    Args:
        log_rate: logarithm of the membrane's decay rate, per unit of time. A number or tensor is fixed, an
            `nn.Parameter` learned; shapes `()`, per channel `[C, 1, 1]` or per neuron `[*features]`. So are the next
            four.
        log_rate_w: logarithm of the adaptation's decay rate, per unit of time.
        a: coupling of the adaptation to the potential.
        b: coupling of the adaptation to the spike.
        log_step: logarithm of the length of a time step.
        v_threshold: potential at which the neuron fires (1 in the source), and what a spike takes from it.
        surrogate: slope of the spike in the backward pass, or its name; the source uses `rectangle`.

    Shape:
        `[T, B, *features]` -> `[T, B, *features]`; states `v` and `w` `[B, *features]`.

    Source: Fabre et al., "Structured state space model dynamics and parametrization for spiking neural networks", 2025;
    the equations of its code, github.com/Maxtimer97/SSM-inspired-LIF.
    """

    state = {"v": 0.0, "w": 0.0}
    params = {"log_rate": 3.9, "log_rate_w": 1.6, "a": 0.5, "b": 1.0, "log_step": -5.5, "v_threshold": 1.0}

    def __init__(
        self,
        log_rate: float | Tensor = 3.9,
        log_rate_w: float | Tensor = 1.6,
        a: float | Tensor = 0.5,
        b: float | Tensor = 1.0,
        *,
        log_step: float | Tensor = -5.5,
        v_threshold: float | Tensor = 1.0,
        surrogate: Surrogate | str = "rectangle",
    ) -> None:
        super().__init__(
            surrogate=surrogate,
            log_rate=log_rate,
            log_rate_w=log_rate_w,
            a=a,
            b=b,
            log_step=log_step,
            v_threshold=v_threshold,
        )

    @classmethod
    def learned(cls, features: int, **options: Any) -> SiLIF:
        """All but the threshold learned per neuron, drawn as the source draws them: rates between 10 and 250 per second
        (membrane) and 2.5 and 10 per second (adaptation), log-uniform, `a` from U(0, 1), `b` from U(0, 2), a step of
        4 ms."""
        log = {"log_rate": (10.0, 250.0), "log_rate_w": (2.5, 10.0), "log_step": (0.004, 0.004)}
        options |= {name: _uniform(features, *torch.tensor(r).log().tolist()) for name, r in log.items()}
        return cls(a=_uniform(features, 0.0, 1.0), b=_uniform(features, 0.0, 2.0), **options)

    def derive(self, p: dict[str, Tensor]) -> dict[str, Tensor]:
        keep, keep_w = (torch.exp(-torch.exp(p[name] + p["log_step"])) for name in ("log_rate", "log_rate_w"))
        a, b = p["a"].clamp(0, 1), p["b"].clamp(0, 2)
        return {"keep": keep, "rate": 1 - keep, "keep_w": keep_w, "a": a, "b": b, "v_threshold": p["v_threshold"]}

    def charge(self, s: Any, x: Any, d: Any, p: Any) -> dict[str, Any]:
        return {"v": s.v * p.keep + (x.x - s.w) * p.rate, "w": s.w}

    def reset(self, h: Any, z: Any, p: Any) -> dict[str, Any]:
        return {"v": h.v - z * p.v_threshold, "w": h.w * p.keep_w + p.a * h.v + p.b * z}


def _uniform(features: int, low: float, high: float) -> nn.Parameter:
    return nn.Parameter(torch.empty(features).uniform_(low, high))
