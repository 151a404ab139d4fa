"""What every rule connects: exact numbers where they are fixed, and distributions where they are drawn."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from spikenet.errors import ArgumentError
from spikenet.simulate import (
    AllToAll,
    FixedInDegree,
    FixedOutDegree,
    FixedProbability,
    FixedTotalNumber,
    Normal,
    OneToOne,
    Spatial,
    Uniform,
    rules,
)
from spikenet.simulate.rules import Ends, Rule


def connect(rule: Rule, ends: Ends, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rule.check(ends)
    parts = [(np.empty(0, int), np.empty(0, int)), *rule.pairs(ends, np.random.default_rng(seed))]
    return np.concatenate([p for p, _ in parts]), np.concatenate([q for _, q in parts])


@pytest.fixture(autouse=True, params=[1 << 22, 37])
def batches(request, monkeypatch) -> None:
    """Small batches give as good a network as large ones."""
    monkeypatch.setattr(rules, "BATCH", request.param)


def test_all_to_all_and_one_to_one() -> None:
    pre, post = connect(AllToAll(), Ends(5, 7, False))
    assert sorted(zip(pre, post, strict=True)) == [(i, j) for i in range(5) for j in range(7)]
    pre, post = connect(AllToAll(autapses=False), Ends(6, 6, True))
    assert sorted(zip(pre, post, strict=True)) == [(i, j) for i in range(6) for j in range(6) if i != j]
    pre, post = connect(OneToOne(), Ends(9, 9, False))
    assert (pre == post).all()
    assert len(pre) == 9


@pytest.mark.parametrize("p", [0.0, 0.1, 0.7, 1.0])
def test_fixed_probability_draws_every_pair_alike(p: float) -> None:
    found = np.zeros((20, 30))
    for seed in range(60):
        pre, post = connect(FixedProbability(p), Ends(20, 30, False), seed)
        assert len(set(zip(pre, post, strict=True))) == len(pre)
        np.add.at(found, (pre, post), 1)
    if p in (0.0, 1.0):
        assert (found == 60 * p).all()
    else:
        z = (found - 60 * p) / math.sqrt(60 * p * (1 - p))
        assert stats.chisquare(found.sum(0)).pvalue > 1e-3
        assert stats.chisquare(found.sum(1)).pvalue > 1e-3
        assert z.std() == pytest.approx(1.0, abs=0.12)


@pytest.mark.parametrize("kind", [FixedInDegree, FixedOutDegree])
@pytest.mark.parametrize(("multapses", "autapses"), [(True, True), (False, True), (True, False), (False, False)])
def test_fixed_degrees(kind: type, multapses: bool, autapses: bool) -> None:
    pre, post = connect(kind(6, multapses, autapses), Ends(40, 40, True))
    fixed, free = (post, pre) if kind is FixedInDegree else (pre, post)
    assert (np.bincount(fixed, minlength=40) == 6).all()
    assert stats.chisquare(np.bincount(free, minlength=40)).pvalue > 1e-3
    pairs = set(zip(pre, post, strict=True))
    assert multapses or len(pairs) == len(pre)
    assert autapses == any(a == b for a, b in pairs)


def test_fixed_total_number() -> None:
    pre, post = connect(FixedTotalNumber(5001), Ends(30, 20, False))
    assert len(pre) == len(post) == 5001
    assert stats.chisquare(np.bincount(pre, minlength=30)).pvalue > 1e-3
    assert stats.chisquare(np.bincount(post, minlength=20)).pvalue > 1e-3


def test_spatial_kernel_follows_its_probability_on_a_ring() -> None:
    """Everybody sees the same surroundings, so that the number of pairs at each distance is binomial."""
    places = np.arange(100.0)[:, None]
    ends = Ends(100, 100, True, places, places)
    kernel = Spatial(lambda r: 0.8 * np.exp(-(r**2) / 50.0), period=(100.0,), autapses=False)
    found = np.zeros(51)
    for seed in range(20):
        pre, post = connect(kernel, ends, seed)
        apart = np.abs(pre - post)
        found += np.bincount(np.minimum(apart, 100 - apart), minlength=51)
    assert found[0] == 0
    r = np.arange(1, 12)
    p, n = 0.8 * np.exp(-(r**2) / 50.0), 20 * 200
    assert (np.abs(found[r] - n * p) < 4.5 * np.sqrt(n * p * (1 - p))).all()


REFUSED = [
    (lambda: FixedProbability(1.5), "0 <= p <= 1"),
    (lambda: FixedTotalNumber(-1), "n >= 0"),
    (lambda: FixedInDegree(5, multapses=False).check(Ends(4, 4, False)), "cannot be drawn from 4"),
    (lambda: FixedInDegree(4, multapses=False, autapses=False).check(Ends(4, 4, True)), "cannot be drawn from 3"),
    (lambda: Spatial(np.exp).check(Ends(2, 2, True)), "with places"),
    (lambda: connect(Spatial(np.exp), Ends(2, 2, True, np.eye(2), np.eye(2))), "from 0 to 1"),
    (lambda: Uniform(2.0, 1.0), "low <= high"),
    (lambda: Normal(0.0, -1.0), "sd >= 0"),
    (lambda: Normal(0.0, 1.0, low=1.0), "low <= mean <= high"),
]


@pytest.mark.parametrize(("make", "reason"), REFUSED, ids=[reason for _, reason in REFUSED])
def test_refusals(make, reason: str) -> None:
    with pytest.raises(ArgumentError, match=reason):
        make()


def test_normal_is_drawn_again_outside_its_bounds() -> None:
    found = Normal(1.5, 0.75, low=0.05).draw(np.random.default_rng(0), 20_000)
    assert found.min() >= 0.05
    cut = stats.truncnorm((0.05 - 1.5) / 0.75, 6.0, 1.5, 0.75)
    assert stats.kstest(found, cut.cdf).pvalue > 0.01


@pytest.mark.parametrize("p", [1e-17, 1e-19, 5e-324])
def test_next_to_no_synapses_are_drawn_where_there_are_next_to_none(p: float) -> None:
    ends = Ends(1000, 1000, False, None, None)
    pairs = list(FixedProbability(p).pairs(ends, np.random.default_rng(0)))
    assert sum(len(pre) for pre, _ in pairs) == 0
