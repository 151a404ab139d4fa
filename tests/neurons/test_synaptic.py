"""Neurons with synapses against closed forms and a solver of differential equations."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp

from spikenet.errors import ArgumentError
from spikenet.kernels import use_backend
from spikenet.neurons import ConductanceLIF, CurrentLIF, Neuron, SynapticLIF

NEVER = 1e9


def pulse(steps: int, at: int = 0) -> torch.Tensor:
    x = torch.zeros(steps, 1, 1, dtype=torch.float64)
    x[at] = 1.0
    return x


@pytest.mark.parametrize("tau_syn", [5.0, 20.0, 33.0])
def test_one_pulse_gives_two_exponentials(tau_syn: float) -> None:
    """Any step is exact; for equal time constants t / tau exp(-t / tau)."""
    tau, dt = 20.0, 3.0
    neuron = SynapticLIF(tau=tau, tau_syn=tau_syn, v_rest=0.0, v_threshold=NEVER, resistance=1.5, dt=dt).double()
    v = neuron.trace(pulse(40))[1].v[:, 0, 0]
    t = torch.arange(40, dtype=torch.float64) * dt
    if tau == tau_syn:
        expected = 1.5 * t / tau * torch.exp(-t / tau)
    else:
        expected = 1.5 * tau_syn / (tau - tau_syn) * (torch.exp(-t / tau) - torch.exp(-t / tau_syn))
    torch.testing.assert_close(v, expected, rtol=1e-6, atol=1e-9)


def test_both_currents_follow_the_differential_equations() -> None:
    """CurrentLIF is exact; ConductanceLIF's Euler steps come closer with a smaller dt."""
    for kind, dt, tolerance in ((CurrentLIF, 0.5, 1e-4), (ConductanceLIF, 0.1, 0.08), (ConductanceLIF, 0.01, 0.008)):
        neuron, steps = kind(v_threshold=NEVER, dt=dt).double(), round(40.0 / dt)
        with use_backend("reference"):
            states = neuron.trace(0.9 * pulse(steps), pulse(steps))[1]

        def slope(t: float, y: np.ndarray, kind: type = kind) -> list[float]:
            v, e, i = y
            leak = (-49.0 if kind is CurrentLIF else -60.0) - v
            drive = e + i if kind is CurrentLIF else e * (0.0 - v) + i * (-80.0 - v)
            return [(leak + drive) / 20.0, -e / 5.0, -i / 10.0]

        start = [-49.0 if kind is CurrentLIF else -60.0, 0.9, 1.0]
        times = np.arange(steps) * dt
        exact = solve_ivp(slope, (0.0, times[-1]), start, t_eval=times, rtol=1e-10, atol=1e-12).y[0]
        first = states.v[0, 0, 0].item()  # the pulse arrives at the end of the first step
        assert first == pytest.approx(start[0])
        np.testing.assert_allclose(states.v[:, 0, 0].numpy(), exact, rtol=0, atol=tolerance)


def test_a_constant_current_fires_as_the_textbook_says() -> None:
    """Every refractory + tau ln((x - reset) / (x - threshold)), the potentials relative to rest."""
    neuron = SynapticLIF(tau=20.0, constant=25.0, v_rest=-65.0, v_reset=-65.0, refractory=2.0, dt=0.01)
    times = neuron(torch.zeros(10_000, 1, 1))[:, 0, 0].nonzero()[:, 0]
    assert np.diff(times.numpy()) * 0.01 == pytest.approx(2.0 + 20.0 * math.log(25.0 / 10.0), abs=0.011)


def test_currents_go_on_in_the_refractory_period() -> None:
    neuron = SynapticLIF(tau=20.0, tau_syn=5.0, v_rest=-60.0, refractory=3.0, dt=1.0)
    x = torch.zeros(8, 1, 1)
    x[0] = 1e3
    z, states = neuron.trace(x)
    fired = int(z[:, 0, 0].nonzero()[0, 0])
    assert states.v[fired : fired + 4, 0, 0].tolist() == [-60.0] * 4
    expected = 1e3 * torch.exp(-torch.arange(8.0) / 5.0)
    torch.testing.assert_close(states.current[:, 0, 0], expected)


@pytest.mark.parametrize("kind", [SynapticLIF, CurrentLIF])
def test_kernels_equal_the_plain_reference(kind: type[Neuron]) -> None:
    results, inputs = [], [torch.rand(60, 2, 33) * 4.0 for _ in kind.inputs]
    for backend in ("reference", "numba"):
        leaves = [x.clone().requires_grad_() for x in inputs]
        with use_backend(backend):
            z = kind(dt=0.5)(*leaves)
            z.square().sum().backward()
        results.append((z.detach(), [x.grad for x in leaves]))
    assert results[0][0].sum() > 20
    assert torch.equal(results[0][0], results[1][0])
    for ours, truth in zip(results[1][1], results[0][1], strict=True):
        torch.testing.assert_close(ours, truth, rtol=1e-4, atol=1e-6)


def test_time_constants_must_be_above_zero() -> None:
    with pytest.raises(ArgumentError, match=r"SynapticLIF.tau_syn must lie between 0.0 and inf"):
        SynapticLIF(tau_syn=0.0)
