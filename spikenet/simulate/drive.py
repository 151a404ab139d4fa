"""Inputs that are no synapses: a constant current, noise, and the compound input of many Poisson trains."""

from __future__ import annotations

import math
from dataclasses import dataclass

from spikenet.errors import ArgumentError
from spikenet.kernels.simulate.poisson import LARGEST_MEAN
from spikenet.simulate.population import Population

__all__ = ["ConstantInput", "NoiseInput", "PoissonInput"]


@dataclass(frozen=True, eq=False)
class ConstantInput:
    """The same input to every neuron at every step.

    Args:
        target: the population.
        value: in the unit of the input.
        input: which of the neuron's inputs; not needed if it has one.

    Raises:
        ArgumentError: for a value that is not finite.
    """

    target: Population
    value: float
    input: str | None = None

    def __post_init__(self) -> None:
        _check_finite("ConstantInput", self.value)


@dataclass(frozen=True, eq=False)
class NoiseInput:
    """White noise: at every step an independent normal number of standard deviation `sd` to every neuron.

    Args:
        target: the population.
        sd: standard deviation of what one step adds to the input.
        input: which of the neuron's inputs; not needed if it has one.

    Raises:
        ArgumentError: for an `sd` that is negative or not finite.
    """

    target: Population
    sd: float
    input: str | None = None

    def __post_init__(self) -> None:
        _check_finite("NoiseInput", self.sd, lowest=0.0)


@dataclass(frozen=True, eq=False)
class PoissonInput:
    """Many independent Poisson trains onto every neuron, drawn as one: at every step `weight` times a Poisson number of
    mean `n rate dt`, independent between neurons and steps, which is the sum's distribution exactly.

    Args:
        target: the population.
        rate: of one train, Hz.
        weight: of one spike.
        n: trains onto each neuron.
        input: which of the neuron's inputs; not needed if it has one.

    Raises:
        ArgumentError: for a rate or number that is negative, numbers that are not finite, or more than 10,000 spikes a
            step.
    """

    target: Population
    rate: float
    weight: float
    n: int = 1
    input: str | None = None

    def __post_init__(self) -> None:
        _check_finite("PoissonInput", self.rate, lowest=0.0)
        _check_finite("PoissonInput", self.weight)
        _check_finite("PoissonInput", self.n, lowest=0.0)
        if self.mean > LARGEST_MEAN:
            raise ArgumentError(
                f"PoissonInput draws up to {LARGEST_MEAN:g} spikes a step, got n rate dt = {self.mean:g}; so many are "
                "as good as a ConstantInput and a NoiseInput"
            )

    @property
    def mean(self) -> float:
        """Spikes a step."""
        return self.n * self.rate * self.target.dt / 1000.0


Input = ConstantInput | NoiseInput | PoissonInput


def _check_finite(what: str, value: float, lowest: float = -math.inf) -> None:
    if not (math.isfinite(value) and value >= lowest):
        raise ArgumentError(f"{what} needs finite numbers{'' if lowest < 0 else ' from 0 up'}, got {value}")
