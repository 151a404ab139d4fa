"""Which neurons are connected: rules that give the pairs of a projection in batches."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from torch import Tensor

from spikenet.errors import ArgumentError, ShapeError

__all__ = [
    "AllToAll",
    "FixedInDegree",
    "FixedOutDegree",
    "FixedProbability",
    "FixedTotalNumber",
    "OneToOne",
    "Pairs",
    "Rule",
    "Spatial",
]

BATCH = 1 << 22  # pairs


class Ends(NamedTuple):
    """What a rule connects: the sizes of both populations, whether they are one, and their neurons' places [n, D]."""

    pre: int
    post: int
    same: bool
    pre_places: np.ndarray | None = None
    post_places: np.ndarray | None = None


Batches = Iterator[tuple[np.ndarray, np.ndarray]]  # int32 indices, pre and post


class Rule(ABC):
    """Which neurons of two populations are connected."""

    @abstractmethod
    def pairs(self, ends: Ends, rng: np.random.Generator) -> Batches:
        """The pairs, in batches; the same ones for a generator in the same state."""

    def check(self, ends: Ends) -> None:  # noqa: B027 - most rules connect whatever there is
        """Refuse populations that the rule cannot connect."""


@dataclass(frozen=True)
class AllToAll(Rule):
    """Every neuron to every neuron; without `autapses` not to itself."""

    autapses: bool = True

    def pairs(self, ends: Ends, rng: np.random.Generator) -> Batches:
        for flat in _flat(ends.pre * ends.post):
            yield _kept(*_split(flat, ends), ends, self.autapses)


@dataclass(frozen=True)
class OneToOne(Rule):
    """The i-th neuron to the i-th; the populations must be of one size."""

    def check(self, ends: Ends) -> None:
        if ends.pre != ends.post:
            raise ShapeError(f"OneToOne needs populations of one size, got {ends.pre} and {ends.post} neurons")

    def pairs(self, ends: Ends, rng: np.random.Generator) -> Batches:
        each = np.arange(ends.pre, dtype=np.int32)
        yield each, each


@dataclass(frozen=True)
class FixedProbability(Rule):
    """Every pair with probability `p`, each on its own; without `autapses` no neuron with itself.

    Raises:
        ArgumentError: unless `0 <= p <= 1`.
    """

    p: float
    autapses: bool = True

    def __post_init__(self) -> None:
        if not 0.0 <= self.p <= 1.0:
            raise ArgumentError(f"FixedProbability needs 0 <= p <= 1, got {self.p}")

    def pairs(self, ends: Ends, rng: np.random.Generator) -> Batches:
        """The gaps between connected pairs are geometric numbers."""
        at, total = -1, ends.pre * ends.post if self.p > 0 else 0
        while at < total - 1:
            gaps = rng.geometric(self.p, min(BATCH, int((total - at) * self.p * 1.05) + 100))
            flat = at + np.cumsum(np.minimum(gaps, total + 1))  # the sum of longer ones could overflow
            at = int(flat[-1])
            yield _kept(*_split(flat[flat < total], ends), ends, self.autapses)


@dataclass(frozen=True)
class FixedInDegree(Rule):
    """`k` synapses onto every neuron from neurons drawn evenly.

    Args:
        k: synapses a neuron.
        multapses: a pair may be drawn more than once.
        autapses: a neuron may be drawn for itself.

    Raises:
        ArgumentError: for `k < 0`, or more than there are neurons to draw without `multapses`.
    """

    k: int
    multapses: bool = True
    autapses: bool = True

    def check(self, ends: Ends) -> None:
        _check_degree(self, self.k, ends.pre - (ends.same and not self.autapses))

    def pairs(self, ends: Ends, rng: np.random.Generator) -> Batches:
        for post, pre in _degrees(self, ends.post, ends.pre, ends.same, rng):
            yield pre, post


@dataclass(frozen=True)
class FixedOutDegree(Rule):
    """`k` synapses from every neuron onto neurons drawn evenly; see `FixedInDegree`."""

    k: int
    multapses: bool = True
    autapses: bool = True

    def check(self, ends: Ends) -> None:
        _check_degree(self, self.k, ends.post - (ends.same and not self.autapses))

    def pairs(self, ends: Ends, rng: np.random.Generator) -> Batches:
        yield from _degrees(self, ends.pre, ends.post, ends.same, rng)


@dataclass(frozen=True)
class FixedTotalNumber(Rule):
    """`n` synapses in all; both ends of each are drawn evenly, so that pairs repeat and neurons may meet themselves.

    Raises:
        ArgumentError: for `n < 0`.
    """

    n: int

    def __post_init__(self) -> None:
        if self.n < 0:
            raise ArgumentError(f"FixedTotalNumber needs n >= 0, got {self.n}")

    def pairs(self, ends: Ends, rng: np.random.Generator) -> Batches:
        for first in range(0, self.n, BATCH):
            size = min(BATCH, self.n - first)
            yield rng.integers(ends.pre, size=size, dtype=np.int32), rng.integers(ends.post, size=size, dtype=np.int32)


