"""The cortical microcircuit at full scale: speed, memory and statistics of several networks beside published records.

    python benchmarks/microcircuit.py [--device cuda] [--seeds 1 2 3] [--duration 10000] [--constant] [--quick]

Each network is built and run in a process of its own, 500 ms before and `--duration` ms after the clock starts, with
every spike written down. The real-time factor is time by the clock over biological time. Rates stand beside those of
NEST's model; CV is the mean over neurons of the coefficient of variation of intervals; the correlation is the mean over
pairs of 200 neurons of each population that fired, of spike counts in bins of 2 ms. Nothing is run of the published
records: they are quoted, with their hardware.
"""

from __future__ import annotations

import argparse
import importlib
import json
import resource
import subprocess
import sys
import time
from typing import Any

import numpy as np
import torch
from _compare import finish, machine

from spikenet.simulate import Network, SpikeMonitor, activity
from spikenet.simulate.networks import microcircuit

NEST_RATES = importlib.import_module("spikenet.simulate.networks.microcircuit").RATES
SETTLING, BIN, SAMPLE = 500.0, 2.0, 200  # ms, ms, neurons
# Senk et al. 2026 (doi 10.1088/2634-4386/ae379a), data of INM-6/microcircuit-PD14-model, docs/benchmarking.
PUBLISHED = [
    (0.05, "neuroAIx", "35 NetFPGA SUME", "constant", "Kauth 2023"),
    (0.25, "CsNN", "IBM INC-3000, 345 FPGA nodes", "Poisson", "Heittmann 2022"),
    (0.272, "GeNN", "1 RTX 4090", "Poisson", "Golosio 2023"),
    (0.386, "NEST GPU", "1 RTX 4090", "constant", "Golosio 2023"),
    (0.53, "NEST", "4 EPYC 7702, 256 cores", "constant", "Kurth 2022"),
    (0.67, "NEST", "2 EPYC 7702, 128 cores", "constant", "Kurth 2022"),
    (1.0, "SpiNNaker", "12 boards, 10,368 ARM cores", "both", "Rhodes 2019"),
]


def correlation(network: Network, monitor: SpikeMonitor) -> float:
    """Mean over pairs of neurons, from the variance of the sum of their standardised counts."""
    mine = monitor.times >= SETTLING
    neurons = monitor.neurons[mine].numpy()
    chosen = np.random.default_rng(0).permutation(np.unique(neurons))[:SAMPLE]
    place = np.full(monitor.cells.n, -1)
    place[chosen] = np.arange(len(chosen))
    bins = ((monitor.times[mine] - SETTLING) / BIN).long().numpy()
    known = place[neurons] >= 0
    counts = np.zeros((len(chosen), round((network.time - SETTLING) / BIN)))
    np.add.at(counts, (place[neurons[known]], np.minimum(bins[known], counts.shape[1] - 1)), 1.0)
    standard = (counts - counts.mean(1, keepdims=True)) / counts.std(1, keepdims=True)
    n = len(chosen)
    return float((standard.sum(0).var() - n) / (n * (n - 1)))


def one(options: argparse.Namespace, seed: int) -> dict[str, Any]:
    """Build and run a network; its record."""
    start = time.perf_counter()
    network = microcircuit(options.scale, poisson=not options.constant, seed=seed, threads=options.threads)
    built = time.perf_counter()
    network.to(options.device).prepare()
    ready = time.perf_counter()
    network.run(SETTLING)
    begin, processor = time.perf_counter(), time.process_time()
    network.run(options.duration)
    seconds, processor = time.perf_counter() - begin, time.process_time() - processor
    found = activity(network, since=SETTLING)
    monitors = [m for m in network.monitors if isinstance(m, SpikeMonitor)]
    gpu = torch.cuda.max_memory_allocated() / 2**30 if network.device.type == "cuda" else 0.0
    return {
        "seed": seed,
        "synapses": network.synapse_count,
        "threads": network.threads,
        "build_s": built - start,
        "move_and_compile_s": ready - built,
        "real_time_factor": 1000.0 * seconds / options.duration,
        "processor_factor": 1000.0 * processor / options.duration,
        "memory_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        "gpu_memory_gib": gpu,
        "rates": [a.rate for a in found.values()],
        "cv": [a.cv for a in found.values()],
        "correlation": [correlation(network, m) for m in monitors],
    }


def elsewhere(seed: int) -> dict[str, Any]:
    """`one`, in a process of its own."""
    words = [sys.executable, __file__, *sys.argv[1:], "--only", str(seed)]
    done = subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def tell(record: dict[str, Any]) -> dict[str, Any]:
    """Print a network's line."""
    print(
        "  seed {seed}: {synapses:,} synapses built in {build_s:.1f} s, ready in {move_and_compile_s:.1f} s more, "
        "{memory_gib:.2f} GiB (GPU {gpu_memory_gib:.2f}), real-time factor {real_time_factor:.4g} "
        "({processor_factor:.4g} by the processor's clock, {threads} thread(s))".format(**record),
        flush=True,
    )
    return record


def show(records: list[dict[str, Any]], options: argparse.Namespace) -> dict[str, Any]:
    """The tables, and what goes into the last line."""
    means = {what: np.mean([r[what] for r in records], 0) for what in ("rates", "cv", "correlation")}
    print(f"\n  {'':6} {'Hz':>8} {'NEST':>8} {'differs':>8} {'CV':>6} {'correlation':>12}   mean of {len(records)}")
    names = ("L23E", "L23I", "L4E", "L4I", "L5E", "L5I", "L6E", "L6I")
    for k, name in enumerate(names):
        rate, cv, pairs = (means[what][k] for what in ("rates", "cv", "correlation"))
        print(f"  {name:6} {rate:8.3f} {NEST_RATES[k]:8.3f} {rate / NEST_RATES[k] - 1:+8.1%} {cv:6.2f} {pairs:12.5f}")
    factor = float(np.median([r["real_time_factor"] for r in records]))
    drive = "constant" if options.constant else "Poisson"
    if options.scale == 1.0:
        where = f"1 {torch.cuda.get_device_name()}" if options.device != "cpu" else machine().partition(", torch")[0]
        print("\n  real-time factor")
        for row in sorted([*PUBLISHED, (factor, "spikenet", where, drive, "this run")]):
            print(f"  {row[0]:8.3f}  {row[1]:10} {row[2]:46} {row[3]:9} {row[4]}")
    apart = float(np.abs(means["rates"] / NEST_RATES - 1).max())
    print(f"\n  largest difference of a rate from NEST's: {apart:.1%}")
    return {"case": f"microcircuit, scale {options.scale}, {drive}", "factor": factor, "rates_apart": apart} | {
        what: values.round(5).tolist() for what, values in means.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--duration", type=float, default=10_000.0, help="ms")
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--threads", type=int, help="none means torch's number")
    parser.add_argument("--constant", action="store_true", help="a constant current in place of Poisson trains")
    parser.add_argument("--quick", action="store_true", help="a tenth of the network, once, 1000 ms")
    parser.add_argument("--only", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.quick:
        options.scale, options.seeds, options.duration = 0.1, [1], 1000.0
    if options.only is not None:
        print(json.dumps(one(options, options.only)))
        return
    records = [tell(elsewhere(seed)) for seed in options.seeds]
    finish([show(records, options) | {"networks": records}])


if __name__ == "__main__":
    main()
