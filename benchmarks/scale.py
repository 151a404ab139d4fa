"""Two GPUs beside one: DDP throughput, FSDP beyond the memory of one, sequences in parts.

    python benchmarks/scale.py [--quick] [--rounds N] [--only ddp sequence fsdp]

1. A training step of Spikformer-4-384 (CIFAR shape, batch 128 a GPU, T = 4, AdamW, in float32 and in bfloat16
   autocast) under DDP as `spikenet train --strategy ddp` sets it up, on two GPUs, beside the same step on one, rounds
   alternated in the same processes; and without the search for unused parameters. Before that the averaged gradient is
   compared with the mean of the two parts' on one GPU.
2. A SpikeGPT (dim 512, depth 12) trained by `fit` for one epoch on the first characters of the embedded text with each
   process's memory capped: on one GPU, which runs out of memory; on two with FSDP, which does not; and on one without a
   cap, whose loss is compared.
3. Causal spiking attention in float32, the sequence in two parts: its output and gradients against one GPU's; then peak
   memory and time of twice the length on two GPUs beside the length on one.

Every part runs in processes of its own, started by torchrun. With --quick small; without GPUs on CPUs (gloo), where
part 2 is left out.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from _compare import finish
from torch import Tensor, distributed, nn
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel

from spikenet.data import TEXTS
from spikenet.layers import CausalSpikingAttention, sequence_parallel
from spikenet.models import SpikeGPT, Spikformer

CUDA = torch.cuda.is_available()
CAP = 600 * 2**20  # bytes; parameters, gradients and AdamW's states of part 2 take 656 MB
Case = dict[str, Any]


def say(text: str) -> None:
    if int(os.environ.get("RANK", 0)) == 0:
        print(text, flush=True)


def device() -> torch.device:
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0))) if CUDA else torch.device("cpu")


def settle() -> None:
    """Everything asked of the device is done."""
    if CUDA:
        torch.cuda.synchronize()


def apart(ours: Tensor, truth: Tensor) -> float:
    """The largest difference, as a share of the largest value."""
    return float((ours - truth).abs().max() / truth.abs().max())


# 1. DDP.


def ddp(quick: bool, rounds: int) -> Case:
    size, batch, steps = ((32, 1), 4, 2) if quick else ((384, 4), 128, 10)
    rank, where = distributed.get_rank(), device()
    torch.manual_seed(0)
    model = Spikformer.cifar(dim=size[0], depth=size[1]).to(where)
    draw = torch.Generator().manual_seed(1)
    parts = [(torch.randn(batch, 3, 32, 32, generator=draw), torch.randint(10, (batch,), generator=draw)) for _ in "ab"]
    parts = [(x.to(where), y.to(where)) for x, y in parts]
    difference = _gradients_apart(*_pair(model, True), parts, rank)
    say(f"  averaged gradient against the mean of both parts' on one GPU: {difference:.1e} of the largest")
    found: Case = {"gradient_apart": difference}
    for precision, unused in itertools.product(("float32", "bfloat16") if CUDA else ("float32",), (True, False)):
        one, two = _alternated(_pair(model, unused), parts[rank], steps, rounds, precision == "bfloat16")
        ratios = [2 * a / b for a, b in zip(one, two, strict=True)]
        case = precision + (", unused parameters looked for" if unused else "")
        found[case] = {
            "one_ms": 1e3 * statistics.median(one),
            "two_ms": 1e3 * statistics.median(two),
            "throughput": statistics.median(ratios),
            "worst": min(ratios),
            "best": max(ratios),
        }
        say(f"  {case}: {json.dumps(found[case])}")
    return found


def _pair(model: nn.Module, unused: bool) -> tuple[nn.Module, nn.Module]:
    """A copy of the network alone, and shared by all processes."""
    alone = copy.deepcopy(model)
    ids = [device().index] if CUDA else None
    options = {"broadcast_buffers": False, "gradient_as_bucket_view": True}
    return alone, DistributedDataParallel(alone, ids, find_unused_parameters=unused, **options)


def _alternated(
    models: tuple[nn.Module, nn.Module], part: Any, steps: int, rounds: int, half: bool
) -> tuple[list[float], list[float]]:
    """Seconds a step on one GPU, the other waiting, and on both, by the slower of the two."""
    one, two = [], []
    optimizer = torch.optim.AdamW(models[0].parameters(), 1e-4, fused=CUDA)
    for _ in range(rounds + 1):  # the first warms up
        for model, times in zip(models, (one, two), strict=True):
            settle()
            distributed.barrier()
            waits = model is models[0] and distributed.get_rank() != 0
            mine = 0.0 if waits else _step_time(model, optimizer, part, steps, half)
            slower = torch.tensor(mine, device=device())
            distributed.all_reduce(slower, distributed.ReduceOp.MAX)
            times.append(float(slower))
        with torch.no_grad():  # the first has gone ahead
            for parameter in models[0].parameters():
                distributed.broadcast(parameter, 0)
    return one[1:], two[1:]


def _loss(model: nn.Module, x: Tensor, y: Tensor, half: bool = False) -> Tensor:
    with torch.autocast(x.device.type, torch.bfloat16, enabled=half):
        return functional.cross_entropy(model(x.expand(4, *x.shape)).float(), y)


def _gradients_apart(alone: nn.Module, shared: nn.Module, parts: list[Any], rank: int) -> float:
    _loss(shared, *parts[rank]).backward()
    averaged = [p.grad.clone() for p in alone.parameters()]
    alone.zero_grad()
    for part in parts:
        (_loss(alone, *part) / 2).backward()
    flat, truth = (
        torch.cat([g.flatten() for g in gradients]) for gradients in (averaged, [p.grad for p in alone.parameters()])
    )
    return apart(flat, truth)


def _step_time(model: nn.Module, optimizer: torch.optim.Optimizer, part: Any, steps: int, half: bool) -> float:
    start = time.perf_counter()
    for _ in range(steps):
        optimizer.zero_grad()
        _loss(model, *part, half).backward()
        optimizer.step()
    settle()
    return (time.perf_counter() - start) / steps


# 2. FSDP.


class Beginning(TEXTS["kjv-text"]):  # type: ignore[misc]
    """The first characters of the embedded text."""

    @property
    def parts(self) -> Any:
        whole = super().parts
        return type(whole)(*(part[:6_000] for part in whole))


def fsdp(quick: bool, capped: bool) -> Case:
    from spikenet.training import NextToken, Optimiser, RunFolder, TrainerOptions, fit
    from spikenet.training.run import environment

    processes = int(os.environ.get("WORLD_SIZE", 1))
    if CUDA and capped:
        total = torch.cuda.get_device_properties(device()).total_memory
        torch.cuda.set_per_process_memory_fraction(CAP / total, device())
    torch.manual_seed(0)
    data = Beginning(length=64, batch_size=4)
    model = SpikeGPT(len(data.classes), *((32, 2) if quick else (512, 12)), dropout=0.0)
    folder = RunFolder(Path(os.environ["SCALE_FOLDER"]))
    options = TrainerOptions(1, devices=processes, strategy="fsdp" if processes > 1 else "ddp")
    start = time.perf_counter()
    try:
        fit(model, data, folder, optim=Optimiser(lr=3e-4), options=options, seed=0, module=NextToken)
    except torch.OutOfMemoryError as error:
        return {"out_of_memory": str(error).split(".")[0], "machine": environment()["accelerators"]}
    row = (
        folder.metrics.read_text().splitlines()[1].split(",")
        if "RANK" not in os.environ or distributed.get_rank() == 0
        else []
    )
    peak = torch.cuda.max_memory_reserved(device()) / 2**20 if CUDA else 0.0
    parameters = sum(p.numel() for p in model.parameters())
    return {
        "parameters": parameters,
        "state_mb": 16 * parameters / 2**20,
        "train_loss": float(row[3]) if row else 0.0,
        "valid_loss": float(row[5]) if row else 0.0,
        "peak_reserved_mb": peak,
        "seconds": time.perf_counter() - start,
    }


# 3. Sequences in parts.


def sequence(quick: bool, rounds: int) -> Case:
    dim, heads, steps = (32, 2, 96) if quick else (512, 8, 32_768)
    rank, where = distributed.get_rank(), device()
    found: Case = {}
    for decay in ("none", "fixed", "gated"):
        torch.manual_seed(0)
        layer = CausalSpikingAttention(dim, heads, decay).to(where)
        x, seed = (torch.randn(steps, 1, dim, device=where) for _ in range(2))
        place = slice(rank * steps // 2, (rank + 1) * steps // 2)
        truth, g_truth = _by(layer, x, seed)
        out, g_out = _by(sequence_parallel(layer), x[place], seed[place])
        worst = torch.tensor([apart(out, truth[place]), apart(g_out, g_truth[place])], device=where)
        distributed.all_reduce(worst, distributed.ReduceOp.MAX)
        found[decay] = {"output_apart": float(worst[0]), "gradient_apart": float(worst[1])}
        say(f"  decay {decay:6}: output {worst[0]:.1e}, gradient of the input {worst[1]:.1e} apart, of the largest")
    return {**found, **_twice(CausalSpikingAttention(dim, heads, "gated").to(where), 2 * steps, dim, rounds)}


def _by(layer: nn.Module, x: Tensor, seed: Tensor) -> tuple[Tensor, Tensor]:
    x = x.clone().requires_grad_()
    out = layer(x)
    (gradient,) = torch.autograd.grad(out, x, seed)
    return out.detach(), gradient


def _twice(layer: nn.Module, steps: int, dim: int, rounds: int) -> Case:
    """`steps` on one device, and twice as many on two: what the larger of the two takes."""
    x = torch.randn(steps, 1, dim, device=device())
    alone = _measured(lambda: _by(layer, x, x), rounds) if distributed.get_rank() == 0 else (0.0, 0.0)
    distributed.barrier()
    sequence_parallel(layer)
    shared = torch.tensor(_measured(lambda: _by(layer, x, x), rounds), device=device())
    distributed.all_reduce(shared, distributed.ReduceOp.MAX)
    names = ("one_mb", "one_ms", "two_mb_each", "two_ms")
    return {
        "steps_on_one": steps,
        "steps_on_two": 2 * steps,
        **dict(zip(names, (*alone, *shared.tolist()), strict=True)),
    }


def _measured(run: Callable[[], Any], rounds: int) -> tuple[float, float]:
    """Peak memory in MB and milliseconds."""
    run()
    if CUDA:
        torch.cuda.reset_peak_memory_stats()
    times = []
    for _ in range(rounds):
        settle()
        start = time.perf_counter()
        run()
        settle()
        times.append(1e3 * (time.perf_counter() - start))
    return torch.cuda.max_memory_allocated() / 2**20 if CUDA else 0.0, statistics.median(times)


# Starting all of it.


def work(part: str, options: argparse.Namespace) -> None:
    """What one process does; the first says what came out."""
    if CUDA:
        torch.cuda.set_device(device())
    if part in ("ddp", "sequence"):
        distributed.init_process_group("nccl" if CUDA else "gloo", device_id=device() if CUDA else None)
    tasks = {
        "ddp": lambda: ddp(options.quick, options.rounds),
        "sequence": lambda: sequence(options.quick, options.rounds),
        "capped": lambda: fsdp(options.quick, True),
        "free": lambda: fsdp(options.quick, False),
    }
    found = tasks[part]()
    say("FOUND " + json.dumps(found))
    if distributed.is_initialized():
        with contextlib.suppress(RuntimeError):
            distributed.destroy_process_group()


def start(part: str, processes: int, options: argparse.Namespace) -> Case:
    """Run a part in processes of its own and hand on what it says."""
    words = [__file__, "--part", part, "--rounds", str(options.rounds), *(["--quick"] if options.quick else [])]
    torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "checkpoints").mkdir()
        surroundings = {**os.environ, "SCALE_FOLDER": folder, "TORCH_CPP_LOG_LEVEL": "ERROR", "NCCL_NVLS_ENABLE": "0"}
        surroundings |= {"PYTHONUNBUFFERED": "1", "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "4")}
        command = [sys.executable, *(torchrun if processes > 1 else []), *words]
        child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=surroundings)
        found: Case = {}
        for line in child.stdout:  # type: ignore[union-attr]
            if line.startswith("FOUND "):
                found = json.loads(line[6:])
            else:
                print(line, end="", flush=True)
        if child.wait() or not found:
            return {"failed": child.returncode}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--rounds", type=int, default=0)
    parser.add_argument("--only", nargs="+", choices=("ddp", "sequence", "fsdp"), default=["ddp", "sequence", "fsdp"])
    parser.add_argument("--part", help="used by the processes that this program starts")
    options = parser.parse_args()
    options.rounds = options.rounds or (1 if options.quick else 7)
    if options.part:
        work(options.part, options)
        return
    results = []
    plan = [
        ("DDP, Spikformer-4-384", "ddp", "ddp", 2),
        ("sequences in two parts", "sequence", "sequence", 2),
        ("SpikeGPT on one GPU, capped", "fsdp", "capped", 1),
        ("SpikeGPT on two GPUs with FSDP, capped", "fsdp", "capped", 2),
        ("SpikeGPT on one GPU, no cap", "fsdp", "free", 1),
    ]
    chosen = [case for case in plan if case[1] in options.only and (CUDA or case[1] != "fsdp")]
    for case, _, part, processes in chosen:
        print(f"\n{case}", flush=True)
        found = start(part, processes, options)
        print("  " + json.dumps(found), flush=True)
        results.append({"case": case, **found})
    finish(results)


if __name__ == "__main__":
    main()
