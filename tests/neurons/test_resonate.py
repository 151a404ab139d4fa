"""The resonate-and-fire neuron against its complex equation, its impulse response and its resonance."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor

from spikenet.neurons import NO_RESET, ResonateAndFire
from tests.neurons import transcription as ts
from tests.neurons.margin import between, disagreements, drive

SIZE = (80, 4, 13)
N = SIZE[2:]


def complex_state(s: SimpleNamespace, x: Tensor, p: SimpleNamespace, fire: ts.Fire) -> dict[str, Tensor]:
    """Izhikevich 2001: y' = (i omega - 1 / tau) y + x, a spike where Im y >= threshold, then y = i v_reset."""
    y = torch.exp(torch.complex(-1 / p.tau, p.omega)) * torch.complex(s.u, s.v) + x
    z = fire(y.imag - p.v_threshold)
    return {"u": (1 - z) * y.real, "v": (1 - z) * y.imag + z * p.v_reset}


def test_spikes_and_every_gradient() -> None:
    omega, tau = between(0.2, 1.0, N), between(5.0, 15.0, N, 1)
    neuron = ResonateAndFire(omega, tau, between(0.8, 1.2, N, 2), between(-0.2, 0.6, N, 3))
    start = {"u": drive(SIZE[1:], 0.3, 0.0, 5), "v": drive(SIZE[1:], 0.3, 0.0, 6)}
    assert not disagreements(neuron, complex_state, drive(SIZE, 0.5, 0.1), start, ts.atan_slope(2.0))


@pytest.mark.parametrize("dt", [0.05, 1.0, 4.0])
def test_impulse_response(dt: float) -> None:
    """v(t) = exp(-t / tau) sin(omega t), u(t) = exp(-t / tau) cos(omega t), whatever dt is."""
    omega, tau = 0.375, 8.0
    x = torch.zeros(100, 1, 1, dtype=torch.float64)
    x[0] = 1.0
    _, states = ResonateAndFire(omega, tau, 1e9, dt=dt).trace(x)
    t = dt * torch.arange(100, dtype=torch.float64)
    for found, wave in ((states.v, torch.sin), (states.u, torch.cos)):
        torch.testing.assert_close(found.flatten(), torch.exp(-t / tau) * wave(omega * t), rtol=1e-10, atol=1e-13)


def test_resonance() -> None:
    """The gain at frequency f is |s e^(-i f) / (1 - 2 c e^(-i f) + r^2 e^(-2 i f))|, largest near omega."""
    omega, tau = 0.5, 20.0
    frequencies = torch.linspace(0.05, 1.5, 59, dtype=torch.float64)
    steps = torch.arange(2000, dtype=torch.float64)
    x = torch.cos(steps[:, None] * frequencies)[:, None]
    _, states = ResonateAndFire(omega, tau, 1e9).trace(x)
    late, waves = states.v[1000:, 0].numpy(), np.exp(-1j * np.outer(steps[1000:], frequencies))
    # The complex amplitude by least squares on cosine and sine.
    found = [
        math.hypot(*np.linalg.lstsq(np.stack([w.real, w.imag], 1), v, rcond=None)[0])
        for v, w in zip(late.T, waves.T, strict=True)
    ]
    r, delay = math.exp(-1 / tau), np.exp(-1j * frequencies.numpy())
    gain = np.abs(r * math.sin(omega) * delay / (1 - 2 * r * math.cos(omega) * delay + r**2 * delay**2))
    np.testing.assert_allclose(found, gain, rtol=1e-6)
    assert abs(frequencies[int(np.argmax(found))] - omega) < 0.03


def test_it_fires_for_pulses_in_its_own_rhythm_only() -> None:
    """Two pulses a period apart add up, two half a period apart cancel out (Izhikevich 2001, section 3)."""
    period = 16
    for gap, fires in ((period, True), (period // 2, False)):
        x = torch.zeros(40, 1, 1)
        x[0] = x[gap] = 0.7
        assert bool(ResonateAndFire(2 * math.pi / period, 100.0)(x).any()) == fires


def test_the_three_resets() -> None:
    start = (torch.full((1, 1), 2.0), torch.full((1, 1), 3.0))
    for reset, wanted in ((0.5, (0.0, 0.5)), (None, (2.0, 2.0)), (NO_RESET, (2.0, 3.0))):
        neuron = ResonateAndFire(2 * math.pi, 1e9, v_reset=reset)  # a full turn a step
        z, state = neuron.run(torch.zeros(1, 1, 1), neuron.State(*start))
        assert z.item() == 1
        assert (state.u.item(), state.v.item()) == pytest.approx(wanted, abs=1e-5)
