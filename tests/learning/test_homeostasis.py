"""Thresholds that adapt and weights that keep their sum."""

from __future__ import annotations

import math

import pytest
import torch

from spikenet.errors import ArgumentError, ShapeError
from spikenet.learning import ThresholdAdaptation, normalize_weights


def test_a_threshold_rises_with_every_spike_and_falls_back() -> None:
    rule = ThresholdAdaptation(increment=0.05, tau=100.0, dt=0.5)
    spikes = torch.zeros(21, 2, 3)
    spikes[0, 0, 0] = spikes[10, :, 0] = spikes[20, 1, 2] = 1.0
    theta = rule.run(spikes, torch.tensor([1.0, 2.0, 0.0], dtype=torch.float64))
    left = math.exp(-21 * 0.5 / 100.0)
    late, mid = math.exp(-20 * 0.5 / 100.0), math.exp(-10 * 0.5 / 100.0)
    expected = torch.tensor([left + 0.05 * late + 0.1 * mid, 2.0 * left, 0.05], dtype=torch.float64)
    torch.testing.assert_close(theta, expected, rtol=1e-7, atol=1e-9)
    stepped = torch.tensor([1.0, 2.0, 0.0], dtype=torch.float64)
    for now in spikes:
        stepped = rule.step(now, stepped)
    assert torch.equal(stepped, theta)


def test_no_time_constant_no_decay() -> None:
    theta = ThresholdAdaptation(tau=math.inf).run(torch.ones(30, 1, 2), torch.zeros(2))
    assert theta.tolist() == pytest.approx([1.5, 1.5])


@pytest.mark.parametrize("dim", [0, 1])
def test_sums(dim: int) -> None:
    weight = torch.rand(4, 6, dtype=torch.float64) - 0.3
    weight[1], weight[:, 2] = 0.0, 0.0
    before = weight.clone()
    normalize_weights(weight, 78.0, dim)
    sums = weight.abs().sum(dim)
    zero = before.abs().sum(dim) == 0
    torch.testing.assert_close(sums[~zero], torch.full_like(sums[~zero], 78.0), rtol=1e-12, atol=0.0)
    assert torch.equal(sums[zero], torch.zeros(1, dtype=torch.float64))
    assert torch.equal(weight.sign(), before.sign())


def test_refusals() -> None:
    with pytest.raises(ArgumentError, match="tau > 0"):
        ThresholdAdaptation(tau=0.0)
    with pytest.raises(ShapeError, match="are needed"):
        ThresholdAdaptation().run(torch.zeros(4, 1, 3), torch.zeros(2))
    with pytest.raises(ArgumentError, match="above 0"):
        normalize_weights(torch.ones(2, 2), 0.0)
