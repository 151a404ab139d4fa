"""The compiled loop against the plain one, and both against sums that are done by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from spikenet.kernels import use_backend
from spikenet.kernels.simulate.numba_loop import block_words
from spikenet.kernels.simulate.plan import BLOCK
from spikenet.kernels.simulate.poisson import guide, numbers, thresholds
from spikenet.neurons import CurrentLIF, Izhikevich, RefractoryLIF, StochasticLIF, SynapticLIF
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


def mixed(dtype: torch.dtype = torch.float32, threads: int = 1, weight_bits: int = 32, drawn: bool = True) -> Network:
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
    return Network(a, b, c, d, s, *parts, *monitors, seed=5, dtype=dtype, threads=threads, weight_bits=weight_bits)


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


@pytest.mark.parametrize(
    ("dtype", "weight_bits", "drawn"),
    [(torch.float32, 32, True), (torch.float64, 16, True), (torch.float32, 32, False)],
)
def test_compiled_equals_plain(dtype: torch.dtype, weight_bits: int, drawn: bool) -> None:
    """Spikes and states, to the last bit, on one thread and on two."""
    with use_backend("reference"):
        plain = mixed(dtype, 1, weight_bits, drawn)
    plain.run(9.0)
    assert all(len(steps) > 10 for steps, _ in trains(plain))
    for threads in (1, 2):
        fast = mixed(dtype, threads, weight_bits, drawn)
        assert fast.threads == threads
        fast.run(9.0)
        assert_same(fast, plain)
    assert all(
        torch.equal(fast.spike_counts(p), plain.spike_counts(q)) for p, q in zip(fast._cells, plain._cells, strict=True)
    )


@pytest.mark.parametrize("neuron", [Izhikevich, SynapticLIF], ids=lambda kind: kind.__name__)
def test_any_neuron_runs_as_in_a_layer(neuron: type) -> None:
    """Without synapses a population is the neuron's own scan over a constant input."""
    made = neuron(dt=0.5)
    current = {"Izhikevich": 8.0, "SynapticLIF": 2.0}[neuron.__name__]
    population = Population(3, made)
    monitor = SpikeMonitor(population)
    network = Network(population, ConstantInput(population, current), monitor)
    network.run(150.0)
    expected = made(torch.full((300, 1, 3), current))[:, 0]
    assert expected.sum() > 5
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
    assert (guide(table)[words >> np.uint64(20)] <= found).all()
    expected = stats.poisson.ppf((words + 0.5) / 2.0**32, mean)
    assert (found == expected).mean() > 0.9999
