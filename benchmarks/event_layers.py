"""Event-driven layers beside torch's dense ones on the CPU, forward plus backward, over the density of the input.

    python benchmarks/event_layers.py [--quick] [--rounds N] [--threads N]

First the first layer of a network for spoken digits, 700 -> 512 at a step of 1 ms, on recordings of the FSDD in spikes
(`../shared/data`, or random events of that density where they are missing): weight and bias gradient, no input's.
Torch gets its dense frames for nothing; "with frames" makes them from the events first. Then sweeps of the density, in
which "crossover" is where the dense product becomes faster than events (see `spikenet.kernels.synapse.crossover`).
Every output and gradient is compared with float64 before anything is timed.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Callable
from math import prod
from pathlib import Path
from typing import Any

import torch
from _compare import Contender, alternate, finish, machine, report
from torch import Tensor, nn

from spikenet import use_backend
from spikenet.data.spoken import JoinedSpikes
from spikenet.events import EventTensor, bin_by_time
from spikenet.events.files.shd import read_spikes
from spikenet.layers import Conv2d, EventConv2d, EventLinear

FSDD = Path(__file__).resolve().parents[2] / "shared" / "data" / "fsdd_spikes_train.h5.gz"
DENSITIES = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5)
Row = dict[str, Any]


def spoken_digits(batch: int) -> tuple[EventTensor, str]:
    """A batch at 1 ms a step, and where it comes from."""
    if FSDD.exists():
        recordings = JoinedSpikes(read_spikes(FSDD), 700, 1)
        chosen = torch.randperm(len(recordings.labels), generator=torch.Generator().manual_seed(0))[:batch]
        return bin_by_time([recordings.stream(int(i)) for i in chosen], 1000), "FSDD in spikes"
    lengths = torch.randint(200, 600, (batch,), generator=torch.Generator().manual_seed(0))
    x = (torch.rand(600, batch, 700, generator=torch.Generator().manual_seed(1)) < 0.014).float()
    x[torch.arange(600)[:, None] >= lengths] = 0
    return EventTensor.from_dense(x, lengths), "random events"


def random_events(shape: tuple[int, ...], density: float) -> EventTensor:
    spikes = torch.rand(shape, generator=torch.Generator().manual_seed(0)) < density
    return EventTensor.from_dense(spikes.float())


def trained(layer: Callable[[Any], Tensor], parameters: list[Tensor], x: Any, gy: Tensor) -> list[Tensor]:
    y = layer(x)
    return [y.detach(), *torch.autograd.grad(y, parameters, gy)]


def check(ours: nn.Module, theirs: nn.Module, x: EventTensor, gy: Tensor) -> list[float]:
    """Errors of both against float64, the worst of output and gradients over its largest number; ours may be twice."""
    dense = x.to_dense()
    results = [trained(layer, list(layer.parameters()), given, gy) for layer, given in ((ours, x), (theirs, dense))]
    exact = trained(theirs.double(), list(theirs.parameters()), dense.double(), gy.double())
    theirs.float()
    worst = []
    for result in results:
        errors = [(a.double() - b).abs().max() / b.abs().max() for a, b in zip(result, exact, strict=True)]
        worst.append(float(max(errors)))
    assert worst[0] < max(2 * worst[1], 2e-6), f"ours differs by {worst[0]:.1e}, torch by {worst[1]:.1e}"
    return worst


def first_layer(batch: int, rounds: int) -> Row:
    x, source = spoken_digits(batch)
    torch.manual_seed(0)
    ours, theirs = EventLinear(700, 512), nn.Linear(700, 512)
    theirs.load_state_dict(ours.state_dict())
    gy = torch.randn(x.T, x.batch, 512)
    errors = check(ours, theirs, x, gy)
    dense = x.to_dense()
    works = {
        "events": lambda: trained(ours, list(ours.parameters()), x, gy),
        "dense": lambda: trained(theirs, list(theirs.parameters()), dense, gy),
        "with frames": lambda: trained(theirs, list(theirs.parameters()), x.to_dense(), gy),
        "dense input": lambda: trained(ours, list(ours.parameters()), dense, gy),
        "events, forward": lambda: ours(x),
        "dense, forward": lambda: theirs(dense),
    }
    seconds = alternate([Contender(name, work) for name, work in works.items()], rounds)
    density = x.nnz / prod(x.shape)
    what = f"700 -> 512, {source}, T={x.T} B={x.batch}, {x.nnz / x.batch:.0f} entries a sample, density {density:.4f}"
    return report(what, seconds, "events") | {"density": density, "errors": errors}


def sweep(name: str, ours: nn.Module, theirs: nn.Module, shape: tuple[int, ...], rounds: int, quick: bool) -> Row:
    """Forward plus backward for the weights, by events at every density, and dense."""
    theirs.load_state_dict(ours.state_dict())
    flat = isinstance(ours, EventLinear)
    print(f"\n{name}, {shape[0] * shape[1]} rows, ms: events, dense input by events, dense; crossover")
    points = []
    for density in DENSITIES[1::4] if quick else DENSITIES:
        x = random_events(shape, density)
        dense = x.to_dense().flatten(2) if flat else x.to_dense()
        gy = torch.randn(theirs(dense).shape)
        with use_backend("numba"):  # by events, whatever the density
            check(ours, nn.Sequential(nn.Flatten(2), theirs) if flat else theirs, x, gy)
        seconds = alternate(
            [
                Contender("events", lambda x=x, gy=gy: by_events(ours, x, gy)),
                Contender("input", lambda x=dense, gy=gy: by_events(ours, x, gy)),
                Contender("dense", lambda x=dense, gy=gy: trained(theirs, list(theirs.parameters()), x, gy)),
            ],
            rounds,
        )
        best = {key: 1e3 * min(times) for key, times in seconds.items()}
        points.append({"density": density} | {key: round(ms, 3) for key, ms in best.items()})
        print(f"  {density:6.3f} {best['events']:9.2f} {best['input']:9.2f} {best['dense']:9.2f}")
    found = {key: crossing(points, key) for key in ("events", "input")}
    print(f"  crossover: events {found['events']}, dense input {found['input']}")
    return {"case": name, "points": points, "crossover": found}


def by_events(layer: nn.Module, x: Any, gy: Tensor) -> list[Tensor]:
    with use_backend("numba"):
        return trained(layer, list(layer.parameters()), x, gy)


def crossing(points: list[Row], key: str) -> float | None:
    """Where `key` takes as long as dense, between two densities on a line; None if it never does."""
    for before, after in itertools.pairwise(points):
        left, right = before[key] - before["dense"], after[key] - after["dense"]
        if left <= 0 < right:
            share = left / (left - right)
            return round(before["density"] + share * (after["density"] - before["density"]), 3)
    return None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer cases and rounds")
    parser.add_argument("--rounds", type=int, default=7, help="alternations (default 7)")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="torch threads")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(machine())
    rounds = 3 if options.quick else options.rounds
    results = [first_layer(16 if options.quick else 64, rounds)]
    for inputs, outputs, steps in ((700, 512, 100), (140, 512, 100), (700, 64, 100), (2312, 128, 30))[
        : 1 if options.quick else 4
    ]:
        name, shape = f"linear {inputs} -> {outputs}", (steps, 32, inputs)
        results.append(
            sweep(name, EventLinear(inputs, outputs), nn.Linear(inputs, outputs), shape, rounds, options.quick)
        )
    for inputs, outputs, size, steps in ((2, 32, 34, 20), (32, 64, 17, 10), (2, 8, 34, 20), (1, 16, 28, 20))[
        : 1 if options.quick else 4
    ]:
        name, shape = f"3x3 convolution {inputs} -> {outputs}, {size}x{size}", (steps, 8, inputs, size, size)
        pair = (layer(inputs, outputs, 3, padding=1) for layer in (EventConv2d, Conv2d))
        results.append(sweep(name, *pair, shape, rounds, options.quick))
    finish(results)


if __name__ == "__main__":
    main()
