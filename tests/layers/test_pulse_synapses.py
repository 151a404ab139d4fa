"""Synapses that pass pulses by chance: binomial laws, the exact XOR circuit, and physical constants."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from scipy import constants
from torch import nn

from spikenet import LIF
from spikenet.errors import ArgumentError, ShapeError
from spikenet.layers import PulseSynapses

CASES = torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
ALWAYS = 60.0  # a current at which no pulse is lost: 1 - sigmoid(60) is 1e-26


def xor(hidden: float, output: float) -> nn.Sequential:
    last = PulseSynapses(2, 1, sign=torch.tensor([[1, -1]]), current=output)
    return nn.Sequential(PulseSynapses(2, 2, current=hidden), LIF(1.0, torch.tensor([1.0, 2.0])), last, LIF(1.0, 1.0))


def test_counts_are_binomial():
    n, p, draws = 12, 0.3, 20_000
    counts = PulseSynapses(n, 1, current=math.log(p / (1 - p)))(torch.ones(1, draws, n)).detach()
    assert float(counts.mean()) == pytest.approx(n * p, abs=5 * math.sqrt(n * p * (1 - p) / draws))
    assert float(counts.var()) == pytest.approx(n * p * (1 - p), rel=0.06)
    assert torch.equal(counts, counts.round())


def test_rates_multiply_along_a_line():
    rate, passes, steps = 0.8, (0.9, 0.6, 0.7), 20_000
    line = nn.Sequential(*(PulseSynapses(1, 1, current=math.log(p / (1 - p))) for p in passes))
    pulses = line((torch.rand(steps, 1, 1) < rate).float()).detach()
    wanted = rate * math.prod(passes)
    assert float(pulses.mean()) == pytest.approx(wanted, abs=5 * math.sqrt(wanted * (1 - wanted) / steps))


def test_without_noise_it_is_the_truth_table():
    z = xor(ALWAYS, ALWAYS)(CASES.expand(50, 4, 2)).detach()
    assert torch.equal(z[..., 0], torch.tensor([0.0, 1.0, 1.0, 0.0]).expand(50, 4))


def test_with_noise_it_is_the_enumeration():
    steps, p = 20_000, 0.75
    z = xor(math.log(3.0), math.log(3.0))(CASES.expand(steps, 4, 2)).detach().mean(0)[:, 0]
    for case, rate in zip(CASES.int().tolist(), z.tolist(), strict=True):
        wanted = 0.0
        for a, b, c, d, e, f in itertools.product((0, 1), repeat=6):
            chance = p ** (a + b + c + d + e + f) * (1 - p) ** (6 - (a + b + c + d + e + f))
            either, both = case[0] * a + case[1] * b >= 1, case[0] * c + case[1] * d >= 2
            wanted += chance * (either * e - both * f >= 1)
        assert rate == pytest.approx(wanted, abs=5 * math.sqrt(max(wanted * (1 - wanted), 1e-9) / steps))


def test_the_gradient_is_that_of_the_mean():
    layer = PulseSynapses(5, 3, sign=torch.randint(-1, 2, (3, 5)), current=torch.randn(3, 5)).double()
    x = torch.rand(4, 2, 5, dtype=torch.float64, requires_grad=True)
    weights = torch.randn(4, 2, 3, dtype=torch.float64)
    found = torch.autograd.grad((layer(x) * weights).sum(), (x, layer.current))
    s = torch.sigmoid(layer.current)
    wanted = weights @ (layer.sign * s), torch.einsum("tbo,tbi->oi", weights, x) * layer.sign * s * (1 - s)
    torch.testing.assert_close(found, tuple(w.detach() for w in wanted))


def test_a_switch_costs_more_than_landauer_asks():
    flux = constants.h / (2 * constants.e)
    assert flux == pytest.approx(2.067833848e-15, rel=1e-9)
    assert 10e-6 * flux > constants.k * 4.2 * math.log(2) == pytest.approx(4.02e-23, rel=1e-3)


def test_what_cannot_be_is_refused():
    with pytest.raises(ShapeError, match=r"signs \(3, 2\), got \(2, 3\)"):
        PulseSynapses(2, 3, sign=torch.ones(2, 3))
    with pytest.raises(ArgumentError, match="other signs"):
        PulseSynapses(2, 1, sign=torch.tensor([[0.5, 1.0]]))
    with pytest.raises(ShapeError, match=r"currents \(1, 2\), got \(3,\)"):
        PulseSynapses(2, 1, current=torch.ones(3))


def test_nothing_in_nothing_out():
    assert PulseSynapses(2, 3)(torch.zeros(0, 4, 2)).shape == (0, 4, 3)
    assert PulseSynapses(2, 3)(torch.zeros(5, 4, 2)).eq(0).all()
