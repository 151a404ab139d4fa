"""Integrate-and-fire neurons with and without leak, and the leaky readout."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from spikenet.kernels.dynamics.words import blend, detach, maximum, where
from spikenet.neurons.base import Neuron, Param
from spikenet.neurons.reset import ResetNeuron, VReset
from spikenet.neurons.surrogate import Identity, Surrogate

__all__ = ["IF", "LIF", "Leaky", "LeakyReadout", "RefractoryLIF"]


class IF(ResetNeuron):
    """Integrate-and-fire neuron.

        h[t] = v[t-1] + x[t]
        z[t] = 1 if h[t] >= v_threshold else 0
        v[t] = v_reset where z[t] = 1, else h[t]             (hard reset)
        v[t] = h[t] - z[t] v_threshold                       (soft reset: v_reset=None)
        v[t] = h[t]                                          (no reset: v_reset=NO_RESET)

    Args:
        v_threshold: potential at which the neuron fires.
        v_reset: potential after a spike; None subtracts the threshold instead, `NO_RESET` leaves the potential.
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
        v_reset: VReset = 0.0,
        *,
        detach_reset: bool = False,
        surrogate: Surrogate | str = "atan",
        v_rest: float | Tensor = 0.0,
    ) -> None:
        super().__init__(v_reset, detach_reset, surrogate=surrogate, v_threshold=v_threshold, v_rest=v_rest)

    def charge(self, s: Any, x: Any, d: Any, p: Any) -> dict[str, Any]:
        return {"v": s.v + x.x}


class Leaky(ResetNeuron):
    """A potential that decays towards `v_rest` by the share `rate` in a step: what LIF neurons have in common.

    Args:
        decay_input: scale the input by `rate` too.
        **rest: what `ResetNeuron` takes.
    """

    state = {"v": "v_rest"}

    def __init__(self, decay_input: bool, **rest: Any) -> None:
        self.decay_input = decay_input
        super().__init__(**rest)

    def charge(self, s: Any, x: Any, d: Any, p: Any) -> dict[str, Any]:
        return {"v": self.leak(s.v, x.x, p)}

    def leak(self, v: Any, x: Any, p: Any) -> Any:
        """The potential one step after `v`, with input `x`."""
        if self.decay_input:
            return v + (x - (v - p.v_rest)) * p.rate
        return v - (v - p.v_rest) * p.rate + x


class LIF(Leaky):
    """Leaky integrate-and-fire neuron.

        h[t] = v[t-1] + rate (x[t] - (v[t-1] - v_rest))              (decay_input=True)
        h[t] = v[t-1] - rate (v[t-1] - v_rest) + x[t]                (decay_input=False)
        z[t] = 1 if h[t] >= v_threshold else 0
        v[t] = v_reset where z[t] = 1, else h[t]                     (hard reset)
        v[t] = h[t] - z[t] v_threshold                               (soft reset: v_reset=None)
        v[t] = h[t]                                                  (no reset: v_reset=NO_RESET)

    with `rate = dt / tau`, forward Euler, or `rate = 1 - exp(-dt / tau)` (exact_decay=True): the exact solution of
    tau dv/dt = -(v - v_rest) + x for an input that is constant over the step (decay_input=True) or that is a pulse at
    its end (decay_input=False).

    Args:
        tau: membrane time constant, in the unit of `dt`. A number or tensor is fixed, an `nn.Parameter` learned;
            shapes `()`, per channel `[C, 1, 1]` or per neuron `[*features]`. So are the potentials below.
        v_threshold: potential at which the neuron fires.
        v_reset: potential after a spike; None subtracts the threshold instead, `NO_RESET` leaves the potential.
        decay_input: scale the input by `rate` too.
        exact_decay: decay by `exp(-dt / tau)` in place of Euler's `1 - dt / tau`.
        detach_reset: let no gradient pass through the reset's spike.
        surrogate: slope of the spike in the backward pass, or its name.
        v_rest: potential to which the membrane decays, and before the first step.
        dt: length of a time step.
        **params: values of what a subclass declares besides.

    Shape:
        `[T, B, *features]` -> `[T, B, *features]`; state `v` `[B, *features]`.

    Raises:
        ArgumentError: if `tau` or `dt` is not above 0.

    Source: Gerstner et al., "Neuronal Dynamics", Cambridge 2014, section 1.3; discrete form after Fang et al.,
    ICCV 2021, eqs. 1 to 3; exact decay after Rotter and Diesmann, Biological Cybernetics 81, 1999.
    """

    params = {"tau": Param(2.0, "time", above=0.0), "v_threshold": 1.0, "v_reset": 0.0, "v_rest": 0.0}

    def __init__(
        self,
        tau: float | Tensor = 2.0,
        v_threshold: float | Tensor = 1.0,
        v_reset: VReset = 0.0,
        *,
        decay_input: bool = True,
        exact_decay: bool = False,
        detach_reset: bool = False,
        surrogate: Surrogate | str = "atan",
        v_rest: float | Tensor = 0.0,
        dt: float = 1.0,
        **params: float | Tensor,
    ) -> None:
        self.exact_decay = exact_decay
        given = {"tau": tau, "v_threshold": v_threshold, "v_rest": v_rest, **params}
        options = {"v_reset": v_reset, "detach_reset": detach_reset, "surrogate": surrogate, "dt": dt}
        super().__init__(decay_input, **options, **given)

    def derive(self, p: dict[str, Tensor]) -> dict[str, Tensor]:
        rest = {name: v for name, v in p.items() if name != "tau"}
        return {"rate": self.decay_rate(p["tau"]), **rest}

    def decay_rate(self, tau: Tensor) -> Tensor:
        """The share that decays in a step."""
        return -torch.expm1(-self.dt / tau) if self.exact_decay else self.dt / tau


