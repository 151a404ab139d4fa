"""The compiled loop against the plain one, and both against sums that are done by hand."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
from scipy import stats

from spikenet.kernels import use_backend
from spikenet.kernels.dynamics.philox import draw
from spikenet.kernels.simulate import numba_backend
from spikenet.kernels.simulate.numba_loop import block_words
from spikenet.kernels.simulate.numba_trains import poisson_trains
from spikenet.kernels.simulate.plan import BLOCK
from spikenet.kernels.simulate.poisson import guide, numbers, thresholds
from spikenet.neurons import (
    IF,
    ConductanceLIF,
    CurrentLIF,
    Izhikevich,
    Neuron,
    RefractoryLIF,
    StochasticLIF,
    SynapticLIF,
)
from spikenet.simulate import (
    ConstantInput,
    FixedInDegree,
    FixedProbability,
    Network,
    NoiseInput,
    Normal,
    PoissonInput,
    PoissonSource,
    Population,
    Projection,
    SpikeMonitor,
    Uniform,
)


def mixed(threads: int = 1, drawn: bool = True) -> Network:
    """Several kinds of neurons, sizes that fill no block, every kind of drive, a source, drawn or constant synapses."""
    a = Population(1500, CurrentLIF(dt=0.1), state={"v": Uniform(-60.0, -50.0)}, name="a")
    b = Population(777, CurrentLIF(v_threshold=-51.0, dt=0.1), state={"v": Uniform(-60.0, -51.0)}, name="b")
    c = Population(1033, RefractoryLIF(2.0, 20.0, 20.0, decay_input=False, exact_decay=True, dt=0.1), name="c")
    d = Population(5, StochasticLIF(3.0, dt=0.1), name="d")
    s = PoissonSource(40, 200.0, name="s")
    weight = (lambda w: Normal(w, 0.2 * abs(w))) if drawn else (lambda w: w)
    delay = Uniform(0.2, 2.0) if drawn else 0.3
    parts = [
        Projection(a, b, FixedProbability(0.02), weight=weight(1.6), delay=delay, input="excitatory"),
        Projection(b, a, FixedInDegree(10), weight=weight(-9.0), delay=delay, input="inhibitory"),
        Projection(a, c, FixedProbability(0.05), weight=weight(0.5), delay=delay),
        Projection(c, c, FixedInDegree(7, multapses=False, autapses=False), weight=weight(-0.4), delay=delay),
        Projection(s, d, FixedProbability(0.5), weight=weight(0.7), delay=0.2),
        Projection(c, d, FixedInDegree(3), weight=weight(0.3), delay=0.4),
        PoissonInput(c, 8.0, 0.5, 500),
        PoissonInput(a, 5.0, 0.4, 10, input="excitatory"),
        ConstantInput(d, 0.4),
        NoiseInput(c, 0.3),
    ]
    monitors = [SpikeMonitor(p) for p in (a, b, c, d, s)]
    return Network(a, b, c, d, s, *parts, *monitors, seed=5, threads=threads)


def direct(threads: int = 1, drawn: bool = True) -> Network:
    """Neurons whose inputs only add to a state, the synapses' currents or conductances, which take what arrives
    themselves; sizes that fill no block, several spikes at a time at a neuron, every kind of drive, a source."""
    a = Population(1500, CurrentLIF(dt=0.1), state={"v": Uniform(-60.0, -50.0)}, name="a")
    b = Population(777, CurrentLIF(v_threshold=-51.0, dt=0.1), state={"v": Uniform(-60.0, -51.0)}, name="b")
    c = Population(1033, ConductanceLIF(dt=0.1), state={"v": Uniform(-60.0, -50.0), "g_e": 0.3}, name="c")
    s = PoissonSource(40, 400.0, name="s")
    weight = (lambda w: Normal(w, 0.2 * abs(w))) if drawn else (lambda w: w)
    delay = Uniform(0.1, 2.0) if drawn else 0.2
    parts = [
        Projection(a, b, FixedProbability(0.05), weight=weight(1.6), delay=delay, input="excitatory"),
        Projection(b, a, FixedInDegree(40), weight=weight(-9.0), delay=delay, input="inhibitory"),
        Projection(a, c, FixedProbability(0.05), weight=weight(0.2), delay=delay, input="excitatory"),
        Projection(c, b, FixedInDegree(7, multapses=False), weight=weight(0.4), delay=delay, input="excitatory"),
        Projection(s, c, FixedProbability(0.3), weight=weight(0.3), delay=0.2, input="inhibitory"),
        PoissonInput(c, 8.0, 0.05, 500, input="excitatory"),
        PoissonInput(a, 5.0, 0.4, 10, input="excitatory"),
        ConstantInput(b, -0.1, input="inhibitory"),
        NoiseInput(a, 0.3, input="excitatory"),
    ]
    return Network(a, b, c, s, *parts, *map(SpikeMonitor, (a, b, c, s)), seed=5, threads=threads)


def doubled(threads: int = 1) -> Network:
    """Float64, weights of 16 bits, one kind of neuron."""
    c = Population(1300, RefractoryLIF(2.0, 20.0, 20.0, decay_input=False, exact_decay=True, dt=0.1), name="c")
    drives = PoissonInput(c, 8.0, 0.5, 500), NoiseInput(c, 0.3)
    synapses = Projection(c, c, FixedInDegree(20), weight=Normal(-0.4, 0.1), delay=Uniform(0.1, 2.0))
    parts = c, synapses, *drives, SpikeMonitor(c)
    return Network(*parts, seed=6, dtype=torch.float64, threads=threads, weight_bits=16)


def trains(network: Network) -> list[tuple[torch.Tensor, torch.Tensor]]:
    return [(m.steps, m.neurons) for m in network.monitors if isinstance(m, SpikeMonitor)]


def assert_same(one: Network, other: Network) -> None:
    for (steps, neurons), (steps_, neurons_) in zip(trains(one), trains(other), strict=True):
        assert torch.equal(steps, steps_)
        assert torch.equal(neurons, neurons_)
    for population, population_ in zip(one.populations, other.populations, strict=True):
        for name, value in one.state(population).items():
            rtol = 1e-12 if value.dtype == torch.float64 else 0.0  # normal numbers in float64 are equal to rounding
            torch.testing.assert_close(value, other.state(population_)[name], rtol=rtol, atol=rtol)


@pytest.mark.parametrize("make", [mixed, partial(mixed, drawn=False), doubled, direct, partial(direct, drawn=False)])
def test_compiled_equals_plain(make: Callable[..., Network]) -> None:
    """Spikes and states, to the last bit, on one thread and on two."""
    with use_backend("reference"):
        plain = make()
    plain.run(9.0)
    assert all(len(steps) > 10 for steps, _ in trains(plain))
    for threads in (1, 2):
        fast = make(threads=threads)
        assert fast.threads == threads
        fast.run(9.0)
        assert_same(fast, plain)
    counts = zip(fast._cells, plain._cells, strict=True)
    assert all(torch.equal(fast.spike_counts(p), plain.spike_counts(q)) for p, q in counts)


KINDS = {name: torch.tensor([kind[name] for kind in Izhikevich.kinds.values()]) for name in "abcd"}


@pytest.mark.parametrize("neuron", [Izhikevich(**KINDS, dt=0.5), SynapticLIF(dt=0.5)], ids=lambda n: type(n).__name__)
def test_any_neuron_runs_as_in_a_layer(neuron: Neuron) -> None:
    """Without synapses a population is the neuron's own scan over a constant input."""
    n, current = len(Izhikevich.kinds), 8.0
    population = Population(n, neuron)
    monitor = SpikeMonitor(population)
    Network(population, ConstantInput(population, current), monitor).run(150.0)
    expected = neuron(torch.full((300, 1, n), current))[:, 0]
    assert expected.sum() > 20
    assert torch.equal(monitor.events(300).to_dense()[:, 0], expected)


