"""Meta neurons and the Levy-Baxter neuron in its moments: by hand, by transcription, and by closed form."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from spikenet.kernels import use_backend
from spikenet.kernels.dynamics.philox import draw
from spikenet.neurons import MetaNeuron, MomentLevyBaxter, ProbabilisticMetaNeuron
from spikenet.neurons import surrogate as sg
from spikenet.neurons.emission import ScaledStraightThrough, ScoreFunction

NAMES = ("a", "b", "c", "d")


class _Box(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, u: Tensor) -> Tensor:
        ctx.save_for_backward(u)
        return (u >= 0).to(u)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return grad * (ctx.saved_tensors[0].abs() < 0.5)


def published(current: Tensor, a: Tensor, b: Tensor, c: Tensor, d: Tensor) -> tuple[Tensor, Tensor]:
    """Spikes and margins in the published order: the previous spike resets, then both variables step."""
    v, u, s = torch.zeros_like(current[0]), torch.full_like(current[0], 0.08), torch.zeros_like(current[0])
    spikes, margins = [], []
    for i in current:
        v, u = v * (1 - s) + c * s, u + d * s
        v, u = v + (v**2 - v - u + i), u + a * (b * v - u)
        s = _Box.apply(v - 0.5)
        spikes.append(s)
        distance = (v - 0.5).detach().abs()
        margins.append(torch.minimum(distance, (distance - 0.5).abs()))
    return torch.stack(spikes), torch.stack(margins)


def learned(make: Any, **values: float) -> nn.Module:
    return make(**{n: nn.Parameter(torch.tensor(v)) for n, v in values.items()})


def assert_as_published(
    neuron: nn.Module, z: Tensor, inputs: list[Tensor], truth: tuple[Tensor, Tensor], given: list[Tensor]
) -> None:
    spikes, margins = truth
    clear = (margins > 1e-5).all(0)
    assert clear.double().mean() > 0.98
    gz = torch.randn(z.shape, generator=torch.Generator().manual_seed(3)) * clear
    expected = torch.autograd.grad(spikes, given, gz.double())
    z.backward(gz)
    assert torch.equal(z.detach()[:, clear].double(), spikes.detach()[:, clear])
    assert 0.05 < z.detach().mean() < 0.6
    for got, wanted in zip([x.grad for x in (*inputs, *(getattr(neuron, n) for n in NAMES))], expected, strict=True):
        assert float((got - wanted).norm() / wanted.norm()) < 2e-5


def test_two_steps_by_hand() -> None:
    """Defaults, I = 0.7: v = 0.7 - 0.08 = 0.62 fires, u = 0.08 - 0.02 * 0.08 = 0.0784; then from v = 0, u = 0.1584."""
    z, state = MetaNeuron().trace(torch.tensor([0.7, 0.3], dtype=torch.float64).view(2, 1, 1))
    assert z.flatten().tolist() == [1.0, 0.0]
    assert state.v.flatten().tolist() == pytest.approx([0.0, 0.3 - 0.1584], rel=1e-6)
    assert state.u.flatten().tolist() == pytest.approx([0.1584, 0.1584 * 0.98], rel=1e-6)


def test_spikes_and_all_four_gradients_as_published() -> None:
    values = {"a": 0.06, "b": 0.22, "c": -0.06, "d": 0.07}
    neuron = learned(MetaNeuron, **values)
    x = torch.sigmoid(torch.randn(60, 3, 41, generator=torch.Generator().manual_seed(2))).requires_grad_()
    x64 = x.detach().double().requires_grad_()
    p64 = [getattr(neuron, n).detach().double().requires_grad_() for n in NAMES]
    assert_as_published(neuron, neuron(x), [x], published(x64, *p64), [x64, *p64])


def test_it_is_izhikevichs_neuron_in_other_units() -> None:
    """V = 25 v - 75 mV, U = 25 u - 75 b, I = 25 i + 10 - 75 b turn 0.04 V^2 + 5 V + 140 - U + I into it (dt = 1 ms)."""
    a, b, c, d = 0.02, 0.2, -0.065, 0.05
    i = torch.rand(200, 1, 25, generator=torch.Generator().manual_seed(4), dtype=torch.float64) * 0.6
    values = {"a": a, "b": b, "c": c, "d": d, "u_start": 0.08}
    neuron = MetaNeuron(**{name: torch.tensor(value, dtype=torch.float64) for name, value in values.items()})
    ours, state = neuron.trace(i)
    v, u = torch.full_like(i[0], -75.0), torch.full_like(i[0], 25 * 0.08 - 75 * b)
    for t, i_t in enumerate(i):
        current = 25 * i_t + 10 - 75 * b
        v, u = v + (0.04 * v * v + 5 * v + 140 - u + current), u + a * (b * v - u)
        fired = v >= -62.5
        v, u = torch.where(fired, 25 * c - 75, v), torch.where(fired, u + 25 * d, u)
        assert torch.equal(ours[t] > 0, fired)
        torch.testing.assert_close(25 * state.v[t] - 75, v, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(25 * state.u[t] - 75 * b, u, rtol=1e-9, atol=1e-9)
    assert 0.02 < ours.mean() < 0.6


def test_behind_unreliable_synapses_it_is_the_published_neuron_on_a_noisy_drive() -> None:
    neuron = learned(ProbabilisticMetaNeuron, a=0.06, b=0.22, c=-0.06, d=0.07)
    generator = torch.Generator().manual_seed(5)
    mean, variance = torch.randn(40, 2, 31, generator=generator), torch.rand(40, 2, 31, generator=generator) + 0.1
    mean, variance = mean.requires_grad_(), variance.requires_grad_()
    state = neuron.initial_state(mean[0])
    z, _ = neuron.run(mean, variance, state)
    seed, start = state.rng
    noise = torch.stack([draw("normal", seed, start + t, torch.arange(62), 0, torch.float64) for t in range(40)])
    m64, v64 = mean.detach().double().requires_grad_(), variance.detach().double().requires_grad_()
    p64 = [getattr(neuron, n).detach().double().requires_grad_() for n in NAMES]
    truth = published(torch.sigmoid(m64 + v64.sqrt() * noise.view(40, 2, 31)), *p64)
    assert_as_published(neuron, z, [mean, variance], truth, [m64, v64, *p64])


def test_a_meta_neuron_may_fire_by_chance() -> None:
    """One step from rest: v = I - 0.08, and P(z = 1) = Phi((v - 0.5) / 0.25)."""
    neuron = MetaNeuron(emission=ScaledStraightThrough(sg.gaussian(4.0)))
    z = neuron(torch.full((1, 1, 50_000), 0.7))
    p = 0.5 * math.erfc(-(0.62 - 0.5) * 4.0 / math.sqrt(2))
    assert float(z.mean()) == pytest.approx(p, abs=5 * math.sqrt(p * (1 - p) / 50_000))


def test_the_levy_baxter_neuron_fires_and_learns_by_phi() -> None:
    """Its gradient is, at every draw, that of the probability itself."""
    neuron = MomentLevyBaxter(nn.Parameter(torch.tensor(2.0)))
    generator = torch.Generator().manual_seed(6)
    moments = [torch.randn(1, 4, 5, generator=generator) + 2, torch.rand(1, 4, 5, generator=generator) + 0.1]
    sequences = [m.expand(4000, -1, -1).clone().requires_grad_() for m in moments]
    truth = [m.double().requires_grad_() for m in moments]
    g = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
    p = torch.special.ndtr((truth[0] - g) / truth[1].sqrt())
    exact = torch.autograd.grad(p.sum(), [*truth, g])
    z = neuron(*sequences)
    z.sum().backward()
    spread = (p * (1 - p) / 4000).sqrt().detach()
    assert bool(((z.detach().mean(0) - p.detach()[0]).abs() < 5 * spread[0]).all())
    for x, wanted in zip(sequences, exact, strict=False):
        torch.testing.assert_close(x.grad.double(), wanted.expand(4000, -1, -1), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(neuron.v_threshold.grad.double() / 4000, exact[2], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("backend", ["numba", "reference"])
def test_without_an_active_synapse_it_is_silent_and_learns_nothing(backend: str) -> None:
    for emission in (ScaledStraightThrough(sg.gaussian(1.0)), ScoreFunction(sg.gaussian(1.0))):
        neuron = MomentLevyBaxter(nn.Parameter(torch.tensor(1.0)), emission=emission)
        mean, variance = torch.zeros(3, 2, 4).requires_grad_(), torch.zeros(3, 2, 4).requires_grad_()
        with use_backend(backend):
            z = neuron(mean, variance)
            z.sum().backward()
        for value in (z.detach(), mean.grad, variance.grad, neuron.v_threshold.grad):
            assert torch.equal(value, torch.zeros_like(value))
