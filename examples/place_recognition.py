"""Where am I? Small spiking modules recognise places under changed light, and what hyperactive neurons do to them.

    python examples/place_recognition.py [--quick] [--picture place_recognition.png]

A generated way of 100 places is travelled eight times: twice as a reference, twice to calibrate, four times as a query.
Each pass has its own light (a gradient that wanders), views a pixel off, noise and things in the way. Four modules of
competing neurons (Diehl and Cook's) learn 25 places each from both references, without the others' images; a query
goes to all. Neurons that answer too many of all 200 references are silenced; how many are too many is chosen on the
calibration passes. Three such ensembles vote (seeds 0, 1 and 2, the last of 20 epochs). The queries choose nothing.
After Hussaini, Milford and Fischer, arXiv 2209.08723, on a way and a scale of our own.

Baselines: the reference whose image differs least, by the sum of absolute differences, of the images and of the
patch-normalised images that the spikes are made of.
"""

import argparse

import torch
from matplotlib.figure import Figure
from torch import Tensor

from spikenet.events import motion_cloud
from spikenet.learning import TargetSTDP, ThresholdAdaptation, normalize_weights
from spikenet.models import PlaceModules, patch_normalize, recall_at

SIDE, STRIDE, PER_MODULE = 16, 12, 25
REFERENCE, CALIBRATION, QUERY = {0: 0.3, 1: 0.6}, {2: 1.4, 7: 1.4}, {3: 1.4, 4: 1.4, 5: 1.4, 6: 1.4}  # seed: light
THRESHOLDS = (0, 5, 8, 10, 15, 20, 30, 40, 60, 100)  # references that a neuron may answer
SHOWN, LOOKED_AT = 150, 350  # ms while learning, ms while reading out
RATE, TOTAL = 10.0, 19.0  # spikes of all inputs a ms; sum of a neuron's weights


def travel(places: int, strength: float, seed: int) -> Tensor:
    """The views of a pass, `[places, side, side]`."""
    generator = torch.Generator().manual_seed(seed)
    way = motion_cloud((1, SIDE + 4, STRIDE * places + 2 * SIDE), frequency=0.1, bandwidth=0.08, seed=1)[0]
    off = torch.randint(-1, 2, (places, 2), generator=generator)
    views = [way[2 + y : 2 + y + SIDE, 8 + k * STRIDE + x :][:, :SIDE] for k, (y, x) in enumerate(off.tolist())]
    images = (0.5 + 0.15 * torch.stack(views)).clamp(0, 1)
    row, column = torch.meshgrid(torch.linspace(-1, 1, SIDE), torch.linspace(-1, 1, SIDE), indexing="ij")
    turn = 6.3 * torch.rand(1, generator=generator) + torch.arange(places)[:, None, None] / 15
    images = images * (strength * (turn.cos() * column + turn.sin() * row)).exp()
    for k in range(places):  # something in the way
        y, x = torch.randint(0, SIDE - 4, (2,), generator=generator).tolist()
        images[k, y : y + 4, x : x + 4] = torch.rand(1, generator=generator)
    return images + 0.04 * torch.randn(images.shape, generator=generator)


def spikes(images: Tensor, steps: int) -> Tensor:
    """Brighter and darker than around, as Poisson spikes on two channels, `[T, B, 2, side, side]`."""
    normal = patch_normalize(images)
    both = torch.stack([normal.clamp(min=0), (-normal).clamp(min=0)], 1)
    rates = (RATE * both / both.sum((1, 2, 3), keepdim=True)).clamp(max=1)
    return (torch.rand(steps, *rates.shape) < rates).float()


def learn(modules: PlaceModules, images: Tensor, places: Tensor, epochs: int) -> None:
    adaptation = ThresholdAdaptation(increment=0.003 * modules.neurons, tau=5e4)
    for k, net in enumerate(modules.parts):
        own = modules.own(k, places).nonzero().flatten()
        for epoch in range(epochs):
            rule = TargetSTDP(eta=0.1 / (1 + epoch / 8), x_target=0.25, nearest=True)
            for some in own[torch.randperm(len(own))].split(5):
                normalize_weights(net.weight, TOTAL)
                x = spikes(images[some], SHOWN)
                z = net(x)
                rule.run(x.flatten(2), z, net.weight)
                net.theta.copy_(adaptation.run(z, net.theta))
        normalize_weights(net.weight, TOTAL)


def difference(images: Tensor, references: Tensor, places: int) -> Tensor:
    """Scores of the baseline: minus the sum of absolute differences to the nearer of a place's references."""
    sums = torch.cdist(images.flatten(1), references.flatten(1), p=1)
    return -sums.view(len(images), -1, places).amin(1)


