"""Training for energy on digits-dvs: the energy term beside plain penalties on the firing rate, all tuned alike.

    python benchmarks/energy_training.py [--quick] [--workers 2] [--seeds 0 1 2] [--tuning 3 4 5] [--weights 0.01 ...]

The penalties: energy (`EnergyTerm`, pJ a sample: each spike at the price of the synapses that it reaches), the firing
rate (spikes per neuron and step), and the mean of the layers' firing rates. Each is added to the cross-entropy as
``weight * ramp * penalty / penalty of the first batch``, where the ramp rises from 0 to 1 over the first half of the
training. Each is tried with the same weights on the tuning seeds; chosen is the weight with the least mean energy among
those whose mean validation accuracy is within half a point of the plain network's, and that is run with other seeds.
Accuracy and energy (the field's formula, counted) are those of the validation part after the last epoch; the test part
is not looked at.
"""

from __future__ import annotations

import argparse
import json
import statistics
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
from spikenet.models import SpikingConvNet
from spikenet.neurons import Neuron
from spikenet.training import Optimiser, evaluate, seed_everything

SMOOTHING, LR, CLIP = 0.1, 5e-3, 1.0  # as in the preset digits-dvs
MARGIN = 0.005


class Trial(NamedTuple):
    """One training; ``term`` None is the plain one."""

    term: str | None
    weight: float
    seed: int
    epochs: int
    batches: int | None


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
    "layers' rate": lambda network: RateTerm(network, by_layer=True),
}


def train(trial: Trial) -> Result:
    """One run; a penalty is measured in units of what the untrained network's first batch gave."""
    seed_everything(trial.seed)
    data = DigitsDVS(batch_size=32, shift=1, seed=trial.seed)
    data.prepare_data()
    data.setup("fit")
    net = SpikingConvNet(tuple(data.feature_shape), len(data.classes), dropout=0.3)
    penalty = TERMS[trial.term](net) if trial.term else None
    loader = data.train_dataloader()
    steps = trial.epochs * min(len(loader), trial.batches or len(loader))
    optim = Optimiser(lr=LR)
    optimiser = torch.optim.AdamW(net.parameters(), lr=LR, weight_decay=optim.weight_decay)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: optim.scale(step, steps))
    unit, step = None, 0
    net.train()
    for epoch in range(trial.epochs):
        loader.sampler.set_epoch(epoch)
        for number, (x, labels) in enumerate(loader):
            if number == trial.batches:
                break
            loss = functional.cross_entropy(net(x), labels, label_smoothing=SMOOTHING)
            if penalty is not None:
                spent = penalty()
                unit = unit or spent.item()
                loss = loss + trial.weight * min(1.0, 2 * step / steps) * spent / unit
            optimiser.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(net.parameters(), CLIP)
            optimiser.step()
            schedule.step()
            step += 1
    found = evaluate(net, data.val_dataloader(), len(data.classes))
    energy = price(found.work)
    return Result(found.accuracy, energy.total / 1e3, (energy.total - energy.layers[0].total) / 1e3)


def run(trials: Sequence[Trial], workers: int) -> list[Result]:
    """All trials, side by side on so many processes of one thread each; each is printed when it and those before are
    done."""
    results = []
    with ProcessPoolExecutor(workers, get_context("spawn"), torch.set_num_threads, (1,)) as pool:
        for trial, result in zip(trials, pool.map(train, trials), strict=True):
            show(f"{name_of(trial)}, seed {trial.seed}", [result])
            results.append(result)
    return results


def name_of(trial: Trial) -> str:
    return f"{trial.term} x {trial.weight:g}" if trial.term else "plain"


def mean(results: Sequence[Result]) -> Result:
    return Result(*(statistics.mean(each) for each in zip(*results, strict=True)))


def choose(tried: dict[float, Result], plain: Result) -> float:
    """The weight with the least energy within the margin of the plain accuracy; the gentlest where there is none."""
    fair = {weight: result for weight, result in tried.items() if result.accuracy >= plain.accuracy - MARGIN}
    return min(fair, key=lambda weight: fair[weight].energy) if fair else min(tried)


def show(name: str, results: Sequence[Result]) -> None:
    spread = statistics.stdev if len(results) > 1 else lambda _: 0.0
    accuracy, energy, inside = zip(*results, strict=True)
    print(
        f"{name:>28}  accuracy {100 * statistics.mean(accuracy):6.2f} ± {100 * spread(accuracy):.2f} %"
        f"  energy {statistics.mean(energy):7.1f} ± {spread(energy):.1f} nJ"
        f"  without the input's {statistics.mean(inside):7.1f} nJ",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a few batches, one seed, one weight: shows that it runs")
    parser.add_argument("--workers", type=int, default=2, help="processes (default 2)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="of the results")
    parser.add_argument("--tuning", type=int, nargs="+", default=[3, 4, 5], help="seeds on which weights are chosen")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--weights", type=float, nargs="+", default=[0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64])
    options = parser.parse_args()
    seeds, tuning, epochs, weights, batches = options.seeds, options.tuning, options.epochs, options.weights, None
    if options.quick:
        seeds, tuning, epochs, weights, batches = [0], [1], 1, [0.16], 6

    def trials(term: str | None, weight: float, seeds: Sequence[int]) -> list[Trial]:
        return [Trial(term, weight, seed, epochs, batches) for seed in seeds]

    print(machine())
    asked = [(None, 0.0), *((term, weight) for term in TERMS for weight in weights)]
    first = run([trial for term, weight in asked for trial in trials(term, weight, tuning)], options.workers)
    tried = {each: mean(first[i * len(tuning) : (i + 1) * len(tuning)]) for i, each in enumerate(asked)}
    plain = tried[None, 0.0]
    chosen = {term: choose({weight: tried[term, weight] for weight in weights}, plain) for term in TERMS}
    final = {None: 0.0, **chosen}
    last = run([trial for term, weight in final.items() for trial in trials(term, weight, seeds)], options.workers)
    print(f"\nmeans over the tuning seeds {tuning}")
    for (term, weight), result in tried.items():
        show(name_of(Trial(term, weight, 0, 0, None)), [result])
    print(f"\nresults: seeds {seeds}, validation part, after the last epoch")
    results = {}
    for i, (term, weight) in enumerate(final.items()):
        found = last[i * len(seeds) : (i + 1) * len(seeds)]
        name = name_of(Trial(term, weight, 0, 0, None))
        show(name, found)
        results[name] = [each._asdict() for each in found]
    tuned = {name_of(Trial(*each, 0, 0, None)): result._asdict() for each, result in tried.items()}
    print("\nRESULT " + json.dumps({"machine": machine(), "tuning": tuned, "results": results}))


if __name__ == "__main__":
    main()
