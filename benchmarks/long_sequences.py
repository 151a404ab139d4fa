"""Memory and time of learning from long sequences: plain, checkpointed and online.

    python benchmarks/long_sequences.py [--quick] [--rounds N]

A network of three layers of 256 LIF neurons and a readout in every step, batch 64, spikes of 140 channels in float32.
First the gradients at T = 2000, in float64 on the CPU: checkpointed time against plain backpropagation, and, for one
layer, the online rule against backpropagation without a gradient through the reset. Then, at T = 2000, the peak memory
and the time of a gradient by plain and by checkpointed backpropagation, alternated; and the time of the online rule
(OTTT), the input made a chunk of 100 steps at a time, and its peak memory at T = 500, 1000, 2000 and 4000.

Peak memory is above what was there before: on a CUDA device what torch allocated, else the growth of the resident set
of a process of its own for each number.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from _compare import finish
from torch import Tensor, nn

from spikenet import LIF
from spikenet.layers import CheckpointedTime
from spikenet.learning import OTTT
from spikenet.neurons.surrogate import sigmoid

CUDA = torch.cuda.is_available()
DEVICE = torch.device("cuda" if CUDA else "cpu")
IN, HIDDEN, OUT, CHUNK = 140, 256, 20, 100
Case = dict[str, Any]


def network(layers: int = 3) -> list[nn.Module]:
    torch.manual_seed(0)
    sizes = [IN, *[HIDDEN] * layers]
    made: list[nn.Module] = []
    for ins, outs in itertools.pairwise(sizes):
        made += [nn.Linear(ins, outs, bias=False), LIF(20.0, v_reset=None, detach_reset=True, surrogate=sigmoid(4.0))]
        with torch.no_grad():
            made[-2].weight.mul_(20.0)
    return [*made, nn.Linear(HIDDEN, OUT)]


def spikes(steps: int, batch: int, seed: int = 0, device: torch.device = DEVICE) -> Tensor:
    draw = torch.Generator(device).manual_seed(seed)
    return (torch.rand(steps, batch, IN, generator=draw, device=device) < 0.05).float()


def loss(output: Tensor) -> Tensor:
    return output.square().mean(tuple(range(1, output.ndim))).sum()


def gradient(net: nn.Module, x: Tensor) -> list[Tensor]:
    net.zero_grad()
    loss(net(x)).backward()
    return [p.grad.clone() for p in net.parameters() if p.grad is not None]


def learn(net: OTTT, steps: int, batch: int) -> None:
    state = None
    for start in range(0, steps, CHUNK):
        _, state = net.learn(spikes(min(CHUNK, steps - start), batch, start), lambda y, t: y.square().mean(), state)


def apart(ours: list[Tensor], truth: list[Tensor]) -> float:
    flat, expected = (torch.cat([g.flatten() for g in gradients]) for gradients in (ours, truth))
    return float((flat - expected).abs().max() / expected.abs().max())


def check(steps: int) -> Case:
    x = spikes(steps, 2, device=torch.device("cpu")).double()
    net = nn.Sequential(*network()).double()
    checkpointed = apart(gradient(CheckpointedTime(net), x), gradient(net, x))
    one = OTTT(*network(1)).double()
    truth = gradient(one, x)
    one.zero_grad()
    one.learn(x, lambda y, t: y.square().mean())
    online = apart([p.grad for p in one.parameters()], truth)
    print(
        f"gradients at T = {steps}: checkpointed {checkpointed:.1e}, online in one layer {online:.1e} apart", flush=True
    )
    return {"case": "gradients", "checkpointed_apart": checkpointed, "online_apart": online}


def work(what: str, steps: int, batch: int) -> Callable[[], Any]:
    """The work that is measured; network and input are made."""
    if what == "online":
        online = OTTT(*network()).to(DEVICE)
        return lambda: learn(online, steps, batch)
    net, x = nn.Sequential(*network()).to(DEVICE), spikes(steps, batch)
    return lambda: gradient(CheckpointedTime(net) if what == "checkpointed" else net, x)


def peak(what: str, steps: int, batch: int) -> float:
    """Peak memory in MB above what was there before; called in a process of its own where there is no CUDA device."""
    work(what, 2 * CHUNK, 2)()  # kernels are compiled and libraries loaded
    run = work(what, steps, batch)
    if CUDA:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run()
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    Path("/proc/self/clear_refs").write_text("5")  # the highest resident size so far becomes the present one
    before = resident("VmRSS")
    run()
    return resident("VmHWM") - before


def resident(field: str) -> float:
    """A field of this process's status, in MB."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) / 1024


def peak_apart(what: str, steps: int, batch: int) -> float:
    """`peak`, without what the process had before."""
    if CUDA:
        return peak(what, steps, batch)
    words = [sys.executable, __file__, "--peak", what, str(steps), str(batch)]
    return float(json.loads(subprocess.run(words, check=True, capture_output=True, text=True).stdout.splitlines()[-1]))


def timed(run: Callable[[], Any]) -> float:
    if CUDA:
        torch.cuda.synchronize()
    start = time.perf_counter()
    run()
    if CUDA:
        torch.cuda.synchronize()
    return time.perf_counter() - start


def offline(steps: int, batch: int, rounds: int) -> Case:
    """Plain backpropagation and checkpointed."""
    memory, seconds = {}, {}
    for what in ("plain", "checkpointed"):
        memory[what], seconds[what] = peak_apart(what, steps, batch), []
        print(f"T = {steps}, {what:12}: {memory[what]:8.1f} MB", flush=True)
    runs = {what: work(what, steps, batch) for what in memory}
    for _ in range(rounds):
        for what, times in seconds.items():
            times.append(timed(runs[what]))
    slower = [b / a for a, b in zip(seconds["plain"], seconds["checkpointed"], strict=True)]
    ratio, median = memory["checkpointed"] / memory["plain"], {w: statistics.median(t) for w, t in seconds.items()}
    print(f"T = {steps}: {median['plain']:.3f} s plain, {median['checkpointed']:.3f} s checkpointed")
    print(f"checkpointed: {ratio:.3f} of the memory, {statistics.median(slower):.2f} of the time", flush=True)
    found: Case = {"case": f"T = {steps}", "memory_mb": memory, "seconds": median, "memory_ratio": ratio}
    return found | {"time_ratio": statistics.median(slower), "worst": max(slower), "best": min(slower)}


def online(steps: int, batch: int, rounds: int, quick: bool) -> Case:
    memory = {}
    for t in (100, 200) if quick else (500, 1000, 2000, 4000):
        memory[t] = peak_apart("online", t, batch)
        print(f"online, T = {t}: {memory[t]:.1f} MB", flush=True)
    run = work("online", steps, batch)
    seconds = statistics.median(timed(run) for _ in range(rounds))
    print(f"online, T = {steps}: {seconds:.3f} s", flush=True)
    return {"case": "online", "memory_mb": memory, "seconds": seconds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--peak", nargs=3, help="used by the processes that this program starts")
    options = parser.parse_args()
    if options.peak:
        print(json.dumps(peak(options.peak[0], *map(int, options.peak[1:]))))
        return
    steps, batch, rounds = (400, 32, 2) if options.quick else (2000, 64, options.rounds)
    results = [check(steps), offline(steps, batch, rounds), online(steps, batch, rounds, options.quick)]
    finish(results)


if __name__ == "__main__":
    main()
