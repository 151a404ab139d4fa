"""Recurrent networks in time: spikenet against Brian2's C++ standalone code, the same synapses in both.

    python benchmarks/simulate.py --brian FOLDER [--quick] [--all-cores] [--networks cuba brunel ...]

FOLDER holds Brian2 and what it needs (`pip install --target FOLDER brian2 ...`); a C++ compiler is needed too. Without
it only spikenet is timed. Rates are compared first. Then: the time loop a biological second, the set-up (connecting;
for Brian2 with code generation and C++ compilation, for spikenet with Numba's if its cache is cold), and the delivery
of spikes and the Poisson input alone. Both count the spikes of every neuron and write nothing else down while they are
timed. On one thread the loop's time is processor time, which is what Brian2's program reports; with all cores it is
time by the clock. spikenet runs in float32, as is its default; Brian2 in float64, as is its own, and in float32 too.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numba
import numpy as np
import torch
from _compare import finish, report

from spikenet.kernels.simulate.numba_backend import with_flushed_denormals
from spikenet.kernels.simulate.numba_loop import SEGMENTS, add_drives, deliver
from spikenet.kernels.simulate.plan import BLOCK
from spikenet.simulate import Network, Uniform
from spikenet.simulate.networks import brunel, cuba

NETWORKS = {
    "cuba": lambda threads: cuba(seed=1, threads=threads),
    "brunel": lambda threads: brunel((5.0, 2.0), excitatory=8000, seed=1, threads=threads),
    "brunel_delays": lambda threads: brunel(
        (5.0, 2.0), excitatory=8000, delay=Uniform(0.1, 3.0), seed=1, threads=threads
    ),
}
DURATION = {"cuba": 10_000.0, "brunel": 2000.0, "brunel_delays": 2000.0}  # ms
RATES_APART = 0.01  # beyond which times are not compared
SCRIPT = Path(__file__).with_name("_brian.py")


class Brian:
    """Brian2's program for one network."""

    def __init__(
        self, name: str, network: Network, folder: Path, path: Path, profile: bool = False, real: str = "float64"
    ) -> None:
        self._folder, self._duration = folder, DURATION[name] / 1000.0
        synapses = folder.with_suffix(".npz")
        np.savez(synapses, **exported(network))
        start = time.perf_counter()
        words = [name.split("_")[0], str(synapses), str(folder), str(DURATION[name]), str(int(profile)), real]
        environment = {**os.environ, "PYTHONPATH": str(path)}
        subprocess.run([sys.executable, str(SCRIPT), *words], env=environment, check=True, stdout=subprocess.DEVNULL)
        self.built = time.perf_counter() - start
        self.setup = self.built
        self.neurons = sum(p.n for p in network.populations)

    def run(self) -> float:
        """Processor seconds a biological second, of the time loop alone, as its program reports them."""
        start = time.perf_counter()
        subprocess.run(["./main"], cwd=self._folder, check=True, stdout=subprocess.DEVNULL)
        wall = time.perf_counter() - start
        loop = float((self._folder / "results" / "last_run_info.txt").read_text().split()[0])
        self.setup = self.built + wall - loop
        return loop / self._duration

    def rate(self) -> float:
        (found,) = (self._folder / "results").glob("_array_spikemonitor_count_*")
        return float(np.fromfile(found, np.int32).sum()) / self.neurons / self._duration

    def profile(self, part: str) -> float:
        """Seconds a biological second in code whose name starts with `part`; needs a program with profile."""
        lines = (self._folder / "results" / "profiling_info.txt").read_text().splitlines()
        times = dict(line.split("\t") for line in lines)
        return sum(float(t) for name, t in times.items() if name.startswith(part)) / self._duration


