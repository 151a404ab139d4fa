"""The GPU's loop against the plain one: in Triton's interpreter here, on a CUDA device by `pytest -m gpu`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
import torch

from spikenet.errors import ArgumentError, BackendError
from spikenet.kernels import use_backend
from spikenet.kernels.simulate import triton_backend
from spikenet.kernels.simulate.rows import rows
from spikenet.neurons import IF, CurrentLIF, RefractoryLIF, StochasticLIF
from spikenet.simulate import (
    AllToAll,
    ConstantInput,
    FixedInDegree,
    FixedProbability,
    Network,
    NoiseInput,
    Normal,
    Pairs,
    PoissonInput,
    PoissonSource,
    Population,
    Projection,
    SpikeMonitor,
    Uniform,
    activity,
)
from spikenet.simulate.networks import brunel, izhikevich

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
gpu = pytest.mark.gpu


@contextmanager
def triton() -> Iterator[None]:
    """Where networks that are moved to `DEVICE` run in Triton."""
    with use_backend(None if DEVICE == "cuda" else "triton"):
        yield


def exact(threads: int = 1, bits: int = 32, grid: float = 0.125) -> Network:
    """Sums that no order of adding changes: weights on a grid of 1/8, or integers of 16 bits. Two kinds of synapse,
    several kinds of neuron, sizes that fill no block, parameters that differ, all drives but noise, a source."""
    a = Population(1100, CurrentLIF(dt=0.1), state={"v": Uniform(-52.0, -50.0)}, name="a")
    b = Population(130, CurrentLIF(v_threshold=-50.5, dt=0.1), state={"v": Uniform(-52.0, -50.5)}, name="b")
    c = Population(33, RefractoryLIF(2.0, 20.0, torch.linspace(1.0, 3.0, 33), decay_input=False, dt=0.1), name="c")
    d = Population(5, StochasticLIF(3.0, dt=0.1), name="d")
    s = PoissonSource(40, 400.0, name="s")
    rng = np.random.default_rng(3)

    def joined(pre, post, n: int, low: int, high: int, delay, which: str | None = None) -> Projection:
        pairs = Pairs(rng.integers(pre.n, size=n), rng.integers(post.n, size=n))
        weight = rng.integers(low, high, n) * grid if bits == 32 else Uniform(low * grid, high * grid)
        return Projection(pre, post, pairs, weight=weight, delay=delay, input=which)

    return Network(
        *(a, b, c, d, s),
        joined(a, b, 9000, 4, 20, Uniform(0.1, 1.2), "excitatory"),
        joined(b, a, 4000, -90, -50, 0.2, "inhibitory"),
        joined(a, a, 3000, 1, 9, Uniform(0.1, 2.0), "excitatory"),
        joined(a, c, 2000, 1, 9, Uniform(0.3, 0.5)),
        joined(s, d, 100, 1, 9, 0.2),
        joined(c, d, 60, 1, 9, 0.4),
        PoissonInput(c, 8.0, 0.25, 500),
        PoissonInput(a, 20.0, 0.5, 10, input="excitatory"),
        PoissonInput(b, 60.0, 0.25, 10, input="excitatory"),
        ConstantInput(a, 0.125, input="excitatory"),
        PoissonInput(a, 5.0, 0.75, 1, input="excitatory"),
        ConstantInput(d, 0.5),
        *(SpikeMonitor(p) for p in (a, b, c, d, s)),
        seed=5,
        threads=threads,
        weight_bits=bits,
    )


def trains(network: Network) -> list[torch.Tensor]:
    return [m.content()["spikes"] for m in network.monitors if isinstance(m, SpikeMonitor)]


def assert_same(one: Network, other: Network) -> None:
    assert all(map(torch.equal, trains(one), trains(other)))
    for p, q in zip(one._cells, other._cells, strict=True):
        assert torch.equal(one.spike_counts(p), other.spike_counts(q))
    for p, q in zip(one.populations, other.populations, strict=True):
        for name, value in one.state(p).items():
            assert torch.equal(value, other.state(q)[name]), (p.name, name)


@pytest.mark.parametrize("bits", [32, 16])
def test_spikes_and_states_are_those_of_the_plain_loop(bits: int) -> None:
    """To the last bit, with what crosses from one call into the next, also between engines."""
    with use_backend("reference"):
        plain = exact(bits=bits)
    plain.run(2.6)
    assert all(train.shape[1] > 1 for train in trains(plain))
    network = exact(threads=2, bits=bits)
    network.run(0.9)
    with triton():
        network.to(DEVICE)
    assert "triton" in type(network._engine).__module__
    network.run(0.7)
    network.run(0.5)
    assert_same(network.to("cpu"), network)
    network.run(0.5)
    assert_same(network, plain)


@gpu
def test_a_longer_run_is_the_same_on_the_gpu() -> None:
    plain, network = exact(), exact().to("cuda")
    for each in (plain, network):
        each.run(500.0)
    assert_same(network, plain)


def test_the_rows_hold_every_synapse() -> None:
    """Delays, columns and rounded weights of each row, against the projections' own lists."""
    network = exact(threads=2)
    found = rows(network._engine.plan, torch.device("cpu"))
    expected = []
    for p in network.projections:
        table, group = network.synapses(p), network._layout.group[p.post]
        column = table.post + network._layout.lane[p.post] + int(found.at[group, p.input])
        word = (table.delay / 0.1).round().long() * found.columns + column
        scale = found.scales[group][p.input]
        expected.append(torch.stack([table.pre + network.first_row(p.pre), word, (table.weight / scale).long()]))
    row = torch.repeat_interleave(torch.arange(len(found.begins) - 1), found.begins.diff())
    listed = torch.stack([row, found.words.long(), found.weights.long()])
    wanted = torch.cat(expected, 1)
    assert sorted(map(tuple, listed.T.tolist())) == sorted(map(tuple, wanted.T.tolist()))


