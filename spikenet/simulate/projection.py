"""Synapses from one population to another."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from torch import Tensor

from spikenet.errors import ArgumentError, ShapeError
from spikenet.learning import SpikeRule, ThreeFactor
from spikenet.simulate.population import Cells, Population
from spikenet.simulate.rules import Ends, Rule
from spikenet.simulate.values import Distribution, Value

__all__ = ["Projection"]

ON_GRID = 1e-3  # steps that a constant delay may lie beside the grid


class Synapses(NamedTuple):
    """A batch of a projection's synapses: int32 indices, delays in steps and weights, [E] or [1] for all."""

    pre: np.ndarray
    post: np.ndarray
    delay: np.ndarray
    weight: np.ndarray


class Projection:
    """Synapses from `pre` to `post`. A spike of neuron i adds `weight` to an input of neuron j after `delay`.

    What the input means is the neuron's affair: a jump of the potential, of a synaptic current or of a conductance.

    Args:
        pre: where spikes come from: a `Population` or a source.
        post: the population that hears them.
        rule: which neurons are connected, one of `spikenet.simulate.rules`.
        weight: a number, a `Distribution`, or one each `[E]` where the rule gives the pairs.
        delay: in ms, likewise; at least one step. A number must be a whole number of steps, drawn ones are rounded.
        input: which of the neuron's inputs; not needed if it has one.
        plasticity: a rule of `spikenet.learning` by which the weights change while the network runs, its time constants
            in ms (the network's step is its `dt`). A spike counts as incoming when it arrives, after its delay. A
            `ThreeFactor` hears what `Network.modulate` gives.

    Raises:
        ArgumentError: for weights that are not finite and delays that are not finite, negative, shorter than a step,
            or (a number) off the grid of steps.
        ShapeError: for a rule or a number of values that does not fit the populations.
    """

    def __init__(
        self,
        pre: Cells,
        post: Population,
        rule: Rule,
        *,
        weight: Value,
        delay: Value,
        input: str | None = None,
        plasticity: SpikeRule | ThreeFactor | None = None,
    ) -> None:
        if not isinstance(post, Population):
            raise ArgumentError(f"{post.name} hears nothing: its spikes are given; only a Population can be a target")
        self.pre, self.post, self.rule, self.weight, self.delay = pre, post, rule, weight, delay
        self.name = f"{pre.name} -> {post.name}"
        self.input = post.input_index(input)
        self.plasticity = plasticity
        if plasticity is not None and not isinstance(plasticity, SpikeRule | ThreeFactor):
            raise ArgumentError(
                f"{self.name}: plasticity is a SpikeRule or a ThreeFactor, got {type(plasticity).__name__}"
            )
        self.ends = Ends(pre.n, post.n, pre is post, pre.places, post.places)
        rule.check(self.ends)
        self._check_weight()
        self._check_delay(post.dt)

    def _check_weight(self) -> None:
        found = _array(self.weight)
        if found is not None and not np.isfinite(found).all():
            raise ArgumentError(f"{self.name}: weights must be finite, got {found[~np.isfinite(found)][0]}")

    def _check_delay(self, dt: float) -> None:
        found = _array(self.delay)
        lowest = (
            self.delay.low if isinstance(self.delay, Distribution) else float(_given(self.delay).min(initial=math.inf))
        )
        if found is not None and not np.isfinite(found).all():
            raise ArgumentError(f"{self.name}: delays must be finite, got {found[~np.isfinite(found)][0]}")
        if lowest == math.inf:
            return  # of no synapses
        if lowest < 0:
            raise ArgumentError(f"{self.name}: delays cannot be negative, got {lowest:g} ms")
        if _steps(lowest, dt) < 1:
            raise ArgumentError(
                f"{self.name}: dt is larger than a delay: {lowest:g} ms in steps of {dt:g} ms; the shortest delay is "
                "one step, so take a smaller dt or longer delays (Normal(..., low=dt))"
            )
        if isinstance(self.delay, int | float) and abs(self.delay / dt - _steps(self.delay, dt)) > ON_GRID:
            raise ArgumentError(f"{self.name}: a delay of {self.delay:g} ms is no whole number of steps of {dt:g} ms")

    def delays(self) -> np.ndarray:
        """All delays that can occur, in steps, ascending."""
        dt = self.post.dt
        if isinstance(self.delay, Distribution):
            return np.arange(int(_steps(self.delay.low, dt)), int(_steps(self.delay.high, dt)) + 1)
        return np.unique(_steps(_given(self.delay), dt))

    def largest_weight(self) -> float:
        """No weight is further from 0."""
        if isinstance(self.weight, Distribution):
            return max(abs(self.weight.low), abs(self.weight.high))
        return float(np.abs(_given(self.weight)).max(initial=0.0))

    @property
    def constant(self) -> bool:
        """Whether all synapses have one weight, and keep it."""
        return isinstance(self.weight, int | float) and self.plasticity is None

    def synapses(self, seed: list[int], weights: bool = True) -> Iterator[Synapses]:
        """The synapses in batches, always the same ones for a seed. Without `weights` there are none to read."""
        pairs, delay, weight = (np.random.default_rng([*seed, stream]) for stream in range(3))
        done, dt = 0, self.post.dt
        for pre, post in self.rule.pairs(self.ends, pairs):
            n = len(pre)
            steps = _steps(self._drawn("delays", self.delay, delay, n, done), dt).astype(np.int32)
            given = self._drawn("weights", self.weight, weight, n, done) if weights else np.empty(0)
            done += n
            yield Synapses(pre, post, steps, given)
        for what, value in (("delays", self.delay), ("weights", self.weight)):
            found = _array(value)
            if found is not None and found.ndim and len(found) not in (1, done):
                raise ShapeError(f"{self.name}: {done} {what} are needed, one a synapse, got {len(found)}")

    def _drawn(self, what: str, value: Value, rng: np.random.Generator, n: int, done: int) -> np.ndarray:
        """[1] for a number, else the next `n`."""
        if isinstance(value, Distribution):
            return value.draw(rng, n)
        found = _given(value)
        some = found.reshape(-1)[done : done + n] if found.ndim and len(found) > 1 else found.reshape(-1)
        if len(some) not in (1, n):
            raise ShapeError(f"{self.name}: {len(found)} {what} for more synapses than that; one a synapse is needed")
        return some

    def __repr__(self) -> str:
        return f"Projection({self.name}, {self.rule}, weight={self.weight}, delay={self.delay})"


def _array(value: Value) -> np.ndarray | None:
    """What is not drawn, as float64."""
    return None if isinstance(value, Distribution) else _given(value)


def _given(value: float | Tensor) -> np.ndarray:
    return np.asarray(value.detach().cpu() if isinstance(value, Tensor) else value, np.float64)


def _steps(delay: float | np.ndarray, dt: float) -> np.ndarray:
    """Delays in steps, rounded, halves up."""
    return np.floor(np.asarray(delay) / dt + 0.5 + 1e-9).astype(np.int64)
