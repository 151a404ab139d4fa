"""Training for energy on digits-dvs: the energy term beside a plain penalty on the firing rate, tuned alike.

    python benchmarks/energy_training.py [--quick] [--seeds 0 1 2] [--epochs 20] [--weights 0.01 0.03 ...]

Both penalties are added to the cross-entropy as ``weight * penalty / penalty of the first batch``: energy
(`EnergyTerm`, pJ a sample), and mean spikes per neuron and step over all neuron layers. Each is tried with every weight
on the first seed; a method's weight is the one with the least energy among those within one point of the plain
network's validation accuracy, and is then run with all seeds. Accuracy and energy (the field's formula, counted) are
those of the validation part after the last epoch; the test part is not looked at.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from spikenet.data import DigitsDVS
from spikenet.energy import EnergyTerm, price
from spikenet.models import SpikingConvNet
from spikenet.neurons import Neuron
from spikenet.training import Optimiser, evaluate, seed_everything

SMOOTHING, LR, CLIP = 0.1, 5e-3, 1.0  # as in the preset digits-dvs
POINT = 0.01


class Result(NamedTuple):
    """Validation accuracy, and energy in nJ a sample."""

    accuracy: float
    energy: float


class RateTerm:
    """Mean spikes per neuron and step of the last forward pass, over all neuron layers."""

    def __init__(self, network: nn.Module) -> None:
        self._rates: list[Tensor] = []
        network.register_forward_pre_hook(lambda *_: self._rates.clear())
        for module in network.modules():
            if isinstance(module, Neuron) and module.emit is not None:
                module.register_forward_hook(lambda _, args, output: self._rates.append(output.mean()))

    def __call__(self) -> Tensor:
        return torch.stack(self._rates).mean()


TERMS: dict[str, Callable[[nn.Module], Callable[[], Tensor]]] = {"energy": EnergyTerm, "rate": RateTerm}


def train(
    data: DigitsDVS, seed: int, epochs: int, batches: int | None, term: str | None = None, weight: float = 0.0
) -> Result:
    """One run; the penalty is measured in units of what the untrained network's batch gave in its first step."""
    seed_everything(seed)
    net = SpikingConvNet(tuple(data.feature_shape), len(data.classes), dropout=0.3)
    penalty = TERMS[term](net) if term else None
    loader = data.train_dataloader()
    steps = epochs * min(len(loader), batches or len(loader))
    optim = Optimiser(lr=LR)
    optimiser = torch.optim.AdamW(net.parameters(), lr=LR, weight_decay=optim.weight_decay)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: optim.scale(step, steps))
    unit: float | None = None
    net.train()
    for epoch in range(epochs):
        loader.sampler.set_epoch(epoch)
        for number, (x, labels) in enumerate(loader):
            if number == batches:
                break
            loss = functional.cross_entropy(net(x), labels, label_smoothing=SMOOTHING)
            if penalty is not None:
                spent = penalty()
                unit = unit or spent.item()
                loss = loss + weight * spent / unit
            optimiser.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(net.parameters(), CLIP)
            optimiser.step()
            schedule.step()
    found = evaluate(net, data.val_dataloader(), len(data.classes))
    return Result(found.accuracy, price(found.work).total / 1e3)


def choose(results: dict[float, Result], plain: Result) -> float:
    """The weight with the least energy within a point of the plain accuracy; the gentlest where there is none."""
    fair = {weight: result for weight, result in results.items() if result.accuracy >= plain.accuracy - POINT}
    return min(fair, key=lambda weight: fair[weight].energy) if fair else min(results)


def show(name: str, results: Sequence[Result]) -> None:
    accuracies, energies = [100 * r.accuracy for r in results], [r.energy for r in results]
    spread = statistics.stdev if len(results) > 1 else lambda _: 0.0
    print(
        f"{name:>28}  accuracy {statistics.mean(accuracies):6.2f} ± {spread(accuracies):.2f} %"
        f"  energy {statistics.mean(energies):9.2f} ± {spread(energies):.2f} nJ"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a few batches, one seed, one weight: shows that it runs")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--weights", type=float, nargs="+", default=[0.03, 0.1, 0.3, 1.0, 3.0])
    options = parser.parse_args()
    seeds, epochs, weights, batches = options.seeds, options.epochs, options.weights, None
    if options.quick:
        seeds, epochs, weights, batches = [0], 1, [0.3], 6

    def run(seed: int, term: str | None = None, weight: float = 0.0) -> Result:
        data = DigitsDVS(batch_size=32, shift=1, seed=seed)
        data.prepare_data()
        data.setup("fit")
        return train(data, seed, epochs, batches, term, weight)

    plain = [run(seed) for seed in seeds]
    show("plain", plain)
    final = {"plain": [r._asdict() for r in plain]}
    for term in TERMS:
        tried = {weight: run(seeds[0], term, weight) for weight in weights}
        for weight, result in tried.items():
            show(f"{term} penalty {weight:g}, seed {seeds[0]}", [result])
        weight = choose(tried, plain[0])
        results = [tried[weight], *(run(seed, term, weight) for seed in seeds[1:])]
        show(f"{term} penalty {weight:g}", results)
        final[f"{term} {weight:g}"] = [r._asdict() for r in results]
    print("\nRESULT " + json.dumps(final))


if __name__ == "__main__":
    main()
