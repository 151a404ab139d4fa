"""Neurons that fire by chance: leaky integrate-and-fire with escape noise."""

from __future__ import annotations

from torch import Tensor

from spikenet.kernels.dynamics import Emit
from spikenet.neurons.emission import ScaledStraightThrough
from spikenet.neurons.lif import LIF
from spikenet.neurons.surrogate import sigmoid

__all__ = ["StochasticLIF"]

_SIGMOID = ScaledStraightThrough(sigmoid())


class StochasticLIF(LIF):
    """Leaky integrate-and-fire neuron with escape noise: a threshold that is soft, and a spike that is a coin toss.

        h[t] = v[t-1] + (dt / tau) (x[t] - (v[t-1] - v_rest))        (see `LIF` for decay_input=False)
        z[t] = 1 with probability link(h[t] - v_threshold), else 0
        v[t] = v_reset where z[t] = 1, else h[t]                     (v_reset=None: h[t] - z[t] v_threshold)

    Args:
        emission: the link and the gradient's estimator, of `spikenet.neurons.emission`; by default
            `ScaledStraightThrough(sigmoid(4))`. For an exponential hazard take the link `escape`.
        tau, v_threshold, v_reset, decay_input, v_rest, dt: as in `LIF`.
        detach_reset: let no gradient pass through the reset's spike. With `ScoreFunction` none ever does.

    Shape:
        `[T, B, *features]` -> `[T, B, *features]`; state `v` `[B, *features]`, and `rng` (seed and step).

    Raises:
        ArgumentError: if `tau` or `dt` is not above 0.

    Source: Gerstner et al., "Neuronal Dynamics", Cambridge 2014, chapter 9.
    """

    def __init__(
        self,
        tau: float | Tensor = 2.0,
        v_threshold: float | Tensor = 1.0,
        v_reset: float | Tensor | None = 0.0,
        *,
        emission: Emit = _SIGMOID,
        decay_input: bool = True,
        detach_reset: bool = True,
        v_rest: float | Tensor = 0.0,
        dt: float = 1.0,
    ) -> None:
        self.emit = emission
        super().__init__(
            tau, v_threshold, v_reset, decay_input=decay_input, detach_reset=detach_reset, v_rest=v_rest, dt=dt
        )
