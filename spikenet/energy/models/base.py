"""What every energy model shares: a price for each layer, part and step, low to high, with the assumptions in words."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from spikenet.energy.hardware import Profile, load_profile
from spikenet.energy.work import LayerWork, Work
from spikenet.errors import ArgumentError

PARTS = ("operations", "memory", "neurons", "addressing", "routing")
"""Causes of energy; a model that leaves one out says so in its assumptions."""

LOW, VALUE, HIGH = range(3)
Parts = dict[str, np.ndarray]


@dataclass(frozen=True)
class LayerEnergy:
    """Energy of one layer.

    Attributes:
        name, kind: as in `LayerWork`.
        parts: one of `PARTS` -> pJ a sample, ``[3, T]``: low, value, high.
    """

    name: str
    kind: str
    parts: Parts

    @property
    def total(self) -> float:
        """pJ a sample."""
        return sum(float(spent[VALUE].sum()) for spent in self.parts.values())


@dataclass(frozen=True)
class Energy:
    """Energy of one sample under one model.

    Attributes:
        model: the model's name.
        profile: the constants used.
        layers: energy by layer, cause and step.
        assumptions: what the figure includes and leaves out, the constants' source and confidence.
        T: time steps.
    """

    model: str
    profile: Profile
    layers: list[LayerEnergy] = field(default_factory=list)
    assumptions: tuple[str, ...] = ()
    T: int = 1

    @property
    def steps(self) -> np.ndarray:
        """pJ a sample at each time step: ``[3, T]``, low, value, high."""
        return sum((spent for layer in self.layers for spent in layer.parts.values()), np.zeros((3, self.T)))

    @property
    def total(self) -> float:
        """pJ a sample."""
        return float(self.steps[VALUE].sum())

    @property
    def range(self) -> tuple[float, float]:
        """pJ a sample with every constant at its lowest, and at its highest."""
        low, _, high = self.steps.sum(1)
        return float(low), float(high)

    @property
    def parts(self) -> dict[str, float]:
        """pJ a sample by cause; causes that cost nothing are left out."""
        spent = {
            part: sum(float(layer.parts[part][VALUE].sum()) for layer in self.layers if part in layer.parts)
            for part in PARTS
        }
        return {part: picojoules for part, picojoules in spent.items() if picojoules}

    def summary(self) -> dict[str, Any]:
        """Plain numbers, pJ a sample."""
        low, high = self.range
        return {
            "model": self.model,
            "profile": self.profile.name,
            "confidence": self.profile.confidence,
            "total_pj": self.total,
            "low_pj": low,
            "high_pj": high,
            "parts_pj": self.parts,
            "layers": [
                {"name": layer.name, "kind": layer.kind}
                | {f"{part}_pj": float(spent[VALUE].sum()) for part, spent in layer.parts.items()}
                for layer in self.layers
            ],
            "steps_pj": self.steps[VALUE].tolist(),
            "assumptions": list(self.assumptions),
        }


class EnergyModel(ABC):
    """A price list: called on `Work`, returns `Energy`.

    Args:
        profile: constants: a profile, the name of one that comes with spikenet, or a path; the model's own by default.

    Raises:
        ArgumentError: the profile lacks a constant that the model needs.
    """

    name: str
    default: str
    needs: tuple[str, ...] = ()
    assumptions: tuple[str, ...] = ()

    def __init__(self, profile: Profile | str | Path | None = None) -> None:
        chosen = profile if isinstance(profile, Profile) else load_profile(profile or self.default)
        if missing := [constant for constant in self.needs if not chosen.has(constant)]:
            raise ArgumentError(
                f"the energy model {self.name!r} needs {', '.join(missing)}; the profile {chosen.name!r} has "
                f"{', '.join(chosen.constants) or 'none'}. Its own profile is {self.default!r}."
            )
        self.profile = chosen

    def __call__(self, work: Work) -> Energy:
        """Price a count, per sample."""
        T, samples = max(work.T, 1), max(work.samples, 1)
        layers = [
            LayerEnergy(
                layer.name, layer.kind, {part: spent / samples for part, spent in self.price(layer, work).items()}
            )
            for layer in work.layers
        ]
        return Energy(self.name, self.profile, layers, self.stated(work), T)

    @abstractmethod
    def price(self, layer: LayerWork, work: Work) -> Parts:
        """Part -> pJ ``[3, T]`` of one layer, summed over the samples."""

    def stated(self, work: Work) -> tuple[str, ...]:
        """The assumptions, the constants with their confidence, and what was not counted."""
        left = (f"Not counted: {', '.join(work.uncounted)}.",) if work.uncounted else ()
        return (*self.assumptions, self.profile.words, *left)


def steps(layer: LayerWork, counter: str, work: Work) -> np.ndarray:
    """A counter of a layer over the whole time axis, float64 ``[T]``."""
    whole = np.zeros(max(work.T, 1))
    found = layer.steps.get(counter, np.zeros(0))
    whole[: len(found)] = found
    return whole


def spend(constant: np.ndarray, amount: np.ndarray) -> np.ndarray:
    """``[3, T]`` pJ: a constant, low to high, times an amount at each step."""
    return np.multiply.outer(constant, amount)


def each(counter: float, work: Work) -> float:
    """A sum over all steps and samples as a mean at one step of one sample."""
    return counter / (max(work.samples, 1) * max(work.T, 1))
