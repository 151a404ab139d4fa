"""Training for energy on digits-dvs: the energy term beside plain penalties on the firing rate, all tuned alike.

    python benchmarks/energy_training.py [--quick] [--workers 2] [--device cuda] [--tuning 3 4 5] [--seeds 0 1 2]

The penalties: energy (`EnergyTerm`, pJ a sample: each spike at the price of the synapses that it reaches), the firing
rate (spikes per neuron and step), and the mean of the layers' firing rates. Each is added to the cross-entropy as
``weight * penalty / penalty of the first batch``. Each is tried with the same weights on the tuning seeds; chosen is
the weight with the least mean energy among those whose mean validation accuracy is within a point of the plain
network's, and that is run with other seeds.

A spike before the hidden layer of N neurons costs N accumulates, one before the second convolution up to 72, one before
the last layer 10: with `--hidden` they lie apart more or less, and it is by this that the energy term differs from the
penalty on the rate.
Accuracy and energy (the field's formula, counted) are those of the validation part after the last epoch; the test part
is not looked at.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import NamedTuple

import torch
from _compare import machine
from torch import Tensor, nn
from torch.nn import functional

from spikenet.data import DigitsDVS
from spikenet.energy import EnergyTerm, price
from spikenet.events import RandomShift
from spikenet.models import SpikingConvNet
from spikenet.neurons import Neuron
from spikenet.training import Optimiser, evaluate, seed_everything

SMOOTHING, LR, CLIP = 0.1, 5e-3, 1.0  # as in the preset digits-dvs
POINT = 0.01


class Trial(NamedTuple):
    """One training; ``term`` None is the plain one."""

    term: str | None = None
    weight: float = 0.0
    seed: int = 0
    epochs: int = 20
    batches: int | None = None
    device: str = "cpu"
    hidden: int = 128

    @property
    def name(self) -> str:
        return f"{self.term} x {self.weight:g}" if self.term else "plain"


class Result(NamedTuple):
    """Validation accuracy, and energy in nJ a sample: all of it, and without that of the input's events."""

    accuracy: float
    energy: float
    inside: float


class RateTerm:
    """Spikes per neuron and step of the last forward pass: over all neurons, or the mean of the layers' rates."""

    def __init__(self, network: nn.Module, by_layer: bool = False) -> None:
        self.by_layer = by_layer
        self._sent: list[Tensor] = []
        network.register_forward_pre_hook(lambda *_: self._sent.clear())
        for module in network.modules():
            if isinstance(module, Neuron) and module.emit is not None:
                module.register_forward_hook(lambda _, args, output: self._sent.append(output))

    def __call__(self) -> Tensor:
        if self.by_layer:
            return torch.stack([z.mean() for z in self._sent]).mean()
        return torch.stack([z.sum() for z in self._sent]).sum() / sum(z.numel() for z in self._sent)


TERMS: dict[str, Callable[[nn.Module], Callable[[], Tensor]]] = {
    "energy": EnergyTerm,
    "rate": RateTerm,
    "layer-rate": lambda network: RateTerm(network, by_layer=True),
}


def train(trial: Trial) -> Result:
    """One run; a penalty is measured in units of what the untrained network's first batch gave."""
    seed_everything(trial.seed)
    data = DigitsDVS(batch_size=32, augment=[RandomShift(1)], seed=trial.seed)
    data.prepare_data()
    data.setup("fit")
    shape, classes = tuple(data.feature_shape), len(data.classes)
    net = SpikingConvNet(shape, classes, hidden=trial.hidden, dropout=0.3).to(trial.device)
    penalty = TERMS[trial.term](net) if trial.term else None
    loader = data.train_dataloader()
    steps = trial.epochs * min(len(loader), trial.batches or len(loader))
    optim = Optimiser(lr=LR)
    optimiser = torch.optim.AdamW(net.parameters(), lr=LR, weight_decay=optim.weight_decay)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: optim.scale(step, steps))
    unit = None
    net.train()
    for epoch in range(trial.epochs):
        loader.sampler.set_epoch(epoch)
        for number, (x, labels) in enumerate(loader):
            if number == trial.batches:
                break
            logits = net(x.to(trial.device))
            loss = functional.cross_entropy(logits, labels.to(trial.device), label_smoothing=SMOOTHING)
            if penalty is not None:
                spent = penalty()
                unit = unit or spent.item()
                loss = loss + trial.weight * spent / unit
            optimiser.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(net.parameters(), CLIP)
            optimiser.step()
            schedule.step()
    found = evaluate(net, data.val_dataloader(), classes)
    energy = price(found.work)
    return Result(found.accuracy, energy.total / 1e3, (energy.total - energy.layers[0].total) / 1e3)