class Ours:
    """spikenet on the same network."""

    def __init__(self, name: str, threads: int) -> None:
        start = time.perf_counter()
        self.network = NETWORKS[name](threads)
        self.setup = time.perf_counter() - start
        self.network.run(0.1)
        self.with_compilation = time.perf_counter() - start
        self._monitors, self._watched = self.network.monitors, self.network._watched.copy()
        self._duration = DURATION[name]
        self._start = self.network._engine.state()

    def run(self, record: bool = False) -> float:
        """Starts where the network was made, as Brian2's program does; writes spikes down only to `record` them."""
        self.network.monitors = self._monitors if record else []
        self.network._watched[:] = self._watched * record
        engine, nothing = self.network._engine, np.empty(0, np.int64)
        engine.load_state(self._start)
        engine.resume(0, nothing, nothing)
        engine.tally[:] = 0
        for monitor in self.network.monitors:
            monitor.load({"spikes": torch.empty(2, 0, dtype=torch.int64), "counts": torch.empty(0, dtype=torch.int64)})
        clock = time.process_time if self.network.threads == 1 else time.perf_counter
        start = clock()
        self.network.run(self._duration)
        return (clock() - start) / self._duration * 1000.0

    def rate(self) -> float:
        counts = torch.cat([self.network.spike_counts(p) for p in self.network.populations])
        return float(counts.double().mean()) / self._duration * 1000.0

    def delivery(self) -> float:
        """The same deliveries again, from the spikes that were written down, without neurons."""
        self.run(record=True)
        network, engine = self.network, self.network._engine
        monitors = [m for m in network.monitors if "spikes" in m.content()]
        steps = np.concatenate([m.steps.numpy() for m in monitors])
        rows = np.concatenate([m.neurons.numpy() + network.first_row(m.cells) for m in monitors])
        order = np.lexsort((rows, steps))
        indptr = np.searchsorted(steps[order], np.arange(network.step + 1))
        ids, counts = np.zeros_like(engine._ids), np.zeros((len(engine._counts), 1), np.int64)
        shard, sums = engine.plan.shards[0], engine._sums[0].copy()
        given = (indptr, rows[order].astype(np.uint32), *engine.plan.classes, *shard, sums, ids, counts)
        _deliveries(*given, np.zeros(1, np.int64), np.empty((3, SEGMENTS), np.int64))
        start = time.process_time()
        with_flushed_denormals(
            lambda _: _deliveries(*given, np.zeros(1, np.int64), np.empty((3, SEGMENTS), np.int64)), 1, lambda: None
        )
        return (time.process_time() - start) / self._duration * 1000.0

    def poisson(self) -> float:
        """The Poisson input of all steps alone."""
        engine = self.network._engine
        given: list[Any] = []
        for g, group in enumerate(engine.plan.groups):
            low, high = engine._shares[0][g]
            mine = np.array(
                [[i, i + 1] for i, d in enumerate(engine.plan.drives) if (d.group, d.kind) == (g, "poisson")]
            )
            given += [(engine._sums[0].copy(), engine._columns[0][g], low, high, group.lanes, m) for m in mine]
        words, steps = np.empty(BLOCK, np.uint32), self.network.step
        for each in given:
            _draws(*each, *engine._drives, words, 1)
        start = time.process_time()
        for each in given:
            _draws(*each, *engine._drives, words, steps)
        return (time.process_time() - start) / self._duration * 1000.0


@numba.njit(nogil=True)
def _draws(
    sums: Any,
    columns: Any,
    low: int,
    high: int,
    lanes: int,
    mine: Any,
    drives: Any,
    strengths: Any,
    guides: Any,
    tables: Any,
    words: Any,
    steps: int,
) -> None:
    for t in range(steps):
        for b in range(low, high):
            n = min(BLOCK, lanes - b * BLOCK)
            add_drives(sums, columns, b, low, n, t, mine, drives, strengths, guides, tables, words)


@numba.njit(nogil=True)
def _deliveries(
    indptr: Any,
    rows: Any,
    delay: Any,
    class_weight: Any,
    offsets: Any,
    targets: Any,
    weights: Any,
    sums: Any,
    ids: Any,
    counts: Any,
    begins: Any,
    segments: Any,
) -> None:
    slots = counts.shape[0]
    for t in range(indptr.size - 1):
        deliver(t, delay, class_weight, offsets, targets, weights, sums, ids, counts, begins, segments)
        n = indptr[t + 1] - indptr[t]
        ids[t % slots, :n] = rows[indptr[t] : indptr[t + 1]]
        counts[t % slots, 0] = n