@dataclass(frozen=True)
class Spatial(Rule):
    """Every pair with a probability that depends on the distance of the two neurons.

    Args:
        probability: from distances to probabilities, arrays of one shape, such as
            `lambda r: 0.3 * numpy.exp(-(r**2) / (2 * sigma**2))`.
        period: size of the space in each dimension, `[D]`, if it wraps around.
        autapses: a neuron may be connected with itself.

    Raises:
        ArgumentError: if a population has no places, or a probability lies outside 0 to 1.
    """

    probability: Callable[[np.ndarray], np.ndarray]
    period: tuple[float, ...] | None = None
    autapses: bool = True

    def check(self, ends: Ends) -> None:
        if ends.pre_places is None or ends.post_places is None:
            raise ArgumentError("Spatial needs populations with places: Population(n, neuron, places=[n, D])")

    def pairs(self, ends: Ends, rng: np.random.Generator) -> Batches:
        pre_places, post_places = ends.pre_places, ends.post_places
        assert pre_places is not None
        assert post_places is not None
        rows = max(1, BATCH // max(ends.post * pre_places.shape[1], 1))
        for first in range(0, ends.pre, rows):
            apart = np.abs(pre_places[first : first + rows, None] - post_places[None])
            if self.period is not None:
                apart = np.minimum(apart, np.asarray(self.period) - apart)
            p = np.asarray(self.probability(np.sqrt((apart**2).sum(2))))
            if p.shape != apart.shape[:2] or not ((p >= 0) & (p <= 1)).all():
                raise ArgumentError("Spatial: probability(distances) must give one number from 0 to 1 each")
            pre, post = (rng.random(p.shape) < p).nonzero()
            yield _kept((pre + first).astype(np.int32), post.astype(np.int32), ends, self.autapses)


@dataclass(frozen=True, eq=False)
class Pairs(Rule):
    """The pairs themselves: synapse e goes from neuron `pre[e]` to neuron `post[e]`.

    Raises:
        ShapeError: for unequal lengths.
        ArgumentError: for an index outside a population.
    """

    pre: Tensor | np.ndarray
    post: Tensor | np.ndarray

    def check(self, ends: Ends) -> None:
        if len(self.pre) != len(self.post):
            raise ShapeError(f"Pairs needs one length, got {len(self.pre)} and {len(self.post)} indices")
        for what, indices, n in (("pre", self.pre, ends.pre), ("post", self.post, ends.post)):
            found = np.asarray(indices)
            if found.dtype.kind not in "iu" and len(found):
                raise ArgumentError(f"Pairs.{what} needs integers, got {found.dtype}")
            if len(found) and (found.min() < 0 or found.max() >= n):
                raise ArgumentError(f"Pairs.{what} needs indices from 0 to {n - 1}, got {found.min()} to {found.max()}")

    def pairs(self, ends: Ends, rng: np.random.Generator) -> Batches:
        yield np.asarray(self.pre).astype(np.int32), np.asarray(self.post).astype(np.int32)


def _flat(total: int) -> Iterator[np.ndarray]:
    for first in range(0, total, BATCH):
        yield np.arange(first, min(first + BATCH, total))


def _split(flat: np.ndarray, ends: Ends) -> tuple[np.ndarray, np.ndarray]:
    pre, post = np.divmod(flat, max(ends.post, 1))
    return pre.astype(np.int32), post.astype(np.int32)


def _kept(pre: np.ndarray, post: np.ndarray, ends: Ends, autapses: bool) -> tuple[np.ndarray, np.ndarray]:
    if autapses or not ends.same:
        return pre, post
    other = pre != post
    return pre[other], post[other]


def _check_degree(rule: FixedInDegree | FixedOutDegree, k: int, neurons: int) -> None:
    name = type(rule).__name__
    if k < 0 or (k > 0 and neurons < 1) or (not rule.multapses and k > neurons):
        raise ArgumentError(f"{name}: {k} synapses a neuron cannot be drawn from {neurons} neurons")


def _degrees(
    rule: FixedInDegree | FixedOutDegree, n: int, others: int, same: bool, rng: np.random.Generator
) -> Batches:
    """For each of `n` neurons `k` of the others."""
    barred = same and not rule.autapses
    rows = max(1, BATCH // max(rule.k if rule.multapses else others, 1))
    for first in range(0, n, rows):
        own = np.arange(first, min(first + rows, n), dtype=np.int32)
        pool = others - barred
        if rule.multapses:
            chosen = rng.integers(pool, size=(len(own), rule.k), dtype=np.int32)
        else:  # the places of the k smallest of random keys
            chosen = rng.random((len(own), pool)).argpartition(rule.k - 1, axis=1)[:, : rule.k].astype(np.int32)
        if barred:
            chosen += chosen >= own[:, None]  # one place further from oneself on
        yield np.repeat(own, rule.k), chosen.reshape(-1)
