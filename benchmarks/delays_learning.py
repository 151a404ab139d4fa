"""Where it pays to learn delays: learned against fixed random ones, five seeds each, drawn as one figure.

    python benchmarks/delays_learning.py --train FILE [--processes N]     # FILE in the layout of SHD, with speakers
    python benchmarks/delays_learning.py --from RESULTS                   # only draw what was measured before
    python benchmarks/delays_learning.py --quick                          # the made task, two seeds, few epochs

Runs are paired by their seed: the same first weights and delays (rounded where they are fixed), the same batches.
Fixed delays are one tap a synapse in training too. Learned ones follow the published recipe (Hammouamri et al., ICLR
2024), whose network hears between the taps in training, and is rounded when it is measured; "settled" ones are rounded
and held after 70 % of the epochs, and the weights go on. All else is the published recipe for all three, but for 100
epochs in place of 150; the weights are those of the last epoch. Four questions:

- small layers: two hidden layers of so many neurons; seed k is measured on fold k of the training file.
- few recordings: so many of each word and speaker to train on, two layers of 32, measured on fold k.
- a speaker left out: trained on five speakers, measured on the sixth; seed k leaves out speaker k.
- made motifs: ten classes that differ only in when each of 20 channels spikes, once, within 25 steps; a tenth of these
  spikes is lost, and others come at random. One hidden layer. No draw of a few delays matches 20 lags.

Only the training file is read; its folds keep every fifth recording of a word and speaker apart.

On spoken English digits of six speakers, on an H100, seeds 0 to 4. Per cent right with fixed delays, and what is
gained, mean and spread over the pairs:

                                          fixed    learned        settled
    small layers            8              42.9    +7.6 ± 12.1    +4.6 ± 13.1
                            16             67.3   +11.3 ±  2.7    +9.3 ±  2.9
                            32             83.3    +7.4 ±  1.6    +6.3 ±  1.7
                            64             91.6    +2.5 ±  0.1    +2.2 ±  0.5
    few recordings          1              57.0    +4.9 ±  3.1    +2.3 ±  5.0
                            2              62.0    +6.9 ±  2.3    +4.1 ±  1.5
                            4              67.9    +7.3 ±  1.2    +6.0 ±  1.1
    a speaker left out      16             45.1   +10.7 ± 11.3   +10.8 ±  9.2
                            64             57.3    +7.5 ±  3.6    +7.9 ±  3.3
    made motifs             16             50.5    +5.7 ±  7.9   +23.2 ±  7.1
                            32             77.6    +2.3 ±  6.3   +16.2 ±  2.9
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections import defaultdict
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from _compare import finish, machine
from _delay_training import FOLDS, Recipe, Split, Task, fold, part, run_all, spoken
from torch import Tensor

STEPS = 64
BASE = Recipe(epochs=100)
MOTIF = replace(BASE, dropout=0.0, batch=512)
CLASSES, CHANNELS, LAG, MOTIF_STEPS = 10, 20, 25, 60
NOISE, LOST = 0.03, 0.1
PANELS = {
    "small layers": "neurons in each of two hidden layers",
    "few recordings": "recordings of each word and speaker",
    "a speaker left out": "neurons in each of two hidden layers",
    "made motifs": "neurons in the hidden layer",
}


# Splits.


def small(path: Path, number: int) -> Split:
    data = spoken(path, STEPS)
    held = fold(data, number)
    return part(data, ~held, held)


def few(path: Path, number: int, count: int) -> Split:
    """The first `count` recordings of each word and speaker outside the fold."""
    data = spoken(path, STEPS)
    held = fold(data, number)
    chosen, seen = torch.zeros_like(held), defaultdict(int)
    for n in (~held).nonzero()[:, 0].tolist():
        key = int(data.labels[n]), int(data.speakers[n])
        seen[key] += 1
        chosen[n] = seen[key] <= count
    return part(data, chosen, held)


def without(path: Path, speaker: int) -> Split:
    data = spoken(path, STEPS)
    return part(data, data.speakers != speaker, data.speakers == speaker)


def motifs(seed: int, count: int, lags: Tensor) -> tuple[Tensor, Tensor]:
    """Spikes `[T, count, CHANNELS]`, each a motif that begins somewhere, and which one."""
    draw = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % len(lags)
    begin = torch.randint(0, MOTIF_STEPS - LAG + 1, (count, 1), generator=draw)
    x = torch.rand(MOTIF_STEPS, count, CHANNELS, generator=draw) < NOISE
    heard = torch.rand(count, CHANNELS, generator=draw) >= LOST
    x.scatter_(0, (begin + lags[labels])[None], heard[None] | x.gather(0, (begin + lags[labels])[None]))
    return x.to(torch.uint8), labels


def made(seed: int, count: int = 4096) -> Split:
    """Other lags for each seed; 2000 recordings are held out."""
    lags = torch.randint(0, LAG, (CLASSES, CHANNELS), generator=torch.Generator().manual_seed(seed))
    return Split(*motifs(2 * seed + 1000, count, lags), *motifs(2 * seed + 1001, 2000, lags), CLASSES)


def kinds(name: str, at: int, recipe: Recipe, seed: int, split: Any, where: str) -> list[Task]:
    """The same run with delays of each kind."""
    each = (replace(recipe, delays="fixed"), recipe, replace(recipe, settle=0.7))
    return [Task(f"{name}|{at}", kind, seed, split, where) for kind in each]


def study(path: Path, seeds: list[int]) -> list[Task]:
    """All runs, the first seeds first."""
    tasks = []
    for k in seeds:
        fold_k = f"train, fold {k % FOLDS}"
        for width in (8, 16, 32, 64):
            recipe = replace(BASE, hidden=(width, width))
            tasks += kinds("small layers", width, recipe, k, partial(small, path, k % FOLDS), fold_k)
        for width in (16, 32):
            tasks += kinds("made motifs", width, replace(MOTIF, hidden=(width,)), k, partial(made, k), "made")
        for count in (1, 2, 4):
            recipe = replace(BASE, hidden=(32, 32), batch=15 * count)  # four batches an epoch
            tasks += kinds("few recordings", count, recipe, k, partial(few, path, k % FOLDS, count), fold_k)
        for width in (16, 64):
            recipe, where = replace(BASE, hidden=(width, width)), f"speaker {k}"
            tasks += kinds("a speaker left out", width, recipe, k, partial(without, path, k), where)
    return tasks


def quick() -> list[Task]:
    recipe = replace(MOTIF, hidden=(16,), epochs=4)
    return [task for k in (0, 1) for task in kinds("made motifs", 16, recipe, k, partial(made, k, 512), "made")]


# What came out.

KINDS = {"fixed": "tab:gray", "learned": "tab:orange", "settled": "tab:red"}
Found = dict[str, dict[str, dict[str, list[float]]]]


def gathered(done: list[dict[str, Any]]) -> Found:
    """Per cent right by panel, place and kind of delays, seed by seed; seeds that lack a kind are left out."""
    runs: dict[Any, dict[str, float]] = defaultdict(dict)
    for run in done:
        name, at = run["name"].split("|")
        kind = "settled" if "settle" in run["recipe"] else run["recipe"].get("delays", "learned")
        runs[name, int(at), run["seed"]][kind] = 100 * run["accuracy"]
    found: Found = {}
    for (name, at, _), kinds in sorted(runs.items()):
        if len(kinds) == len(KINDS):
            place = found.setdefault(name, {}).setdefault(str(at), {kind: [] for kind in KINDS})
            for kind in KINDS:
                place[kind].append(kinds[kind])
    return found


def told(found: Found) -> list[dict[str, Any]]:
    """Print the means, and what learning gains seed by seed; returns the rows."""
    rows = []
    for name, places in found.items():
        print(f"\n{name}: per cent right, and what is gained over fixed delays, seed by seed")
        for at, kinds in places.items():
            row: dict[str, Any] = {"case": f"{name}, {at}", **kinds}
            print(f"  {at:>3}  " + "  ".join(f"{kind} {statistics.mean(got):5.1f}" for kind, got in kinds.items()))
            for kind in ("learned", "settled"):
                gain = [a - b for a, b in zip(kinds[kind], kinds["fixed"], strict=True)]
                spread = statistics.stdev(gain) if gain[1:] else 0.0
                each = " ".join(f"{g:+.1f}" for g in gain)
                print(f"       {kind} {statistics.mean(gain):+5.1f} ± {spread:.1f}   {each}")
                row |= {f"{kind} gains": statistics.mean(gain), f"{kind} spread": spread}
            rows.append(row)
    return rows


def drawn(found: Found, path: Path) -> None:
    """Four panels: every seed as a dot, means as lines."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, len(PANELS), figsize=(15, 4), layout="constrained")
    for axis, (name, label) in zip(axes, PANELS.items(), strict=True):
        places = found.get(name, {})
        for side, (kind, colour) in zip((-0.05, 0.0, 0.05), KINDS.items(), strict=True):
            rows = [kinds[kind] for kinds in places.values()]
            for x, row in enumerate(rows):
                axis.plot([x + side] * len(row), row, "o", color=colour, alpha=0.35, markersize=4, markeredgewidth=0)
            means = [statistics.mean(row) for row in rows]
            axis.plot([x + side for x in range(len(rows))], means, "o-", color=colour, label=f"{kind} delays")
        axis.set_xticks(range(len(places)), list(places))
        axis.set(title=name, xlabel=label, xlim=(-0.5, max(len(places), 1) - 0.5))
        axis.grid(axis="y", alpha=0.3)
    axes[0].set_ylabel("right, %")
    axes[0].legend(frameon=False)
    figure.savefig(path, dpi=130)
    print(f"\n{path}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", type=Path, help="training file in the layout of SHD, with speakers")
    parser.add_argument("--from", type=Path, nargs="+", dest="before", help="draw these results, train nothing")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4], help="seeds, 0 to 5")
    parser.add_argument("--only", nargs="+", choices=PANELS, default=[*PANELS], help="these questions alone")
    parser.add_argument("--processes", type=int, default=1, help="runs at once (default 1)")
    parser.add_argument("--seconds", type=float, default=86_400, help="stop after so long")
    parser.add_argument("--out", type=Path, default=Path(), help="folder of the figure and the results")
    parser.add_argument("--quick", action="store_true", help="the made task alone, two seeds, few epochs")
    options = parser.parse_args()
    print(torch.cuda.get_device_name() if torch.cuda.is_available() else machine(), flush=True)
    if options.before:
        done = [json.loads(line) for path in options.before for line in path.read_text().splitlines()]
    else:
        tasks = quick() if options.quick else study(options.train, options.seeds)
        tasks = [task for task in tasks if task.name.split("|")[0] in options.only]
        done = run_all(tasks, options.processes, options.seconds, options.out / "delays_learning.jsonl")
    found = gathered(done)
    rows = told(found)
    drawn(found, options.out / "delays_learning.png")
    (options.out / "delays_learning.json").write_text(json.dumps(rows, indent=1))
    finish(rows)


if __name__ == "__main__":
    main()
