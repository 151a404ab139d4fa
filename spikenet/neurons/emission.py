"""How `u` becomes the output of a neuron that is not a plain step: probabilities, counts and signed spikes.

A stochastic neuron fires with a probability `p = link(u)`; the link is a surrogate, read as the smooth step that it is.
Four estimators of the gradient are those of Bengio, Leonard and Courville, "Estimating or propagating gradients through
stochastic neurons for conditional computation", arXiv 1308.3432, 2013. Draws come from the neuron's counter, one a
lane and step, and the backward pass draws the same ones again.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar

from spikenet.errors import ArgumentError
from spikenet.kernels.dynamics import words as w
from spikenet.neurons.surrogate import Surrogate, atan, sigmoid

__all__ = [
    "Bernoulli",
    "IntegerCounts",
    "NoisyRectifier",
    "ScaledStraightThrough",
    "ScoreFunction",
    "StochasticTimesSmooth",
    "StraightThrough",
    "Ternary",
    "escape",
]


_LOGISTIC, _ARCTANGENT = sigmoid(1.0), atan()


def _escape(u: Any, alpha: Any, rate: float) -> Any:
    return 1.0 - w.exp(-(rate * w.exp(alpha * u)))


def _escape_slope(u: Any, alpha: Any, rate: float) -> Any:
    y = alpha * u
    return alpha * rate * w.exp(y - rate * w.exp(y))


def escape(alpha: float = 4.0, rate: float = 1.0) -> Surrogate:
    """Exponential escape noise: the chance `1 - exp(-rate exp(alpha u))` that the hazard strikes within a step.

    Args:
        alpha: one over the width of the noise, in one over the potential's unit.
        rate: the hazard at the threshold times the step, `rho_0 dt`.

    Raises:
        ArgumentError: if `rate` is not above 0.

    Source: Gerstner et al., "Neuronal Dynamics", Cambridge 2014, section 9.1.
    """
    if not rate > 0:
        raise ArgumentError(f"escape: the rate at the threshold must be above 0, got {rate}")
    return Surrogate("escape", partial(_escape, rate=rate), partial(_escape_slope, rate=rate), alpha)


@dataclass(frozen=True)
class Bernoulli:
    """Output 1 with probability `p = link(u)`, else 0. What differs is the slope; take one of the classes below.

    Args:
        link: a smooth step from 0 to 1, `sigmoid`, `gaussian` (the normal distribution function) or `escape`. Its
            sharpness is the neuron's `alpha`.

    Raises:
        ArgumentError: if the link is a surrogate without a primitive.
    """

    link: Surrogate = _LOGISTIC
    binary: bool = field(default=True, init=False, repr=False)
    draws: ClassVar[Mapping[str, str]] = {"coin": "uniform"}

    def __post_init__(self) -> None:
        if self.link.primitive is None:
            raise ArgumentError(f"{type(self).__name__}: the link {self.link} has no primitive to give a probability")

    @property
    def alpha(self) -> float:
        return self.link.alpha

    def probability(self, u: Any, alpha: Any) -> Any:
        """`p`, in the words of the equations."""
        return self.link.primitive(u, alpha)  # type: ignore[misc]  # see __post_init__

    def value(self, u: Any, d: Any, alpha: Any) -> Any:
        return w.where(d.coin < self.probability(u, alpha), 1.0, 0.0)

    def slope(self, u: Any, d: Any, alpha: Any) -> Any:
        raise NotImplementedError(f"{type(self).__name__} does not define slope")


class ScoreFunction(Bernoulli):
    """Slope `d log P(z) / du`: `alpha (z - p)` for the logistic link. The likelihood ratio, or REINFORCE: unbiased.

    The gradient that reaches the spikes must be the loss itself, less a baseline, not its derivative:
    see `spikenet.neurons.score_loss`. What a spike does to the neuron's own future is then part of that loss, so no
    gradient passes through the reset's spike, whatever the neuron. Bengio et al. 2013; Williams, Machine Learning 8,
    1992.
    """

    detaches_reset: ClassVar[bool] = True

    def slope(self, u: Any, d: Any, alpha: Any) -> Any:
        p, dp = self.probability(u, alpha), self.link.slope(u, alpha)
        return w.where(d.coin < p, dp / p, -(dp / (1.0 - p)))


class StraightThrough(Bernoulli):
    """Slope 1: the gradient passes as if the output were `u`. Bengio et al. 2013."""

    def slope(self, u: Any, d: Any, alpha: Any) -> Any:
        return 1.0


class ScaledStraightThrough(Bernoulli):
    """Slope `dp/du`: the gradient passes as if the output were `p`, its mean. Bengio et al. 2013."""

    def slope(self, u: Any, d: Any, alpha: Any) -> Any:
        return self.link.slope(u, alpha)


@dataclass(frozen=True)
class StochasticTimesSmooth(Bernoulli):
    """Output `b sqrt(p)` with `b` 1 at a probability of `sqrt(p)`, so that its mean is `p`; slope `b d sqrt(p) / du`.

    The output is graded, and only its smooth factor is differentiated. Bengio et al. 2013.
    """

    binary: bool = field(default=False, init=False, repr=False)

    def value(self, u: Any, d: Any, alpha: Any) -> Any:
        root = w.sqrt(self.probability(u, alpha))
        return w.where(d.coin < root, root, 0.0)

    def slope(self, u: Any, d: Any, alpha: Any) -> Any:
        root = w.sqrt(self.probability(u, alpha))
        return w.where(d.coin < root, self.link.slope(u, alpha) / (2.0 * root), 0.0)


@dataclass(frozen=True)
class NoisyRectifier:
    """Output `max(0, u + sigma xi)` with standard normal `xi`; slope 1 where it is above 0. Graded, often exactly 0.

    Args:
        sigma: standard deviation of the noise, above 0, in the unit of `u`. A run-time number.

    Raises:
        ArgumentError: if `sigma` is not a finite number above 0.

    Source: Bengio et al. 2013 (noise injected into a piecewise smooth unit).
    """

    sigma: float = 1.0
    binary: bool = field(default=False, init=False, repr=False)
    draws: ClassVar[Mapping[str, str]] = {"noise": "normal"}

    def __post_init__(self) -> None:
        if not (math.isfinite(self.sigma) and self.sigma > 0):
            raise ArgumentError(f"NoisyRectifier: sigma must be a finite number above 0, got {self.sigma}")

    @property
    def alpha(self) -> float:
        return self.sigma

    def value(self, u: Any, d: Any, alpha: Any) -> Any:
        return w.maximum(u + alpha * d.noise, 0.0)

    def slope(self, u: Any, d: Any, alpha: Any) -> Any:
        return w.where(u + alpha * d.noise > 0.0, 1.0, 0.0)


@dataclass(frozen=True)
class IntegerCounts:
    """Several spikes in one step: output `c / D` with the count `c = floor(min(max(u, 0), D) + 1/2)`, halves up.

    Slope `1 / D` where `0 < u < D`, else 0. `spikenet.events.expand` turns the counts into `D` binary steps.

    Args:
        maximum: `D`, the most spikes in one step, 1 or more. A run-time number.

    Raises:
        ArgumentError: if `maximum` is below 1 or no whole number.

    Source: Yao et al., "Scaling spike-driven transformer with efficient spike firing approximation training",
    IEEE TPAMI 47(4), 2025.
    """

    maximum: int = 4
    binary: bool = field(default=False, init=False, repr=False)
    draws: ClassVar[Mapping[str, str]] = {}

    def __post_init__(self) -> None:
        if self.maximum < 1 or self.maximum != int(self.maximum):
            raise ArgumentError(f"IntegerCounts: the maximum must be a whole number from 1 on, got {self.maximum}")

    @property
    def alpha(self) -> float:
        return float(self.maximum)

    def value(self, u: Any, d: Any, alpha: Any) -> Any:
        return w.floor(w.minimum(w.maximum(u, 0.0), alpha) + 0.5) / alpha

    def slope(self, u: Any, d: Any, alpha: Any) -> Any:
        return w.where(u > 0.0, w.where(u < alpha, 1.0 / alpha, 0.0), 0.0)


@dataclass(frozen=True)
class Ternary:
    """Output 1 where `u >= 1`, -1 where `u <= -1`, else 0; the slope is the surrogate's at both thresholds.

    Args:
        surrogate: slope of each of the two steps.
    """

    surrogate: Surrogate = _ARCTANGENT
    binary: bool = field(default=False, init=False, repr=False)
    draws: ClassVar[Mapping[str, str]] = {}

    @property
    def alpha(self) -> float:
        return self.surrogate.alpha

    def value(self, u: Any, d: Any, alpha: Any) -> Any:
        return w.where(u >= 1.0, 1.0, w.where(u <= -1.0, -1.0, 0.0))

    def slope(self, u: Any, d: Any, alpha: Any) -> Any:
        return self.surrogate.slope(u - 1.0, alpha) + self.surrogate.slope(-u - 1.0, alpha)
