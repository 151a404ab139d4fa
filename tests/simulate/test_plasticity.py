"""Projections that learn while a network runs: against dense weights, on every engine, and resumed."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from spikenet.errors import ArgumentError, BackendError, FormatError
from spikenet.events import EventTensor
from spikenet.kernels import use_backend
from spikenet.learning import STDP, DiehlCookSTDP, RewardSTDP, SpikeRule, TargetSTDP, ThreeFactor, TripletSTDP
from spikenet.neurons import LIF, ConductanceLIF, Neuron, SynapticLIF
from spikenet.simulate import (
    AllToAll,
    FixedProbability,
    Network,
    OneToOne,
    Pairs,
    PoissonSource,
    Population,
    Projection,
    RateMonitor,
    SpikeMonitor,
    SpikeSource,
    Uniform,
    WeightMonitor,
)

PAIR = STDP(a_plus=0.05, a_minus=0.03)
RULES = {
    "pair": PAIR,
    "nearest": STDP(a_plus=0.05, a_minus=0.03, nearest=True),
    "soft": STDP(a_plus=0.1, a_minus=0.1, mu_plus=1.0, mu_minus=1.0),
    "triplet": TripletSTDP(a2_plus=0.01, a3_minus=5e-3),
    "diehl_cook": DiehlCookSTDP(nu_pre=0.01, nu_post=0.1),
    "target": TargetSTDP(eta=0.05),
    "third": ThreeFactor(rule=PAIR, tau_eligibility=30.0, tau_modulator=10.0, lr=0.1),
}
POWERS = STDP(a_plus=0.1, a_minus=0.1, mu_plus=0.4, mu_minus=0.5)  # rounded differently by every library
DT = 0.5


AT_ONCE = LIF(tau=10.0, decay_input=False, dt=DT)
THROUGH_CURRENTS = SynapticLIF(
    tau=10.0, tau_syn=3.0, resistance=5.0, v_rest=0.0, v_reset=0.0, v_threshold=1.0, refractory=1.0, dt=DT
)


def recurrent(rule: SpikeRule | ThreeFactor, threads: int = 1, seed: int = 3, neuron: Neuron = AT_ONCE) -> Network:
    """A source drives b, b and c drive each other; the synapses onto b and onto c learn, some of b's do not. Two
    populations of one kind and two blocks of neurons, so that threads share them."""
    a, b, c = PoissonSource(20, 40.0, name="a"), Population(30, neuron, name="b"), Population(1100, neuron, name="c")
    parts = [
        Projection(a, b, FixedProbability(0.5), weight=Uniform(0.1, 0.7), delay=Uniform(0.5, 3.0), plasticity=rule),
        Projection(b, c, FixedProbability(0.3), weight=0.4, delay=1.5, plasticity=rule),
        Projection(c, b, FixedProbability(0.01), weight=0.03, delay=1.0),
    ]
    monitors = [*(SpikeMonitor(cells) for cells in (a, b, c)), WeightMonitor(parts[0], interval=10.0)]
    return Network(a, b, c, *parts, *monitors, seed=seed, threads=threads)


def rewarded(network: Network, first: float, second: float) -> None:
    """Run for a while, with a third factor in between if there is one."""
    network.run(first)
    if isinstance(network.projections[0].plasticity, ThreeFactor):
        network.modulate(network.projections[0], 1.0)
        network.modulate(network.projections[1], -0.5)
    network.run(second)


def outcome(network: Network) -> list[Tensor]:
    """Spikes and weights."""
    spikes = [v for m in network.monitors if isinstance(m, SpikeMonitor) for v in (m.steps, m.neurons)]
    return [*spikes, *(network.weights(p) for p in network.projections[:2]), network.monitors[3].weights]  # type: ignore[attr-defined]


CASES = {**{name: (rule, AT_ONCE) for name, rule in RULES.items()}, "currents": (RULES["triplet"], THROUGH_CURRENTS)}


@pytest.mark.parametrize(("rule", "neuron"), CASES.values(), ids=CASES)
def test_compiled_equals_plain(rule: SpikeRule | ThreeFactor, neuron: Neuron) -> None:
    """Spikes and weights to the last bit, on one thread and on two; and the weights have changed."""
    with use_backend("reference"):
        plain = recurrent(rule, neuron=neuron)
    rewarded(plain, 12.0, 15.0)
    before = plain.synapses(plain.projections[0]).weight.float()
    assert float((plain.weights(plain.projections[0]) - before).abs().max()) > 0.01
    for threads in (1, 2):
        fast = recurrent(rule, threads, neuron=neuron)
        assert fast.threads == threads
        rewarded(fast, 12.0, 15.0)
        for found, expected in zip(outcome(fast), outcome(plain), strict=True):
            assert torch.equal(found, expected)


def trains(monitor: SpikeMonitor, steps: int) -> Tensor:
    return monitor.events(steps).to_dense(torch.float64)[:, 0]


@pytest.mark.parametrize("rule", [*RULES.values(), POWERS], ids=[*RULES, "powers"])
def test_a_sparse_projection_learns_what_dense_weights_learn(rule: SpikeRule | ThreeFactor) -> None:
    """The same spikes, each synapse a column of its own that hears its neuron's train later by the synapse's delay."""
    network = recurrent(rule)
    rewarded(network, 20.0, 30.0)
    steps = round(50.0 / DT)
    for number in (0, 1):
        projection = network.projections[number]
        table = network.synapses(projection)
        pre, post = (trains(network.monitors[number + k], steps) for k in (0, 1))  # type: ignore[arg-type]
        some = torch.arange(0, len(table.pre), max(1, len(table.pre) // 150))
        late = (table.delay[some] / DT).round().long()
        heard = torch.zeros(steps, 1, len(some), dtype=torch.float64)
        for e, (synapse, d) in enumerate(zip(some.tolist(), late.tolist(), strict=True)):
            heard[d:, 0, e] = pre[: steps - d, table.pre[synapse]]
        neurons = table.post[some].unique()
        weight = table.weight[some].expand(len(neurons), -1).clone()
        given = post[:, None, neurons]
        if isinstance(rule, ThreeFactor):
            paced = ThreeFactor(
                rule=STDP(a_plus=0.05, a_minus=0.03, dt=DT), tau_eligibility=30.0, tau_modulator=10.0, lr=0.1
            )
            m = torch.zeros(steps, 1, dtype=torch.float64)
            m[round(20.0 / DT)] = (1.0, -0.5)[number]
            state = paced.run(heard, given, weight, m)
            mine = state.eligibility[0][torch.searchsorted(neurons, table.post[some]), torch.arange(len(some))]
            torch.testing.assert_close(network.eligibility(projection)[some].double(), mine, rtol=1e-4, atol=1e-6)
        else:
            type(rule)(**{**vars(rule), "dt": DT}).run(heard, given, weight)
        mine = weight[torch.searchsorted(neurons, table.post[some]), torch.arange(len(some))]
        torch.testing.assert_close(network.weights(projection)[some].double(), mine, rtol=1e-4, atol=1e-6)
        assert float((mine - table.weight[some]).abs().max()) > 0.01


@pytest.mark.parametrize("rule", [RULES["triplet"], RULES["third"]], ids=["triplet", "third"])
def test_a_killed_run_resumes_to_the_same_spikes_and_weights(tmp_path: Path, rule: SpikeRule | ThreeFactor) -> None:
    """From the last snapshot of a run that was killed later, with another number of threads, traces and all."""
    path = tmp_path / "network.safetensors"
    whole, killed = recurrent(rule), recurrent(rule, threads=2)
    rewarded(whole, 12.0, 25.0)
    rewarded(killed, 12.0, 8.0)
    killed.save(path)
    killed.run(11.0)  # lost
    resumed = recurrent(rule)
    resumed.load(path)
    resumed.run(17.0)
    for found, expected in zip(outcome(resumed), outcome(whole), strict=True):
        assert torch.equal(found, expected)
    with pytest.raises(FormatError, match="another network"):
        recurrent(STDP(a_plus=0.06)).load(path)


def test_one_pair_and_its_delay() -> None:
    """Two spikes of given neurons: incoming at its arrival, outgoing when the neuron it drives spikes; delays shift the
    window."""
    for delay in (0.5, 2.0, 7.5):
        for lag in (-3.0, 0.0, 4.5):
            made = pair_of_spikes(delay, 20.0 + delay + lag)
            expected = 0.1 * math.exp(-lag / 20.0) if lag >= 0 else -0.2 * math.exp(lag / 20.0)
            assert made == pytest.approx(expected, rel=1e-5, abs=1e-6)


def pair_of_spikes(delay: float, when: float) -> float:
    """The change of a weight by a spike of its source at 20 ms and one of its neuron at `when`."""
    train = torch.zeros(160, 1, 2)
    train[round(20.0 / DT), 0, 0] = 1.0
    train[round(when / DT) - 1, 0, 1] = 1.0
    source = SpikeSource(EventTensor.from_dense(train))
    cell = Population(1, LIF(tau=10.0, decay_input=False, dt=DT))
    rule = STDP(a_plus=0.1, a_minus=0.2)
    learns = Projection(
        source, cell, Pairs(torch.tensor([0]), torch.tensor([0])), weight=0.5, delay=delay, plasticity=rule
    )
    drives = Projection(source, cell, Pairs(torch.tensor([1]), torch.tensor([0])), weight=2.0, delay=DT)
    network = Network(source, cell, learns, drives)
    network.run(80.0)
    assert int(network.spike_counts(cell)) == 1
    return float(network.weights(learns)) - 0.5


def test_a_reward_reaches_waiting_synapses() -> None:
    """A pair, and a reward T later: c0 d0 exp(-T/tau_c) / (1/tau_c + 1/tau_d), within what steps differ from an
    integral."""
    train = torch.zeros(2, 1, 1)
    train[0] = 1.0
    source, cell = SpikeSource(EventTensor.from_dense(train)), Population(1, LIF(tau=10.0, dt=DT, decay_input=False))
    rule = RewardSTDP(rule=STDP(a_plus=0.1, w_max=10.0), tau_eligibility=500.0, tau_modulator=100.0, lr=1e-3)
    projection = Projection(source, cell, OneToOne(), weight=2.0, delay=DT, plasticity=rule)
    network = Network(source, cell, projection)
    network.run(200.0)
    assert float(network.weights(projection)) == 2.0
    network.modulate(projection, 3.0)
    network.run(2000.0)
    expected = 1e-3 * 0.1 * 3.0 * math.exp(-200.0 / 500.0) / (1 / 500.0 + 1 / 100.0)
    assert float(network.weights(projection)) - 2.0 == pytest.approx(expected, rel=0.01)


def test_weights_drive_what_follows() -> None:
    """A neuron whose weight has grown fires where it did not before."""
    source = PoissonSource(1, 100.0)
    cell = Population(1, LIF(tau=2.0, decay_input=False, dt=DT))
    rule = TargetSTDP(eta=0.0, mu=0.0)
    grows = STDP(a_plus=0.5, a_minus=0.0, w_max=5.0)
    counts = []
    for chosen in (rule, grows):
        pair = Projection(source, cell, OneToOne(), weight=0.7, delay=DT, plasticity=chosen)
        network = Network(source, cell, pair, seed=1)
        network.run(4000.0)
        counts.append((int(network.spike_counts(cell)), int(network.spike_counts(source))))
    assert counts[1][0] > 0.9 * counts[1][1] > 2 * counts[0][0] > 0


def test_refusals() -> None:
    source, cell = PoissonSource(4, 10.0), Population(4, LIF(dt=DT))
    with pytest.raises(ArgumentError, match="SpikeRule or a ThreeFactor"):
        Projection(source, cell, OneToOne(), weight=0.5, delay=DT, plasticity=0.1)  # type: ignore[arg-type]
    outside = Projection(source, cell, OneToOne(), weight=Uniform(0.0, 2.0), delay=DT, plasticity=PAIR)
    with pytest.raises(ArgumentError, match="keeps weights from 0 to 1"):
        Network(source, cell, outside)
    learns = Projection(source, cell, OneToOne(), weight=0.5, delay=DT, plasticity=PAIR)
    fixed = Projection(source, cell, OneToOne(), weight=0.5, delay=DT)
    with pytest.raises(ArgumentError, match="cannot learn"):
        Network(source, cell, learns, weight_bits=16)
    with pytest.raises(ArgumentError, match="do not change"):
        WeightMonitor(fixed)
    with pytest.raises(ArgumentError, match="synapses 0 to 3"):
        Network(source, cell, learns, WeightMonitor(learns, [4]))
    with pytest.raises(ArgumentError, match="shorter than a step"):
        Network(source, cell, learns, WeightMonitor(learns, interval=0.1))
    network = Network(source, cell, learns, fixed)
    with pytest.raises(ArgumentError, match="no projection of this network"):
        network.weights(fixed)
    with pytest.raises(ArgumentError, match="no ThreeFactor"):
        network.modulate(learns, 1.0)


def test_the_engine_of_the_gpu_says_that_it_does_not_learn() -> None:
    pytest.importorskip("triton")
    with use_backend("triton"), pytest.raises(BackendError, match="projections that learn"):
        recurrent(PAIR)


def poisson(n: int, rate: float, steps: int, dt: float, seed: int) -> SpikeSource:
    """Poisson trains of `n` neurons at `rate` Hz."""
    rng = np.random.default_rng(seed)
    flat = np.unique(rng.integers(0, steps * n, rng.poisson(steps * n * rate * dt / 1000.0)))
    indptr = torch.from_numpy(np.searchsorted(flat, np.arange(steps + 1) * n))
    indices = torch.from_numpy((flat % n).astype(np.int32))
    return SpikeSource(EventTensor(indptr, indices, torch.ones(len(flat)), (steps, 1, n)))


@pytest.mark.slow
def test_competition_splits_the_weights_and_tames_the_rate() -> None:
    """One neuron, 1000 Poisson inputs of 15 Hz, 200 inhibitory ones of 10 Hz, after Song, Miller and Abbott (2000):
    weights drift to the two bounds, and a high rate comes down. In steps of 0.1 ms, as the pairs of one step
    count as potentiation."""
    dt, seconds, g = 0.1, 250.0, 0.015
    steps = round(seconds * 1000.0 / dt)
    neuron = ConductanceLIF(
        tau=20.0, v_rest=-70.0, v_threshold=-54.0, v_reset=-60.0, reversal_i=-70.0, tau_i=5.0, refractory=dt, dt=dt
    )
    cell = Population(1, neuron)
    excitatory, inhibitory = poisson(1000, 15.0, steps, dt, 0), poisson(200, 10.0, steps, dt, 1)
    rule = STDP(a_plus=0.02 * g, a_minus=0.021 * g, w_max=g)
    learns = Projection(
        excitatory, cell, AllToAll(), weight=Uniform(0.0, g), delay=dt, input="excitatory", plasticity=rule
    )
    inhibits = Projection(inhibitory, cell, AllToAll(), weight=0.05, delay=dt, input="inhibitory")
    rate = RateMonitor(cell, 1000.0)
    network = Network(cell, excitatory, inhibitory, learns, inhibits, rate)
    network.run(seconds * 1000.0)
    counts = torch.histc(network.weights(learns) / g, 10, 0.0, 1.0)
    middle = counts[3:8].min()
    assert counts[0] > 3 * middle
    assert counts[9] > 1.5 * middle
    assert rate.rates[-20:].mean() < 0.5 * rate.rates[:5].mean()
