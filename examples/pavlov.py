"""Pavlov's dog: a bell that comes before food is answered before the food comes, and forgotten when none follows.

    python examples/pavlov.py [--quick] [--picture pavlov.png]

Ten neurons hear a bell and a light, and fire at food. Spike pairs leave an eligibility at every synapse; dopamine makes
weights of it (reward-modulated STDP, Izhikevich, Cerebral Cortex 17, 2007). Dopamine is what was not expected: food,
less the answer to what came before it. The light is seen as often as the bell, but never with food. Seed 0.
"""

import argparse

import torch
from matplotlib.figure import Figure

from spikenet import LIF
from spikenet.learning import STDP, RewardSTDP

NEURONS, INPUTS = 10, 30  # inputs for the bell, and as many for the light
CUE, FOOD, END = 20, 100, 250  # ms
BELL, LIGHT = slice(0, INPUTS), slice(INPUTS, 2 * INPUTS)
RULE = RewardSTDP(rule=STDP(a_plus=0.002, a_minus=0.001, w_max=0.1), lr=0.003)


def trial(weight: torch.Tensor, cue: slice, fed: bool) -> tuple[float, torch.Tensor, torch.Tensor]:
    """The answer before food could come (spikes a neuron), and all spikes in and out; the weights learn."""
    x = torch.zeros(END, 1, 2 * INPUTS)
    x[CUE:FOOD, :, cue] = (torch.rand(FOOD - CUE, 1, INPUTS) < 0.1).float()
    taste = torch.zeros(END, 1, 1)
    taste[FOOD : FOOD + 40] = 0.3 * fed
    z = LIF(tau=10.0, decay_input=False)(x @ weight.T + taste + 0.05 * torch.randn(END, 1, NEURONS))
    answer = z[:FOOD].sum().item() / NEURONS
    dopamine = torch.zeros(END, 1)
    dopamine[FOOD] = fed - min(answer / 4, 1.0)  # four spikes a neuron: quite sure of food
    RULE.run(x, z, weight, dopamine)
    return answer, x, z


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer trials")
    parser.add_argument("--picture", default="pavlov.png", help="where the picture goes")
    options = parser.parse_args()
    torch.manual_seed(0)
    count = 20 if options.quick else 60
    weight = 0.02 * torch.rand(NEURONS, 2 * INPUTS)
    answers: dict[str, list[float]] = {"bell": [], "light": []}
    means: dict[str, list[float]] = {"bell": [], "light": []}
    shown = {}
    for n in range(2 * count):
        fed = n < count
        for name, cue in (("bell", BELL), ("light", LIGHT)):
            answer, x, z = trial(weight, cue, fed and name == "bell")
            answers[name].append(answer)
            means[name].append(weight[:, cue].mean().item())
            if name == "bell" and n in (0, count - 1, 2 * count - 1):
                shown[n] = x, z
    for name, found in answers.items():
        first, learned, last = (sum(found[k : k + 5]) / 5 for k in (0, count - 5, 2 * count - 5))
        print(f"{name:5}  spikes a neuron before food: {first:.2f} at first, {learned:.2f} after {count} meals, "
              f"{last:.2f} after {count} trials without")  # fmt: skip
    figure = Figure(figsize=(13, 4), layout="constrained")
    *rasters, course, strength = figure.subplots(1, 5, width_ratios=(1, 1, 1, 1.4, 1.4))
    for axis, (n, (x, z)), title in zip(
        rasters, shown.items(), ("first bell", "after meals", "after none"), strict=True
    ):
        for spikes, low, colour in ((x[:, 0, BELL], 0, "#8a97a5"), (z[:, 0], INPUTS + 2, "#c8452f")):
            time, neuron = spikes.nonzero(as_tuple=True)
            axis.plot(time, neuron + low, "|", color=colour, ms=4)
        axis.axvspan(FOOD, FOOD + 40, color="#e08a1e", alpha=0.25 * (n < count), lw=0)
        axis.set(
            title=f"{title} (trial {n + 1})", xlabel="ms", yticks=[INPUTS / 2, INPUTS + 2 + NEURONS / 2], xlim=(0, END)
        )
        axis.set_yticklabels(["bell", "answer"], rotation=90, va="center")
    for axis, table, label in ((course, answers, "spikes a neuron before food"), (strength, means, "mean weight")):
        for name, colour in (("bell", "#2f6db5"), ("light", "#8a97a5")):
            axis.plot(table[name], color=colour, label=name)
        axis.axvspan(0, count, color="#e08a1e", alpha=0.12, lw=0, label="food after the bell")
        axis.set(xlabel="trial", ylabel=label, xlim=(0, 2 * count - 1))
    course.legend(frameon=False, loc="upper right", fontsize=8)
    figure.savefig(options.picture, dpi=120)
    print(f"written: {options.picture}")


if __name__ == "__main__":
    main()
