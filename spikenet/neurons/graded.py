"""Integrate-and-fire neurons with more than one kind of spike: several a step, or signed."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from spikenet.kernels.dynamics.words import detach, floor, where
from spikenet.neurons.emission import IntegerCounts, Ternary
from spikenet.neurons.lif import IF, LIF
from spikenet.neurons.surrogate import Surrogate
from spikenet.neurons.surrogate import surrogate as _surrogate

__all__ = ["MultiSpikeLIF", "TernaryIF", "TernaryLIF"]


class MultiSpikeLIF(LIF):
    """Leaky integrate-and-fire neuron with up to `D` spikes in a step: whole numbers in training, spikes at inference.

        h[t] = v[t-1] + (dt / tau) (x[t] - (v[t-1] - v_rest))            (see `LIF` for decay_input=False)
        c[t] = floor(min(max(h[t] / v_threshold, 0), D) + 1/2)           (halves round up)
        v[t] = h[t] - c[t] v_threshold,    output c[t] / D

    The output has slope `1 / D` to `h / v_threshold` inside 0 to `D`, else 0. `spikenet.events.expand` turns it into
    `D` binary steps of which a linear layer's mean is the same.

    Args:
        maximum: `D`, the most spikes in one step.
        tau, v_threshold, decay_input, v_rest, dt: as in `LIF`.
        detach_reset: let no gradient pass through the reset's count.

    Shape:
        `[T, B, *features]` -> `[T, B, *features]`; state `v` `[B, *features]`.

    Raises:
        ArgumentError: if `maximum` is no whole number from 1 on, or `tau` or `dt` is not above 0.

    Source: Yao et al., IEEE TPAMI 47(4), 2025 (the output); the reset by the count follows Luo et al., "Integer-valued
    training and spike-driven inference spiking neural network", ECCV 2024.
    """

    def __init__(
        self,
        maximum: int = 4,
        tau: float | Tensor = 2.0,
        v_threshold: float | Tensor = 1.0,
        *,
        decay_input: bool = True,
        detach_reset: bool = False,
        v_rest: float | Tensor = 0.0,
        dt: float = 1.0,
    ) -> None:
        self.emit = IntegerCounts(maximum)
        super().__init__(
            tau, v_threshold, None, decay_input=decay_input, detach_reset=detach_reset, v_rest=v_rest, dt=dt
        )

    def fire(self, h: Any, p: Any) -> Any:
        return h.v / p.v_threshold

    def reset(self, h: Any, z: Any, p: Any) -> dict[str, Any]:
        near = z * p.alpha  # the emission's run-time number is D; z was rounded, so that this may not be whole
        count = near + detach(floor(near + 0.5) - near)
        return {"v": h.v - (detach(count) if self.detach_reset else count) * p.v_threshold}


class _Signed:
    """Symmetric thresholds, and a reset for either sign; where there is no spike, |z| has no slope."""

    soft: bool
    detach_reset: bool

    def fire(self, h: Any, p: Any) -> Any:
        return h.v / p.v_threshold

    def reset(self, h: Any, z: Any, p: Any) -> dict[str, Any]:
        z = detach(z) if self.detach_reset else z
        if self.soft:
            return {"v": h.v - z * p.v_threshold}
        event = where(z > 0.0, z, where(z < 0.0, -z, 0.0))
        return {"v": (1.0 - event) * h.v + event * p.v_reset}


class TernaryIF(_Signed, IF):
    """Integrate-and-fire neuron with spikes of either sign.

        h[t] = v[t-1] + x[t]
        z[t] = 1 if h[t] >= v_threshold, -1 if h[t] <= -v_threshold, else 0
        v[t] = v_reset where z[t] != 0, else h[t]            (hard reset)
        v[t] = h[t] - z[t] v_threshold                       (soft reset: v_reset=None)

    Args:
        v_threshold, v_reset, detach_reset, v_rest: as in `IF`; the threshold must be above 0.
        surrogate: slope of each of the two steps, as a function of `h / v_threshold` less 1, or its name.

    Shape:
        `[T, B, *features]` -> `[T, B, *features]`; state `v` `[B, *features]`.

    Source: the ternary nodes of SpikingJelly 2.0 (Fang et al., Science Advances 9, 2023), where the sharpness `alpha`
    belongs to `h - v_threshold`: times `v_threshold` here.
    """

    def __init__(
        self,
        v_threshold: float | Tensor = 1.0,
        v_reset: float | Tensor | None = 0.0,
        *,
        detach_reset: bool = False,
        surrogate: Surrogate | str = "atan",
        v_rest: float | Tensor = 0.0,
    ) -> None:
        self.emit = Ternary(_surrogate(surrogate))
        super().__init__(v_threshold, v_reset, detach_reset=detach_reset, v_rest=v_rest)


class TernaryLIF(_Signed, LIF):
    """Leaky integrate-and-fire neuron with spikes of either sign.

        h[t] as in `LIF`; spikes and reset as in `TernaryIF`.

    Args:
        tau, v_threshold, v_reset, decay_input, detach_reset, v_rest, dt: as in `LIF`; the threshold must be above 0.
        surrogate: slope of each of the two steps, as a function of `h / v_threshold` less 1, or its name.

    Shape:
        `[T, B, *features]` -> `[T, B, *features]`; state `v` `[B, *features]`.

    Raises:
        ArgumentError: if `tau` or `dt` is not above 0.

    Source: see `TernaryIF`.
    """

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
        self.emit = Ternary(_surrogate(surrogate))
        super().__init__(
            tau, v_threshold, v_reset, decay_input=decay_input, detach_reset=detach_reset, v_rest=v_rest, dt=dt
        )