def test_words_of_a_block_are_philox_s() -> None:
    """Against the known answers of Random123 for a counter and a key of zeros."""
    words = np.zeros(BLOCK, np.uint32)
    block_words(0, 0, 0, words)
    known = [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]
    assert [int(words[k * BLOCK // 4]) for k in range(4)] == known


@pytest.mark.parametrize("mean", [0.0, 1e-6, 0.03, 1.0, 7.5, 300.0])
def test_poisson_numbers(mean: float) -> None:
    """The table is the distribution function, and its guide never points past the number."""
    table = thresholds(mean)
    k = np.arange(len(table) - 1)
    np.testing.assert_allclose(table[:-1] / 2.0**32, stats.poisson.cdf(k, mean), rtol=0, atol=2**-32 + 1e-12)
    words = np.random.default_rng(0).integers(1 << 32, size=20_000, dtype=np.uint64)
    found = numbers(table, words)
    guided = guide(table)[words >> np.uint64(20)]
    assert (guided[guided >= 0] == found[guided >= 0]).all()
    assert (-1 - guided[guided < 0] <= found[guided < 0]).all()
    expected = stats.poisson.ppf((words + 0.5) / 2.0**32, mean)
    assert (found == expected).mean() > 0.9999


@pytest.mark.parametrize("threads", [1, 2])
def test_no_spike_is_lost_where_room_runs_out(threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every neuron fires at every step, which is more than one call can write down."""
    monkeypatch.setattr(numba_backend, "CAPACITY", 0)
    cells = Population(2100, IF(0.5))
    monitor = SpikeMonitor(cells)
    Network(cells, ConstantInput(cells, 1.0), monitor, threads=threads).run(20.0)
    assert torch.equal(monitor.steps, torch.arange(20).repeat_interleave(2100))
    assert torch.equal(monitor.neurons, torch.arange(2100).repeat(20))


def test_poisson_trains_are_philox_s_draws() -> None:
    """Against the plain draws, whatever the chances, in one piece or two, where the first room does not do either."""
    chances = np.array([0.0, 1.0, 0.02, 0.5, *np.linspace(0.0, 0.1, 70)])
    indptr, neurons = poisson_trains(11, 1 << 33, 60, chances)
    steps, lanes = torch.arange(1 << 33, (1 << 33) + 60)[:, None], torch.arange(len(chances))[None]
    u = draw("uniform", torch.tensor(11), steps, lanes, 0, torch.float64)
    step, neuron = (u < torch.from_numpy(chances)).nonzero(as_tuple=True)
    assert np.array_equal(neurons, neuron.numpy())
    assert np.array_equal(np.repeat(np.arange(60), np.diff(indptr)), step.numpy())
    begin, rest = poisson_trains(11, 1 << 33, 25, chances), poisson_trains(11, (1 << 33) + 25, 35, chances)
    assert np.array_equal(np.concatenate([begin[1], rest[1]]), neurons)
    full, everyone = poisson_trains(5, 0, 50, np.ones(3))
    assert len(everyone) == full[-1] == 150
