"""Resonate-and-fire neuron: a damped oscillator that fires when it swings far enough."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from spikenet.kernels.dynamics.words import blend
from spikenet.neurons.base import Param
from spikenet.neurons.reset import ResetNeuron, VReset
from spikenet.neurons.surrogate import Surrogate

__all__ = ["ResonateAndFire"]


class ResonateAndFire(ResetNeuron):
    """Resonate-and-fire neuron: the complex state y = u + i v turns and shrinks, dy/dt = (i omega - 1 / tau) y + x.

        keep = exp(-dt / tau),   phi = omega dt
        h_u[t] = keep (cos(phi) u[t-1] - sin(phi) v[t-1]) + x[t]
        h_v[t] = keep (sin(phi) u[t-1] + cos(phi) v[t-1])
        z[t] = 1 if h_v[t] >= v_threshold else 0
        u[t], v[t] = 0, v_reset where z[t] = 1, else h_u[t], h_v[t]          (hard reset: y becomes i v_reset)
        u[t], v[t] = h_u[t], h_v[t] - z[t] v_threshold                       (soft reset: v_reset=None)
        u[t], v[t] = h_u[t], h_v[t]                                          (no reset: v_reset=NO_RESET)

    The rotation is exact for inputs that are pulses at the end of a step. A pulse of 1 at t = 0 gives, below the
    threshold, `v[t] = keep^t sin(phi t)`.

    Args:
        omega: angular frequency, in radians per unit of `dt`; above pi / dt it is aliased. A number or tensor is fixed,
            an `nn.Parameter` learned; shapes `()`, per channel `[C, 1, 1]` or per neuron `[*features]`. So are the
            parameters below.
        tau: time constant of the damping (the source's b is -1 / tau).
        v_threshold: potential at which the neuron fires.
        v_reset: potential after a spike, at which `u` is 0 (the source takes `v_threshold`); None subtracts the
            threshold instead, `NO_RESET` leaves the state.
        detach_reset: let no gradient pass through the reset's spike.
        surrogate: slope of the spike in the backward pass, or its name.
        dt: length of a time step.

    Shape:
        `[T, B, *features]` -> `[T, B, *features]`; states `u` and `v` `[B, *features]`, 0 before the first step.

    Raises:
        ArgumentError: if `tau` or `dt` is not above 0.

    Source: Izhikevich, "Resonate-and-fire neurons", Neural Networks 14, 2001.
    """

    state = {"u": 0.0, "v": 0.0}
    params = {
        "omega": Param(0.5, "radians / time"),
        "tau": Param(10.0, "time", above=0.0),
        "v_threshold": 1.0,
        "v_reset": 1.0,
    }

    def __init__(
        self,
        omega: float | Tensor = 0.5,
        tau: float | Tensor = 10.0,
        v_threshold: float | Tensor = 1.0,
        v_reset: VReset = 1.0,
        *,
        detach_reset: bool = False,
        surrogate: Surrogate | str = "atan",
        dt: float = 1.0,
    ) -> None:
        given = {"omega": omega, "tau": tau, "v_threshold": v_threshold}
        super().__init__(v_reset, detach_reset, surrogate=surrogate, dt=dt, **given)

    def derive(self, p: dict[str, Tensor]) -> dict[str, Tensor]:
        keep, phi = torch.exp(-self.dt / p["tau"]), p["omega"] * self.dt
        rest = {name: v for name, v in p.items() if name not in ("omega", "tau")}
        return {"cosine": keep * torch.cos(phi), "sine": keep * torch.sin(phi), **rest}

    def charge(self, s: Any, x: Any, d: Any, p: Any) -> dict[str, Any]:
        return {"u": p.cosine * s.u - p.sine * s.v + x.x, "v": p.sine * s.u + p.cosine * s.v}

    def reset(self, h: Any, z: Any, p: Any) -> dict[str, Any]:
        u = blend(self.heard(z), h.u, 0.0) if self.hard else h.u
        return {**super().reset(h, z, p), "u": u}
