"""Several spikes a step, and signed spikes: against float64 transcriptions, and the binary steps they stand for."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from spikenet.events import expand
from spikenet.kernels import use_backend
from spikenet.neurons import MultiSpikeLIF, TernaryIF, TernaryLIF
from spikenet.neurons import surrogate as sg


class _Given(torch.autograd.Function):
    """A value with a slope."""

    @staticmethod
    def forward(ctx: Any, u: Tensor, value: Tensor, slope: Tensor) -> Tensor:
        ctx.save_for_backward(slope)
        return value

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        return grad * ctx.saved_tensors[0], None, None


def multi_spike(x: Tensor, tau: Tensor, theta: Tensor, maximum: int) -> tuple[Tensor, Tensor]:
    """Output and distance to the nearest threshold or kink, as published, by autograd."""
    v, out, margins = torch.zeros_like(x[0]), [], []
    for x_t in x:
        h = v + (x_t - v) / tau
        u = h / theta
        inside = ((u > 0) & (u < maximum)).to(u)
        count = torch.floor(u.detach().clamp(0, maximum) + 0.5)
        spikes = _Given.apply(u, count / maximum, inside / maximum)
        v = h - spikes * maximum * theta
        out.append(spikes)
        levels = torch.tensor([0.0, *(k + 0.5 for k in range(maximum)), maximum], dtype=u.dtype)
        margins.append((u.detach().unsqueeze(-1) - levels).abs().amin(-1))
    return torch.stack(out), torch.stack(margins)


def ternary(x: Tensor, theta: Tensor, slope: Any) -> tuple[Tensor, Tensor]:
    """A perfect integrator with two thresholds and a soft reset, each step with its own slope."""
    v, out, margins = torch.zeros_like(x[0]), [], []
    for x_t in x:
        h = v + x_t
        up, down = h / theta - 1, -h / theta - 1
        rise = _Given.apply(up, (up >= 0).to(up), slope(up.detach()))
        fall = _Given.apply(down, (down >= 0).to(down), slope(down.detach()))
        out.append(rise - fall)
        v = h - (rise - fall) * theta
        margins.append(torch.minimum(up.detach().abs(), down.detach().abs()))
    return torch.stack(out), torch.stack(margins)


def check(neuron: nn.Module, names: list[str], transcription: Any, x: Tensor) -> Tensor:
    """Outputs equal and gradients close, in lanes that never come near a threshold; returns the outputs."""
    x64 = x.double().requires_grad_()
    p64 = [getattr(neuron, n).detach().double().requires_grad_() for n in names]
    truth, margins = transcription(x64, *p64)
    clear = (margins > 1e-5).all(0)
    assert clear.double().mean() > 0.98
    gz = torch.randn(x.shape, generator=torch.Generator().manual_seed(8)) * clear
    expected = torch.autograd.grad(truth, [x64, *p64], gz.double())
    x32 = x.clone().requires_grad_()
    z = neuron(x32)
    z.backward(gz)
    assert torch.equal(z.detach()[:, clear].double(), truth.detach()[:, clear])
    for got, wanted in zip([x32.grad, *(getattr(neuron, n).grad for n in names)], expected, strict=True):
        assert float((got - wanted).norm() / wanted.norm()) < 2e-5
    return z.detach()


def drive(shape: tuple[int, ...], scale: float, shift: float) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(6)) * scale + shift


def learned(value: float) -> nn.Parameter:
    return nn.Parameter(torch.tensor(value))


def test_multi_spike_trains_as_published() -> None:
    neuron = MultiSpikeLIF(4, learned(1.5), learned(0.7))
    z = check(neuron, ["tau", "v_threshold"], lambda x, *p: multi_spike(x, *p, 4), drive((45, 3, 37), 2.0, 0.8))
    assert set(z.unique().tolist()) == {0.0, 0.25, 0.5, 0.75, 1.0}


@pytest.mark.parametrize("backend", ["numba", "reference"])
def test_the_reset_subtracts_whole_counts(backend: str) -> None:
    """At tau = dt the potential is the input: a whole number of thresholds leaves nothing. 1 / 49 * 49 is below 1."""
    x = torch.arange(50.0).view(50, 1, 1)
    with use_backend(backend):
        z, state = MultiSpikeLIF(49, 1.0).trace(x)
    assert torch.equal((z * 49).round(), x)
    assert not torch.equal(z * 49, x)
    assert not state.v.any()


def test_ternary_trains_as_published() -> None:
    neuron = TernaryIF(learned(0.8), None, surrogate=sg.sigmoid(2.0))

    def slope(u: Tensor) -> Tensor:
        y = torch.sigmoid(2.0 * u)
        return 2.0 * y * (1 - y)

    z = check(neuron, ["v_threshold"], lambda x, theta: ternary(x, theta, slope), drive((45, 3, 37), 0.6, 0.05))
    assert set(z.unique().tolist()) == {-1.0, 0.0, 1.0}


def test_a_hard_reset_serves_either_sign() -> None:
    neuron = TernaryLIF(1.0, 1.0, -0.25)
    z, state = neuron.trace(torch.tensor([0.5, 1.5, -1.5, 0.0]).view(4, 1, 1))
    assert z.flatten().tolist() == [0.0, 1.0, -1.0, 0.0]
    assert state.v.flatten().tolist() == [0.5, -0.25, -0.25, 0.0]


@pytest.mark.parametrize("maximum", [1, 4, 8])
def test_counts_equal_the_mean_of_their_binary_steps_through_whole_weights(maximum: int) -> None:
    """Exactly: all sums are of whole numbers, and the mean is over a power of two."""
    counts = MultiSpikeLIF(maximum)(drive((12, 3, 40), 4.0, 2.0))
    steps = expand(counts, maximum)
    linear = nn.Linear(40, 17, bias=False)
    linear.weight.data = torch.randint(-9, 10, (17, 40)).float()
    assert steps.shape == (12 * maximum, 3, 40)
    assert set(steps.unique().tolist()) == {0.0, 1.0}
    assert torch.equal(linear(counts), linear(steps).view(12, maximum, 3, 17).mean(1))
