"""Stochastic LIF: its firing rate by renewal, and its gradient by enumeration of all spike trains."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from spikenet.kernels import use_backend
from spikenet.neurons import MetaNeuron, Neuron, StochasticLIF, score_loss
from spikenet.neurons import surrogate as sg
from spikenet.neurons.emission import NoisyRectifier, ScaledStraightThrough, ScoreFunction, escape

LINKS: dict[str, tuple[sg.Surrogate, Callable[[Tensor], Tensor]]] = {
    "sigmoid": (sg.sigmoid(3.0), lambda u: torch.sigmoid(3.0 * u)),
    "gaussian": (sg.gaussian(3.0), lambda u: torch.special.ndtr(3.0 * u)),
    "escape": (escape(3.0, rate=0.5), lambda u: 1 - torch.exp(-0.5 * torch.exp(3.0 * u))),
}


def spike_counts(drive: float, tau: float, link: Callable[[Tensor], Tensor], steps: int) -> float:
    """Expected number of spikes, exactly: a spike resets to 0, so the step of the last one is all there is to know."""
    weight, total = {0: 1.0}, 0.0  # probability of each number of steps since the last reset
    for _ in range(steps):
        following = {0: 0.0}
        for age, chance in weight.items():
            v = drive * (1 - (1 - 1 / tau) ** (age + 1))
            p = float(link(torch.tensor(v - 1.0, dtype=torch.float64)))
            following[0] += chance * p
            following[age + 1] = chance * (1 - p)
        weight, total = following, total + following[0]
    return total


@pytest.mark.parametrize("name", LINKS)
def test_the_firing_rate_is_that_of_the_renewal_process(name: str) -> None:
    link, truth = LINKS[name]
    neuron, steps, lanes = StochasticLIF(4.0, emission=ScaledStraightThrough(link)), 25, 20_000
    counts = neuron(torch.full((steps, 1, lanes), 1.1)).sum(0)
    expected = spike_counts(1.1, 4.0, truth, steps)
    assert 1 < expected < 15
    assert float(counts.mean()) == pytest.approx(expected, abs=5 * float(counts.std()) / math.sqrt(lanes))


def lif_step(v: Tensor, u: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    return v + (x - v) / 2.5, u


def meta_step(v: Tensor, u: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    return v + (v * v - v - u + x), u + 0.02 * (0.2 * v - u)


def chance(train: tuple[int, ...], x: Tensor, step: Callable[..., tuple[Tensor, Tensor]], jump: float) -> Tensor:
    """Probability of one spike train, by the chain rule, in float64; a spike sets v to 0 and adds `jump` to u."""
    v, u, product = x.new_zeros(()), x.new_tensor(0.08), x.new_ones(())
    for x_t, z in zip(x, train, strict=True):
        v, u = step(v, u, x_t)
        p = torch.sigmoid(3.0 * (v - 1.0))
        product, v, u = product * (p if z else 1 - p), (0.0 * v if z else v), u + jump * z
    return product


SCORE = ScoreFunction(sg.sigmoid(3.0))
SCORED: dict[str, tuple[Callable[[], Neuron], Callable[..., tuple[Tensor, Tensor]], float, tuple[float, ...]]] = {
    "LIF": (lambda: StochasticLIF(2.5, emission=SCORE), lif_step, 0.0, (1.7, 0.8, 1.3)),
    "LIF_attached": (
        lambda: StochasticLIF(2.5, emission=SCORE, detach_reset=False),
        *(lif_step, 0.0, (1.7, 0.8, 1.3)),
    ),
    "Meta": (lambda: MetaNeuron(d=0.2, v_threshold=1.0, emission=SCORE), meta_step, 0.2, (0.9, 0.6, 0.8)),
}


@pytest.mark.parametrize("backend", ["numba", "reference"])
@pytest.mark.parametrize("name", SCORED)
def test_the_score_functions_mean_is_the_exact_gradient_over_all_trains(name: str, backend: str) -> None:
    make, step, jump, numbers = SCORED[name]
    drive, lanes = torch.tensor(numbers), 4000
    trains = list(itertools.product((0, 1), repeat=3))
    losses = {train: math.sin(3.0 * k + 1) for k, train in enumerate(trains)}
    x64 = drive.double().requires_grad_()
    (exact,) = torch.autograd.grad(sum(chance(t, x64, step, jump) * losses[t] for t in trains), x64)

    x = drive.view(3, 1, 1).repeat(1, lanes, 1).requires_grad_()
    with use_backend(backend):
        z = make()(x)
        drawn = [tuple(int(s) for s in train) for train in z.detach()[:, :, 0].T]
        score_loss(z, torch.tensor([losses[t] for t in drawn])).backward()
    gradients = {train: x.grad[:, lane, 0].double() * lanes for lane, train in enumerate(drawn)}
    assert set(gradients) == set(trains)  # every train was drawn, so the mean over trains can be taken exactly
    mean = sum(chance(t, x64.detach(), step, jump) * gradients[t] for t in trains)
    torch.testing.assert_close(mean, exact, rtol=1e-5, atol=1e-6)


def test_a_noisy_rectifiers_mean_through_a_neuron() -> None:
    neuron = StochasticLIF(1.0, 0.2, None, emission=NoisyRectifier(0.5))  # tau = dt: h is the input
    x = torch.full((1, 1, 100_000), 0.5).requires_grad_()
    z = neuron(x)
    z.sum().backward()
    a, s = 0.3, 0.5
    phi, big = math.exp(-((a / s) ** 2) / 2) / math.sqrt(2 * math.pi), 0.5 * math.erfc(-a / s / math.sqrt(2))
    assert float(z.detach().mean()) == pytest.approx(a * big + s * phi, abs=0.007)
    assert float(x.grad.mean()) == pytest.approx(big, abs=0.008)


def test_an_emission_may_be_exchanged() -> None:
    neuron = StochasticLIF()
    assert "emission=ScaledStraightThrough(link=sigmoid(alpha=4))" in repr(neuron)
    x = torch.rand(9, 2, 30) * 2
    state = neuron.initial_state(x[0])
    before, _ = neuron.run(x, state)
    neuron.emit = ScoreFunction(sg.sigmoid(4.0))
    after, _ = neuron.run(x, state)
    assert torch.equal(before, after)  # the same coins: only the gradient is another
