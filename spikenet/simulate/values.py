"""Numbers that are drawn: initial states, weights, delays."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from spikenet.errors import ArgumentError

__all__ = ["Distribution", "Normal", "Uniform", "Value"]

CUT = 6.0  # standard deviations; 2e-9 of all numbers lie beyond


class Distribution(ABC):
    """A number drawn for each synapse or neuron. `low` and `high` bound what comes."""

    low: float
    high: float

    @abstractmethod
    def draw(self, rng: np.random.Generator, n: int) -> np.ndarray:
        """`n` numbers, float64."""


@dataclass(frozen=True)
class Uniform(Distribution):
    """Evenly between `low` and `high`.

    Raises:
        ArgumentError: unless both are finite and `low <= high`.
    """

    low: float
    high: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low <= self.high):
            raise ArgumentError(f"Uniform needs finite low <= high, got {self.low} and {self.high}")

    def draw(self, rng: np.random.Generator, n: int) -> np.ndarray:
        return rng.uniform(self.low, self.high, n)


@dataclass(frozen=True)
class Normal(Distribution):
    """Normal numbers of mean `mean` and standard deviation `sd`; one outside `low` to `high` is drawn again.

    Both default to six standard deviations from the mean, beyond which 2e-9 of all numbers lie.

    Raises:
        ArgumentError: for numbers that are not finite, `sd < 0`, or bounds that leave out the mean.
    """

    mean: float
    sd: float
    low: float = -math.inf
    high: float = math.inf

    def __post_init__(self) -> None:
        if not (math.isfinite(self.mean) and math.isfinite(self.sd) and self.sd >= 0):
            raise ArgumentError(f"Normal needs a finite mean and sd >= 0, got {self.mean} and {self.sd}")
        if not self.low <= self.mean <= self.high:
            raise ArgumentError(f"Normal needs low <= mean <= high, got {self.low}, {self.mean}, {self.high}")
        object.__setattr__(self, "low", max(self.low, self.mean - CUT * self.sd))
        object.__setattr__(self, "high", min(self.high, self.mean + CUT * self.sd))

    def draw(self, rng: np.random.Generator, n: int) -> np.ndarray:
        found = rng.normal(self.mean, self.sd, n)
        outside = np.flatnonzero((found < self.low) | (found > self.high))
        while len(outside):
            found[outside] = rng.normal(self.mean, self.sd, len(outside))
            outside = outside[(found[outside] < self.low) | (found[outside] > self.high)]
        return found


Value = float | Tensor | Distribution


def values(what: str, value: Value, rng: np.random.Generator, n: int) -> np.ndarray:
    """`value` for `n` neurons, float64 [n]: a number, one each, or drawn.

    Raises:
        ArgumentError: if they are not finite or of another number.
    """
    if isinstance(value, Distribution):
        return value.draw(rng, n)
    found = np.asarray(value.detach().cpu() if isinstance(value, Tensor) else value, np.float64).reshape(-1)
    if len(found) not in (1, n):
        raise ArgumentError(f"{what}: 1 value or {n} are needed, got {len(found)}")
    if not np.isfinite(found).all():
        raise ArgumentError(f"{what} must be finite, got {found[~np.isfinite(found)][0]}")
    return np.broadcast_to(found, (n,))