def run(trials: Sequence[Trial], workers: int) -> list[Result]:
    """All trials on so many processes of one thread each, printed in their order."""
    results, start = [], time.perf_counter()
    with ProcessPoolExecutor(workers, get_context("fork"), torch.set_num_threads, (1,)) as pool:
        for trial, result in zip(trials, pool.map(train, trials), strict=True):
            show(f"{time.perf_counter() - start:5.0f} s  {trial.name}, seed {trial.seed}", [result])
            results.append(result)
    return results


def mean(results: Sequence[Result]) -> Result:
    return Result(*(statistics.mean(each) for each in zip(*results, strict=True)))


def choose(means: dict[Trial, Result], term: str) -> Trial:
    """Of a term's trials the one with the least energy within a point of the plain accuracy; if there is none, the
    gentlest."""
    tried = [trial for trial in means if trial.term == term]
    fair = [trial for trial in tried if means[trial].accuracy >= means[Trial()].accuracy - POINT]
    return min(fair, key=lambda trial: means[trial].energy) if fair else min(tried, key=lambda trial: trial.weight)


def show(name: str, results: Sequence[Result]) -> None:
    spread = statistics.stdev if len(results) > 1 else lambda _: 0.0
    accuracy, energy, inside = zip(*results, strict=True)
    print(
        f"{name:>36}  accuracy {100 * statistics.mean(accuracy):6.2f} ± {100 * spread(accuracy):.2f} %"
        f"  energy {statistics.mean(energy):7.1f} ± {spread(energy):.1f} nJ"
        f"  without the input's {statistics.mean(inside):7.1f} nJ",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a few batches, one seed, one weight: shows that it runs")
    parser.add_argument("--workers", type=int, default=2, help="processes (default 2)")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--hidden", type=int, default=128, help="neurons of the hidden layer, the fan-out before it")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="of the results")
    parser.add_argument("--tuning", type=int, nargs="+", default=[3, 4, 5], help="seeds on which weights are chosen")
    parser.add_argument("--chosen", nargs="+", metavar="PENALTY=WEIGHT", help="weights found before; nothing is tuned")
    parser.add_argument("--weights", type=float, nargs="+", default=[0.05, 0.08, 0.12, 0.18, 0.27])
    options = parser.parse_args()
    rest = {"device": options.device, "hidden": options.hidden}
    seeds, tuning, weights = options.seeds, options.tuning, options.weights
    if options.quick:
        rest, seeds, tuning, weights = rest | {"epochs": 1, "batches": 6}, [0], [1], [0.12]
    print(machine())
    asked = [Trial(), *(Trial(term, weight) for term in TERMS for weight in weights)]
    chosen = [Trial(term, float(weight)) for term, weight in (each.split("=") for each in options.chosen or ())]

    def over(trials: Sequence[Trial], seeds: Sequence[int]) -> dict[Trial, list[Result]]:
        results = run([trial._replace(seed=seed, **rest) for seed in seeds for trial in trials], options.workers)
        return {trial: results[i :: len(trials)] for i, trial in enumerate(trials)}

    tuned = {} if chosen else over(asked, tuning)
    means = {trial: mean(results) for trial, results in tuned.items()}
    final = over([Trial(), *(chosen or (choose(means, term) for term in TERMS))], seeds)
    for title, found in ((f"tuning, seeds {tuning}", tuned), (f"results, seeds {seeds}", final)):
        if found:
            print(f"\n{title}: validation part, after the last epoch, mean ± standard deviation")
        for trial, results in found.items():
            show(trial.name, results)
    print(
        "\nRESULT "
        + json.dumps(
            {"machine": machine()}
            | {
                name: {trial.name: [result._asdict() for result in results] for trial, results in found.items()}
                for name, found in (("tuning", tuned), ("results", final))
            }
        )
    )


if __name__ == "__main__":
    main()
