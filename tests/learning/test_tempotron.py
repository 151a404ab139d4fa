"""The Tempotron against its closed forms, finite differences and what it is known to learn."""

from __future__ import annotations

import math

import pytest
import torch

from spikenet.errors import ArgumentError, ShapeError
from spikenet.learning import Tempotron


def patterns(count: int, inputs: int, steps: int, seed: int = 0) -> torch.Tensor:
    """One spike of every input at a random time, `[T, B, I]`."""
    generator = torch.Generator().manual_seed(seed)
    times = torch.randint(steps, (count, inputs), generator=generator)
    return torch.nn.functional.one_hot(times, steps).permute(2, 0, 1).double()


def test_the_kernel_peaks_at_one() -> None:
    rule = Tempotron()
    assert rule.peak == pytest.approx(6.9315, abs=1e-4)
    assert rule.v0 == pytest.approx(2.11653, abs=1e-5)
    fine = Tempotron(dt=0.01)
    spikes = torch.zeros(3000, 1, 1, dtype=torch.float64)
    spikes[0] = 1.0
    v = fine.potential(spikes, torch.ones(1, 1, dtype=torch.float64))[:, 0, 0]
    assert v.max() == pytest.approx(1.0, abs=1e-6)
    assert v.argmax() == pytest.approx(rule.peak / 0.01, abs=1)
    s = torch.arange(3000, dtype=torch.float64) * 0.01
    torch.testing.assert_close(v, 2.11653 * (torch.exp(-s / 15.0) - torch.exp(-s / 3.75)), rtol=1e-4, atol=1e-5)


def test_the_gradient_of_the_highest_potential() -> None:
    """Central differences, of neurons that fire (and shunt) and of neurons that do not."""
    rule = Tempotron()
    pre = patterns(6, 20, 80)
    weight = torch.randn(5, 20, dtype=torch.float64) * 0.25 + 0.05
    found = rule.decide(pre, weight)
    assert 3 < int(found.fired.sum()) < 27
    for o in range(5):
        for i in range(0, 20, 3):
            ends = []
            for step in (1e-6, -1e-6):
                moved = weight.clone()
                moved[o, i] += step
                ends.append(rule.decide(pre, moved).highest[:, o])
            numeric = (ends[0] - ends[1]) / 2e-6
            torch.testing.assert_close(found.gradient[:, o, i], numeric, rtol=1e-6, atol=1e-7)


def test_what_comes_after_the_spike_is_shunted() -> None:
    """The highest potential is that of the spikes up to the first crossing, followed on a fine grid."""
    rule = Tempotron()
    pre, weight = patterns(8, 20, 80, seed=3), torch.full((1, 20), 0.35, dtype=torch.float64)
    found = rule.decide(pre, weight)
    assert found.fired.all()
    s = torch.arange(0.0, 60.0, 1e-3, dtype=torch.float64)
    for b in range(8):
        v = rule.potential(pre[:, b : b + 1], weight)[:, 0, 0]
        crossing = int((v >= 1.0).nonzero()[0])
        assert v[:crossing].max() < 1.0
        curve = torch.zeros_like(s)
        for t, i in pre[: crossing + 1, b].nonzero().tolist():
            age = crossing - t + s
            curve += weight[0, i] * rule.v0 * (torch.exp(-age / 15.0) - torch.exp(-age / 3.75))
        assert found.highest[b, 0] == pytest.approx(float(curve.max()), abs=1e-7)
        assert found.when[b, 0] == pytest.approx(crossing + float(s[curve.argmax()]), abs=2e-3)


def test_an_error_moves_weights_along_the_gradient() -> None:
    rule = Tempotron(lr=0.1)
    pre, weight = patterns(6, 20, 80), torch.randn(5, 20, dtype=torch.float64) * 0.25 + 0.05
    made, before = rule.decide(pre, weight), weight.clone()
    assert torch.equal(rule.run(pre, made.fired, weight), made.fired)
    assert torch.equal(weight, before)
    rule.run(pre, ~made.fired, weight)
    sign = 1.0 - 2.0 * made.fired.double()
    torch.testing.assert_close(weight - before, 0.1 * (sign[..., None] * made.gradient).sum(0), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(("load", "learned"), [(1.0, True), (8.0, False)])
def test_it_learns_as_many_patterns_as_it_can_hold(load: float, learned: bool) -> None:
    """Random latency patterns, half of either class: all right at one pattern a synapse, far from it at eight."""
    inputs, count = 24, round(24 * load)
    pre = patterns(count, inputs, 80)
    wanted = (torch.arange(count) % 2 == 0)[:, None]
    weight, right = torch.full((1, inputs), 0.05, dtype=torch.float64), []
    for epoch in range(60):
        fired = Tempotron(lr=0.5 / count / (1 + epoch / 100), dt=4.0).run(pre, wanted, weight)
        right.append(float((fired == wanted).double().mean()))
        if right[-1] == 1.0:
            break
    assert (max(right) == 1.0) is learned
    assert max(right) > 0.6


def test_refusals() -> None:
    with pytest.raises(ArgumentError, match="tau > tau_s > 0"):
        Tempotron(tau=3.0)
    with pytest.raises(ArgumentError, match="above 0"):
        Tempotron(v_threshold=math.nan)
    rule, weight = Tempotron(), torch.zeros(2, 3)
    with pytest.raises(ShapeError, match=r"\[T, B, I\]"):
        rule.run(torch.zeros(5, 1, 4), torch.zeros(1, 2, dtype=torch.bool), weight)
    with pytest.raises(ShapeError, match="wanted is bool"):
        rule.run(torch.zeros(5, 1, 3), torch.zeros(1, 2), weight)
