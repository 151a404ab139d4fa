"""Integrate-and-fire neurons with and without leak, and the leaky readout."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from spikenet.kernels.dynamics.words import blend, detach
from spikenet.neurons.base import Neuron, Param
from spikenet.neurons.surrogate import Identity, Surrogate

__all__ = ["IF", "LIF", "LeakyReadout"]


class _Reset(Neuron):
    """Hard reset to `v_reset`, or soft reset by `v_threshold`; attached to the spike's gradient or detached."""

    def __init__(self, v_reset: float | Tensor | None, detach_reset: bool, **rest: Any) -> None:
        self.soft = v_reset is None
        self.detach_reset = detach_reset
        if v_reset is None:
            self.params = {name: spec for name, spec in self.params.items() if name != "v_reset"}
        else:
            rest["v_reset"] = v_reset
        super().__init__(**rest)

    def reset(self, h: Any, z: Any, p: Any) -> dict[str, Any]:
        z = detach(z) if self.detach_reset else z
        return {"v": h.v - z * p.v_threshold if self.soft else blend(z, h.v, p.v_reset)}


class IF(_Reset):
    """Integrate-and-fire neuron.

        h[t] = v[t-1] + x[t]
        z[t] = 1 if h[t] >= v_threshold else 0
        v[t] = v_reset where z[t] = 1, else h[t]             (hard reset)
        v[t] = h[t] - z[t] v_threshold                       (soft reset: v_reset=None)

    Args:
        v_threshold: potential at which the neuron fires.
        v_reset: potential after a spike; None subtracts the threshold instead.
        detach_reset: let no gradient pass through the reset's spike.
        surrogate: slope of the spike in the backward pass, or its name.
        v_rest: potential before the first step.

    Shape:
        `[T, B, *features]` -> `[T, B, *features]`; state `v` `[B, *features]`.

    Source: Gerstner et al., "Neuronal Dynamics", Cambridge 2014, section 1.3 (without the leak).
    """

    state = {"v": "v_rest"}
    params = {"v_threshold": 1.0, "v_reset": 0.0, "v_rest": 0.0}

    def __init__(
        self,
        v_threshold: float | Tensor = 1.0,
        v_reset: float | Tensor | None = 0.0,
        *,
        detach_reset: bool = False,
        surrogate: Surrogate | str = "atan",
        v_rest: float | Tensor = 0.0,
    ) -> None:
        super().__init__(v_reset, detach_reset, surrogate=surrogate, v_threshold=v_threshold, v_rest=v_rest)

    def charge(self, s: Any, x: Any, d: Any, p: Any) -> dict[str, Any]:
        return {"v": s.v + x.x}


class LIF(_Reset):
    """Leaky integrate-and-fire neuron, forward Euler.

        h[t] = v[t-1] + (dt / tau) (x[t] - (v[t-1] - v_rest))        (decay_input=True)
        h[t] = v[t-1] - (dt / tau) (v[t-1] - v_rest) + x[t]          (decay_input=False)
        z[t] = 1 if h[t] >= v_threshold else 0
        v[t] = v_reset where z[t] = 1, else h[t]                     (hard reset)
        v[t] = h[t] - z[t] v_threshold                               (soft reset: v_reset=None)

    Args:
        tau: membrane time constant, in the unit of `dt`. A number or tensor is fixed, an `nn.Parameter` learned;
            shapes `()`, per channel `[C, 1, 1]` or per neuron `[*features]`. So are the potentials below.
        v_threshold: potential at which the neuron fires.
        v_reset: potential after a spike; None subtracts the threshold instead.
        decay_input: scale the input by `dt / tau` too.
        detach_reset: let no gradient pass through the reset's spike.
        surrogate: slope of the spike in the backward pass, or its name.
        v_rest: potential to which the membrane decays, and before the first step.
        dt: length of a time step.

    Shape:
        `[T, B, *features]` -> `[T, B, *features]`; state `v` `[B, *features]`.

    Raises:
        ArgumentError: if `tau` or `dt` is not above 0.

    Source: Gerstner et al., "Neuronal Dynamics", Cambridge 2014, section 1.3; discrete form after Fang et al.,
    ICCV 2021, eqs. 1 to 3.
    """

    state = {"v": "v_rest"}
    params = {"tau": Param(2.0, "time", above=0.0), "v_threshold": 1.0, "v_reset": 0.0, "v_rest": 0.0}

    def __init__(
        self,
        tau: float | Tensor = 2.0,
        v_threshold: float | Tensor = 1.0,
        v_reset: float | Tensor | None = 0.0,
        *,
        decay_input: bool = True,
        detach_reset: bool = False,
        surrogate: Surrogate | str = "atan",
        v_rest: float | Tensor = 0.0,
        dt: float = 1.0,
    ) -> None:
        self.decay_input = decay_input
        given = {"tau": tau, "v_threshold": v_threshold, "v_rest": v_rest}
        super().__init__(v_reset, detach_reset, surrogate=surrogate, dt=dt, **given)

    def derive(self, p: dict[str, Tensor]) -> dict[str, Tensor]:
        rest = {name: v for name, v in p.items() if name != "tau"}
        return {"rate": self.dt / p["tau"], **rest}

    def charge(self, s: Any, x: Any, d: Any, p: Any) -> dict[str, Any]:
        if self.decay_input:
            return {"v": s.v + (x.x - (s.v - p.v_rest)) * p.rate}
        return {"v": s.v - (s.v - p.v_rest) * p.rate + x.x}


class LeakyReadout(Neuron):
    """Leaky integrator that never fires; its output is its potential.

        v[t] = v[t-1] + (dt / tau) (x[t] - v[t-1])

    Args:
        tau: membrane time constant, in the unit of `dt`; fixed, or learned as an `nn.Parameter`.
        dt: length of a time step.

    Shape:
        `[T, B, *features]` -> `[T, B, *features]`; state `v` `[B, *features]`.

    Raises:
        ArgumentError: if `tau` or `dt` is not above 0.
    """

    state = {"v": 0.0}
    params = {"tau": Param(2.0, "time", above=0.0)}
    emit = Identity()

    def __init__(self, tau: float | Tensor = 2.0, *, dt: float = 1.0) -> None:
        super().__init__(dt=dt, tau=tau)

    def derive(self, p: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"rate": self.dt / p["tau"]}

    def charge(self, s: Any, x: Any, d: Any, p: Any) -> dict[str, Any]:
        return {"v": s.v + (x.x - s.v) * p.rate}

    def fire(self, h: Any, p: Any) -> Any:
        return h.v

    def reset(self, h: Any, z: Any, p: Any) -> dict[str, Any]:
        return {"v": h.v}
