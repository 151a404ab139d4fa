"""Emissions against closed forms, by enumeration of what can be drawn."""

from __future__ import annotations

import copy
import math
import pickle
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from spikenet.errors import ArgumentError, ShapeError
from spikenet.kernels.dynamics import evaluate
from spikenet.neurons import minimum_variance_baseline, score_loss
from spikenet.neurons import surrogate as sg
from spikenet.neurons.emission import (
    Bernoulli,
    IntegerCounts,
    NoisyRectifier,
    ScaledStraightThrough,
    ScoreFunction,
    StochasticTimesSmooth,
    StraightThrough,
    Ternary,
    escape,
)

A = torch.linspace(-3.0, 3.0, 25, dtype=torch.float64)
P = torch.sigmoid(A)
L0, L1 = 0.7, -1.9  # the losses of a silent and of a firing unit


def at(emission: Any, u: Tensor, **draws: Tensor) -> tuple[Tensor, Tensor]:
    """Value and slope of an emission for given draws."""
    names, alpha = list(draws), u.new_tensor(emission.alpha)
    results = []
    for function in (emission.value, emission.slope):

        def with_draws(u: Any, *rest: Any, function: Any = function) -> Any:
            return function(u, SimpleNamespace(**dict(zip(names, rest, strict=False))), rest[-1])

        results.append(evaluate(with_draws, u=u, **draws, alpha=alpha).expand(u.shape))
    return results[0], results[1]


def outcomes(emission: Any, u: Tensor) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """(value, slope) of a unit whose coin came up low, and of one whose coin came up high."""
    return at(emission, u, coin=torch.zeros_like(u)), at(emission, u, coin=torch.full_like(u, 1 - 2.0**-24))


@pytest.mark.parametrize(
    ("link", "truth"),
    [
        (sg.sigmoid(1.7), lambda u: torch.sigmoid(1.7 * u)),
        (sg.gaussian(1.7), lambda u: torch.special.ndtr(1.7 * u)),
        (escape(1.7, rate=0.4), lambda u: 1 - torch.exp(-0.4 * torch.exp(1.7 * u))),
    ],
)
def test_it_fires_below_the_probability_of_its_link(link: sg.Surrogate, truth: Any) -> None:
    p = truth(A)
    low, high = (at(ScaledStraightThrough(link), A, coin=p + shift)[0] for shift in (-1e-9, 1e-9))
    assert torch.equal(low, torch.ones_like(A))
    assert torch.equal(high, torch.zeros_like(A))


def test_the_score_function_is_unbiased() -> None:
    (fired, score1), (silent, score0) = outcomes(ScoreFunction(), A)
    assert fired.eq(1).all()
    assert silent.eq(0).all()
    torch.testing.assert_close(score1, 1 - P)
    torch.testing.assert_close(score0, -P)
    mean = P * score1 * L1 + (1 - P) * score0 * L0
    torch.testing.assert_close(mean, P * (1 - P) * (L1 - L0))
    # Centred on the best baseline, either outcome gives the exact gradient: no variance is left.
    best = (1 - P) * L1 + P * L0
    for score, loss in ((score1, L1), (score0, L0)):
        torch.testing.assert_close(score * (loss - best), P * (1 - P) * (L1 - L0))


@pytest.mark.parametrize("link", [sg.gaussian(1.2), escape(1.2), sg.atan(1.2)])
def test_the_score_of_any_link_is_unbiased(link: sg.Surrogate) -> None:
    u = A.clone().requires_grad_()
    p = evaluate(link.primitive, u=u, alpha=u.new_tensor(link.alpha))
    (exact,) = torch.autograd.grad((p * L1 + (1 - p) * L0).sum(), u)
    (_, score1), (_, score0) = outcomes(ScoreFunction(link), A)
    p = p.detach()
    torch.testing.assert_close(p * score1 * L1 + (1 - p) * score0 * L0, exact)


def test_the_baseline_of_least_variance_is_found_from_a_batch() -> None:
    spikes = torch.tensor([1.0, 0.0, 0.0, 0.0]).view(1, 4, 1)  # a batch that has p = 1/4 exactly
    losses = torch.where(spikes.flatten() > 0, L1, L0)
    baseline = minimum_variance_baseline(spikes, torch.full_like(spikes, 0.25), losses)
    torch.testing.assert_close(baseline, torch.full((1, 1, 1), 0.75 * L1 + 0.25 * L0))
    certain = minimum_variance_baseline(spikes, spikes, losses)
    torch.testing.assert_close(certain.flatten(), losses.mean().view(1))


