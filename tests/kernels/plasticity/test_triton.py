"""The Triton kernels against the plain ones: on a CUDA device, or else in Triton's interpreter."""

from __future__ import annotations

import pytest
import torch

from spikenet.kernels import use_backend
from spikenet.kernels.plasticity import Change, trace
from spikenet.learning import STDP, DiehlCookSTDP, RewardSTDP, SpikeRule, TripletSTDP
from tests.kernels.plasticity.test_plasticity import CHANGES, EMPTY, SHAPES, compare, factors, learned, remembered

pytest.importorskip("triton")
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
LARGE = [(64, 4, 1, 300, 501), (20, 1, 9, 130, 65)]


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("shape", [*SHAPES, EMPTY[0], EMPTY[2]])
def test_updates(shape: tuple[int, ...], change: Change) -> None:
    compare("triton", shape, torch.float32, change, DEVICE)


@pytest.mark.parametrize("nearest", [False, True])
@pytest.mark.parametrize("shape", [(9, 3, 5), (1, 1), (12, 300)])
def test_traces(shape: tuple[int, ...], nearest: bool) -> None:
    spikes = (torch.rand(*shape[1:], shape[0]) < 0.3).float().movedim(-1, 0).to(DEVICE)
    start, found = torch.rand(shape[1:]).to(DEVICE), []
    for backend in ("triton", "reference"):
        with use_backend(backend):
            found.append(trace(spikes, start, 0.9, nearest))
    for ours, truth in zip(*found, strict=True):
        torch.testing.assert_close(ours, truth, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("adapts", [False, True])
@pytest.mark.parametrize("shape", [(11, 3, 9, 7), (1, 1, 1, 1), (5, 2, 33, 70)])
def test_eprop(shape: tuple[int, ...], adapts: bool) -> None:
    ours, truth = (remembered(b, shape, torch.float32, adapts, DEVICE) for b in ("triton", "reference"))
    for found, expected in zip(ours, truth, strict=True):
        torch.testing.assert_close(found, expected, rtol=2e-5, atol=2e-5)


@pytest.mark.gpu
@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("shape", LARGE)
@pytest.mark.parametrize("held", [False, True])
def test_large_updates(shape: tuple[int, ...], change: Change, held: bool) -> None:
    """Weights feed back on their own changes over many steps, and errors grow: no further from float64 than a few times
    the plain float32 form's."""
    given = [v.to(DEVICE) for v in factors(shape, torch.float32)]
    low, high = max(change.low, -1.0), min(change.high, 1.0)
    weight = (torch.rand(shape[3], shape[4]) * (high - low) + low).to(DEVICE)
    batch = shape[1] if held else None
    wide = [v.double() for v in given]
    truth = learned("reference", weight.double(), wide, change, batch)
    ours, plain = (learned(backend, weight, given, change, batch) for backend in ("triton", "reference"))
    for found, other, exact in zip(ours, plain, truth, strict=True):
        error, scale = float((found - exact).abs().max()), float(exact.abs().max())
        assert error <= 4 * float((other - exact).abs().max()) + 1e-6 * scale
        assert error < 1e-3 * scale


@pytest.mark.gpu
@pytest.mark.parametrize("rule", [STDP(), STDP(mu_plus=1.0, mu_minus=0.3), TripletSTDP(), DiehlCookSTDP()])
def test_rules_learn_the_same_as_on_the_cpu(rule: SpikeRule) -> None:
    pre, post, weight = torch.rand(350, 1, 784) < 0.05, torch.rand(350, 1, 400) < 0.02, torch.rand(400, 784)
    there = weight.cuda()
    rule.run(pre, post, weight)
    rule.run(pre.cuda(), post.cuda(), there)
    torch.testing.assert_close(there.cpu(), weight, rtol=1e-4, atol=1e-5)


@pytest.mark.gpu
def test_rewards_teach_the_same_as_on_the_cpu() -> None:
    pre, post, weight = torch.rand(200, 3, 100) < 0.05, torch.rand(200, 3, 50) < 0.05, torch.rand(50, 100)
    reward, there = torch.randn(200, 3), weight.cuda()
    rule = RewardSTDP()
    rule.run(pre, post, weight, reward)
    rule.run(pre.cuda(), post.cuda(), there, reward.cuda())
    torch.testing.assert_close(there.cpu(), weight, rtol=1e-4, atol=1e-5)


@pytest.mark.gpu
@pytest.mark.parametrize("adapts", [False, True])
def test_large_eprop(adapts: bool) -> None:
    ours, truth = (remembered(b, (100, 16, 128, 200), torch.float32, adapts, DEVICE) for b in ("triton", "reference"))
    for found, expected in zip(ours, truth, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3 * float(expected.abs().max()))
