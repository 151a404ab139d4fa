"""Neurons of second order with learned dynamics, neurons with unreliable synapses, and both together.

The meta neuron is published with a deterministic spike. How it becomes probabilistic, and how the release probability
and the threshold of a Levy-Baxter neuron are learned, is our reading: no published figure belongs to those.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from spikenet.kernels.dynamics import Emit
from spikenet.kernels.dynamics.words import blend, exp, maximum, sqrt
from spikenet.neurons.base import Neuron, Param
from spikenet.neurons.emission import ScaledStraightThrough
from spikenet.neurons.surrogate import Spike, gaussian, rectangle

__all__ = ["MetaNeuron", "MomentLevyBaxter", "ProbabilisticMetaNeuron"]

LEAST_VARIANCE = 1e-12  # of a synaptic sum: with no active synapse there is none to divide by

_BOX = Spike(rectangle())
_PROBIT = ScaledStraightThrough(gaussian(1.0))


class MetaNeuron(Neuron):
    """Neuron of second order whose four dynamic parameters are learned: Izhikevich's, without dimensions, unit step.

        v[t] = v + (v^2 - v - u + x[t]),    u[t] = u + a (b v - u)        (v, u of the step before, on the right)
        z[t] = 1 if v[t] >= v_threshold else 0
        v[t] <- c where z[t] = 1,           u[t] <- u[t] + d z[t]

    The source resets at the start of the next step, which is the same, and drives the neuron with
    `sigmoid(W x + bias)`: put an `nn.Sigmoid` ahead of it.

    Args:
        a, b, c, d: rate of recovery, its coupling, the potential after a spike, what a spike adds to the recovery.
            A number or tensor is fixed, an `nn.Parameter` learned; shapes `()`, per channel or per neuron.
        v_threshold: potential at which the neuron fires.
        u_start: recovery before the first step.
        emission: how `v - v_threshold` becomes the spike; by default a step whose slope is 1 where
            `|v - v_threshold| < 1/2`. One of `spikenet.neurons.emission` makes the neuron probabilistic (our reading).

    Shape:
        `[T, B, *features]` -> `[T, B, *features]`; states `v`, `u` `[B, *features]`, and `rng` if the emission draws.

    Source: Cheng, Zhang, Jia and Xu, "Meta-dynamic neurons", arXiv 2010.03140, and the code published with it.
    """

    state = {"v": 0.0, "u": "u_start"}
    params = {"a": 0.02, "b": 0.2, "c": 0.0, "d": 0.08, "v_threshold": 0.5, "u_start": 0.08}

    def __init__(
        self,
        a: float | Tensor = 0.02,
        b: float | Tensor = 0.2,
        c: float | Tensor = 0.0,
        d: float | Tensor = 0.08,
        *,
        v_threshold: float | Tensor = 0.5,
        u_start: float | Tensor = 0.08,
        emission: Emit = _BOX,
    ) -> None:
        self.emit = emission
        super().__init__(a=a, b=b, c=c, d=d, v_threshold=v_threshold, u_start=u_start)

    def charge(self, s: Any, x: Any, d: Any, p: Any) -> dict[str, Any]:
        return self._step(s, x.x, p)

    def _step(self, s: Any, current: Any, p: Any) -> dict[str, Any]:
        return {"v": s.v + (s.v * s.v - s.v - s.u + current), "u": s.u + p.a * (p.b * s.v - s.u)}

    def reset(self, h: Any, z: Any, p: Any) -> dict[str, Any]:
        return {"v": blend(z, h.v, p.c), "u": h.u + p.d * z}


class ProbabilisticMetaNeuron(MetaNeuron):
    """Meta neuron behind synapses that release by chance (our reading of a probabilistic meta neuron).

        x[t] = sigmoid(mean[t] + sqrt(variance[t]) xi),    xi standard normal
        v, u, spikes and reset as in `MetaNeuron`

    The sum over many unreliable synapses is taken as normal; `spikenet.layers.ProbabilisticSynapses` gives its mean and
    variance. The gradient goes through the noise to both (Bengio et al., arXiv 1308.3432, 2013: noise injection), and
    through the spike as `emission` says.

    Args:
        a, b, c, d, v_threshold, u_start, emission: as in `MetaNeuron`.

    Shape:
        Two inputs `[T, B, *features]` (mean, variance) -> `[T, B, *features]`; states as in `MetaNeuron`, and `rng`.
    """

    inputs = ("mean", "variance")
    draws = {"release": "normal"}

    def charge(self, s: Any, x: Any, d: Any, p: Any) -> dict[str, Any]:
        total = x.mean + sqrt(maximum(x.variance, LEAST_VARIANCE)) * d.release
        return self._step(s, 1.0 / (1.0 + exp(-total)), p)


class MomentLevyBaxter(Neuron):
    """Levy-Baxter neuron in its moments: fires where the sum of many unreliable synapses reaches a threshold.

        u[t] = (mean[t] - v_threshold) / sqrt(variance[t]),    P(z[t] = 1) = Phi(u[t])

    It has no memory. Mean and variance are those of the synaptic sum, from `spikenet.layers.ProbabilisticSynapses`;
    `spikenet.layers.LevyBaxter` draws every synapse instead. A sum of few synapses is not normal.

    Args:
        v_threshold: the sum at which the neuron fires, learned as an `nn.Parameter`.
        emission: link and estimator of the gradient; by default `Phi` and the slope of its probability (our reading).

    Shape:
        Two inputs `[T, B, *features]` (mean, variance) -> `[T, B, *features]`; the state holds `rng` alone.

    Source: Levy and Baxter, "Energy-efficient neuronal computation via quantal synaptic failures", Journal of
    Neuroscience 22, 2002, for the synapses; the normal approximation and the learning are ours.
    """

    inputs = ("mean", "variance")
    params = {"v_threshold": Param(1.0)}

    def __init__(self, v_threshold: float | Tensor = 1.0, *, emission: Emit = _PROBIT) -> None:
        self.emit = emission
        super().__init__(v_threshold=v_threshold)

    def charge(self, s: Any, x: Any, d: Any, p: Any) -> dict[str, Any]:
        return {"u": (x.mean - p.v_threshold) / sqrt(maximum(x.variance, LEAST_VARIANCE))}

    def fire(self, h: Any, p: Any) -> Any:
        return h.u

    def reset(self, h: Any, z: Any, p: Any) -> dict[str, Any]:
        return {}
