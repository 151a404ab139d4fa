"""The Izhikevich neuron against the published script, its spike counts, and its bifurcations in closed form."""

from __future__ import annotations

import math
from collections.abc import Iterator
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor

from spikenet.errors import UnknownNameError
from spikenet.neurons import Izhikevich
from spikenet.neurons import surrogate as sg
from tests.neurons import transcription as ts
from tests.neurons.margin import between, disagreements, drive

SIZE = (80, 4, 13)
N = SIZE[2:]
# Spikes in 1000 steps of the script under I = 10 and where RS fires first, found with a separate transcription. The
# model magnifies rounding: they hold for 0.04 v v + 5 v + 140 - u + I worked out from left to right, while v v first
# gives 20, 28, 43, 65, 66, 78, 46.
COUNTS = {"RS": 20, "IB": 27, "CH": 43, "FS": 63, "TC": 67, "RZ": 80, "LTS": 44}
FIRST = [5, 32, 80, 142, 196, 244]


@pytest.fixture
def in_double() -> Iterator[None]:
    """Parameters given as numbers are held in the default dtype; the script's are float64."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def simple_model(s: SimpleNamespace, x: Tensor, p: SimpleNamespace, fire: ts.Fire) -> dict[str, Tensor]:
    v = s.v + 0.5 * (0.04 * s.v**2 + 5 * s.v + 140 - s.u + x)
    v = v + 0.5 * (0.04 * v**2 + 5 * v + 140 - s.u + x)
    u = s.u + p.a * (p.b * v - s.u)
    z = fire(v - p.v_threshold)
    return {"v": (1 - z) * v + z * p.c, "u": u + z * p.d}


def heterogeneous() -> Izhikevich:
    return Izhikevich(
        between(0.02, 0.1, N),
        between(0.2, 0.25, N, 1),
        between(-65.0, -50.0, N, 2),
        between(2.0, 8.0, N, 3),
        v_threshold=between(25.0, 35.0, N, 4),
        surrogate=sg.atan(0.1),
    )


START = {"v": drive(SIZE[1:], 3.0, -65.0, 5), "u": drive(SIZE[1:], 1.0, -13.0, 6)}


def test_spikes_and_every_gradient_in_double() -> None:
    start = {name: value.double() for name, value in START.items()}
    x = drive(SIZE, 5.0, 10.0).double()
    assert not disagreements(
        heterogeneous().double(), simple_model, x, start, ts.atan_slope(0.1), margin=1e-9, tolerance=1e-9
    )


def test_spikes_and_every_gradient_in_single() -> None:
    """Over a few spikes only: every upstroke magnifies what float32 rounds, 4e-6 mV at -65 mV, some hundred times."""
    assert not disagreements(
        heterogeneous(),
        simple_model,
        drive(SIZE, 5.0, 10.0)[:25],
        START,
        ts.atan_slope(0.1),
        margin=1e-3,
        tolerance=1e-3,
    )


def listed_steps(spikes: Tensor) -> list[int]:
    """Where the script would list these spikes [T]: it finds one at the start of the next step, and counts from 1."""
    return (torch.nonzero(spikes).flatten() + 2).tolist()


@pytest.mark.parametrize("kind", COUNTS)
def test_spike_counts_of_the_published_kinds(kind: str, in_double: None) -> None:
    """1000 steps of the script hold what 999 leave."""
    steps = listed_steps(Izhikevich.of_kind(kind)(torch.full((999, 1, 1), 10.0)).flatten())
    assert len(steps) == COUNTS[kind]
    assert steps[0] == 5
    if kind == "RS":
        assert steps[:6] == FIRST


@pytest.mark.parametrize("kind", COUNTS)
def test_float32_keeps_the_rate(kind: str, in_double: None) -> None:
    """Single spikes move as rounding grows, so 300 neurons with a little noise are compared by their mean rate."""
    x = 10 + torch.randn(999, 300, 1, generator=torch.Generator().manual_seed(0))
    exact, single = (Izhikevich.of_kind(kind)(x.to(d)).sum(0).double() for d in (torch.float64, torch.float32))
    standard_error = math.sqrt((exact.var() + single.var()) / 300)
    assert standard_error < 0.01 * exact.mean()
    assert abs(exact.mean() - single.mean()) <= 3 * standard_error


def test_chattering_fires_in_bursts(in_double: None) -> None:
    steps = listed_steps(Izhikevich.of_kind("CH")(torch.full((999, 1, 1), 10.0)).flatten())
    intervals = np.diff(steps)
    assert (intervals < 8).any()
    assert (intervals > 20).any()
    assert not ((intervals >= 8) & (intervals <= 20)).any()


def test_unknown_kind_names_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'LTS'"):
        Izhikevich.of_kind("LT")


# Rest and its loss, in closed form.


@pytest.mark.parametrize("kind", COUNTS)
def test_rest(kind: str, in_double: None) -> None:
    """v* = (-(5 - b) - sqrt((5 - b)^2 - 22.4)) / 0.08, u* = b v*."""
    b = Izhikevich.kinds[kind]["b"]
    rest = (-(5 - b) - math.sqrt((5 - b) ** 2 - 22.4)) / 0.08
    assert rest == pytest.approx({0.2: -70.0, 0.25: -64.4139, 0.26: -62.5}[b], abs=1e-4)
    z, state = Izhikevich.of_kind(kind, v_start=rest + 0.3).run(torch.zeros(4000, 1, 1))
    assert z.sum() == 0
    assert state.v.item() == pytest.approx(rest, abs=1e-6)
    assert state.u.item() == pytest.approx(b * rest, abs=1e-6)


def rest_at(current: float, b: float) -> float:
    return (-(5 - b) - math.sqrt((5 - b) ** 2 - 0.16 * (140 + current))) / 0.08


HOPF = {"RS": 3.7975, "FS": 3.9375, "TC": 0.6850, "RZ": 0.2625}


@pytest.mark.parametrize("kind", HOPF)
def test_rest_turns_unstable_at_the_hopf_point(kind: str, in_double: None) -> None:
    """Continuous time: at v = (a - 5) / 0.08 a small deviation stops shrinking and grows."""
    p = SimpleNamespace(**Izhikevich.kinds[kind])
    v = (p.a - 5) / 0.08
    current = -(0.04 * v**2 + (5 - p.b) * v + 140)
    assert current == pytest.approx(HOPF[kind], abs=1e-4)
    for side, grows in ((-0.01, False), (0.01, True)):
        rest = rest_at(current + side, p.b)
        neuron = Izhikevich.of_kind(kind, dt=0.02)
        start = neuron.State(torch.full((1, 1), rest + 1e-4), torch.full((1, 1), p.b * rest))
        _, states = neuron.trace(torch.full((60000, 1, 1), current + side), start)
        deviation = (states.v.flatten() - rest).abs()
        early, late = deviation[:20000].max(), deviation[-20000:].max()
        assert (late > 1.5 * early) if grows else (late < early / 1.5)


def test_rest_vanishes_at_the_saddle_node(in_double: None) -> None:
    """I = (5 - b)^2 / 0.16 - 140, reached before the Hopf point where a > b."""
    a, b = 0.3, 0.2
    current = (5 - b) ** 2 / 0.16 - 140
    assert current == pytest.approx(4.0)
    x = (current + torch.tensor([-0.01, 0.01])).expand(20000, 1, 2).contiguous()
    z, state = Izhikevich(a, b, v_start=-60.0).run(x)
    still, firing = z.sum(0).flatten().tolist()
    assert still == 0
    assert firing > 5
    assert state.v[0, 0].item() == pytest.approx(rest_at(current - 0.01, b), abs=1e-6)


# The script's network.


def network(seed: int) -> tuple[SimpleNamespace, np.ndarray, np.ndarray]:
    """Its 800 excitatory and 200 inhibitory neurons, its weights and its thalamic input [1000, neurons]."""
    draws = np.random.RandomState(seed)
    re, ri = draws.rand(800), draws.rand(200)
    a = np.concatenate([np.full(800, 0.02), 0.02 + 0.08 * ri])
    b = np.concatenate([np.full(800, 0.2), 0.25 - 0.05 * ri])
    c = np.concatenate([-65 + 15 * re**2, np.full(200, -65.0)])
    d = np.concatenate([8 - 6 * re**2, np.full(200, 2.0)])
    weights = np.concatenate([0.5 * draws.rand(1000, 800), -draws.rand(1000, 200)], 1)
    thalamic = draws.randn(1000, 1000) * np.concatenate([np.full(800, 5.0), np.full(200, 2.0)])
    return SimpleNamespace(a=a, b=b, c=c, d=d), weights, thalamic


def run_script(p: SimpleNamespace, weights: np.ndarray, thalamic: np.ndarray) -> np.ndarray:
    """The script's loop: the spikes that it lists at each step."""
    v, listed = np.full(1000, -65.0), []
    u = p.b * v
    for current in thalamic:
        fired = v >= 30
        listed.append(fired)
        v, u = np.where(fired, p.c, v), np.where(fired, u + p.d, u)
        current = current + weights[:, fired].sum(1)
        for _ in range(2):
            v = v + 0.5 * (0.04 * v * v + 5 * v + 140 - u + current)
        u = u + p.a * (p.b * v - u)
    return np.stack(listed)


