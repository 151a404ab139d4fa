"""Leaky integrate-and-fire neurons whose intrinsic parameters are learned, in forms that keep them in range."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from spikenet.errors import ArgumentError
from spikenet.neurons.base import Param
from spikenet.neurons.lif import Leaky
from spikenet.neurons.reset import VReset
from spikenet.neurons.surrogate import Surrogate

__all__ = ["PLIF", "IntrinsicLIF"]


class PLIF(Leaky):
    """Parametric LIF neuron: a LIF neuron whose time constant is learned, `dt / tau = sigmoid(w)`.

        h[t] = v[t-1] + sigmoid(w) (x[t] - (v[t-1] - v_rest))        (decay_input=True)
        h[t] = v[t-1] - sigmoid(w) (v[t-1] - v_rest) + x[t]          (decay_input=False)

    and fires and resets as `LIF` does. `w` is an `nn.Parameter`, `tau` its time constant.

    Args:
        init_tau: time constant at the start, above `dt`; its shape is that of `w`: a number for one constant in the
            layer, `[C, 1, 1]` per channel, `[*features]` per neuron.
        v_threshold: potential at which the neuron fires.
        v_reset: potential after a spike; None subtracts the threshold instead, `NO_RESET` leaves the potential.
        decay_input: scale the input by `dt / tau` too.
        detach_reset: let no gradient pass through the reset's spike.
        surrogate: slope of the spike in the backward pass, or its name.
        v_rest: potential to which the membrane decays, and before the first step.
        dt: length of a time step.

    Shape:
        `[T, B, *features]` -> `[T, B, *features]`; state `v` `[B, *features]`.

    Raises:
        ArgumentError: if `init_tau` is not above `dt`.

    Source: Fang et al., "Incorporating learnable membrane time constant to enhance learning of spiking neural
    networks", ICCV 2021, section 3.3.
    """

    w: Tensor
    params = {"w": Param(0.0), "v_threshold": 1.0, "v_reset": 0.0, "v_rest": 0.0}

    def __init__(
        self,
        init_tau: float | Tensor = 2.0,
        v_threshold: float | Tensor = 1.0,
        v_reset: VReset = 0.0,
        *,
        decay_input: bool = True,
        detach_reset: bool = False,
        surrogate: Surrogate | str = "atan",
        v_rest: float | Tensor = 0.0,
        dt: float = 1.0,
    ) -> None:
        start = torch.as_tensor(init_tau, dtype=torch.get_default_dtype())
        if not bool((start > dt).all()):
            raise ArgumentError(f"PLIF.init_tau must lie above dt = {dt}, got {float(start.min()):g}")
        given = {"w": nn.Parameter(torch.logit(dt / start)), "v_threshold": v_threshold, "v_rest": v_rest}
        options = {"v_reset": v_reset, "detach_reset": detach_reset, "surrogate": surrogate, "dt": dt}
        super().__init__(decay_input, **options, **given)

    @property
    def tau(self) -> Tensor:
        """The time constant, in the unit of `dt`."""
        return self.dt / torch.sigmoid(self.w)

    def derive(self, p: dict[str, Tensor]) -> dict[str, Tensor]:
        rest = {name: v for name, v in p.items() if name != "w"}
        return {"rate": torch.sigmoid(p["w"]), **rest}


class IntrinsicLIF(Leaky):
    """LIF neuron that learns its time constant, threshold, reset potential and input resistance, each per neuron.

        tau = softplus(raw_tau),  v_threshold = softplus(raw_v_threshold),  resistance = softplus(raw_resistance)
        h[t] = v[t-1] + (1 - exp(-dt / tau)) (resistance x[t] - v[t-1])
        z[t] = 1 if h[t] >= v_threshold else 0
        v[t] = v_reset where z[t] = 1, else h[t]

    The three are positive whatever the optimiser does, and the decay is exact, so that no step is unstable; `v_reset`
    is free. It has no equal in the literature in this exact form: intrinsic parameters learned jointly with the
    weights go back to the works below.

    Args:
        features: shape of a neuron population, `C` or `(C, H, W)`: every neuron has parameters of its own.
        tau: time constant at the start, in the unit of `dt`: a number, or a tensor that broadcasts to `features`. So
            are the next three.
        v_threshold: potential at which the neuron fires, at the start.
        v_reset: potential after a spike, at the start.
        resistance: input resistance at the start.
        detach_reset: let no gradient pass through the reset's spike.
        surrogate: slope of the spike in the backward pass, or its name.
        dt: length of a time step.

    Shape:
        `[T, B, *features]` -> `[T, B, *features]`; state `v` `[B, *features]`, 0 before the first step.

    Raises:
        ArgumentError: if `tau`, `v_threshold` or `resistance` is not above 0.

    Source: Gerstner et al., "Neuronal Dynamics", Cambridge 2014, section 1.3, eq. 1.5 (with R); learned parameters
    after Fang et al., ICCV 2021 and Perez-Nieves et al., Nature Communications 12, 2021.
    """

    raw_tau: Tensor
    raw_v_threshold: Tensor
    raw_resistance: Tensor
    params = {
        "raw_tau": Param(0.0),
        "raw_v_threshold": Param(0.0),
        "raw_resistance": Param(0.0),
        "v_reset": 0.0,
        "v_rest": 0.0,
    }

    def __init__(
        self,
        features: int | Sequence[int],
        tau: float | Tensor = 2.0,
        v_threshold: float | Tensor = 1.0,
        v_reset: float | Tensor = 0.0,
        resistance: float | Tensor = 1.0,
        *,
        detach_reset: bool = False,
        surrogate: Surrogate | str = "atan",
        dt: float = 1.0,
    ) -> None:
        shape = (features,) if isinstance(features, int) else tuple(features)
        positive = {"tau": tau, "v_threshold": v_threshold, "resistance": resistance}
        given = {f"raw_{name}": _unsoftplus(name, value, shape) for name, value in positive.items()}
        options = {"v_reset": _per_neuron(v_reset, shape), "detach_reset": detach_reset, "surrogate": surrogate}
        super().__init__(True, **options, dt=dt, **given)

    @property
    def tau(self) -> Tensor:
        """The time constant of every neuron, in the unit of `dt`."""
        return functional.softplus(self.raw_tau)

    @property
    def v_threshold(self) -> Tensor:
        """The threshold of every neuron."""
        return functional.softplus(self.raw_v_threshold)

    @property
    def resistance(self) -> Tensor:
        """The input resistance of every neuron."""
        return functional.softplus(self.raw_resistance)

    def derive(self, p: dict[str, Tensor]) -> dict[str, Tensor]:
        tau, v_threshold, resistance = (
            functional.softplus(p[f"raw_{name}"]) for name in ("tau", "v_threshold", "resistance")
        )
        rest = {"v_reset": p["v_reset"], "v_rest": p["v_rest"]}
        return {"rate": -torch.expm1(-self.dt / tau), "v_threshold": v_threshold, "resistance": resistance, **rest}

    def charge(self, s: Any, x: Any, d: Any, p: Any) -> dict[str, Any]:
        return {"v": self.leak(s.v, p.resistance * x.x, p)}


def _per_neuron(value: float | Tensor, shape: tuple[int, ...]) -> nn.Parameter:
    return nn.Parameter(torch.as_tensor(value, dtype=torch.get_default_dtype()).expand(shape).clone())


def _unsoftplus(name: str, value: float | Tensor, shape: tuple[int, ...]) -> nn.Parameter:
    """The parameter whose softplus is `value`."""
    start = _per_neuron(value, shape)
    with torch.no_grad():
        if not bool((start > 0).all()):
            raise ArgumentError(f"IntrinsicLIF.{name} must lie between 0.0 and {math.inf}, got {float(start.min()):g}")
        return nn.Parameter(start + torch.log(-torch.expm1(-start)))
