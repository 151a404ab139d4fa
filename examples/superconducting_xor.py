"""XOR in superconducting pulses: weights are chances to pass, and a switch costs a fifth of an attojoule.

    python examples/superconducting_xor.py [--quick] [--picture superconducting_xor.png]

Two inputs send pulses at a high or low rate. A hidden neuron fires when one pulse arrives in a clock cycle (OR), one
when two do (AND); the output fires for OR without AND. Bias currents, and with them the chance of every synapse to
pass a pulse, are learned from a start at one half. Rates are compared with the exact probabilities of the circuit, by
enumeration. Krylov et al., arXiv 2311.10721, describe such circuits; this logical model and the numbers of junctions
are ours. The energy of one switching is I_c Phi_0. The answer is a rate, so what counts is how long one has to wait
until it is certain: it follows from the binomial distribution.
"""

import argparse
import itertools

import torch
from matplotlib.figure import Figure
from scipy.constants import physical_constants
from scipy.stats import binom
from torch import Tensor, nn

from spikenet import LIF
from spikenet.layers import PulseSynapses

RATES = (0.05, 0.95)  # pulses a clock cycle for 0 and for 1
CASES = torch.tensor([[0, 0], [0, 1], [1, 0], [1, 1]])
WANTED = torch.tensor([0.0, 1.0, 1.0, 0.0])
CRITICAL_CURRENT = 100e-6  # A
JUNCTIONS = 15  # that switch for a pulse through synapse, merger and neuron: our assumption
CARNOT = (300 - 4.2) / 4.2  # work that removes a unit of heat at 4.2 K, at the very least


def network() -> nn.Sequential:
    """2-2-1: OR and AND, then OR and not AND. A neuron counts within a clock cycle and forgets."""
    hidden, output = PulseSynapses(2, 2), PulseSynapses(2, 1, sign=torch.tensor([[1, -1]]))
    return nn.Sequential(hidden, LIF(1.0, torch.tensor([1.0, 2.0])), output, LIF(1.0, 1.0))


def pulses(cycles: int, repeats: int = 1) -> Tensor:
    """`[T, 4 repeats, 2]`: the four cases, again and again."""
    rates = torch.tensor(RATES)[CASES].repeat(repeats, 1)
    return (torch.rand(cycles, *rates.shape) < rates).float()


def learn(net: nn.Sequential, steps: int) -> None:
    optimiser = torch.optim.Adam(net.parameters(), lr=0.1)
    for _ in range(steps):
        loss = (net(pulses(200, 4)).mean(0)[:, 0] - WANTED.repeat(4)).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()


def exact(net: nn.Sequential, rates: tuple[float, float]) -> float:
    """The output's rate: every way for two pulses to come, four to pass into the hidden layer and two out of it."""
    (a, b), (c, d) = net[0].probability.tolist()
    ((e, f),) = net[2].probability.tolist()
    total = 0.0
    for *xs, pa, pb, pc, pd, pe, pf in itertools.product((0, 1), repeat=8):
        coins = zip((*rates, a, b, c, d, e, f), (*xs, pa, pb, pc, pd, pe, pf), strict=True)
        chance = torch.tensor([p if hit else 1 - p for p, hit in coins], dtype=torch.float64).prod().item()
        either, both = xs[0] * pa + xs[1] * pb >= 1, xs[0] * pc + xs[1] * pd >= 2
        total += chance * (either * pe - both * pf >= 1)
    return total


def errors(low: float, high: float, cycles: int) -> float:
    """Chance that a case of rate `low` or of rate `high`, whichever is worse, is on the wrong side of the middle."""
    middle = cycles * (low + high) / 2
    return max(binom.sf(middle, cycles, low), binom.cdf(middle, cycles, high))


def energy(net: nn.Sequential, x: Tensor) -> float:
    """J a clock cycle at the chip: junctions that switch at pulses on their way into a neuron."""
    hidden = net[1](net[0](x))
    arriving = 2 * x.sum(-1) + hidden.sum(-1)  # each input pulse is split to two synapses
    flux = physical_constants["mag. flux quantum"][0]
    return arriving.mean().item() * JUNCTIONS * CRITICAL_CURRENT * flux