def run_ours(p: SimpleNamespace, weights: np.ndarray, thalamic: np.ndarray) -> np.ndarray:
    neuron = Izhikevich(**{n: torch.from_numpy(v) for n, v in vars(p).items()})
    fired, state, listed = np.zeros(1000, bool), None, []
    for current in thalamic:
        listed.append(fired)
        x = torch.from_numpy(current + weights[:, fired].sum(1))
        z, state = neuron.step(x[None], state)
        fired = z[0].numpy() > 0
    return np.stack(listed)


def test_the_published_network(in_double: None) -> None:
    """Over five seeds the script gave 7.68 +- 0.12 and 7.31 +- 0.18 Hz and 7606 +- 128 spikes: other seeds' means lie
    within four standard errors of the difference of two such means."""
    runs = [run_ours(*network(seed)) for seed in range(5)]
    excitatory, inhibitory = (np.array([r[:, part].mean() * 1000 for r in runs]) for part in (np.s_[:800], np.s_[800:]))
    assert ((excitatory > 7) & (excitatory < 8.5)).all()
    total = np.array([r.sum() for r in runs])
    for found, mean, deviation in ((excitatory, 7.68, 0.12), (inhibitory, 7.31, 0.18), (total, 7606, 128)):
        assert abs(found.mean() - mean) <= 4 * deviation * math.sqrt(2 / 5)
    assert np.array_equal(runs[0], run_script(*network(0)))
