"""Current-based leaky integrate-and-fire neuron: a synaptic current between the input and the membrane."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from spikenet.neurons.base import Param
from spikenet.neurons.lif import LIF
from spikenet.neurons.reset import VReset

__all__ = ["CubaLIF"]


class CubaLIF(LIF):
    """LIF neuron driven by a synaptic current that jumps with the input and decays with its own time constant.

        i[t] = (1 - rate_syn) i[t-1] + x[t]
        h[t] = v[t-1] + rate (i[t] - (v[t-1] - v_rest))              (decay_input=True)
        h[t] = v[t-1] - rate (v[t-1] - v_rest) + i[t]                (decay_input=False)

    with `rate = dt / tau` and `rate_syn = dt / tau_syn`, forward Euler, or `1 - exp(-dt / tau)` and
    `1 - exp(-dt / tau_syn)` (exact_decay=True; the current is held over the step). It fires and resets as `LIF` does;
    a reset leaves the current. One pulse of 1 at t = 0 gives below the threshold, with g = rate (decay_input=True)
    or 1, keep = 1 - rate and keep_syn = 1 - rate_syn,

        v[t] - v_rest = g (keep^(t+1) - keep_syn^(t+1)) / (keep - keep_syn)

    Args:
        tau: membrane time constant, in the unit of `dt`. A number or tensor is fixed, an `nn.Parameter` learned;
            shapes `()`, per channel `[C, 1, 1]` or per neuron `[*features]`.
        tau_syn: time constant of the synaptic current, likewise.
        v_threshold: potential at which the neuron fires.
        v_reset: potential after a spike; None subtracts the threshold instead, `NO_RESET` leaves the potential.
        **options: what `LIF` takes besides.

    Shape:
        `[T, B, *features]` -> `[T, B, *features]`; states `v` and `current` `[B, *features]`.

    Raises:
        ArgumentError: if `tau`, `tau_syn` or `dt` is not above 0.

    Source: Gerstner et al., "Neuronal Dynamics", Cambridge 2014, section 1.3 with an exponential synaptic current;
    discrete forms as Norse's LIF (Euler) and SpikingJelly's and snnTorch's (exact_decay=True, decay_input=False).
    """

    state = {"v": "v_rest", "current": 0.0}
    params = {**LIF.params, "tau_syn": Param(2.0, "time", above=0.0)}

    def __init__(
        self,
        tau: float | Tensor = 2.0,
        tau_syn: float | Tensor = 2.0,
        v_threshold: float | Tensor = 1.0,
        v_reset: VReset = 0.0,
        **options: Any,
    ) -> None:
        super().__init__(tau, v_threshold, v_reset, tau_syn=tau_syn, **options)

    def derive(self, p: dict[str, Tensor]) -> dict[str, Tensor]:
        rest = {name: v for name, v in super().derive(p).items() if name != "tau_syn"}
        return {"keep_syn": 1 - self.decay_rate(p["tau_syn"]), **rest}

    def charge(self, s: Any, x: Any, d: Any, p: Any) -> dict[str, Any]:
        current = s.current * p.keep_syn + x.x
        return {"v": self.leak(s.v, current, p), "current": current}

    def reset(self, h: Any, z: Any, p: Any) -> dict[str, Any]:
        return {**super().reset(h, z, p), "current": h.current}
