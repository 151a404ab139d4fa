"""Meta neurons against leaky integrate-and-fire neurons: Poisson trains told apart by the complexity of spikes.

    python examples/meta_neuron.py [--quick] [--picture meta_neuron.png]

Four classes of Poisson trains differ in the rates of 20 channels. A layer of 32 neurons hears them; of each neuron's
answer only the Lempel-Ziv complexity is kept, and a logistic classifier reads that. The layer's weights are as drawn,
or learned: by backpropagation (with a linear readout of the rates that is then thrown away; the neurons' own
parameters learn too), by STDP without labels (pairs, additive, the sum of every neuron's weights held), or as
Tempotrons (eight neurons a class: spike for it, be silent for others; who spiked is the neuron's own answer).

400 trains for training, 600 for testing, 10 epochs of which the last is taken, nothing selected; seeds 0, 1 and 2, each
with classes of its own. What the true rates make possible bounds everything. The task and the classifier are our
reading of Rudnicka, Szczepanski and Pregowska, arXiv 2508.11674, whose figures this does not aim at.
"""

import argparse
from collections.abc import Callable

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from spikenet import LIF
from spikenet.analysis import lempel_ziv_rate
from spikenet.events import poisson
from spikenet.layers import ProbabilisticSynapses
from spikenet.learning import STDP, Tempotron, normalize_weights
from spikenet.neurons import MetaNeuron, ProbabilisticMetaNeuron

CLASSES, CHANNELS, NEURONS = 4, 20, 32
BATCH, TOTAL = 50, 4.0
COLOURS = {"LIF": "#8a97a5", "meta": "#2f6db5", "probabilistic meta": "#e08a1e"}


class Layer(nn.Module):
    """Synapses, a bias and neurons; `weight` is what the local rules change."""

    def __init__(self, synapses: nn.Module, neuron: nn.Module, bias: float) -> None:
        super().__init__()
        self.synapses, self.neuron = synapses, neuron
        self.bias = nn.Parameter(torch.full((NEURONS,), bias))
        self.weight = synapses.weight
        self.weight.data.uniform_()
        normalize_weights(self.weight, TOTAL)

    def forward(self, x: Tensor) -> Tensor:
        return self.neuron(self.synapses(x) + self.bias)


class ProbabilisticLayer(Layer):
    def forward(self, x: Tensor) -> Tensor:
        mean, variance = self.synapses(x)
        return self.neuron(mean + self.bias, variance)


def learned(*values: float) -> list[nn.Parameter]:
    return [nn.Parameter(torch.tensor(value)) for value in values]


def lif() -> Layer:
    return Layer(nn.Linear(CHANNELS, NEURONS, bias=False), LIF(*learned(4.0, 0.4)), 0.0)


def meta() -> Layer:
    neuron = nn.Sequential(nn.Sigmoid(), MetaNeuron(*learned(0.02, 0.2, 0.0, 0.08)))
    return Layer(nn.Linear(CHANNELS, NEURONS, bias=False), neuron, -1.0)


def probabilistic_meta() -> Layer:
    neuron = ProbabilisticMetaNeuron(*learned(0.02, 0.2, 0.0, 0.08))
    return ProbabilisticLayer(ProbabilisticSynapses(CHANNELS, NEURONS), neuron, -1.0)


LAYERS: dict[str, Callable[[], Layer]] = {"LIF": lif, "meta": meta, "probabilistic meta": probabilistic_meta}


def as_drawn(layer: Layer, x: Tensor, labels: Tensor, epochs: int) -> None:
    pass


def backpropagation(layer: Layer, x: Tensor, labels: Tensor, epochs: int) -> None:
    net = nn.Sequential(layer, nn.Linear(NEURONS, CLASSES))
    optimiser = torch.optim.Adam(net.parameters(), lr=1e-2)
    for _ in range(epochs):
        for some in torch.randperm(len(labels)).split(BATCH):
            loss = nn.functional.cross_entropy(net(x[:, some]).mean(0), labels[some])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()


@torch.no_grad()
def stdp(layer: Layer, x: Tensor, labels: Tensor, epochs: int) -> None:
    rule = STDP(a_plus=1e-4, a_minus=1.05e-4)
    for _ in range(epochs):
        for some in torch.randperm(len(labels)).split(BATCH):
            rule.run(x[:, some], layer(x[:, some]), layer.weight)
            normalize_weights(layer.weight, TOTAL)


@torch.no_grad()
def tempotron(layer: Layer, x: Tensor, labels: Tensor, epochs: int) -> None:
    rule = Tempotron(lr=0.2 / BATCH)
    owner = torch.arange(NEURONS) % CLASSES
    for _ in range(epochs):
        for some in torch.randperm(len(labels)).split(BATCH):
            wanted, fired = labels[some, None] == owner, layer(x[:, some]).any(0)
            gradient = rule.decide(x[:, some], layer.weight).gradient
            layer.weight += rule.lr * torch.einsum("bo,boi->oi", wanted.float() - fired.float(), gradient)


