"""Masked pre-training against training from scratch, on a tenth of the labels of digits-dvs.

    python benchmarks/masked_pretraining.py [--quick] [--seeds 0 1 2 3 4] [--processes N] [--results FILE]

For each seed a tenth of the training labels is drawn, the same number of every class. One network is pre-trained on
all training recordings without labels and then fine-tuned on the tenth; another of the same size starts from scratch.
Both try the same learning rates and numbers of epochs, take the pair that is best on the validation part (at a tie the
smaller ones), and are scored once on the test part with the weights of the last epoch. The pre-training itself is not
tuned. Printed is the paired difference, whichever way it falls.

The networks are small, so that on a GPU the processor would take most of the time: steps are replayed as CUDA graphs.
With `--results` every trained pair of seed and arm is written down at once, and a run that was cut goes on from there.
"""

from __future__ import annotations

import argparse
import copy
import itertools
import json
import os
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from _compare import machine
from torch import Tensor, nn
from torch.nn import functional

from spikenet.data import DigitsDVS
from spikenet.models import MaskedPretraining, SpikformerV2
from spikenet.training import Optimiser

ARMS = ("pre-trained", "scratch")
RATES = (2.5e-3, 5e-3, 1e-2, 2e-2, 4e-2)
WEIGHT_DECAY = 0.05
Part = tuple[Tensor, Tensor]


class Plan(NamedTuple):
    """Epochs of the pre-training, and those that are tried afterwards."""

    pretraining: int = 100
    tuning: tuple[int, ...] = (50, 150)


def load(device: str) -> dict[str, Part]:
    """All parts as dense `[T, N, 2, 24, 24]` with labels, T = 5 steps of 60 ms."""
    data = DigitsDVS(dt_us=60_000, steps=5, batch_size=2000)
    loaders = {"val": data.val_dataloader(), "test": data.test_dataloader()}
    parts = {name: next(iter(loader)) for name, loader in loaders.items()}
    parts["train"] = next(iter(data.train_dataloader()))
    return {name: (x.to_dense().to(device), y.to(device)) for name, (x, y) in parts.items()}


