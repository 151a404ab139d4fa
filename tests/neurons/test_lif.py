"""LIF and its kin beyond `test_precision`: f-I curves in closed form, and a teacher's time constants found again."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from spikenet.errors import ArgumentError, UnknownNameError
from spikenet.neurons import IF, LIF, NO_RESET, PLIF, CubaLIF, IntrinsicLIF, LeakyReadout, RefractoryLIF
from tests.neurons import transcription as ts
from tests.neurons.margin import between, disagreements, drive

SIZE = (80, 4, 13)
N = SIZE[2:]
V = {"v": drive(SIZE[1:], 0.3, 0.0, 5)}
SLOPE = ts.atan_slope(2.0)


def plif(s: SimpleNamespace, x: Tensor, p: SimpleNamespace, fire: ts.Fire) -> dict[str, Tensor]:
    """Fang et al., ICCV 2021: 1 / tau = sigmoid(w)."""
    h = s.v + torch.sigmoid(p.w) * (x - (s.v - p.v_rest))
    z = fire(h - p.v_threshold)
    return {"v": (1 - z) * h + z * p.v_reset}


def test_parametric() -> None:
    tau, threshold = between(1.5, 6.0, N), between(0.8, 1.2, N, 1)
    neuron = PLIF(tau.detach(), threshold, nn.Parameter(torch.tensor(-0.1)), v_rest=0.05)
    torch.testing.assert_close(neuron.tau, tau)
    assert not disagreements(neuron, plif, drive(SIZE, 0.9), V, SLOPE)


def intrinsic(s: SimpleNamespace, x: Tensor, p: SimpleNamespace, fire: ts.Fire) -> dict[str, Tensor]:
    keep = torch.exp(-0.5 / functional.softplus(p.raw_tau))
    h = s.v * keep + functional.softplus(p.raw_resistance) * x * (1 - keep)
    z = fire(h - functional.softplus(p.raw_v_threshold))
    return {"v": (1 - z) * h + z * p.v_reset}


def test_learned_intrinsic_parameters() -> None:
    tau, threshold, reset = between(1.0, 4.0, N), between(0.8, 1.2, N, 1), between(-0.2, 0.1, N, 2)
    neuron = IntrinsicLIF(13, tau.detach(), threshold.detach(), reset.detach(), 1.5, dt=0.5)
    assert {n: p.shape for n, p in neuron.named_parameters()} == dict.fromkeys(
        ("raw_tau", "raw_v_threshold", "raw_resistance", "v_reset"), N
    )
    for got, wanted in ((neuron.tau, tau), (neuron.v_threshold, threshold), (neuron.v_reset, reset)):
        torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-6)
    assert not disagreements(neuron, intrinsic, drive(SIZE, 1.4), V, SLOPE)


def refractory(s: SimpleNamespace, x: Tensor, p: SimpleNamespace, fire: ts.Fire) -> dict[str, Tensor]:
    """Interrupted for `refractory` steps after a spike, here counted up from the last spike."""
    free = (s.clock < 1).double()
    h = torch.where(free > 0, s.v + (p.v_rest - s.v + x) / p.tau, s.v)
    z = fire(h - p.v_threshold, free)
    clock = torch.where(z > 0, p.refractory.round(), (s.clock - 1).clamp(min=-1))
    return {"v": (1 - z) * h + z * p.v_reset, "clock": clock.detach()}


def test_refractory() -> None:
    period = torch.tensor([1.0, 2.2, 5.4])[torch.arange(13) % 3]
    neuron = RefractoryLIF(period, between(1.5, 6.0, N), between(0.8, 1.2, N, 1), between(-0.2, 0.1, N, 2))
    assert not disagreements(neuron, refractory, drive(SIZE, 1.2, 0.8), {**V, "clock": torch.zeros(SIZE[1:])}, SLOPE)


def cuba(s: SimpleNamespace, x: Tensor, p: SimpleNamespace, fire: ts.Fire) -> dict[str, Tensor]:
    current = s.current * torch.exp(-1 / p.tau_syn) + x
    h = s.v * torch.exp(-1 / p.tau) + current
    z = fire(h - p.v_threshold)
    return {"v": h - z * p.v_threshold, "current": current}


def test_current_based() -> None:
    neuron = CubaLIF(
        between(1.5, 6.0, N),
        between(0.8, 3.0, N, 1),
        between(0.8, 1.2, N, 2),
        None,
        exact_decay=True,
        decay_input=False,
    )
    assert not disagreements(
        neuron, cuba, drive(SIZE, 0.6, 0.05), {**V, "current": drive(SIZE[1:], 0.3, 0.0, 6)}, SLOPE
    )


def intervals(spikes: Tensor) -> list[set[int]]:
    """For every neuron `[T, 1, N]` the lengths of its interspike intervals, in steps."""
    return [set(torch.nonzero(train).flatten().diff().tolist()) for train in spikes[:, 0].T]


TAU, THRESHOLD, RESET, REST, PERIOD, DT = 20.0, 1.0, -0.3, 0.1, 3.0, 0.1
CURRENTS = torch.tensor([0.95, 1.0, 1.3, 2.0, 3.7, 9.0], dtype=torch.float64)


@pytest.mark.parametrize("exact", [True, False])
def test_rate_against_current(exact: bool) -> None:
    """f(I) = 1 / (T_ref + tau ln((I + v_rest - v_reset) / (I + v_rest - v_threshold))), in whole steps."""
    neuron = RefractoryLIF(PERIOD, TAU, THRESHOLD, RESET, v_rest=REST, dt=DT, exact_decay=exact)
    x = CURRENTS.expand(6000, 1, -1).contiguous()
    keep = math.exp(-DT / TAU) if exact else 1 - DT / TAU
    for current, found in zip(CURRENTS.tolist(), intervals(neuron(x)), strict=True):
        rise = math.log((current + REST - RESET) / (current + REST - THRESHOLD))
        steps = rise / -math.log(keep)
        assert abs(steps - round(steps)) > 1e-3, "a tie: choose another current"
        assert found == {round(PERIOD / DT) + math.ceil(steps)}
        assert abs(DT * found.pop() - (PERIOD + TAU * rise)) <= DT + (0 if exact else 0.5 * DT * rise)


def test_below_the_rheobase_it_is_silent_and_settles() -> None:
    z, state = LIF(TAU, THRESHOLD, v_rest=REST, exact_decay=True, dt=DT).run(
        torch.full((9000, 1, 1), 0.89, dtype=torch.float64)
    )
    assert z.sum() == 0
    torch.testing.assert_close(state.v.item(), 0.99, rtol=0, atol=1e-6)


def test_exact_decay_solves_the_equation_at_any_step() -> None:
    """v(t) = v_rest + I (1 - exp(-t / tau)) whatever dt is; numbers are held in float32."""
    for dt in (0.1, 1.0, 7.0):
        x = torch.full((6, 1, 1), 0.5, dtype=torch.float64)
        _, states = LIF(TAU, v_rest=0.25, exact_decay=True, dt=dt).trace(x)
        t = dt * torch.arange(1, 7, dtype=torch.float64)
        torch.testing.assert_close(states.v.flatten(), 0.25 + 0.5 * (1 - torch.exp(-t / TAU)), rtol=1e-12, atol=0)


def test_without_reset_the_potential_does_not_hear_its_spikes() -> None:
    x = drive((50, 2, 5), 2.0)
    z, states = LIF(3.0, v_reset=NO_RESET).trace(x)
    _, silent = LIF(3.0, v_threshold=1e9).trace(x)
    assert torch.equal(states.v, silent.v)
    assert torch.equal(z, (silent.v >= 1).float())
    assert torch.equal(IF(v_reset=NO_RESET).trace(x)[1].v, IF(1e9).trace(x)[1].v)


@pytest.mark.parametrize("exact", [True, False])
def test_a_pulse_through_the_synapse(exact: bool) -> None:
    """(keep^(t+1) - keep_syn^(t+1)) / (keep - keep_syn), and the continuous curve as dt shrinks."""
    tau, tau_syn = 20.0, 5.0
    for dt in (1.0, 0.01):
        steps = round(60 / dt)
        x = torch.zeros(steps, 1, 1, dtype=torch.float64)
        x[0] = 1.0
        neuron = CubaLIF(tau, tau_syn, 1e9, exact_decay=exact, dt=dt)
        v = neuron.trace(x)[1].v.flatten()
        keep, keep_syn = ((math.exp(-dt / k) if exact else 1 - dt / k) for k in (tau, tau_syn))
        n = torch.arange(1, steps + 1, dtype=torch.float64)
        closed = (1 - keep) * (keep**n - keep_syn**n) / (keep - keep_syn)
        torch.testing.assert_close(v, closed, rtol=1e-9, atol=1e-15)
    curve = tau_syn / (tau - tau_syn) * (torch.exp(-n * dt / tau) - torch.exp(-n * dt / tau_syn))
    torch.testing.assert_close(v, curve, rtol=0, atol=2 * dt / tau_syn * float(curve.max()))


def test_a_readout_forgets_a_pulse_that_it_heard_whole_or_damped() -> None:
    pulse = torch.zeros(12, 1, 1, dtype=torch.float64)
    pulse[2] = 6.0
    left = 6.0 * 0.75 ** torch.arange(10, dtype=torch.float64)
    torch.testing.assert_close(LeakyReadout(4.0, decay_input=False)(pulse)[2:, 0, 0], left)
    torch.testing.assert_close(LeakyReadout(4.0)(pulse)[2:, 0, 0], left / 4)


def distance(ours: Tensor, theirs: Tensor) -> Tensor:
    """The mean squared distance of spike trains [T, ...] smoothed over time (van Rossum 2001)."""
    return (LeakyReadout(4.0)(ours - theirs) ** 2).mean()


def test_a_teachers_time_constants_are_found_again() -> None:
    """What the data can tell: a time constant 2 % off changes the spikes of every neuron."""
    torch.manual_seed(1)
    teacher = LIF(3.0 + 9.0 * torch.rand(8))
    x = 1.0 + 1.5 * torch.randn(150, 32, 8)
    spikes = teacher(x)
    for factor in (0.98, 1.02):
        assert ((LIF(teacher.tau * factor)(x) != spikes).sum((0, 1)) > 10).all()

    student = LIF(nn.Parameter(torch.full((8,), 6.0)))
    optimiser = torch.optim.Adam(student.parameters(), lr=0.3)
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimiser, 0.985)
    for _ in range(300):
        optimiser.zero_grad()
        distance(student(x), spikes).backward()
        optimiser.step()
        schedule.step()
    torch.testing.assert_close(student.tau.detach(), teacher.tau, rtol=0.02, atol=0)


def test_what_cannot_work_is_refused() -> None:
    with pytest.raises(ArgumentError, match=r"PLIF.init_tau must lie above dt = 1.0, got 1"):
        PLIF(torch.tensor([2.0, 1.0]))
    with pytest.raises(ArgumentError, match=r"IntrinsicLIF.v_threshold must lie between 0.0 and inf, got -1"):
        IntrinsicLIF(3, v_threshold=-1.0)
    with pytest.raises(ArgumentError, match=r"RefractoryLIF.refractory must lie between 0.0 and inf"):
        RefractoryLIF(0.0)
    with pytest.raises(UnknownNameError, match="Did you mean 'v_threshold'"):
        LIF(v_treshold=1.0)