class RefractoryLIF(LIF):
    """LIF neuron with an absolute refractory period: for `refractory` after a spike its potential stays as the reset
    left it, its input is ignored, and it cannot fire.

        n = refractory / dt, rounded to whole steps
        h[t], z[t], v[t] as `LIF`                          if the last spike is more than n steps ago
        z[t] = 0, v[t] = v[t-1]                            otherwise

    With a hard reset and a constant input x a spike comes every `n + k` steps, where k is the number of steps from
    `v_reset` to `v_threshold`; in continuous time, every refractory + tau ln((x + v_rest - v_reset) /
    (x + v_rest - v_threshold)).

    Args:
        refractory: length of the refractory period, in the unit of `dt`. It is not learned: its gradient is 0.
        tau: membrane time constant, in the unit of `dt`.
        v_threshold: potential at which the neuron fires.
        v_reset: potential after a spike; None subtracts the threshold instead, `NO_RESET` leaves the potential.
        **options: what `LIF` takes besides.

    Shape:
        `[T, B, *features]` -> `[T, B, *features]`; states `v` and `clock` (refractory steps to come, below 0 when
        there are none; it starts at 0) `[B, *features]`.

    Raises:
        ArgumentError: if `refractory`, `tau` or `dt` is not above 0.

    Source: Gerstner et al., "Neuronal Dynamics", Cambridge 2014, sections 1.3 and 1.4 (the dynamics are interrupted
    during the absolute refractory time and start anew from the reset potential).
    """

    state = {"v": "v_rest", "clock": 0.0}
    params = {**LIF.params, "refractory": Param(2.0, "time", above=0.0)}

    def __init__(
        self,
        refractory: float | Tensor = 2.0,
        tau: float | Tensor = 2.0,
        v_threshold: float | Tensor = 1.0,
        v_reset: VReset = 0.0,
        **options: Any,
    ) -> None:
        super().__init__(tau, v_threshold, v_reset, refractory=refractory, **options)

    def derive(self, p: dict[str, Tensor]) -> dict[str, Tensor]:
        known = super().derive(p)
        return {**known, "refractory": torch.round(known["refractory"] / self.dt)}

    def charge(self, s: Any, x: Any, d: Any, p: Any) -> dict[str, Any]:
        v = where(s.clock >= 1.0, s.v, self.leak(s.v, x.x, p))
        return {"v": v, "clock": maximum(s.clock - 1.0, -1.0)}

    def fire(self, h: Any, p: Any) -> Any:
        return h.v - p.v_threshold, h.clock < 0.0

    def reset(self, h: Any, z: Any, p: Any) -> dict[str, Any]:
        return {**super().reset(h, z, p), "clock": blend(detach(z), h.clock, p.refractory)}


class LeakyReadout(Neuron):
    """Leaky integrator that never fires; its output is its potential.

        v[t] = v[t-1] + (dt / tau) (x[t] - v[t-1])                  (decay_input=True)
        v[t] = v[t-1] - (dt / tau) v[t-1] + x[t]                    (decay_input=False)

    Args:
        tau: membrane time constant, in the unit of `dt`; fixed, or learned as an `nn.Parameter`.
        decay_input: scale the input by `dt / tau` too.
        dt: length of a time step.

    Shape:
        `[T, B, *features]` -> `[T, B, *features]`; state `v` `[B, *features]`.

    Raises:
        ArgumentError: if `tau` or `dt` is not above 0.
    """

    state = {"v": 0.0}
    params = {"tau": Param(2.0, "time", above=0.0)}
    emit = Identity()

    def __init__(self, tau: float | Tensor = 2.0, *, decay_input: bool = True, dt: float = 1.0) -> None:
        self.decay_input = decay_input
        super().__init__(dt=dt, tau=tau)

    def derive(self, p: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"rate": self.dt / p["tau"]}

    def charge(self, s: Any, x: Any, d: Any, p: Any) -> dict[str, Any]:
        if self.decay_input:
            return {"v": s.v + (x.x - s.v) * p.rate}
        return {"v": s.v - s.v * p.rate + x.x}

    def fire(self, h: Any, p: Any) -> Any:
        return h.v

    def reset(self, h: Any, z: Any, p: Any) -> dict[str, Any]:
        return {"v": h.v}