def picture(path: str, x: Tensor, z: Tensor, table: dict[str, tuple[list[float], list[float]]]) -> None:
    """Pulses of the four cases; rates counted and exact; how certain the answer is after some clock cycles."""
    figure = Figure(figsize=(13, 3.8), layout="constrained")
    left, middle, right = figure.subplots(1, 3, width_ratios=(1.3, 1, 1))
    shown = 60
    for case in range(4):
        rows = torch.cat([x[:shown, case], z[:shown, case]], 1).bool()
        for k, colour in enumerate(("#8a97a5", "#8a97a5", "#c8452f")):
            at = rows[:, k].nonzero().flatten()
            left.vlines(at, 4 * case + k - 0.4, 4 * case + k + 0.4, color=colour, lw=1.4)
    left.set(xlabel="clock cycle", yticks=[4 * c + k for c in range(4) for k in range(3)])
    left.set(yticklabels=[name for c in CASES.tolist() for name in (*(f"input {v}" for v in c), "output")])
    for shift, (name, (counted, wanted)) in enumerate(table.items()):
        places = torch.arange(4) + 0.36 * shift - 0.18
        middle.bar(places, counted, 0.34, color=("#c3cbd3", "#2f6db5")[shift], label=name)
        middle.plot(places, wanted, "k_", ms=13, mew=1.6, label="exact" if shift else None)
    middle.set(xticks=range(4), xticklabels=["00", "01", "10", "11"], xlabel="inputs", ylabel="pulses a cycle")
    middle.legend(frameon=False)
    cycles = list(range(1, 102, 2))
    for (name, (_, wanted)), colour in zip(table.items(), ("#8a97a5", "#2f6db5"), strict=True):
        low, high = max(wanted[0], wanted[3]), min(wanted[1], wanted[2])
        right.semilogy(cycles, [errors(low, high, n) for n in cycles], color=colour, label=name)
    right.set(xlabel="clock cycles waited", ylabel="chance of a wrong answer", ylim=(1e-9, 2))
    right.legend(frameon=False)
    figure.savefig(path, dpi=120)
    print(f"written: {path}")


@torch.no_grad()
def rates_of(net: nn.Sequential, cycles: int, name: str) -> tuple[list[float], list[float]]:
    counted = net(pulses(cycles)).mean(0)[:, 0].tolist()
    wanted = [exact(net, tuple(torch.tensor(RATES)[case].tolist())) for case in CASES]
    shown = "   ".join(f"{c:.3f} ({w:.3f})" for c, w in zip(counted, wanted, strict=True))
    margin = min(counted[1:3]) - max(counted[0], counted[3])
    print(f"{name:10} {shown}   margin {margin:+.3f}")
    return counted, wanted


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer cycles")
    parser.add_argument("--picture", default="superconducting_xor.png", help="where the picture goes")
    options = parser.parse_args()
    torch.manual_seed(0)
    net, cycles = network(), 4000 if options.quick else 40_000
    print("rates, counted (exact), for inputs 00, 01, 10, 11")
    table = {"as drawn": rates_of(net, cycles, "as drawn")}
    learn(net, 100 if options.quick else 400)
    table["learned"] = rates_of(net, cycles, "learned")
    print("chances to pass:", [[f"{p:.3f}" for p in layer.probability.flatten()] for layer in (net[0], net[2])])
    x = pulses(cycles)
    with torch.no_grad():
        joules = energy(net, x)
        z = net(x)
    low, high = max(table["learned"][1][::3]), min(table["learned"][1][1:3])
    waited = next(n for n in range(1, 1000, 2) if errors(low, high, n) < 1e-6)
    print(f"wrong once in a million after {waited} clock cycles ({waited / 50:.2f} ns at 50 GHz)")
    flux = CRITICAL_CURRENT * physical_constants["mag. flux quantum"][0]
    chip = joules * waited
    print(f"a junction of {1e6 * CRITICAL_CURRENT:.0f} uA switches for {flux:.3g} J; {JUNCTIONS} of them a pulse make")
    print(f"{chip:.2g} J an answer on the chip, and at the wall {CARNOT:.0f} times as much at the very least")
    print(f"(Carnot, from 300 to 4.2 K): {chip * CARNOT:.2g} J")
    picture(options.picture, x, z, table)


if __name__ == "__main__":
    main()