def tenth(labels: Tensor, seed: int) -> np.ndarray:
    """Numbers of a tenth of the samples, equally many of every class."""
    draw, known = np.random.default_rng(seed), labels.cpu().numpy()
    return np.concatenate([draw.permutation(np.flatnonzero(known == c))[: len(known) // 100] for c in range(10)])


def shifted(x: Tensor) -> Tensor:
    """A batch moved by up to one pixel; the borders of the sensor hold no events to speak of."""
    dy, dx = torch.randint(-1, 2, (2,)).tolist()
    return x.roll((dy, dx), (-2, -1))


class Step:
    """A training step on batches of one size: AdamW at the rate `rate`, which is a tensor. On a CUDA device all but the
    first steps are replays of one CUDA graph."""

    def __init__(self, loss: Callable[[Tensor, Tensor], Tensor], weights: nn.Module, x: Tensor, y: Tensor) -> None:
        self.loss, self.weights, self.batch = loss, weights, (x.clone(), y.clone())
        self.rate = torch.zeros((), device=x.device)
        parameters = list(weights.parameters())
        options = {"weight_decay": WEIGHT_DECAY, "fused": True, "capturable": x.is_cuda}
        self.optimizer = torch.optim.AdamW(parameters, self.rate, **options)  # type: ignore[arg-type]
        self.taken, self.graph, self.value = 0, torch.cuda.CUDAGraph() if x.is_cuda else None, x.new_zeros(())

    def __call__(self, x: Tensor, y: Tensor, rate: float) -> Tensor:
        """Take it, and return the loss."""
        for kept, given in zip(self.batch, (x, y), strict=True):
            kept.copy_(given)
        self.rate.fill_(rate)
        self.taken += 1
        if self.graph is None or self.taken < 4:  # the first allocate, choose algorithms and compile
            self.take()
        else:
            if self.taken == 4:
                with torch.cuda.graph(self.graph, stream=torch.cuda.current_stream()):
                    self.take()
            self.graph.replay()
        return self.value.clone()

    def take(self) -> None:
        self.optimizer.zero_grad()
        value = self.loss(*self.batch)
        value.backward()
        nn.utils.clip_grad_norm_(self.weights.parameters(), 1.0)
        self.optimizer.step()
        self.value = value.detach()


def train(loss: Any, weights: nn.Module, part: Part, lr: float, epochs: int, batch: int) -> Tensor:
    """Warm-up and cosine over random whole batches; returns the losses of all steps."""
    x, y = part
    schedule, each = Optimiser(lr=lr), len(y) // batch
    step = Step(loss, weights.train(), x[:, :batch], y[:batch])
    losses: list[Tensor] = []
    for _ in range(epochs):
        for chosen in torch.randperm(len(y))[: each * batch].view(each, batch).to(y.device):
            rate = lr * schedule.scale(len(losses), epochs * each)
            losses.append(step(shifted(x[:, chosen]), y[chosen], rate))
    return torch.stack(losses)


@torch.inference_mode()
def accuracy(network: nn.Module, part: Part) -> float:
    return (network.eval()(part[0]).argmax(1) == part[1]).float().mean().item()


def tuned(start: SpikformerV2, few: Part, parts: dict[str, Part], plan: Plan) -> dict[str, Any]:
    """All settings with their accuracies on the validation part, and the best one's on the test part."""
    tried, best, kept = [], -1.0, start
    for rate, epochs in itertools.product(RATES, plan.tuning):
        network = copy.deepcopy(start)

        def loss(x: Tensor, y: Tensor, network: SpikformerV2 = network) -> Tensor:
            return functional.cross_entropy(network(x), y, label_smoothing=0.1)

        train(loss, network, few, rate, epochs, batch=20)
        tried.append({"rate": rate, "epochs": epochs, "validation": accuracy(network, parts["val"])})
        if tried[-1]["validation"] > best:
            best, kept, chosen = tried[-1]["validation"], network, tried[-1]
    return {**chosen, "test": accuracy(kept, parts["test"]), "tried": tried}


def run(seed: int, arm: str, plan: Plan, device: str, threads: int) -> dict[str, Any]:
    """One arm of one seed."""
    torch.set_num_threads(threads)
    begin, parts = time.perf_counter(), load(device)
    torch.manual_seed(seed)
    network, result = SpikformerV2((2, 24, 24), 10).to(device), {"seed": seed, "arm": arm}
    x, y = parts["train"]
    few = tenth(y, seed)
    aside = torch.cuda.Stream() if device == "cuda" else None
    with torch.cuda.stream(aside):  # graphs are captured on another stream than the first
        if arm == "pre-trained":
            masked = MaskedPretraining(network).to(device)
            losses = train(lambda x, y: masked(x), masked, (x, y), 2e-3, plan.pretraining, batch=64)
            result["reconstruction"] = [losses[:5].mean().item(), losses[-5:].mean().item()]
        torch.manual_seed(1000 + seed)  # both arms see the same batches
        result |= tuned(network, (x[:, few], y[few]), parts, plan)
    return result | {"labels": len(few), "seconds": round(time.perf_counter() - begin)}


def results(options: argparse.Namespace, plan: Plan, device: str) -> list[dict[str, Any]]:
    """Of all seeds and arms: what is in the file, and what is trained now."""
    found = [json.loads(line) for line in options.results.read_text().splitlines()] if options.results.is_file() else []
    done = {(r["seed"], r["arm"]) for r in found}
    jobs = [job for job in itertools.product(options.seeds, ARMS) if job not in done]
    threads = max(torch.get_num_threads() // options.processes, 1)
    with ProcessPoolExecutor(options.processes, get_context("spawn")) as pool:
        for future in as_completed([pool.submit(run, *job, plan, device, threads) for job in jobs]):
            found.append(future.result())
            print(json.dumps(found[-1]), flush=True)
            with options.results.open("a") as file:
                file.write(json.dumps(found[-1]) + "\n")
    return [r for r in found if r["seed"] in options.seeds]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one epoch of everything, two seeds")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--results", type=Path, default=Path(os.devnull), help="where results are kept")
    options = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    plan = Plan()
    if options.quick:
        plan, options.seeds = Plan(1, (1,)), [0, 1]
    load(device)  # made once, before there are many processes
    found = sorted(results(options, plan, device), key=lambda r: r["seed"])
    tests = {arm: np.array([100 * r["test"] for r in found if r["arm"] == arm]) for arm in ARMS}
    for arm, values in tests.items():
        print(f"{arm:12} {summary(values)} %")
    print(f"difference   {summary(tests['pre-trained'] - tests['scratch'])} points")
    print("RESULT " + json.dumps({"machine": machine(), "runs": found}))


def summary(values: np.ndarray) -> str:
    return f"{' '.join(f'{v:6.2f}' for v in values)}    mean {values.mean():.2f} ± {values.std(ddof=1):.2f}"


if __name__ == "__main__":
    main()
