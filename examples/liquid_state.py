"""A liquid state machine hears and sees: images find spoken digits through a reservoir that never learns.

    python examples/liquid_state.py [--quick] [--spoken fsdd_spikes_train.h5.gz fsdd_spikes_valid.h5.gz]
                                    [--picture liquid_state.png]

Two fixed random reservoirs turn events into spike counts, one those of an event camera (digits-dvs), one those of a
cochlea. A linear projection behind each is trained contrastively: an image and a sound of the same digit belong
together. No classifier is ever trained; a sound is given the label of the nearest image, and the other way round.

1. Recordings that were never seen, all ten classes: projections learn from the training parts (1077 images, 2160
   sounds), the test parts are looked at once (360 images, 300 sounds).
2. Classes that were never seen: two are left out of training and told apart in the test parts; all 45 pairs, with the
   standard error over the pairs.

The last step is taken, seed 0; sizes, decay and scale of the reservoirs were chosen on the validation parts. --spoken
names files in the SHD layout. Without them, and with --quick, sounds are made: noisy chirps on 140 channels.
"""

import argparse
import itertools
import math
from typing import NamedTuple

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.nn import functional

import spikenet as sn
from spikenet.models import LiquidStateMachine
from spikenet.training import info_nce

CLASSES, CHANNELS, NEURONS, DIM = 10, 140, 256, 64


class Part(NamedTuple):
    """Features `[N, neurons]` and labels."""

    features: Tensor
    labels: Tensor

    def of(self, classes: tuple[int, ...]) -> "Part":
        mine = torch.isin(self.labels, torch.tensor(classes))
        return Part(self.features[mine], self.labels[mine])


def images() -> tuple[Part, Part]:
    data = sn.data.DigitsDVS(batch_size=256)
    liquid = LiquidStateMachine(data.feature_shape, NEURONS)
    return standard(*(counted(liquid, loader) for loader in (data.train_dataloader(), data.test_dataloader())))


def sounds(files: list[str] | None) -> tuple[Part, Part]:
    liquid = LiquidStateMachine((CHANNELS,), NEURONS)
    if files is None:
        return standard(*(counted(liquid, [chirps(count)]) for count in (400, 100)))
    data = sn.data.SHD(train=files[0], test=files[1], pool=5, dt_us=10_000, steps=80, batch_size=256)
    return standard(*(counted(liquid, loader) for loader in (data.train_dataloader(), data.test_dataloader())))


def chirps(count: int, steps: int = 40) -> tuple[Tensor, Tensor]:
    """Stand-ins for words: two tones each, that rise and fall in a class's own way, a voice's pitch, and noise."""
    generator = torch.Generator().manual_seed(count)
    ways = torch.rand(CLASSES, 2, 3, generator=torch.Generator().manual_seed(1))
    labels = torch.arange(count) % CLASSES
    start, rise, bend = (ways[labels] + 0.05 * torch.randn(count, 2, 3, generator=generator)).unbind(-1)
    time = torch.linspace(0, 1, steps)[:, None, None]
    tone = CHANNELS * (0.1 + 0.4 * start + 0.4 * rise * time + 0.2 * bend * (math.pi * time).sin())
    pitch = 8 * torch.randn(count, 1, generator=generator)
    distance = torch.arange(CHANNELS) - (tone + pitch)[..., None]
    rates = (0.6 * (-(distance**2) / 18).exp()).sum(2) + 0.02
    return (torch.rand(rates.shape, generator=generator) < rates).float(), labels


def counted(liquid: LiquidStateMachine, batches) -> Part:
    found = [(liquid(events), labels) for events, labels in batches]
    return Part(torch.cat([f for f, _ in found]), torch.cat([labels for _, labels in found]))


def standard(train: Part, test: Part) -> tuple[Part, Part]:
    """Mean 0 and deviation 1, by the training part."""
    mean, deviation = train.features.mean(0), train.features.std(0) + 1e-3
    return tuple(part._replace(features=(part.features - mean) / deviation) for part in (train, test))


def align(image: Part, sound: Part, classes: list[int], steps: int) -> tuple[nn.Linear, nn.Linear]:
    """Two projections; each step takes sixteen times one image and one sound of every class."""
    torch.manual_seed(0)
    projections = nn.Linear(NEURONS, DIM), nn.Linear(NEURONS, DIM)
    optimiser = torch.optim.AdamW([p for net in projections for p in net.parameters()], lr=3e-3)
    members = [[(part.labels == c).nonzero().flatten() for c in classes] for part in (image, sound)]
    for _ in range(steps):
        chosen = [torch.stack([m[torch.randint(len(m), (16,))] for m in kind], 1) for kind in members]
        both = [net(part.features[some]) for net, part, some in zip(projections, (image, sound), chosen, strict=True)]
        loss = info_nce(*both)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return projections


