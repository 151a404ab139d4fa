"""Nonlinear integrate-and-fire neurons, which make their own upstroke: quadratic, exponential, adaptive exponential.

All three take forward Euler steps and fire when the potential crosses a cut-off in its upstroke.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from spikenet.kernels.dynamics.words import exp, minimum
from spikenet.neurons.base import Param
from spikenet.neurons.reset import ResetNeuron, VReset
from spikenet.neurons.surrogate import Surrogate

__all__ = ["EIF", "QIF", "AdEx"]

# exp(20) = 4.9e8: an upstroke this far on crosses any cut-off within the step, and float32 stays finite.
EXPONENT_MAX = 20.0


def upstroke(v: Any, onset: Any, slope_factor: Any) -> Any:
    """`slope_factor exp((v - onset) / slope_factor)`, the exponent cut at `EXPONENT_MAX`."""
    return slope_factor * exp(minimum((v - onset) / slope_factor, EXPONENT_MAX))


class QIF(ResetNeuron):
    """Quadratic integrate-and-fire neuron: tau dv/dt = a (v - v_rest) (v - v_critical) + x.

        h[t] = v[t-1] + (dt / tau) (a (v[t-1] - v_rest) (v[t-1] - v_critical) + x[t])
        z[t] = 1 if h[t] >= v_threshold else 0
        v[t] = v_reset where z[t] = 1, else h[t]             (soft and no reset: as `LIF`)

    It fires without end for a constant input above `a (v_critical - v_rest)^2 / 4`, with the period
    `pi tau / sqrt(a (x - a (v_critical - v_rest)^2 / 4))` as dt goes to 0, v_threshold to infinity and v_reset to minus
    infinity.

    Args:
        tau: membrane time constant, in the unit of `dt`. A number or tensor is fixed, an `nn.Parameter` learned;
            shapes `()`, per channel `[C, 1, 1]` or per neuron `[*features]`. So are the parameters below.
        a: curvature, per unit of potential.
        v_critical: potential beyond which the neuron fires without input.
        v_threshold: cut-off of the upstroke, where the neuron fires.
        v_reset: potential after a spike; None subtracts the threshold instead, `NO_RESET` leaves the potential.
        detach_reset: let no gradient pass through the reset's spike.
        surrogate: slope of the spike in the backward pass, or its name.
        v_rest: stable potential without input, and the potential before the first step.
        dt: length of a time step.

    Shape:
        `[T, B, *features]` -> `[T, B, *features]`; state `v` `[B, *features]`.

    Raises:
        ArgumentError: if `tau`, `a` or `dt` is not above 0.

    Source: Ermentrout and Kopell, SIAM J. Appl. Math. 46, 1986; Gerstner et al., "Neuronal Dynamics", Cambridge 2014,
    section 5.3.
    """

    state = {"v": "v_rest"}
    params = {
        "tau": Param(2.0, "time", above=0.0),
        "a": Param(1.0, "1 / potential", above=0.0),
        "v_critical": 0.8,
        "v_threshold": 1.0,
        "v_reset": -0.1,
        "v_rest": 0.0,
    }

    def __init__(
        self,
        tau: float | Tensor = 2.0,
        a: float | Tensor = 1.0,
        v_critical: float | Tensor = 0.8,
        v_threshold: float | Tensor = 1.0,
        v_reset: VReset = -0.1,
        *,
        detach_reset: bool = False,
        surrogate: Surrogate | str = "atan",
        v_rest: float | Tensor = 0.0,
        dt: float = 1.0,
    ) -> None:
        given = {"tau": tau, "a": a, "v_critical": v_critical, "v_threshold": v_threshold, "v_rest": v_rest}
        super().__init__(v_reset, detach_reset, surrogate=surrogate, dt=dt, **given)

    def derive(self, p: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"rate": self.dt / p["tau"], **{name: v for name, v in p.items() if name != "tau"}}

    def charge(self, s: Any, x: Any, d: Any, p: Any) -> dict[str, Any]:
        return {"v": s.v + (p.a * (s.v - p.v_rest) * (s.v - p.v_critical) + x.x) * p.rate}


class EIF(ResetNeuron):
    """Exponential integrate-and-fire neuron: tau dv/dt = -(v - v_rest) + D exp((v - v_onset) / D) + x.

        h[t] = v[t-1] + (dt / tau) (v_rest - v[t-1] + D exp((v[t-1] - v_onset) / D) + x[t])       D = slope_factor
        z[t] = 1 if h[t] >= v_threshold else 0
        v[t] = v_reset where z[t] = 1, else h[t]             (soft and no reset: as `LIF`)

    The exponent is cut at 20: an upstroke that far on crosses the cut-off anyway, and the sum stays finite. The neuron
    fires without end for a constant input above `v_onset - v_rest - D` (continuous time).

    Args:
        tau: membrane time constant, in the unit of `dt`. A number or tensor is fixed, an `nn.Parameter` learned;
            shapes `()`, per channel `[C, 1, 1]` or per neuron `[*features]`. So are the parameters below.
        slope_factor: sharpness D of the onset, in the unit of the potential; towards 0 it becomes a LIF neuron.
        v_onset: potential at which the upstroke sets in (the rheobase threshold).
        v_threshold: cut-off of the upstroke, where the neuron fires.
        v_reset: potential after a spike; None subtracts the threshold instead, `NO_RESET` leaves the potential.
        detach_reset: let no gradient pass through the reset's spike.
        surrogate: slope of the spike in the backward pass, or its name.
        v_rest: potential to which the leak pulls, and before the first step.
        dt: length of a time step.

    Shape:
        `[T, B, *features]` -> `[T, B, *features]`; state `v` `[B, *features]`.

    Raises:
        ArgumentError: if `tau`, `slope_factor` or `dt` is not above 0.

    Source: Fourcaud-Trocme et al., J. Neurosci. 23, 2003; Gerstner et al., "Neuronal Dynamics", Cambridge 2014,
    section 5.2.
    """

    state = {"v": "v_rest"}
    params = {
        "tau": Param(2.0, "time", above=0.0),
        "slope_factor": Param(0.2, "potential", above=0.0),
        "v_onset": 0.8,
        "v_threshold": 1.0,
        "v_reset": -0.1,
        "v_rest": 0.0,
    }

    def __init__(
        self,
        tau: float | Tensor = 2.0,
        slope_factor: float | Tensor = 0.2,
        v_onset: float | Tensor = 0.8,
        v_threshold: float | Tensor = 1.0,
        v_reset: VReset = -0.1,
        *,
        detach_reset: bool = False,
        surrogate: Surrogate | str = "atan",
        v_rest: float | Tensor = 0.0,
        dt: float = 1.0,
    ) -> None:
        given = {"tau": tau, "slope_factor": slope_factor, "v_onset": v_onset}
        given |= {"v_threshold": v_threshold, "v_rest": v_rest}
        super().__init__(v_reset, detach_reset, surrogate=surrogate, dt=dt, **given)

    def derive(self, p: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"rate": self.dt / p["tau"], **{name: v for name, v in p.items() if name != "tau"}}

    def charge(self, s: Any, x: Any, d: Any, p: Any) -> dict[str, Any]:
        return {"v": s.v + (p.v_rest - s.v + upstroke(s.v, p.v_onset, p.slope_factor) + x.x) * p.rate}


class AdEx(ResetNeuron):
    """Adaptive exponential integrate-and-fire neuron.

        C dv/dt = -g (v - v_rest) + g D exp((v - v_onset) / D) - w + x            D = slope_factor
        tau_w dw/dt = a (v - v_rest) - w
        a spike where v >= v_threshold:  v <- v_reset,  w <- w + b

    in forward Euler steps of both equations from the same state; soft and no reset act on v as in `LIF`. The exponent
    is cut at 20, as in `EIF`. The defaults are the source's, in pF, nS, mV, ms and pA.

    Args:
        capacitance: membrane capacitance C. A number or tensor is fixed, an `nn.Parameter` learned; shapes `()`, per
            channel `[C, 1, 1]` or per neuron `[*features]`. So are the parameters below.
        conductance: leak conductance g; `capacitance / conductance` is in the unit of `dt`.
        slope_factor: sharpness D of the onset.
        v_onset: potential at which the upstroke sets in.
        tau_w: time constant of the adaptation current, in the unit of `dt`.
        a: coupling of the adaptation to the potential, a conductance.
        b: jump of the adaptation current with a spike.
        v_threshold: cut-off of the upstroke, where the neuron fires.
        v_reset: potential after a spike; None subtracts the threshold instead, `NO_RESET` leaves the potential.
        detach_reset: let no gradient pass through the spike in the reset, that of `w` included.
        surrogate: slope of the spike in the backward pass, or its name; it sees the potential in its own unit.
        v_rest: potential to which the leak pulls, and before the first step.
        dt: length of a time step.

    Shape:
        `[T, B, *features]` -> `[T, B, *features]`, the input a current; states `v` and `w` (0 before the first step)
        `[B, *features]`.

    Raises:
        ArgumentError: if `capacitance`, `conductance`, `slope_factor`, `tau_w` or `dt` is not above 0.

    Source: Brette and Gerstner, J. Neurophysiol. 94, 2005, eqs. 2 and 3.
    """

    state = {"v": "v_rest", "w": 0.0}
    params = {
        "capacitance": Param(281.0, "pF", above=0.0),
        "conductance": Param(30.0, "nS", above=0.0),
        "slope_factor": Param(2.0, "mV", above=0.0),
        "v_onset": Param(-50.4, "mV"),
        "tau_w": Param(144.0, "ms", above=0.0),
        "a": Param(4.0, "nS"),
        "b": Param(80.5, "pA"),
        "v_threshold": Param(20.0, "mV"),
        "v_reset": Param(-70.6, "mV"),
        "v_rest": Param(-70.6, "mV"),
    }

    def __init__(
        self,
        *,
        v_reset: VReset = -70.6,
        detach_reset: bool = False,
        surrogate: Surrogate | str = "atan",
        dt: float = 1.0,
        **params: float | Tensor,
    ) -> None:
        super().__init__(v_reset, detach_reset, surrogate=surrogate, dt=dt, **params)

    def derive(self, p: dict[str, Tensor]) -> dict[str, Tensor]:
        rates = {"rate": self.dt / p["capacitance"], "rate_w": self.dt / p["tau_w"]}
        return {**rates, **{name: v for name, v in p.items() if name not in ("capacitance", "tau_w")}}

    def charge(self, s: Any, x: Any, d: Any, p: Any) -> dict[str, Any]:
        current = p.conductance * (p.v_rest - s.v + upstroke(s.v, p.v_onset, p.slope_factor)) - s.w + x.x
        return {"v": s.v + current * p.rate, "w": s.w + (p.a * (s.v - p.v_rest) - s.w) * p.rate_w}

    def reset(self, h: Any, z: Any, p: Any) -> dict[str, Any]:
        return {**super().reset(h, z, p), "w": h.w + self.heard(z) * p.b}