RULES = {"as drawn": as_drawn, "backpropagation": backpropagation, "STDP": stdp, "Tempotron": tempotron}


def trains(rates: Tensor, count: int, steps: int) -> tuple[Tensor, Tensor]:
    """Spikes `[T, B, channels]` and their classes."""
    labels = torch.arange(count) % CLASSES
    return poisson(rates[labels], steps), labels


def best_possible(rates: Tensor, x: Tensor, labels: Tensor) -> float:
    """Accuracy of the likelihood under the true rates."""
    counts = x.sum(0)
    likelihood = counts @ rates.log().T + (len(x) - counts) @ (-rates).log1p().T
    return (likelihood.argmax(-1) == labels).double().mean().item()


@torch.no_grad()
def read(layer: nn.Module, train: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor]) -> float:
    """Test accuracy of a logistic classifier of every neuron's complexity."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    classifier.fit(lempel_ziv_rate(layer(train[0])).numpy(), train[1].numpy())
    return classifier.score(lempel_ziv_rate(layer(test[0])).numpy(), test[1].numpy())


def picture(path: str, table: dict[tuple[str, str], Tensor], bound: float, taught: dict[str, Layer], x: Tensor) -> None:
    """Accuracy by rule and neuron; what the trained layers answer to a train of each class, and how complex that is."""
    figure = Figure(figsize=(13, 4.2), layout="constrained")
    bars, rasters = figure.subplots(1, 2, width_ratios=(1.4, 1))
    for k, name in enumerate(LAYERS):
        rows = torch.stack([table[rule, name] for rule in RULES])
        places = torch.arange(len(RULES)) + 0.27 * (k - 1)
        bars.bar(places, 100 * rows.mean(1), 0.25, color=COLOURS[name], label=name)
        for seed in rows.T:
            bars.plot(places, 100 * seed, "o", color="#1c2733", ms=2.5)
    bars.axhline(100 * bound, color="#c8452f", lw=1, label="the best possible")
    bars.axhline(100 / CLASSES, color="#1c2733", lw=1, ls=":", label="chance")
    bars.set(xticks=range(len(RULES)), xticklabels=list(RULES), ylabel="test accuracy (%)", ylim=(0, 112))
    bars.legend(frameon=False, ncols=3, loc="upper left")
    for k, (name, layer) in enumerate(taught.items()):
        with torch.no_grad():
            z = layer(x[:, :CLASSES])
        neuron = lempel_ziv_rate(z).var(0).argmax()
        for b in range(CLASSES):
            at, y = z[:, b, neuron].nonzero().flatten(), k * (CLASSES + 1) + b
            rasters.vlines(at, y - 0.4, y + 0.4, color=COLOURS[name], lw=1.2)
            rasters.text(len(x) + 1, y, f"{lempel_ziv_rate(z[:, b, neuron]).item():.2f}", va="center", fontsize=8)
    ticks = [k * (CLASSES + 1) + b for k in range(len(taught)) for b in range(CLASSES)]
    rasters.set(yticks=ticks, yticklabels=[f"class {b}" for _ in taught for b in range(CLASSES)], xlabel="step")
    rasters.set(title="answers after backpropagation; right: bits a step", xlim=(-3, 1.12 * len(x)))
    figure.savefig(path, dpi=120)
    print(f"written: {path}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one seed, few and short trains")
    parser.add_argument("--picture", default="meta_neuron.png", help="where the picture goes")
    options = parser.parse_args()
    seeds, steps, epochs, sizes = (1, 50, 2, (100, 200)) if options.quick else (3, 100, 10, (400, 600))
    found: dict[tuple[str, str], list[float]] = {(rule, name): [] for rule in RULES for name in LAYERS}
    bounds, taught = [], {}
    for seed in range(seeds):
        torch.manual_seed(seed)
        rates = 0.06 + 0.08 * torch.rand(CLASSES, CHANNELS)
        train, test = (trains(rates, size, steps) for size in sizes)
        bounds.append(best_possible(rates, *test))
        print(f"seed {seed}: best possible {bounds[-1]:.1%}, complexity of the input itself "
              f"{read(nn.Identity(), train, test):.1%}", flush=True)  # fmt: skip
        for rule, teach in RULES.items():
            for name, make in LAYERS.items():
                layer = make()
                teach(layer, *train, epochs)
                found[rule, name].append(read(layer, train, test))
                if rule == "backpropagation":
                    taught[name] = layer
            print(f"  {rule:16}", "   ".join(f"{n} {found[rule, n][-1]:.1%}" for n in LAYERS), flush=True)
    table = {key: torch.tensor(values) for key, values in found.items()}
    print(f"mean (and standard deviation) over {seeds} seeds, chance {1 / CLASSES:.0%}")
    for rule in RULES:
        each = [f"{n} {table[rule, n].mean():.1%} ({table[rule, n].std(correction=0):.1%})" for n in LAYERS]
        print(f"  {rule:16}", "   ".join(each))
    picture(options.picture, table, sum(bounds) / seeds, taught, test[0])


if __name__ == "__main__":
    main()
