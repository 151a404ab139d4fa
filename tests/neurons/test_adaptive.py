"""ALIF, SE-adLIF and SiLIF against transcriptions of their papers' code, and what adaptation must do."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from spikenet.neurons import ALIF, LIF, SEAdLIF, SiLIF
from tests.neurons import transcription as ts
from tests.neurons.margin import between, disagreements, drive

SIZE = (80, 4, 13)
N = SIZE[2:]
V = {"v": drive(SIZE[1:], 0.3, 0.0, 5)}
W = {"w": drive(SIZE[1:], 0.1, 0.0, 6)}


def alif(s: SimpleNamespace, x: Tensor, p: SimpleNamespace, fire: ts.Fire) -> dict[str, Tensor]:
    """Bellec et al. 2020. Its potential carries the last spike's jump over to the next step, undecayed."""
    keep, keep_b = torch.exp(-1 / p.tau), torch.exp(-1 / p.tau_adapt)
    v = keep * s.v + x
    z = fire(v - p.v_threshold - p.beta * s.b)
    return {"v": v - z * p.v_threshold / keep, "b": keep_b * s.b + z}


def test_adaptive_threshold() -> None:
    neuron = ALIF(between(2.0, 6.0, N), between(10.0, 40.0, N, 1), between(0.1, 0.4, N, 2), between(0.8, 1.2, N, 3))
    start = {**V, "b": drive(SIZE[1:], 0.2, 0.3, 6).abs()}
    assert not disagreements(neuron, alif, drive(SIZE, 0.8, 0.3), start, ts.atan_slope(2.0))


def test_adaptive_threshold_in_the_papers_own_order() -> None:
    """v_t = keep v_{t-1} + x_t - v_threshold z_{t-1}, b_t = keep_b b_{t-1} + z_{t-1}: spikes held as a state."""
    x, neuron = drive((200, 2, 9), 0.8, 0.3).double(), ALIF(4.0, 30.0, 0.3)
    keep, keep_b, beta = math.exp(-1 / 4), math.exp(-1 / 30), neuron.beta.double()
    v = b = z = torch.zeros(2, 9, dtype=torch.float64)
    spikes = []
    for x_t in x:
        v, b = keep * v + x_t - z, keep_b * b + z
        z = (v >= 1.0 + beta * b).double()
        spikes.append(z)
    assert torch.equal(neuron(x), torch.stack(spikes))
    assert 0.05 < neuron(x).mean() < 0.4


def test_without_beta_it_is_a_leaky_neuron() -> None:
    """With the same soft reset, divided by the decay, as the paper's potential has it."""
    x = drive((100, 2, 9), 0.8, 0.3)
    _, states = ALIF(4.0, beta=0.0).trace(x)
    _, lif = LIF(4.0, v_reset=None, exact_decay=True, decay_input=False).trace(x)
    jump = 1 - math.exp(1 / 4)
    first = ALIF(4.0, beta=0.0)(x).cumsum(0) == 1  # from the second spike on, the two have drifted apart
    spiked = first & (ALIF(4.0, beta=0.0)(x) == 1)
    torch.testing.assert_close((states.v - lif.v)[spiked], torch.full((int(spiked.sum()),), jump), rtol=1e-5, atol=1e-6)


