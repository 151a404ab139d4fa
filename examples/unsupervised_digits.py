"""Digits without labels: neurons that compete for handwriting become digits, each its own.

    python examples/unsupervised_digits.py [--quick] [--picture unsupervised_digits.png]

Real handwriting (scikit-learn's digits, 8 x 8 pixels) as Poisson spikes; 200 neurons that inhibit each other, with
thresholds that rise with every spike and fall slowly; weights that follow STDP towards inputs that have just spiked,
and keep their sum. The network is that of Diehl and Cook, Frontiers in Computational Neuroscience 9, 2015, on a smaller
picture, with eight pictures at a time and inhibition without neurons of its own.

Labels serve only for reading out: a neuron is named after the training digits that it spikes at most. 1077 training,
360 validation and 360 test digits, stratified, always the same; all options were chosen on the validation part; four
epochs, the last one taken; test accuracy over seeds 0, 1 and 2.
"""

import argparse

import torch
from matplotlib.figure import Figure
from torch import Tensor

from spikenet.learning import TargetSTDP, ThresholdAdaptation, normalize_weights
from spikenet.models import DiehlCook, assign_neurons, class_scores

PICTURES, SHOWN, LOOKED_AT = 8, 150, 350  # pictures at a time, ms while learning, ms while reading out
RATE, TOTAL = 2.0, 12.0  # spikes of all inputs a ms; sum of a neuron's weights
Part = tuple[Tensor, Tensor]


def digits() -> tuple[Part, Part, Part]:
    """Training, validation and test part: rates `[N, 8, 8]` in spikes a ms, and labels."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    data = load_digits()
    rates = torch.tensor(data.images, dtype=torch.float32)
    rates = (RATE * rates / rates.sum((1, 2), keepdim=True)).clamp(max=1)
    labels = torch.tensor(data.target)
    rest, test = train_test_split(range(len(labels)), test_size=360, stratify=labels, random_state=0)
    train, val = train_test_split(rest, test_size=360, stratify=labels[rest], random_state=0)
    return tuple((rates[part], labels[part]) for part in (train, val, test))


def spikes(rates: Tensor, steps: int) -> Tensor:
    return (torch.rand(steps, *rates.shape) < rates).float()


def learn(net: DiehlCook, rates: Tensor, epochs: int) -> None:
    adaptation = ThresholdAdaptation(increment=0.003 * net.neurons, tau=5e4)
    for epoch in range(epochs):
        rule = TargetSTDP(eta=0.02 / (1 + epoch), x_target=0.4, nearest=True)
        for some in torch.randperm(len(rates)).split(PICTURES):
            normalize_weights(net.weight, TOTAL)
            x = spikes(rates[some], SHOWN)
            z = net(x)
            rule.run(x.flatten(2), z, net.weight)
            net.theta.copy_(adaptation.run(z, net.theta))
    normalize_weights(net.weight, TOTAL)


def counts(net: DiehlCook, rates: Tensor) -> Tensor:
    return net(spikes(rates, LOOKED_AT)).sum(0)


def accuracy(found: Tensor, assigned: Tensor, labels: Tensor) -> float:
    return (class_scores(found, assigned, 10).argmax(1) == labels).double().mean().item()


def picture(path: str, net: DiehlCook, assigned: Tensor, found: Tensor, labels: Tensor) -> None:
    """Receptive fields, sorted by the digit that the neuron was named after; who is taken for whom in the test part."""
    figure = Figure(figsize=(13, 4.9), layout="constrained")
    fields, confusion = figure.subplots(1, 2, width_ratios=(1.55, 1))
    order, across = assigned.argsort(stable=True), 20
    tiles = torch.full((-(-net.neurons // across) * across, 10, 10), float("nan"))
    tiles[: net.neurons, 1:9, 1:9] = net.weight[order].view(-1, 8, 8) / net.weight[order].amax(1).view(-1, 1, 1)
    sheet = tiles.view(-1, across, 10, 10).transpose(1, 2).flatten(2).flatten(0, 1)
    fields.imshow(sheet, cmap="magma", interpolation="nearest")
    for k, n in enumerate(order.tolist()):
        name = "-" if assigned[n] < 0 else str(assigned[n].item())
        fields.text(10 * (k % across) + 0.2, 10 * (k // across) + 2.6, name, fontsize=6, color="white")
    fields.set_axis_off()
    fields.set_title("what each neuron has become, and the digit that it is named after")
    table = torch.zeros(10, 10)
    taken = class_scores(found, assigned, 10).argmax(1)
    table.index_put_((labels, taken), torch.ones(len(labels)), accumulate=True)
    confusion.imshow(table, cmap="Blues")
    for a in range(10):
        for b in range(10):
            if n := int(table[a, b]):
                confusion.text(b, a, n, ha="center", va="center", fontsize=8, color="white" if n > 18 else "black")
    confusion.set(xlabel="taken for", ylabel="test digit", xticks=range(10), yticks=range(10))
    figure.savefig(path, dpi=120)
    print(f"written: {path}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="100 neurons, one epoch, one seed")
    parser.add_argument("--validate", action="store_true", help="look at the validation part, not at the test part")
    parser.add_argument("--picture", default="unsupervised_digits.png", help="where the picture goes")
    options = parser.parse_args()
    neurons, epochs, seeds = (100, 1, 1) if options.quick else (200, 4, 3)
    train, val, test = digits()
    part, name = (val, "validation") if options.validate else (test, "test")
    results = []
    for seed in range(seeds):
        torch.manual_seed(seed)
        net = DiehlCook((8, 8), neurons, seed=seed)
        learn(net, train[0], epochs)
        assigned = assign_neurons(counts(net, train[0]), train[1], 10)
        found = counts(net, part[0])
        results.append(accuracy(found, assigned, part[1]))
        print(f"seed {seed}: {name} accuracy {results[-1]:.1%}, {found.sum(1).mean():.0f} spikes a digit", flush=True)
    print(
        f"mean {torch.tensor(results).mean():.1%} of {len(part[1])} {name} digits, {neurons} neurons, {epochs} epochs"
    )
    picture(options.picture, net, assigned, found, part[1])


if __name__ == "__main__":
    main()
