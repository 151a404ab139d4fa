"""QIF, EIF and AdEx against transcriptions of their papers, and their f-I curves, rheobases and fixed points."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.optimize import brentq
from torch import Tensor

from spikenet.errors import ArgumentError
from spikenet.neurons import EIF, QIF, AdEx, Neuron
from spikenet.neurons import surrogate as sg
from tests.neurons import transcription as ts
from tests.neurons.margin import between, disagreements, drive

SIZE = (80, 4, 13)
N = SIZE[2:]
V = {"v": drive(SIZE[1:], 0.3, 0.0, 5)}
SLOPE = ts.atan_slope(2.0)


def qif(s: SimpleNamespace, x: Tensor, p: SimpleNamespace, fire: ts.Fire) -> dict[str, Tensor]:
    h = s.v + (p.a * (s.v - p.v_rest) * (s.v - p.v_critical) + x) / p.tau
    z = fire(h - p.v_threshold)
    return {"v": (1 - z) * h + z * p.v_reset}


def test_quadratic() -> None:
    neuron = QIF(
        between(2.0, 6.0, N),
        between(0.8, 1.2, N, 1),
        between(0.5, 0.8, N, 2),
        between(1.0, 1.3, N, 3),
        between(-0.2, 0.1, N, 4),
        v_rest=between(-0.1, 0.1, N, 5),
    )
    assert not disagreements(neuron, qif, drive(SIZE, 1.2, 0.6), V, SLOPE)


def eif(s: SimpleNamespace, x: Tensor, p: SimpleNamespace, fire: ts.Fire) -> dict[str, Tensor]:
    exponent = ((s.v - p.v_onset) / p.slope_factor).clamp(max=20)
    h = s.v + (p.v_rest - s.v + p.slope_factor * torch.exp(exponent) + x) / p.tau
    z = fire(h - p.v_threshold)
    return {"v": (1 - z) * h + z * p.v_reset}


def test_exponential() -> None:
    neuron = EIF(
        between(2.0, 6.0, N),
        between(0.15, 0.3, N, 1),
        between(0.6, 0.9, N, 2),
        between(1.0, 1.3, N, 3),
        between(-0.2, 0.1, N, 4),
        v_rest=between(-0.1, 0.1, N, 5),
    )
    assert not disagreements(neuron, eif, drive(SIZE, 1.2, 0.6), V, SLOPE)


def adex(s: SimpleNamespace, x: Tensor, p: SimpleNamespace, fire: ts.Fire) -> dict[str, Tensor]:
    """Brette and Gerstner 2005, Euler at 0.5 ms."""
    exponent = ((s.v - p.v_onset) / p.slope_factor).clamp(max=20)
    leak = -p.conductance * (s.v - p.v_rest) + p.conductance * p.slope_factor * torch.exp(exponent)
    h = s.v + 0.5 / p.capacitance * (leak - s.w + x)
    w = s.w + 0.5 / p.tau_w * (p.a * (s.v - p.v_rest) - s.w)
    z = fire(h - p.v_threshold)
    return {"v": (1 - z) * h + z * p.v_reset, "w": w + z * p.b}


def test_adaptive_exponential() -> None:
    """In the paper's units: a surrogate 5 mV wide, and room for float32, which resolves 4e-6 mV here; the upstroke, cut
    off at -40 mV, multiplies that by up to ten in a step."""
    neuron = AdEx(
        capacitance=between(250.0, 300.0, N),
        conductance=between(28.0, 32.0, N, 1),
        slope_factor=between(1.8, 2.2, N, 2),
        v_onset=between(-51.0, -49.0, N, 3),
        tau_w=between(20.0, 40.0, N, 4),
        a=between(3.0, 5.0, N, 5),
        b=between(20.0, 60.0, N, 6),
        v_reset=between(-72.0, -68.0, N, 7),
        v_rest=between(-71.0, -69.0, N, 8),
        v_threshold=-40.0,
        dt=0.5,
        surrogate=sg.atan(0.2),
    )
    start = {"v": drive(SIZE[1:], 2.0, -65.0, 5), "w": drive(SIZE[1:], 20.0, 0.0, 6)}
    assert not disagreements(
        neuron, adex, drive(SIZE, 1500.0, 1200.0), start, ts.atan_slope(0.2), margin=1e-3, tolerance=3e-5
    )


def period(neuron: Neuron, current: float, steps: int) -> float:
    """The last interspike interval under a constant current."""
    times = torch.nonzero(neuron(torch.full((steps, 1, 1), current, dtype=torch.float64)).flatten()).flatten()
    return neuron.dt * int(times[-1] - times[-2])


@pytest.mark.parametrize("current", [0.3, 0.5, 1.0, 4.0])
def test_quadratic_rate_against_current(current: float) -> None:
    """tau / sqrt(a J) [atan((v - v_c / 2) sqrt(a / J))] from v_reset to v_threshold, J = I - a v_c^2 / 4, v_rest = 0;
    with the ends far out the bracket is pi."""
    tau, a, critical, end = 10.0, 1.5, 0.6, 30.0
    neuron = QIF(tau, a, critical, end, -end, dt=0.005)
    excess = current - a * critical**2 / 4
    scale = math.sqrt(a / excess)
    closed = tau / math.sqrt(a * excess) * (math.atan((end - 0.3) * scale) - math.atan((-end - 0.3) * scale))
    found = period(neuron, current, round(3 * closed / 0.005) + 10)
    assert found == pytest.approx(closed, rel=0.01)
    assert found == pytest.approx(math.pi * tau / math.sqrt(a * excess), rel=0.01 + 2 / (math.pi * end * scale))


@pytest.mark.parametrize("current", [0.62, 0.8, 1.5, 6.0])
def test_exponential_rate_against_current(current: float) -> None:
    """The integral of tau dv / (v_rest - v + D exp((v - v_onset) / D) + I) from v_reset to v_threshold."""
    tau, sharp, onset, rest, reset, end = 10.0, 0.2, 0.8, 0.05, -0.2, 1.6
    assert current > onset - rest - sharp

    def pace(v: float) -> float:
        return tau / (rest - v + sharp * math.exp((v - onset) / sharp) + current)

    closed, _ = quad(pace, reset, end, points=[onset], epsabs=1e-10)
    neuron = EIF(tau, sharp, onset, end, reset, v_rest=rest, dt=0.002)
    assert period(neuron, current, round(3 * closed / 0.002) + 10) == pytest.approx(closed, rel=2e-3)


def test_exponential_rheobase() -> None:
    """I = v_onset - v_rest - D separates silence from firing without end; the last stable potential is v_onset."""
    tau, sharp, onset, rest = 5.0, 0.2, 0.8, 0.05
    rheobase = onset - rest - sharp
    x = (rheobase + torch.tensor([-1e-3, 1e-3], dtype=torch.float64)).expand(8000, 1, 2).contiguous()
    z, state = EIF(tau, sharp, onset, 1.6, -0.2, v_rest=rest).run(x)
    assert z.sum(0).flatten().tolist()[0] == 0
    assert z[6000:, 0, 1].sum() >= 2
    closed = brentq(lambda v: rest - v + sharp * math.exp((v - onset) / sharp) + rheobase - 1e-3, rest, onset)
    torch.testing.assert_close(state.v[0, 0].item(), closed, rtol=0, atol=1e-6)


ADEX = {"C": 281.0, "g": 30.0, "D": 2.0, "VT": -50.4, "E": -70.6, "tau_w": 144.0, "a": 4.0}  # the paper's table


def adex_rest(current: float) -> float:
    """The stable fixed point, from w = a (v - E) and the first equation."""
    c = SimpleNamespace(**ADEX)
    lowest = c.VT + c.D * math.log(1 + c.a / c.g)
    return brentq(
        lambda v: -(c.g + c.a) * (v - c.E) + c.g * c.D * math.exp((v - c.VT) / c.D) + current, c.E - 50, lowest
    )


def test_adaptive_exponential_fixed_point() -> None:
    currents = [-300.0, 0.0, 300.0, 500.0]
    x = torch.tensor(currents, dtype=torch.float64).expand(30000, 1, -1).contiguous()
    z, state = AdEx(dt=0.1).run(x)
    assert z.sum() == 0
    closed = torch.tensor([adex_rest(i) for i in currents], dtype=torch.float64)
    torch.testing.assert_close(state.v[0], closed, rtol=0, atol=1e-4)
    torch.testing.assert_close(state.w[0], 4 * (closed + 70.6), rtol=0, atol=1e-3)


def test_adaptive_exponential_loses_its_rest_at_the_hopf_point() -> None:
    """At v with g (exp((v - VT) / D) - 1) / C = 1 / tau_w a small deviation stops shrinking and grows."""
    c = SimpleNamespace(**ADEX)
    v = c.VT + c.D * math.log(1 + c.C / (c.g * c.tau_w))
    hopf = (c.g + c.a) * (v - c.E) - c.g * (c.C / c.g / c.tau_w + 1) * c.D
    for current, grows in ((hopf - 0.06, False), (hopf + 0.06, True)):  # 0.13 pA further on the fixed point is gone
        rest, neuron = adex_rest(current), AdEx(dt=0.1)
        x = torch.full((60000, 1, 1), current, dtype=torch.float64)
        start = neuron.State(*(torch.full((1, 1), s, dtype=torch.float64) for s in (rest + 0.01, c.a * (rest - c.E))))
        deviation = (neuron.trace(x, start)[1].v.flatten() - rest).abs()
        assert bool(deviation[-15000:].max() > 2 * deviation[:15000].max()) == grows
        assert bool(deviation[-15000:].max() < 0.5 * deviation[:15000].max()) != grows


def test_adaptive_exponential_adapts() -> None:
    """Intervals grow, and w after each spike is what its own equation carries over the interval, plus b."""
    x = torch.full((8000, 1, 1), 900.0, dtype=torch.float64)
    z, states = AdEx(dt=0.1).trace(x)
    times = torch.nonzero(z.flatten()).flatten()
    intervals = times.diff()
    assert (intervals.diff() >= -1).all()
    assert intervals[-1] > 1.3 * intervals[0]
    v, w = (s.flatten().numpy() for s in states)
    first, second = int(times[-2]), int(times[-1])
    rate = 0.1 / 144.0
    kernel = rate * (1 - rate) ** np.arange(second - first - 1, -1, -1)
    carried = (1 - rate) ** (second - first) * w[first] + (kernel * 4.0 * (v[first:second] + 70.6)).sum()
    assert w[second] == pytest.approx(carried + 80.5, rel=1e-6)


@pytest.mark.parametrize("neuron", [EIF(1.0, 0.01, v_threshold=5.0), AdEx()], ids=["EIF", "AdEx"])
def test_the_upstroke_stays_finite(neuron: Neuron) -> None:
    """Even from a state far beyond the cut-off, and so do its gradients."""
    x = torch.full((5, 1, 1), 100.0, requires_grad=True)
    start = neuron.State(*(torch.full((1, 1), 1e4) for _ in neuron.state))
    z, states = neuron.trace(x, start)
    (z.sum() + sum(s.sum() for s in states)).backward()
    assert z[0] == 1
    assert all(s.isfinite().all() for s in (x.grad, *states))


def test_bad_parameters() -> None:
    with pytest.raises(ArgumentError, match=r"EIF.slope_factor must lie between 0.0 and inf, got 0.0"):
        EIF(slope_factor=0.0)
    with pytest.raises(ArgumentError, match=r"AdEx.tau_w must lie"):
        AdEx(tau_w=-1.0)