def test_threshold_settles_where_spikes_balance_its_decay() -> None:
    """With a spike every n steps b = keep_b^n b + 1 after each: b = 1 / (1 - keep_b^n)."""
    neuron, x = ALIF(5.0, 50.0, 0.1), torch.full((4000, 1, 1), 0.3, dtype=torch.float64)
    z, states = neuron.trace(x)
    times = torch.nonzero(z.flatten()).flatten()
    n = times.diff()[len(times) // 2 :].unique()
    keep = math.exp(-1 / 50)
    low, high = (1 / (1 - keep**k) for k in (int(n.max()), int(n.min())))
    assert low - 1e-9 <= states.b.flatten()[times[-1]] <= high + 1e-9
    assert times.diff()[0] < n.min(), "the first interval is the shortest"


def symplectic(s: SimpleNamespace, x: Tensor, p: SimpleNamespace, fire: ts.Fire) -> dict[str, Tensor]:
    """Baronig et al. 2024: reset at once and without gradient, then the adaptation from the new u and z."""
    alpha, beta = torch.exp(-1 / p.tau), torch.exp(-1 / p.tau_w)
    u = alpha * s.v + (1 - alpha) * (x - s.w)
    z = fire(u - p.v_threshold)
    u = u * (1 - z.detach())
    return {"v": u, "w": beta * s.w + (1 - beta) * (p.a.clamp(0, 1) * u + p.b.clamp(0, 2) * z) * p.q}


def test_symplectic() -> None:
    neuron = SEAdLIF(
        between(2.0, 6.0, N),
        between(20.0, 60.0, N, 1),
        between(-0.2, 1.2, N, 2),
        between(-0.2, 2.2, N, 3),
        q=12.0,
        v_threshold=nn.Parameter(torch.tensor(0.9)),
    )
    assert not disagreements(neuron, symplectic, drive(SIZE, 2.0, 1.0), {**V, **W}, ts.atan_slope(2.0))


def test_symplectic_subthreshold_matrix() -> None:
    """Below the threshold [v, w] is multiplied by M = [[k, k-1], [g k, r + g (k-1)]], g = (1-r) q a, in every step."""
    k, r = math.exp(-1 / 10), math.exp(-1 / 100)
    g = (1 - r) * 120 * 0.5
    matrix = torch.tensor([[k, k - 1], [g * k, r + g * (k - 1)]], dtype=torch.float64)
    neuron = SEAdLIF(10.0, 100.0, 0.5, 1.0, v_threshold=1e9)
    x = torch.zeros(40, 1, 1, dtype=torch.float64)
    start = neuron.State(*(torch.full((1, 1), v, dtype=torch.float64) for v in (1.0, -0.3)))
    _, states = neuron.trace(x, start)
    state = torch.tensor([1.0, -0.3], dtype=torch.float64)
    for v, w in zip(states.v.flatten(), states.w.flatten(), strict=True):
        state = matrix @ state
        torch.testing.assert_close(torch.stack([v, w]), state, rtol=1e-10, atol=1e-12)


def state_space(s: SimpleNamespace, x: Tensor, p: SimpleNamespace, fire: ts.Fire) -> dict[str, Tensor]:
    """The source's loop body up to the spike; its next w and its reset, which come first there, are taken here."""
    dt = torch.exp(p.log_step)
    alpha, beta = torch.exp(-torch.exp(p.log_rate) * dt), torch.exp(-torch.exp(p.log_rate_w) * dt)
    u = alpha * s.v + (1 - alpha) * (x - s.w)
    z = fire(u - p.v_threshold)
    w = beta * s.w + p.a.clamp(0, 1) * u + p.b.clamp(0, 2) * z
    return {"v": u - z * p.v_threshold, "w": w}


def test_state_space() -> None:
    neuron = SiLIF(
        between(4.0, 5.5, N),
        between(2.0, 4.0, N, 1),
        between(-0.1, 0.3, N, 2),
        between(-0.2, 2.2, N, 3),
        log_step=between(-5.6, -5.0, N, 4),
        surrogate="atan",
    )
    assert not disagreements(neuron, state_space, drive(SIZE, 3.0, 1.5), {**V, **W}, ts.atan_slope(2.0))


def test_state_space_in_the_sources_own_order() -> None:
    x, neuron = drive((200, 2, 9), 3.0, 1.5).double(), SiLIF(5.0, 3.0, 0.1, 0.5)
    p = {n: getattr(neuron, n).double() for n in neuron.params}
    dt = p["log_step"].exp()
    alpha, beta = torch.exp(-p["log_rate"].exp() * dt), torch.exp(-p["log_rate_w"].exp() * dt)
    u = w = s = torch.zeros(2, 9, dtype=torch.float64)
    spikes = []
    for x_t in x:
        w = beta * w + p["a"] * u + p["b"] * s
        u = alpha * (u - s) + (1 - alpha) * (x_t - w)
        s = (u > 1).double()
        spikes.append(s)
    assert torch.equal(neuron(x), torch.stack(spikes))
    assert 0.05 < neuron(x).mean() < 0.4


@pytest.mark.parametrize(
    ("neuron", "ranges"),
    [
        (SEAdLIF.learned(500), {"tau": (5, 25), "tau_w": (60, 300), "a": (0, 1), "b": (0, 2)}),
        (SiLIF.learned(500), {"log_rate": (math.log(10), math.log(250)), "log_rate_w": (math.log(2.5), math.log(10))}),
    ],
    ids=["SEAdLIF", "SiLIF"],
)
def test_drawn_parameters_fill_the_published_ranges(neuron: nn.Module, ranges: dict[str, tuple[float, float]]) -> None:
    for name, (low, high) in ranges.items():
        value = getattr(neuron, name)
        assert isinstance(value, nn.Parameter)
        assert value.shape == (500,)
        width = high - low
        assert low <= value.min() < low + 0.05 * width
        assert high - 0.05 * width < value.max() <= high