def exported(network: Network) -> dict[str, Any]:
    """A network's synapses by kind of source, and its first potentials."""
    cells = {p: network.first_row(p) for p in network.populations}
    known: dict[str, Any] = {"n": sum(p.n for p in cells)}
    known["v"] = np.concatenate([network.state(p)["v"].numpy() for p in cells])
    for kind, pre in zip("ei", network.populations, strict=True):
        tables = [(p, network.synapses(p)) for p in network.projections if p.pre is pre]
        known[f"pre_{kind}"] = np.concatenate([(t.pre + cells[p.pre]).numpy() for p, t in tables]).astype(np.int32)
        known[f"post_{kind}"] = np.concatenate([(t.post + cells[p.post]).numpy() for p, t in tables]).astype(np.int32)
        known[f"delay_{kind}"] = np.concatenate([t.delay.numpy() for _, t in tables]).round(6)
        weights = tables[0][1].weight
        known["g"] = -float(weights[0]) / 0.1
    for drive in network._inputs:
        known["rate"], known["heard"] = drive.rate, drive.n
    return known


def compare(name: str, threads: int, rounds: int, brian: Path | None, scratch: Path) -> dict[str, Any]:
    """One network: rates first, then the time loops in turn, then what each part takes."""
    ours = Ours(name, threads)
    title = f"{name}, {threads} thread{'s' if threads > 1 else ''}, {ours.network.synapse_count:,} synapses"
    theirs: dict[str, Brian] = {}
    if brian and threads == 1:
        theirs["Brian2"] = Brian(name, ours.network, scratch / name, brian)
        theirs["Brian2, float32"] = Brian(name, ours.network, scratch / f"{name}_float32", brian, real="float32")
    contenders: dict[str, Any] = {**theirs, "spikenet": ours}
    for contender in contenders.values():
        contender.run()
    rates = {who: contender.rate() for who, contender in contenders.items()}
    if any(abs(rates[who] / rates["spikenet"] - 1) > RATES_APART for who in theirs):
        raise SystemExit(f"{title}: the rates {rates} differ by more than {RATES_APART:.0%}; nothing was timed")
    seconds = {who: [] for who in contenders}  # type: ignore[var-annotated]
    for _ in range(rounds):
        for who, contender in contenders.items():
            seconds[who].append(contender.run())
    found = report(f"{title}: time loop, ms a biological second", seconds, "spikenet")
    found |= {
        "rates_hz": rates,
        "setup_s": {"spikenet": ours.setup, "spikenet with compilation": ours.with_compilation},
    }
    found["setup_s"] |= {who: contender.setup for who, contender in theirs.items()}
    if threads == 1:
        found |= parts(name, ours, brian, scratch)
    for what in ("rates_hz", "setup_s", "delivery_s", "poisson_s"):
        print(f"  {what:10} " + ", ".join(f"{who} {value:.4g}" for who, value in found.get(what, {}).items()))
    return found


def parts(name: str, ours: Ours, brian: Path | None, scratch: Path) -> dict[str, Any]:
    """Seconds a biological second that delivery and the Poisson input take on their own."""
    found = {"delivery_s": {"spikenet": ours.delivery()}, "poisson_s": {"spikenet": ours.poisson()}}
    if brian:
        profiled = Brian(name, ours.network, scratch / f"{name}_profiled", brian, profile=True)
        profiled.run()
        found["delivery_s"]["Brian2"] = profiled.profile("synapses_")
        found["poisson_s"]["Brian2"] = profiled.profile("poissoninput")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--brian", type=Path, help="folder with Brian2")
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--all-cores", action="store_true", help="spikenet once more with all cores, by the clock")
    parser.add_argument("--quick", action="store_true", help="CUBA alone, two rounds")
    options = parser.parse_args()
    names, rounds = (["cuba"], 2) if options.quick else (options.networks, 5)
    many = [1, torch.get_num_threads()] if options.all_cores and torch.get_num_threads() > 1 else [1]
    with tempfile.TemporaryDirectory() as scratch:
        results = [compare(name, threads, rounds, options.brian, Path(scratch)) for name in names for threads in many]
    finish(results)


if __name__ == "__main__":
    main()
