"""Networks against what can be said of them on paper: arrival times, sums, statistics of drives, resuming, refusals."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats

from spikenet.errors import ArgumentError, DtypeError, FormatError, ShapeError, UnknownNameError
from spikenet.events import EventStream, EventTensor, Sensor
from spikenet.neurons import IF, LIF, CurrentLIF, LeakyReadout, SynapticLIF
from spikenet.simulate import (
    AllToAll,
    FixedProbability,
    Network,
    NoiseInput,
    Normal,
    OneToOne,
    Pairs,
    PoissonInput,
    PoissonSource,
    Population,
    Projection,
    RateMonitor,
    SpikeMonitor,
    SpikeSource,
    StateMonitor,
    Uniform,
)

NEVER = 1e9


def one_spike(step: int, neurons: int = 1) -> SpikeSource:
    dense = torch.zeros(step + 1, 1, neurons)
    dense[step] = 1.0
    return SpikeSource(EventTensor.from_dense(dense))


@pytest.mark.parametrize("delay", [1, 2, 7, 300])
def test_a_spike_arrives_after_its_delay(delay: int) -> None:
    source, cell = one_spike(3), Population(1, IF(NEVER))
    trace = StateMonitor(cell, ["v"])
    Network(source, cell, Projection(source, cell, OneToOne(), weight=2.5, delay=float(delay)), trace).run(320.0)
    v = trace["v"][:, 0]
    assert v[: 3 + delay].eq(0).all()
    assert v[3 + delay :].eq(2.5).all()


def test_a_synaptic_current_follows_its_closed_form() -> None:
    """v = r w tau_s / (tau - tau_s) (exp(-t / tau) - exp(-t / tau_s)), t from the step of arrival on."""
    tau, tau_syn, dt, w = 20.0, 5.0, 0.5, 3.0
    source = one_spike(0)
    cell = Population(1, SynapticLIF(tau=tau, tau_syn=tau_syn, v_rest=0.0, v_threshold=NEVER, resistance=2.0, dt=dt))
    trace = StateMonitor(cell, ["v"])
    Network(source, cell, Projection(source, cell, OneToOne(), weight=w, delay=dt), trace).run(60.0)
    t = torch.arange(119, dtype=torch.float64) * dt
    expected = 2.0 * w * tau_syn / (tau - tau_syn) * (torch.exp(-t / tau) - torch.exp(-t / tau_syn))
    torch.testing.assert_close(trace["v"][1:, 0].double(), expected, rtol=2e-5, atol=1e-6)


def test_weights_add_up_as_a_matrix_product() -> None:
    rng = np.random.default_rng(1)
    matrix = torch.from_numpy(rng.integers(-8, 9, (30, 50)) * (rng.random((30, 50)) < 0.3)).double()
    pre, post = matrix.nonzero(as_tuple=True)
    steps = torch.from_numpy(rng.integers(1, 9, len(pre)))
    spikes = torch.from_numpy(rng.random((40, 30)) < 0.2).double()
    source, cells = SpikeSource(EventTensor.from_dense(spikes[:, None])), Population(50, IF(NEVER))
    projection = Projection(source, cells, Pairs(pre, post), weight=matrix[pre, post], delay=steps.double())
    trace = StateMonitor(cells, ["v"])
    network = Network(source, cells, projection, trace)
    network.run(60.0)
    expected = torch.zeros(60, 50, dtype=torch.float64)
    for i, j, d in zip(pre, post, steps, strict=True):
        expected[d : 40 + d, j] += spikes[:, i] * matrix[i, j]
    assert torch.equal(trace["v"].double(), expected.cumsum(0))
    table = network.synapses(projection)
    assert torch.equal(table.pre, pre)
    assert torch.equal(table.weight, matrix[pre, post])
    assert torch.equal(table.delay, steps.double())


def test_several_spikes_of_one_neuron_in_a_step_all_arrive() -> None:
    dense = torch.tensor([0.0, 3.0, 1.0]).view(3, 1, 1)
    source, cell = SpikeSource(EventTensor.from_dense(dense)), Population(1, IF(NEVER))
    monitor = SpikeMonitor(source)
    network = Network(source, cell, Projection(source, cell, OneToOne(), weight=1.0, delay=1.0), monitor)
    network.run(10.0)
    assert network.state(cell)["v"].item() == 4.0
    assert monitor.steps.tolist() == [1, 1, 1, 2]


def test_a_recording_drives_a_network_at_its_times() -> None:
    stream = EventStream.from_numpy(np.array([1_000_050, 1_000_250, 1_000_990]), np.array([0, 1, 1]), sensor=Sensor(2))
    source, cells = SpikeSource(stream, start=1_000_000), Population(2, SynapticLIF(dt=0.1))
    monitor = SpikeMonitor(source)
    Network(source, cells, Projection(source, cells, OneToOne(), weight=1.0, delay=0.1), monitor).run(2.0)
    assert monitor.steps.tolist() == [0, 2, 9]
    assert monitor.neurons.tolist() == [0, 1, 1]


def test_poisson_input_has_poisson_statistics() -> None:
    """The sum over neurons and steps of independent Poisson numbers, and their distribution over neurons."""
    cells = Population(3000, IF(NEVER))
    network = Network(cells, PoissonInput(cells, rate=12.0, weight=1.0, n=100), seed=2)
    network.run(50.0)
    counts = network.state(cells)["v"].numpy()
    mean = 12.0 * 100 * 0.05
    assert abs(counts.mean() - mean) < 5 * math.sqrt(mean / len(counts))
    k = np.arange(30, 100)
    share = (counts[:, None] <= k).mean(0)
    assert np.abs(share - stats.poisson.cdf(k, mean)).max() < 1.63 / math.sqrt(len(counts))  # Kolmogorov, 1 %


def test_noise_is_white_and_normal() -> None:
    cells = Population(4000, IF(NEVER))
    network = Network(cells, NoiseInput(cells, 0.5), seed=3)
    network.run(16.0)
    v = network.state(cells)["v"].numpy()
    assert stats.kstest(v / (0.5 * 4.0), "norm").pvalue > 0.01


def test_poisson_sources_fire_at_their_rates() -> None:
    rates = torch.tensor([0.0, 50.0, 1000.0])
    source, cell = PoissonSource(3, rates), Population(1, IF(NEVER))
    monitor = SpikeMonitor(source)
    network = Network(source, cell, monitor)
    network.run(4000.0)
    counts = network.spike_counts(source)
    assert counts[0] == 0
    assert abs(int(counts[1]) - 200) < 5 * math.sqrt(200)
    assert counts[2] == 4000
    assert torch.equal(torch.bincount(monitor.neurons, minlength=3), counts)


def test_a_constant_current_gives_the_textbook_rate() -> None:
    """tau_ref + tau ln((x - reset) / (x - threshold)) between two spikes."""
    cell = Population(1, SynapticLIF(tau=20.0, v_rest=-65.0, v_reset=-65.0, constant=25.0, refractory=2.0, dt=0.01))
    network = Network(cell)
    network.run(2000.0)
    period = 2.0 + 20.0 * math.log(25.0 / 10.0)
    assert network.rate(cell) == pytest.approx(1000.0 / period, rel=0.02)


def test_rate_monitor_counts_what_the_spike_monitor_lists() -> None:
    cells = Population(50, SynapticLIF(constant=25.0, dt=0.1), state={"v": Uniform(-60.0, -50.0)})
    spikes, rates = SpikeMonitor(cells), RateMonitor(cells, bin=2.0)
    Network(cells, spikes, rates).run(41.0)
    expected = torch.bincount(spikes.steps // 20, minlength=21)[:20]
    torch.testing.assert_close(rates.rates, expected.double() / (50 * 2e-3))
    assert rates.times.tolist() == [2.0 * k for k in range(20)]


def balanced(threads: int = 2, seed: int = 4) -> Network:
    neuron = SynapticLIF(constant=11.0, dt=0.1)
    cells = Population(2500, neuron, state={"v": Uniform(-60.0, -50.0)}, name="cells")
    source = PoissonSource(20, 100.0, name="source")
    return Network(
        *(cells, source, SpikeMonitor(cells), RateMonitor(cells), StateMonitor(cells, ["v"], [0, 7], interval=1.0)),
        Projection(cells, cells, FixedProbability(0.01), weight=Normal(1.5, 0.3), delay=Uniform(0.1, 1.5)),
        Projection(source, cells, FixedProbability(0.1), weight=2.0, delay=0.5),
        PoissonInput(cells, 10.0, 0.2, 20),
        seed=seed,
        threads=threads,
    )


def test_a_resumed_run_gives_the_same_spikes(tmp_path) -> None:
    """What a run would have done had it not been killed, monitors included; the number of threads may change."""
    whole = balanced()
    whole.run(20.0)
    first = balanced()
    first.run(11.3, snapshot=tmp_path / "network.safetensors")
    first.run(3.0)  # work that is lost
    second = balanced(threads=1)
    second.load(tmp_path / "network.safetensors")
    assert second.time == pytest.approx(11.3)
    second.run(8.7)
    for ours, theirs in zip(second.monitors, whole.monitors, strict=True):
        for name, value in theirs.content().items():
            assert torch.equal(ours.content()[name], value)
    assert all(
        torch.equal(second.spike_counts(a), whole.spike_counts(b))
        for a, b in zip(second._cells, whole._cells, strict=True)
    )


def test_snapshots_of_other_networks_and_damaged_ones_are_refused(tmp_path) -> None:
    path = tmp_path / "network.safetensors"
    network = balanced()
    network.run(1.0)
    network.save(path)
    with pytest.raises(FormatError, match="another network"):
        balanced(seed=5).load(path)
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(FormatError, match="not a whole snapshot"):
        balanced().load(path)
    path.write_bytes(content[:100])
    with pytest.raises(FormatError, match="cannot be read"):
        balanced().load(path)


def test_a_snapshot_knows_long_weights_and_what_its_sources_do(tmp_path) -> None:
    def network(last: float, rate: float) -> Network:
        weight = np.full(2000, 0.1)
        weight[1000] = last  # in the middle, which a print of the array leaves out
        cells, source = Population(2000, IF(NEVER)), PoissonSource(2000, rate)
        return Network(cells, source, Projection(source, cells, OneToOne(), weight=weight, delay=1.0))

    path = tmp_path / "network.safetensors"
    network(0.1, 10.0).save(path)
    network(0.1, 10.0).load(path)
    for other in (network(0.2, 10.0), network(0.1, 20.0)):
        with pytest.raises(FormatError, match="another network"):
            other.load(path)


def test_recorded_events_fall_into_their_steps_and_all_are_heard() -> None:
    """0.3, 0.6 and 0.7 ms are steps 3, 6 and 7 of 0.1 ms, though 0.3 / 0.1 is below 3; five events share a step."""
    t, x = torch.tensor([0, 0, 0, 0, 0, 300, 600, 700]), torch.zeros(8, dtype=torch.int32)
    source = SpikeSource(EventStream(t, x, x, x.to(torch.int8), Sensor(1)))
    monitor = SpikeMonitor(source)
    Network(source, Population(1, LIF(v_threshold=NEVER, dt=0.1)), monitor).run(1.0)
    assert monitor.steps.tolist() == [0] * 5 + [3, 6, 7]


def test_seeds_make_networks() -> None:
    runs = []
    for seed in (4, 4, 5):
        network = balanced(seed=seed)
        network.run(5.0)
        runs.append(network.monitors[0].content()["spikes"])
    assert torch.equal(runs[0], runs[1])
    assert not torch.equal(runs[0], runs[2])


def cells(n: int = 3, **options) -> Population:
    return Population(n, CurrentLIF(dt=0.1), **options)


def used_twice(monitor: SpikeMonitor | RateMonitor | StateMonitor, population: Population) -> None:
    Network(population, monitor)
    Network(population, monitor)


REFUSED = [
    (
        lambda c: Projection(c, c, Pairs([0, 3], [0, 0]), weight=1.0, delay=1.0, input="excitatory"),
        "from 0 to 2, got 0 to 3",
    ),
    (lambda c: Projection(c, c, Pairs([0], [-1]), weight=1.0, delay=1.0, input="excitatory"), "from 0 to 2, got -1"),
    (lambda c: Projection(c, c, AllToAll(), weight=math.nan, delay=1.0, input="excitatory"), "weights must be finite"),
    (lambda c: Projection(c, c, AllToAll(), weight=1.0, delay=-1.0, input="excitatory"), "cannot be negative"),
    (lambda c: Projection(c, c, AllToAll(), weight=1.0, delay=math.nan, input="excitatory"), "delays must be finite"),
    (lambda c: Projection(c, c, AllToAll(), weight=1.0, delay=0.04, input="excitatory"), "dt is larger than a delay"),
    (lambda c: Projection(c, c, AllToAll(), weight=1.0, delay=0.25, input="excitatory"), "no whole number of steps"),
    (lambda c: Projection(c, c, AllToAll(), weight=1.0, delay=Uniform(0.0, 1.0), input="excitatory"), "dt is larger"),
    (lambda c: Projection(c, c, AllToAll(), weight=1.0, delay=1.0), "say which one"),
    (lambda c: Projection(c, c, AllToAll(), weight=1.0, delay=1.0, input="exitatory"), "Did you mean 'excitatory'"),
    (lambda c: Projection(c, cells(4), OneToOne(), weight=1.0, delay=1.0, input="excitatory"), "of one size"),
    (lambda c: Projection(c, PoissonSource(2, 1.0), OneToOne(), weight=1.0, delay=1.0), "only a Population"),
    (lambda c: Population(0, CurrentLIF()), "at least one neuron"),
    (lambda c: Population(2, LeakyReadout()), "does not emit spikes"),
    (lambda c: Population(2, LIF(), state={"u": 1.0}), "unknown state of LIF"),
    (lambda c: Network(), "at least one Population"),
    (lambda c: Network(c, c), "given twice"),
    (lambda c: Network(c, Population(2, LIF())), "need one dt"),
    (lambda c: Network(c, SpikeMonitor(cells())), "not in the network"),
    (lambda c: Network(c, "spikes"), "got str"),
    (lambda c: Network(c, dtype=torch.float16), "float32 or float64"),
    (lambda c: Network(c, weight_bits=8), "16 or 32"),
    (lambda c: Network(c).run(0.25), "whole number of steps"),
    (lambda c: Network(c).run(-1.0), "whole number of steps"),
    (lambda c: Network(c).run(math.nan), "whole number of steps of 0.1 ms, got nan"),
    (lambda c: Network(c).run(math.inf), "whole number of steps of 0.1 ms, got inf"),
    (lambda c: Network(c).rate(c), "nothing was run yet"),
    (lambda c: used_twice(SpikeMonitor(c), c), "SpikeMonitor of 'population' belongs to another network"),
    (lambda c: used_twice(RateMonitor(c), c), "RateMonitor of 'population' belongs to another network"),
    (lambda c: used_twice(StateMonitor(c, ["v"]), c), "StateMonitor of 'population' belongs to another network"),
    (lambda c: Network(Population(2, LIF(), state={"v": torch.zeros(3)})), "1 value or 2 are needed, got 3"),
    (lambda c: Network(Population(2, LIF(), state={"v": math.nan})), "must be finite"),
    (lambda c: Network(c, RateMonitor(c, 0.01)), "shorter than a step"),
    (lambda c: StateMonitor(c, ["w"]), "unknown state"),
    (lambda c: StateMonitor(c, ["v"], [3]), "neurons 0 to 2"),
    (lambda c: PoissonInput(c, -1.0, 1.0), "from 0 up"),
    (lambda c: PoissonInput(c, 1e12, 1.0, input="excitatory"), "up to 10000 spikes a step, got n rate dt = 1e"),
    (lambda c: PoissonSource(2, torch.ones(3)), r"one rate or 2 are needed, got \[3\]"),
    (lambda c: SpikeSource(EventTensor.from_dense(torch.full((2, 1, 3), math.inf))), "whole numbers of spikes"),
    (lambda c: NoiseInput(c, math.inf), "finite"),
    (lambda c: PoissonSource(2, -1.0), "not negative"),
    (lambda c: SpikeSource(EventTensor.from_dense(torch.zeros(2, 2, 3))), "one batch entry"),
    (lambda c: SpikeSource(EventTensor.from_dense(torch.full((2, 1, 3), 0.5))), "whole numbers of spikes"),
    (
        lambda c: Network(c, Projection(c, c, AllToAll(), weight=torch.ones(4), delay=1.0, input="excitatory")),
        "9 weights are needed",
    ),
    (
        lambda c: Network(c, Projection(c, c, Pairs([0], [1]), weight=torch.ones(4), delay=1.0, input="excitatory")),
        "1 weights are needed",
    ),
]


@pytest.mark.parametrize(("make", "reason"), REFUSED, ids=[reason for _, reason in REFUSED])
def test_what_cannot_work_is_refused_with_the_reason(make, reason: str) -> None:
    with pytest.raises((ArgumentError, DtypeError, ShapeError, UnknownNameError), match=reason):
        make(cells())


def test_a_projection_may_be_empty() -> None:
    c = cells()
    none = Projection(c, c, Pairs([], []), weight=torch.empty(0), delay=torch.empty(0), input="excitatory")
    network = Network(c, none)
    network.run(1.0)
    assert network.synapse_count == 0
    full = Projection(c, c, AllToAll(), weight=1.0, delay=torch.empty(0), input="excitatory")
    with pytest.raises(ShapeError, match="0 delays for more synapses than that"):
        Network(c, full)


def test_integer_weights_span_the_largest_of_all_projections() -> None:
    """A first weight of exactly 32767 makes the scale 1, which a smaller second one must not set anew."""
    cells, source = Population(2, IF(NEVER)), PoissonSource(2, 0.0)
    large, small = (Projection(source, cells, AllToAll(), weight=Uniform(0.0, w), delay=1.0) for w in (32767.0, 1.0))
    network = Network(cells, source, large, small, weight_bits=16)
    assert all(bool((network.synapses(each).weight >= 0).all()) for each in (large, small))
    assert network._engine.plan.groups[0].scales[0] == 1.0


def test_snapshots_are_written_when_they_are_due(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    network, saved = Network(Population(1, IF(NEVER))), []
    monkeypatch.setattr(network, "save", lambda path: saved.append(network.time))
    network.run(6500.0, snapshot=tmp_path / "network.safetensors", snapshot_every=1000.0)
    assert saved == [1000.0, 2000.0, 3000.0, 4000.0, 5000.0, 6000.0, 6500.0]