@pytest.mark.parametrize("size", [1e-30, 1.0, 1e30])
def test_integer_sums_cannot_overflow_and_round_little(size: float) -> None:
    """All synapses at once fill more than half of 31 bits, whatever the weights' size."""
    cells, source = Population(3, IF(0.5)), PoissonSource(500, 0.0)
    synapses = Projection(source, cells, FixedProbability(0.5), weight=Normal(size, 0.3 * size), delay=1.0)
    network = Network(cells, source, synapses)
    found, table = rows(network._engine.plan, torch.device("cpu")), network.synapses(synapses)
    sums = torch.zeros(found.columns, dtype=torch.int64).index_add_(
        0, found.words.long() % found.columns, found.weights.long().abs()
    )
    assert 2**29 < sums.max() < 2**31
    weights = found.weights.double() * found.scales[0][0]
    assert weights.sum().item() == pytest.approx(table.weight.sum().item(), rel=1e-6)


def test_no_spike_is_lost_where_room_runs_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every neuron fires at every step, which is more than one launch can list."""
    monkeypatch.setattr(triton_backend, "CAPACITY", 500)
    cells = Population(210, IF(0.5))
    monitor = SpikeMonitor(cells)
    network = Network(cells, ConstantInput(cells, 1.0), monitor)
    with triton():
        network.to(DEVICE).run(7.0)
    assert torch.equal(monitor.steps, torch.arange(7).repeat_interleave(210))
    assert torch.equal(monitor.neurons, torch.arange(210).repeat(7))


def test_what_a_device_cannot_do_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    cells = Population(3, IF(0.5))
    with pytest.raises(ArgumentError, match="'gpu' is no device"):
        Network(cells).to("gpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(BackendError, match="torch finds none here"):
        Network(cells).to("cuda")
    with pytest.raises(BackendError, match=r"numba: it runs on the CPU, and the network is on meta"):
        Network(cells).to("meta")


def test_what_the_gpu_s_loop_cannot_do_is_refused() -> None:
    cells, many = Population(3, IF(0.5)), PoissonSource(70_000, 0.0)
    synapses = Projection(many, cells, AllToAll(), weight=Uniform(0.9, 1.0), delay=1.0)
    network = Network(cells, many, synapses, weight_bits=16)
    with triton(), pytest.raises(BackendError, match="70,000 spikes can arrive"):
        network.to(DEVICE)
    network = Network(cells, dtype=torch.float64)
    with triton(), pytest.raises(BackendError, match="runs in float32, and the network in float64"):
        network.to(DEVICE)


@gpu
def test_statistics_are_those_of_the_cpu() -> None:
    """Weights that are rounded, and normal noise: rates and CV within what seeds differ."""
    for make, since in ((lambda: brunel("AI", excitatory=4000, weight=0.2, seed=2), 100.0), (izhikevich, 0.0)):
        cpu, device = make(), make().to("cuda")
        for network in (cpu, device):
            network.run(1000.0)
        for ours, theirs in zip(
            activity(device, since=since).values(), activity(cpu, since=since).values(), strict=True
        ):
            assert ours.rate == pytest.approx(theirs.rate, rel=0.05)
            assert ours.cv == pytest.approx(theirs.cv, abs=0.03)


@gpu
def test_a_run_on_the_gpu_repeats_itself() -> None:
    runs = []
    for _ in range(2):
        cells = Population(3000, RefractoryLIF(2.0, 20.0, 20.0, decay_input=False, exact_decay=True, dt=0.1))
        inhibition = Projection(cells, cells, FixedInDegree(200), weight=Normal(-0.4, 0.1), delay=Uniform(0.1, 3.0))
        monitor = SpikeMonitor(cells)
        drives = PoissonInput(cells, 8.0, 0.5, 500), NoiseInput(cells, 0.3)
        Network(cells, inhibition, *drives, monitor, seed=7).to("cuda").run(300.0)
        runs.append(monitor.content()["spikes"])
    assert runs[0].shape[1] > 1000
    assert torch.equal(*runs)
