"""Unreliable synapses against exact sums, enumeration and the normal law."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from spikenet.errors import ArgumentError
from spikenet.layers import LevyBaxter, ProbabilisticSynapses
from spikenet.neurons import MomentLevyBaxter
from spikenet.neurons import surrogate as sg
from spikenet.neurons.emission import ScaledStraightThrough, ScoreFunction, StochasticTimesSmooth, StraightThrough

DRAWS = 40_000


def uniform_sum_above(g: float, k: int) -> float:
    """P(the sum of k uniform numbers on (0, 1) reaches g): Irwin and Hall."""
    below = sum((-1) ** j * math.comb(k, j) * max(g - j, 0.0) ** k for j in range(k + 1)) / math.factorial(k)
    return (1.0 if g <= 0 else 0.0) if k == 0 else 1.0 - below


def firing_probability(n: int, s: float, g: float) -> float:
    """Of n active synapses of weight 1, by enumeration of how many release."""
    return sum(math.comb(n, k) * s**k * (1 - s) ** (n - k) * uniform_sum_above(g, k) for k in range(n + 1))


def unit(layer: LevyBaxter) -> LevyBaxter:
    """The layer with all weights 1."""
    torch.nn.init.ones_(layer.synapses.weight)
    return layer


def phi(u: float) -> float:
    return 0.5 * math.erfc(-u / math.sqrt(2))


@pytest.mark.parametrize(("n", "s", "g"), [(1, 0.3, 0.6), (3, 0.5, 0.9), (6, 0.25, 1.1)])
def test_few_synapses_fire_as_enumeration_says(n: int, s: float, g: float) -> None:
    z = unit(LevyBaxter(n, 1, s, g))(torch.ones(4, DRAWS // 4, n)).detach()
    p = firing_probability(n, s, g)
    assert 0.05 < p < 0.95
    assert float(z.mean()) == pytest.approx(p, abs=5 * math.sqrt(p * (1 - p) / DRAWS))


@pytest.mark.parametrize(("n", "s"), [(50, 0.5), (120, 0.2)])
def test_many_synapses_fire_by_the_normal_law(n: int, s: float) -> None:
    mean, deviation = n * s / 2, math.sqrt(n * (s / 3 - s * s / 4))
    for shift in (-1.0, 0.0, 0.7):
        g = mean + shift * deviation
        z = unit(LevyBaxter(n, 1, s, g))(torch.ones(10, DRAWS // 10, n)).detach()
        assert float(z.mean()) == pytest.approx(phi(-shift), abs=0.02)


def test_moments_are_those_of_the_sums_drawn() -> None:
    synapses = ProbabilisticSynapses(30, 4, torch.rand(4, 30) * 0.8 + 0.1)
    x = (torch.rand(1, 1, 30) < 0.6).float()
    mean, variance = (m.detach()[0, 0] for m in synapses(x))
    sums = synapses.sample(x.expand(1, DRAWS, 30))[0]
    assert bool(((sums.mean(0) - mean).abs() < 5 * (variance / DRAWS).sqrt()).all())
    torch.testing.assert_close(sums.var(0), variance, rtol=0.05, atol=0.0)


def test_moments_by_enumeration_of_releases() -> None:
    """Two synapses: each is 0 with chance 1 - s, else uniform times its weight."""
    synapses = ProbabilisticSynapses(2, 1, torch.tensor([0.3, 0.8]))
    w, x = synapses.weight.detach()[0].double(), torch.tensor([1.0, 1.0])
    mean, second = 0.0, 0.0
    for k in range(4):
        released = torch.tensor([k & 1, k >> 1], dtype=torch.float64)
        chance = math.prod(s if r else 1 - s for r, s in zip(released.tolist(), (0.3, 0.8), strict=True))
        m = float((w * released).sum()) / 2
        mean, second = mean + chance * m, second + chance * (m * m + float((w * w * released).sum()) / 12)
    got = [float(m.detach()) for m in synapses(x.view(1, 1, 2))]
    assert got == pytest.approx([mean, second - mean**2], rel=1e-6)


def probability(layer: LevyBaxter, x: Tensor) -> Tensor:
    """P(z = 1) of the normal law, in float64 and by autograd."""
    w, s = layer.synapses.weight.double(), layer.synapses.release.double().sigmoid()
    mean, variance = x.double() @ (w * s / 2).T, x.double() ** 2 @ (w**2 * (s / 3 - s**2 / 4)).T
    return torch.special.ndtr((mean - torch.log1p(layer.threshold.double().exp())) / variance.sqrt())


def test_release_threshold_and_weights_learn_the_gradient_of_the_probability() -> None:
    layer = LevyBaxter(20, 3, torch.full((20,), 0.4), torch.tensor([0.2, 0.4, 0.6]))
    x = torch.rand(2, 5, 20)
    learned = list(layer.parameters())
    truth = torch.autograd.grad(probability(layer, x).sum(), learned)
    for got, wanted in zip(torch.autograd.grad(layer(x).sum(), learned), truth, strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-3, atol=1e-5)


def test_the_score_function_agrees_in_the_mean() -> None:
    """With the loss as the incoming gradient; the normal law's bias at 60 synapses is far below the tolerance."""
    layer = unit(LevyBaxter(60, 1, 0.5, 14.0, emission=ScoreFunction(sg.gaussian(1.0))))
    x = torch.ones(4, DRAWS // 4, 60)
    z = layer(x)
    losses = torch.where(z.detach() > 0, 1.0, 0.0) - 0.63
    (got,) = torch.autograd.grad(z, layer.threshold, losses)
    (wanted,) = torch.autograd.grad(probability(layer, x[:1, :1]).sum(), layer.threshold)
    assert float(got) / DRAWS == pytest.approx(float(wanted), rel=0.1)


@pytest.mark.parametrize("emission", [StraightThrough(sg.gaussian(1.0)), ScoreFunction(sg.gaussian(1.0))])
def test_gradients_stay_finite_at_the_ends(emission: ScaledStraightThrough) -> None:
    layer = LevyBaxter(8, 2, 0.5, 0.5, emission=emission)
    layer.synapses.weight.data = torch.tensor([1e3, -1e3]).view(2, 1).expand(2, 8).clone()
    for x in (torch.zeros(3, 4, 8), torch.ones(3, 4, 8)):
        z = layer(x)
        assert bool(((z == 0) | (z == 1)).all())
        assert all(g.isfinite().all() for g in torch.autograd.grad(z.sum(), list(layer.parameters())))


def test_drawn_and_moment_form_fire_alike() -> None:
    layer, x = LevyBaxter(80, 3, 0.5, 0.3), (torch.rand(1, 1, 80) < 0.5).float().expand(4, 5000, 80)
    neuron = MomentLevyBaxter(0.3)
    with torch.no_grad():
        drawn, moments = layer(x).mean((0, 1)), neuron(*layer.synapses(x)).mean((0, 1))
    torch.testing.assert_close(drawn, moments, rtol=0.0, atol=0.025)


def test_bad_values_are_refused() -> None:
    with pytest.raises(ArgumentError, match=r"release must lie between 0 and 1, got 1.5"):
        ProbabilisticSynapses(3, 2, 1.5)
    with pytest.raises(ArgumentError, match=r"threshold must be above 0, got 0.0"):
        LevyBaxter(3, 2, 0.5, 0.0)
    with pytest.raises(ArgumentError, match="cannot take the emission StochasticTimesSmooth"):
        LevyBaxter(3, 2, emission=StochasticTimesSmooth())