def picture(path: str, passes: list[Tensor], table: dict[int, float], chosen: int, kinds: dict[str, Tensor]) -> None:
    """Four views of a place; recall by threshold in calibration; a query's scores; recall at N."""
    figure = Figure(figsize=(13, 7.6), layout="constrained")
    grid = figure.add_gridspec(3, 12, height_ratios=(1, 1, 2))
    places = len(passes[0])
    place = places // 3
    for k, name in enumerate(("reference", "reference", "calibration", "query")):
        for row, images in enumerate((passes[k][place : place + 1], patch_normalize(passes[k][place : place + 1]))):
            axis = figure.add_subplot(grid[row, 3 * k : 3 * k + 3])
            axis.imshow(images[0], cmap="gray" if row == 0 else "RdBu_r")
            axis.set_axis_off()
            axis.set_title("as spikes" if row else f"{name}, place {place}", fontsize=9)
    silenced, matrix, recall = (figure.add_subplot(grid[2, 4 * k : 4 * k + 4]) for k in range(3))
    silenced.plot([str(t or "none") for t in table], [100 * r for r in table.values()], "o-", color="#2f6db5")
    silenced.plot(str(chosen or "none"), 100 * table[chosen], "o", color="#c8452f", label="chosen")
    silenced.set(xlabel="silenced from so many references on", ylabel="recall@1, calibration passes (%)")
    silenced.legend(frameon=False)
    scores = kinds["modules, regularised"]
    first = scores[:places]
    matrix.imshow(first / first.amax(1, keepdim=True).clamp(min=1e-9), cmap="magma", aspect="auto", vmin=0, vmax=1)
    matrix.set(xlabel="place", ylabel="query", title="scores of the first query pass")
    truth, upto = torch.arange(places).repeat(len(scores) // places), range(1, 26)
    for (name, found), style in zip(kinds.items(), ("k:", "k--", "C7-", "C0-"), strict=True):
        recall.plot(upto, [100 * recall_at(found, truth, n) for n in upto], style, label=name)
    recall.set(xlabel="N", ylabel="recall@N, query passes (%)", ylim=(0, 102))
    recall.legend(frameon=False, loc="lower right")
    figure.savefig(path, dpi=120)
    print(f"written: {path}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="half of the way, one ensemble, fewer epochs")
    parser.add_argument("--picture", default="place_recognition.png", help="where the picture goes")
    options = parser.parse_args()
    places, seeds, epochs = (50, 1, 5) if options.quick else (100, 3, 20)
    where = torch.arange(places)
    kinds_of_passes = (REFERENCE, CALIBRATION, QUERY)
    references, calibrating, queries = (
        torch.cat([travel(places, strength, seed) for seed, strength in kind.items()]) for kind in kinds_of_passes
    )
    labels, truth = where.repeat(len(REFERENCE)), where.repeat(len(QUERY))
    members: list[tuple[PlaceModules, Tensor]] = []
    for seed in range(seeds):
        torch.manual_seed(seed)
        modules = PlaceModules((2, SIDE, SIDE), places, PER_MODULE, seed=seed)
        learn(modules, references, labels, epochs)
        answers = modules.counts(spikes(references, LOOKED_AT))
        modules.assign(answers, labels)
        members.append((modules, answers))

    def votes(counts: list[Tensor], threshold: int) -> Tensor:
        """Scores of all members together, their neurons silenced from a threshold on."""
        for modules, answers in members:
            modules.silence(answers, threshold)
        return sum(modules.scores(c) for (modules, _), c in zip(members, counts, strict=True))

    calibration, query = ([m.counts(spikes(p, LOOKED_AT)) for m, _ in members] for p in (calibrating, queries))
    known = where.repeat(len(CALIBRATION))
    table = {threshold: recall_at(votes(calibration, threshold), known) for threshold in THRESHOLDS}
    chosen = max(table, key=table.__getitem__)
    print("calibration passes, recall@1 by threshold:", "  ".join(f"{t or 'none'}: {r:.0%}" for t, r in table.items()))
    kinds = {
        "absolute differences": difference(queries, references, places),
        "differences, patch-normalised": difference(patch_normalize(queries), patch_normalize(references), places),
        "modules": votes(query, 0),
        "modules, regularised": votes(query, chosen),
    }
    silent = sum(int((~m.active).sum()) for m, _ in members) / sum(m.active.numel() for m, _ in members)
    print(f"neurons silenced from {chosen or 'no number of'} references on: {silent:.0%}")
    print(f"{len(truth)} queries, {places} places:")
    for name, scores in kinds.items():
        print(f"  {name:30} recall@1 {recall_at(scores, truth):.1%}   recall@5 {recall_at(scores, truth, 5):.1%}")
    right = [((s >= s.gather(1, truth[:, None])).sum(1) == 1).double() for s in kinds.values()]
    for name, other in zip(kinds, right, strict=True):
        gain = right[-1] - other
        error = (gain.std() / len(gain) ** 0.5).item()
        if other is not right[-1]:
            print(f"  regularised modules less {name}: {100 * gain.mean():+.1f} +- {100 * error:.1f} points")
    passes = [references[:places], references[places:], calibrating[:places], queries[:places]]
    picture(options.picture, passes, table, chosen, kinds)


if __name__ == "__main__":
    main()
