"""A training step of Spikformer-4-384 (CIFAR shape) beside SpikingJelly's model: time, memory, loss curves.

    python benchmarks/spikformer_training.py [--quick] [--steps N] [--rounds N]

SpikingJelly's model pools before its neurons and has no biases in its blocks, so ours is built that way. Both start
from the same weights; their gradients agree in float64 (tests/peers/test_attention_layers.py), here the logits are
compared, in float64 as well: in float32 rounding decides a few spikes, which moves logits by up to 0.1 (TF32, which
torch leaves on for convolutions, does the same). Then training steps (AdamW, batch of 128 random pictures, T = 4) are
timed in bfloat16 autocast, float32 and TF32, blocks alternated, and once more as replays of a CUDA graph of the whole
step, where the processor's speed does not count; peak memory is that of one step, with no other model there. Loss
curves over `--steps` steps on one fixed sequence of batches with labels that can be learnt: ours and theirs from the
same weights, and theirs from a second seed, whose distance is the yardstick. Runs on a CUDA device, in small with
--quick anywhere.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from _compare import finish
from spikingjelly.activation_based import functional as theirs_functional
from spikingjelly.activation_based.model.spikformer import Spikformer as Theirs
from torch import Tensor, nn
from torch.nn import functional

from spikenet.models import Spikformer

PRECISIONS = ("bfloat16", "float32", "TF32")
NAMES = ("spikingjelly", "spikenet")


def connections(module: nn.Module) -> list[nn.Module]:
    kinds = (nn.Linear, nn.modules.conv._ConvNd, nn.modules.batchnorm._BatchNorm)
    return [each for each in module.modules() if isinstance(each, kinds)]


def make(quick: bool, device: str) -> tuple[nn.Module, nn.Module]:
    """Theirs, and ours with its weights."""
    dim, depth, heads = (32, 1, 4) if quick else (384, 4, 12)
    theirs = Theirs(4, 3, 32, 32, 4, 10, dim, heads, depths=depth).to(device)
    pool = (False, False, True, True)
    ours = Spikformer((3, 32, 32), 10, dim, depth, heads, pool, pool_before_neuron=True).to(device)
    with torch.no_grad():
        for source, target in zip(connections(theirs), connections(ours), strict=True):
            target.weight.copy_(source.weight.view(target.weight.shape))
            if target.bias is not None:
                target.bias.zero_() if source.bias is None else target.bias.copy_(source.bias)
    return theirs, ours


def logits(model: nn.Module, x: Tensor) -> Tensor:
    if isinstance(model, Spikformer):
        return model(x.expand(4, *x.shape))
    theirs_functional.reset_net(model)
    return model(x).mean(0)


def trainer(model: nn.Module, precision: str) -> Callable[[Tensor, Tensor], Tensor]:
    on_gpu = next(model.parameters()).is_cuda
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-4, weight_decay=0.06, fused=True, capturable=on_gpu)
    half = precision == "bfloat16"

    def step(x: Tensor, y: Tensor) -> Tensor:
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision == "TF32"
        with torch.autocast(x.device.type, torch.bfloat16, enabled=half):
            loss = functional.cross_entropy(logits(model, x).float(), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step


def batches(count: int, size: int, device: str) -> list[tuple[Tensor, Tensor]]:
    """Noise with one of ten faint patterns in it."""
    draw = torch.Generator().manual_seed(7)
    patterns = torch.rand(10, 3, 32, 32, generator=draw)
    labels = torch.randint(10, (count, size), generator=draw)
    pictures = [0.6 * torch.rand(size, 3, 32, 32, generator=draw) + 0.4 * patterns[y] for y in labels]
    return [(x.to(device), y.to(device)) for x, y in zip(pictures, labels, strict=True)]


def wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def apart(theirs: nn.Module, ours: nn.Module, x: Tensor) -> float:
    """How far the logits of a few pictures lie apart at most, in float64 on the processor."""
    with torch.no_grad():
        first, second = (logits(copy.deepcopy(model).cpu().double(), x.cpu().double()) for model in (theirs, ours))
    return (first - second).abs().max().item()


def timed(steps: dict[str, Any], batch: Any, rounds: int, device: str) -> dict[str, list[float]]:
    """Milliseconds a step of each, blocks of five, alternated."""
    times: dict[str, list[float]] = {name: [] for name in steps}
    for round_ in range(rounds + 1):
        for name, step in steps.items():
            wait(device)
            start = time.perf_counter()
            for _ in range(5):
                step(*batch)
            wait(device)
            if round_:  # the first warms up
                times[name].append(200 * (time.perf_counter() - start))
    return times


def captured(name: str, step: Any, batch: Any) -> Callable[[Tensor, Tensor], None] | None:
    """The same whole step as a replay of a CUDA graph, or None where it cannot be captured."""
    aside = torch.cuda.Stream()
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):
        for _ in range(3):
            step(*batch)
    torch.cuda.current_stream().wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    try:
        with torch.cuda.graph(graph):
            step(*batch)
    except RuntimeError as error:
        print(f"  {name} is not captured: {str(error).splitlines()[0][:100]}")
        return None
    return lambda *_: graph.replay()


def peak(name: str, precision: str, quick: bool, batch: Any, device: str) -> float:
    """GB at most during the second step of a model that is alone."""
    if device != "cuda":
        return float("nan")
    model = dict(zip(NAMES, make(quick, device), strict=True))[name]
    step = trainer(model, precision)
    step(*batch)
    torch.cuda.reset_peak_memory_stats()
    step(*batch)
    return torch.cuda.max_memory_allocated() / 1e9


def ratio(times: dict[str, list[float]]) -> str:
    """Medians, and the ratio of the two within a round."""
    ratios = [t / o for t, o in zip(times["spikingjelly"], times["spikenet"], strict=True)]
    medians = ", ".join(f"{name} {statistics.median(t):.2f}" for name, t in times.items())
    return f"{medians}, ratio {statistics.median(ratios):.2f} ({min(ratios):.2f} .. {max(ratios):.2f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a small network, few steps")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    size, count, rounds = (8, 3, 1) if options.quick else (128, options.steps, options.rounds)
    data, results = batches(count, size, device), []
    for precision in PRECISIONS:
        torch.manual_seed(0)
        memory = {name: peak(name, precision, options.quick, data[0], device) for name in NAMES}
        theirs, ours = make(options.quick, device)
        difference = apart(theirs, ours, data[0][0][:4])
        steps = {"spikenet": trainer(ours, precision), "spikingjelly": trainer(theirs, precision)}
        times = timed(steps, data[0], rounds, device)
        print(f"{precision}: logits in float64 differ by {difference:.2e} at most; peak GB {memory}")
        print(f"  ms a step {ratio(times)}", flush=True)
        results.append({"precision": precision, "times": times, "peak_gb": memory, "difference": difference})
        if device == "cuda":
            graphs = {name: captured(name, step, data[0]) for name, step in steps.items()}
            if all(graphs.values()):
                results[-1]["graphs"] = timed(graphs, data[0], rounds, device)
                print(f"  in a CUDA graph {ratio(results[-1]['graphs'])}", flush=True)
    fastest = {name: min(statistics.median(r["times"][name]) for r in results) for name in NAMES}
    print(
        f"fastest precision of each: {fastest}, ratio {fastest['spikingjelly'] / fastest['spikenet']:.2f}", flush=True
    )
    results.append({"curves": curves(data, options.quick, device)})
    finish(results)


def curves(data: Any, quick: bool, device: str) -> dict[str, list[float]]:
    """Losses in bfloat16 autocast on the same batches."""
    found: dict[str, list[float]] = {}
    for seed in (0, 1):
        torch.manual_seed(seed)
        theirs, ours = make(quick, device)
        step, mine = trainer(theirs, "bfloat16"), trainer(ours, "bfloat16")
        found[f"spikingjelly {seed}"] = [step(x, y).item() for x, y in data]
        if seed == 0:
            found["spikenet 0"] = [mine(x, y).item() for x, y in data]
    base = torch.tensor(found["spikingjelly 0"])
    for name in ("spikenet 0", "spikingjelly 1"):
        gap = (torch.tensor(found[name]) - base).abs()
        print(
            f"loss of {name} against spikingjelly 0: mean distance {gap.mean():.4f}, last ten "
            f"{gap[-10:].mean():.4f}, ends {base[-5:].mean():.3f} and {torch.tensor(found[name])[-5:].mean():.3f}",
            flush=True,
        )
    return found


if __name__ == "__main__":
    main()