def test_the_score_loss_hands_each_spike_its_samples_loss() -> None:
    spikes = torch.rand(3, 4, 2, 5).round().requires_grad_()
    losses = torch.randn(4, requires_grad=True)
    score_loss(spikes, losses, baseline=0.3).backward()
    assert losses.grad is None
    torch.testing.assert_close(spikes.grad, ((losses.detach() - 0.3) / 4).view(1, 4, 1, 1).expand(3, 4, 2, 5))
    with pytest.raises(ShapeError, match=r"want losses of shape \(4,\), got \(3,\)"):
        score_loss(spikes, torch.ones(3))


def test_straight_through_has_the_mean_slope_of_the_loss() -> None:
    """For a loss with slopes d1 at a spike and d0 without: p d1 + (1 - p) d0, times p (1 - p) where it is scaled."""
    d1, d0 = 2.5, -0.5
    for emission, factor in ((StraightThrough(), torch.ones_like(P)), (ScaledStraightThrough(), P * (1 - P))):
        (_, slope1), (_, slope0) = outcomes(emission, A)
        torch.testing.assert_close(P * slope1 * d1 + (1 - P) * slope0 * d0, (P * d1 + (1 - P) * d0) * factor)
    (_, slope1), (_, slope0) = outcomes(ScaledStraightThrough(), A)  # a linear loss: exact
    torch.testing.assert_close((P * slope1 + (1 - P) * slope0) * (L1 - L0), P * (1 - P) * (L1 - L0))


def test_stochastic_times_smooth_has_mean_p_and_half_the_gradient() -> None:
    root = P.sqrt()
    (high, slope), (low, none) = outcomes(StochasticTimesSmooth(), A)
    assert low.eq(0).all()
    assert none.eq(0).all()
    torch.testing.assert_close(root * high, P)  # b is 1 with probability sqrt(p)
    torch.testing.assert_close(root * slope, 0.5 * P * (1 - P))


@pytest.mark.parametrize("sigma", [0.4, 1.0])
def test_the_noisy_rectifier_has_the_moments_of_a_rectified_normal(sigma: float) -> None:
    noise = torch.linspace(-9.0, 9.0, 200_001, dtype=torch.float64)
    density = torch.exp(-noise * noise / 2) / math.sqrt(2 * math.pi)
    for a in (-1.0, 0.0, 0.3, 2.0):
        value, slope = at(NoisyRectifier(sigma), torch.full_like(noise, a), noise=noise)
        phi, big = math.exp(-((a / sigma) ** 2) / 2) / math.sqrt(2 * math.pi), 0.5 * math.erfc(-a / sigma / 2**0.5)
        assert float(torch.trapezoid(value * density, noise)) == pytest.approx(a * big + sigma * phi, abs=1e-7)
        assert float(torch.trapezoid(slope * density, noise)) == pytest.approx(big, abs=5e-5)
        assert (value > 0).equal(slope > 0)


def test_counts_round_halves_up_and_saturate() -> None:
    u = torch.tensor([-2.0, 0.0, 0.49, 0.5, 1.5, 2.5, 3.2, 4.0, 9.0], dtype=torch.float64)
    value, slope = at(IntegerCounts(4), u)
    assert (value * 4).tolist() == [0, 0, 0, 1, 2, 3, 3, 4, 4]
    assert (slope * 4).tolist() == [0, 0, 1, 1, 1, 1, 1, 0, 0]


def test_ternary_has_two_thresholds_and_both_slopes() -> None:
    u = torch.tensor([-3.0, -1.0, -0.99, 0.0, 0.99, 1.0, 3.0], dtype=torch.float64)
    value, slope = at(Ternary(sg.rectangle(1.0)), u)
    assert value.tolist() == [-1, -1, 0, 0, 0, 1, 1]
    assert slope.tolist() == [0, 1, 1, 0, 1, 1, 0]  # within 1/2 of either threshold


def test_emissions_compare_copy_and_pickle() -> None:
    for emission in (ScoreFunction(sg.gaussian(2.0)), StochasticTimesSmooth(), NoisyRectifier(0.3), Ternary()):
        assert pickle.loads(pickle.dumps(emission)) == copy.copy(emission) == emission
    assert ScoreFunction() != StraightThrough()
    assert repr(StraightThrough(sg.gaussian(2.0))) == "StraightThrough(link=gaussian(alpha=2))"
    assert repr(IntegerCounts(8)) == "IntegerCounts(maximum=8)"


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: IntegerCounts(0), "a whole number from 1 on, got 0"),
        (lambda: IntegerCounts(2.5), "got 2.5"),
        (lambda: NoisyRectifier(0.0), "sigma must be a finite number above 0"),
        (lambda: escape(rate=0.0), "rate at the threshold must be above 0"),
        (lambda: Bernoulli(sg.custom(lambda u, alpha: alpha * u, 1.0)), "has no primitive"),
    ],
)
def test_bad_emissions_are_refused(make: Any, match: str) -> None:
    with pytest.raises(ArgumentError, match=match):
        make()