@torch.no_grad()
def similarity(projections: tuple[nn.Linear, nn.Linear], image: Part, sound: Part) -> Tensor:
    """Cosines, `[sounds, images]`."""
    both = [
        functional.normalize(net(part.features), dim=-1) for net, part in zip(projections, (image, sound), strict=True)
    ]
    return both[1] @ both[0].T


def found(near: Tensor, image: Part, sound: Part) -> tuple[float, float]:
    """How often the nearest image of a sound has its label, and the nearest sound of an image."""
    by_sound = (image.labels[near.argmax(1)] == sound.labels).double().mean().item()
    return by_sound, (sound.labels[near.argmax(0)] == image.labels).double().mean().item()


def picture(path: str, near: Tensor, image: Part, sound: Part, unseen: Tensor) -> None:
    """All cosines of the test parts, sorted by class; which digit answers which; and what becomes of unseen classes."""
    figure = Figure(figsize=(13, 4.2), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    rows, columns = sound.labels.argsort(stable=True), image.labels.argsort(stable=True)
    shown = left.imshow(near[rows][:, columns], aspect="auto", cmap="RdBu_r", vmin=-1, vmax=1, interpolation="nearest")
    figure.colorbar(shown, ax=left, label="cosine", shrink=0.8)
    left.set(xlabel="images, by digit", ylabel="sounds, by digit", title="test recordings in the common space")
    table = torch.zeros(CLASSES, CLASSES)
    table.index_put_((sound.labels, image.labels[near.argmax(1)]), torch.ones(len(rows)), accumulate=True)
    middle.imshow(table / table.sum(1, keepdim=True), cmap="Blues", vmin=0, vmax=1)
    for (a, b), n in ((divmod(i, CLASSES), n) for i, n in enumerate(table.flatten().int().tolist()) if n):
        middle.text(b, a, n, ha="center", va="center", fontsize=8, color="white" if n > table[a].sum() / 2 else "black")
    middle.set(xlabel="digit of the nearest image", ylabel="digit spoken", xticks=range(10), yticks=range(10))
    bins = torch.linspace(0, 100, 21).tolist()
    names, colours = ["a sound finds images", "an image finds sounds"], ["#2f6db5", "#e08a1e"]
    right.hist((100 * unseen).T.tolist(), bins, label=names, color=colours)
    right.axvline(50, color="#c8452f", lw=1, label="chance")
    right.set(xlabel="accuracy (%)", ylabel="pairs of classes left out", title="two classes never seen")
    right.legend(frameon=False)
    figure.savefig(path, dpi=120)
    print(f"written: {path}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="made sounds, fewer steps, ten of the 45 pairs")
    parser.add_argument("--spoken", nargs=2, metavar=("TRAIN", "TEST"), help="files of spoken digits, SHD layout")
    parser.add_argument("--picture", default="liquid_state.png", help="where the picture goes")
    options = parser.parse_args()
    image, image_test = images()
    sound, sound_test = sounds(None if options.quick else options.spoken)
    projections = align(image, sound, list(range(CLASSES)), 100 if options.quick else 500)
    near = similarity(projections, image_test, sound_test)
    kinds = ("a sound finds images", "an image finds sounds")
    print(f"1. unseen recordings: {len(sound_test.labels)} sounds, {len(image_test.labels)} images, chance 10 %")
    for kind, part, share in zip(kinds, (sound_test, image_test), found(near, image_test, sound_test), strict=True):
        error = math.sqrt(0.1 * 0.9 / len(part.labels))
        print(f"   {kind:22} {share:.1%}   {(share - 0.1) / error:+.1f} standard errors of chance")
    pairs = list(itertools.combinations(range(CLASSES), 2))[:: 5 if options.quick else 1]
    results = []
    for pair in pairs:
        seen = [c for c in range(CLASSES) if c not in pair]
        left_out = image_test.of(pair), sound_test.of(pair)
        nets = align(image, sound, seen, 50 if options.quick else 150)
        results.append(found(similarity(nets, *left_out), *left_out))
    unseen = torch.tensor(results, dtype=torch.float64)
    print(f"2. unseen classes, {len(pairs)} pairs, chance 50 %")
    for kind, share in zip(kinds, unseen.T, strict=True):
        error = share.std().item() / math.sqrt(len(pairs))
        print(f"   {kind:22} {share.mean():.1%} +- {error:.1%}   {(share.mean() - 0.5) / error:+.1f} standard errors")
    picture(options.picture, near, image_test, sound_test, unseen)


if __name__ == "__main__":
    main()
