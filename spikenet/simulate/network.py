"""`Network`: populations, projections, inputs and monitors that run together."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from spikenet.errors import ArgumentError, BackendError, DtypeError
from spikenet.kernels.simulate.engine import ENGINE
from spikenet.kernels.simulate.plan import Recorded, Sources
from spikenet.kernels.simulate.plastic import Learning
from spikenet.learning import ThreeFactor
from spikenet.simulate import assemble
from spikenet.simulate.drive import ConstantInput, NoiseInput, PoissonInput
from spikenet.simulate.monitor import Monitor
from spikenet.simulate.population import Cells, Population, Source
from spikenet.simulate.projection import Projection
from spikenet.simulate.snapshot import load_snapshot, save_snapshot

__all__ = ["Network", "SynapseTable"]

CHUNK = 5000  # steps of one call, after which progress is shown
_REAL = {torch.float32: np.float32, torch.float64: np.float64}
Part = Cells | Projection | ConstantInput | NoiseInput | PoissonInput | Monitor


class SynapseTable(NamedTuple):
    """A projection's synapses as they were made: int64 indices `[E]`, weights and delays (ms) float64 `[E]`."""

    pre: Tensor
    post: Tensor
    weight: Tensor
    delay: Tensor


class Network:
    """A network of populations, projections, inputs and monitors, ready to run.

        network = Network(excitatory, inhibitory, Projection(...), PoissonInput(...), spikes, seed=1)
        network.run(1000.0)

    Time goes in steps of the neurons' `dt`, in ms. In a step every neuron takes one step of its equations, with the sum
    of what arrives at this step as its inputs; a spike of step t arrives at step t + delay. With one seed a network and
    its spikes are always the same, whatever the number of threads.

    Args:
        *parts: `Population`s, sources, `Projection`s, inputs and monitors, in any order.
        seed: of connections, initial states, and all random input.
        dtype: of states and sums, float32 or float64.
        weight_bits: 32 keeps weights in `dtype`; 16 rounds drawn weights to multiples of 1/32767 of an input's largest.
        threads: of the CPU, at most so many; none means torch's number. They meet once in every shortest delay: where
            other programs keep the cores busy, one is faster than several.

    Raises:
        ArgumentError: for parts that do not go together, such as neurons of different `dt`, or a projection of a
            population that is not in the network.
        DtypeError: for another dtype.
    """

    def __init__(
        self,
        *parts: Part,
        seed: int = 0,
        dtype: torch.dtype = torch.float32,
        weight_bits: int = 32,
        threads: int | None = None,
    ) -> None:
        if dtype not in _REAL:
            raise DtypeError(f"a network runs in float32 or float64, got {dtype}")
        if weight_bits not in (16, 32):
            raise ArgumentError(f"weights have 16 or 32 bits, got {weight_bits}")
        self.seed = int(seed)
        self._sort(parts)
        self._check()
        layout = self._layout
        threads = torch.get_num_threads() if threads is None else threads
        plan = assemble.assemble(
            *(layout, self._cells, self.projections, self._inputs, self.seed, _REAL[dtype], weight_bits, threads),
            self.dt,
        )
        self._engine = ENGINE(plan, torch.device("cpu"))
        self._watched = np.zeros(layout.rows, np.uint8)
        for monitor in self.monitors:
            monitor.prepare(self)

    def _sort(self, parts: tuple[Part, ...]) -> None:
        kinds: dict[type, list[Any]] = {Population: [], Source: [], Projection: [], Monitor: []}
        self._inputs: list[ConstantInput | NoiseInput | PoissonInput] = []
        for part in parts:
            kind = next((k for k in kinds if isinstance(part, k)), None)
            if kind is None and not isinstance(part, ConstantInput | NoiseInput | PoissonInput):
                raise ArgumentError(
                    "a network is made of populations, sources, projections, inputs and monitors, got "
                    f"{type(part).__name__}"
                )
            (self._inputs if kind is None else kinds[kind]).append(part)  # type: ignore[arg-type]
        self.populations: list[Population] = kinds[Population]
        self.sources: list[Source] = kinds[Source]
        self.projections: list[Projection] = kinds[Projection]
        self.monitors: list[Monitor] = kinds[Monitor]
        self._cells: list[Cells] = [*self.populations, *self.sources]

    def _check(self) -> None:
        if not self.populations:
            raise ArgumentError("a network needs at least one Population")
        known = set(self._cells)
        if len(known) < len(self._cells):
            raise ArgumentError("a population was given twice")
        wanted = [(c, p.name) for p in self.projections for c in (p.pre, p.post)]
        wanted += [(i.target, type(i).__name__) for i in self._inputs]
        wanted += [(m.cells, type(m).__name__) for m in self.monitors]
        for cells, name in wanted:
            if cells not in known:
                raise ArgumentError(
                    f"{name} belongs to {cells.name!r}, which is not in the network; add it to the parts"
                )
        steps = {p.dt for p in self.populations}
        if len(steps) > 1:
            raise ArgumentError(f"all neurons need one dt, got {sorted(steps)} ms")
        self._layout = assemble.Layout(self.populations, self.sources)

    # What monitors and users ask for.

    @property
    def dt(self) -> float:
        """Length of a step, ms."""
        return self.populations[0].dt

    @property
    def device(self) -> torch.device:
        """Where it runs."""
        return self._engine.device

    @property
    def step(self) -> int:
        """Steps done."""
        return self._engine.step

    @property
    def time(self) -> float:
        """ms done."""
        return self.step * self.dt

    @property
    def threads(self) -> int:
        """Threads that a run uses."""
        return len(self._engine.plan.shards)

    @property
    def synapse_count(self) -> int:
        """Synapses in all."""
        return sum(len(shard.targets) for shard in self._engine.plan.shards)

    def state(self, population: Population) -> dict[str, Tensor]:
        """The states of a population's neurons, `[n]` each, copied."""
        g, lane = self._layout.group[population], self._layout.lane[population]
        found = zip(population.neuron.state, self._engine.state()[g], strict=True)
        return {name: torch.from_numpy(v[lane : lane + population.n].copy()) for name, v in found}

    def spike_counts(self, cells: Cells) -> Tensor:
        """Spikes of each neuron since the network was made, int64 `[n]`."""
        row = self.first_row(cells)
        return torch.from_numpy(self._engine.tally[row : row + cells.n].copy())

    def rate(self, cells: Cells) -> float:
        """Mean rate of a population since the network was made, Hz.

        Raises:
            ArgumentError: before the first run.
        """
        if self.step == 0:
            raise ArgumentError("a rate needs time: nothing was run yet")
        return float(self.spike_counts(cells).double().mean()) / (self.time / 1000.0)

    def synapses(self, projection: Projection) -> SynapseTable:
        """A projection's synapses, made once more from the seed."""
        number = self.projections.index(projection)
        parts = list(projection.synapses([self.seed, assemble.PROJECTIONS, number]))
        columns = [np.concatenate([np.broadcast_to(b[k], b.pre.shape) for b in parts]) for k in range(4)]
        pre, post, delay, weight = (torch.from_numpy(c) for c in columns)
        return SynapseTable(pre.long(), post.long(), weight.double(), delay.double() * self.dt)

    def weights(self, projection: Projection) -> Tensor:
        """The weights of a plastic projection as they are now, `[E]`, in the order of `synapses`."""
        learning, site = self._site(projection)
        return torch.from_numpy(learning.weights(site))

    def eligibility(self, projection: Projection) -> Tensor:
        """What waits for the third factor of a `ThreeFactor` rule, `[E]`, in the order of `synapses`.

        Raises:
            ArgumentError: for a projection with another rule, or without one.
        """
        learning, site = self._third(projection)
        return torch.from_numpy(learning.eligibility(site))

    def modulate(self, projection: Projection, amount: float) -> None:
        """Give the next step of a projection with a `ThreeFactor` rule its third factor: a reward, an error.

        Raises:
            ArgumentError: for a projection with another rule, or without one.
        """
        learning, site = self._third(projection)
        learning.modulate(site, float(amount))

    def _site(self, projection: Projection) -> tuple[Learning, int]:
        plastic = [p for p in self.projections if p.plasticity is not None]
        learning = self._engine.plan.learning
        if learning is None or projection not in plastic:
            raise ArgumentError(f"{projection.name} is no projection of this network whose weights change")
        return learning, plastic.index(projection)

    def _third(self, projection: Projection) -> tuple[Learning, int]:
        if not isinstance(projection.plasticity, ThreeFactor):
            raise ArgumentError(f"{projection.name} has no ThreeFactor rule")
        return self._site(projection)

    def number(self, cells: Cells) -> int:
        """The place of a population or source in the network: populations first."""
        return self._cells.index(cells)

    def first_row(self, cells: Cells) -> int:
        """The row of the first neuron of a population or source."""
        return self._layout.row[cells]

    def watch(self, cells: Cells) -> None:
        """Write down the spikes of these neurons from now on."""
        row = self.first_row(cells)
        self._watched[row : row + cells.n] = 1

    # Running.

    def to(self, device: str | torch.device) -> Network:
        """Move the network to a device, at any time; it goes on where it stands. Returns the network.

        On a GPU sums are integers: weights that are not are rounded to multiples of what 31 bits allow, some 1e-9 of
        the most that can arrive at a neuron in a step. A run gives the same spikes each time; they are those of the CPU
        wherever no sum had to be rounded, normal noise aside. In a network of synaptic currents or conductances alone
        the CPU adds weights to these one by one, the GPU their sum, so that rounding may part them.

        Raises:
            ArgumentError: for what is no device.
            BackendError: for a device without an engine, or a network that the device's engine cannot run (float64).
        """
        try:
            before, wanted = self._engine, torch.device(device)
        except RuntimeError as error:
            raise ArgumentError(f"{device!r} is no device; take 'cpu' or 'cuda'") from error
        if wanted.type == "cuda" and not torch.cuda.is_available():
            raise BackendError("the network cannot go to a CUDA device: torch finds none here")
        engine = ENGINE(before.plan, wanted)
        engine.load_state(before.state())
        engine.resume(before.step, *before.in_flight())
        engine.tally = before.tally.copy()
        self._engine = engine
        return self

    def prepare(self) -> None:
        """Compile what a run needs; otherwise the first run does."""
        nothing = Sources(np.zeros((len(self.sources), 1), np.int64), np.empty(0, np.uint32))
        self._engine.run(0, nothing, self._watched)

    def run(
        self,
        duration: float,
        *,
        progress: bool = False,
        snapshot: str | Path | None = None,
        snapshot_every: float = 1000.0,
    ) -> None:
        """Run for `duration` ms.

        Args:
            duration: ms, a whole number of steps.
            progress: show a bar.
            snapshot: a file to which the network is saved at multiples of `snapshot_every` ms, and at the end.
            snapshot_every: ms.

        Raises:
            ArgumentError: for a duration that is negative, not finite, or no whole number of steps.
        """
        steps = round(duration / self.dt) if math.isfinite(duration) else -1
        if steps < 0 or duration < 0 or abs(duration / self.dt - steps) > 1e-3:
            raise ArgumentError(f"a duration must be a whole number of steps of {self.dt} ms, got {duration} ms")
        every = steps + 1 if snapshot is None else max(1, round(snapshot_every / self.dt))
        saved = None
        for _ in _shown(self._chunks(self.step + steps, every), steps, progress):
            if snapshot is not None and self.step % every == 0:
                self.save(snapshot)
                saved = self.step
        if snapshot is not None and saved != self.step:
            self.save(snapshot)

    def _chunks(self, end: int, every: int) -> Iterator[int]:
        """Run to step `end`, with a stop at each multiple of `every`; yields the number of steps of every chunk."""
        while self.step < end:
            first = self.step
            due = [m.every - first % m.every for m in self.monitors if m.every]
            wanted = min(end - first, CHUNK, every - first % every, *due)
            sources = self._given(first, wanted)
            recorded = self._with_given(self._engine.run(wanted, sources, self._watched), sources)
            for monitor in self.monitors:
                monitor.add(self, first, recorded)
                if monitor.every and self.step % monitor.every == 0:
                    monitor.sample(self)
            yield recorded.done

    def _given(self, first: int, steps: int) -> Sources:
        indptr, rows, at = np.zeros((len(self.sources), steps + 1), np.int64), [], 0
        for s, source in enumerate(self.sources):
            own = assemble.key(self.seed, assemble.SOURCES, s)
            begins, neurons = source.spikes(first, steps, self.dt, own)
            indptr[s] = begins + at
            rows.append(neurons + self.first_row(source))
            at += len(neurons)
        return Sources(indptr, np.concatenate([*rows, np.empty(0, np.int64)]).astype(np.uint32))

    def _with_given(self, recorded: Recorded, sources: Sources) -> Recorded:
        """What an engine wrote down, and the spikes that it was given."""
        if not self.sources:
            return recorded
        steps, rows, counts = [recorded.steps], [recorded.rows], recorded.counts
        for s, source in enumerate(self.sources):
            each = np.diff(sources.indptr[s, : recorded.done + 1])
            given = sources.rows[sources.indptr[s, 0] : sources.indptr[s, recorded.done]].astype(np.int64)
            counts[:, self.number(source)] += each.astype(counts.dtype)
            np.add.at(self._engine.tally, given, 1)
            if self._watched[self.first_row(source)]:
                steps.append(np.repeat(np.arange(recorded.done), each))
                rows.append(given)
        return Recorded(recorded.done, np.concatenate(steps), np.concatenate(rows), counts)

    # Stopping and going on.

    def save(self, path: str | Path) -> None:
        """Write the network's state and what its monitors hold to a safetensors file, atomically."""
        save_snapshot(self, self._engine, path)

    def load(self, path: str | Path) -> None:
        """Go on where the network that wrote `path` stood: the same parts and seed, any number of threads.

        Raises:
            FormatError: if the file is missing, damaged, or of another network.
        """
        load_snapshot(self, self._engine, path)


def _shown(chunks: Iterator[int], steps: int, progress: bool) -> Iterator[None]:
    """Go through the chunks, with a bar if one is wanted."""
    if not progress:
        yield from (None for _ in chunks)
        return
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    with Progress(TextColumn("simulating"), BarColumn(), TimeRemainingColumn(), transient=True) as bar:
        task = bar.add_task("", total=steps)
        for done in chunks:
            bar.advance(task, done)
            yield
