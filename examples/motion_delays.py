"""Motion from events by synapses at heterogeneous delays: HD-SNN on moving textures and photographs.

    python examples/motion_delays.py [--quick]

An event camera looks at Motion Clouds, or at one of two photographs, that move in one of eight directions at two
speeds, with the jitter of a fixating eye. HD-SNN learns one kernel over space and delay for each motion, by logistic
regression. It is tested on textures, or on the photograph, that it was not trained on, a mean over three seeds. Then
the smallest weights are pruned away, or the longest delays, and the accuracy is plotted against what is left
(motion_pruning.png), beside the learned kernels (motion_kernels.png).
"""

import argparse
import copy
import math
from collections.abc import Callable

import matplotlib.pyplot as plt
import torch
from sklearn.datasets import load_sample_image
from torch import Tensor
from torch.nn.utils import prune

from spikenet.events import EventCamera, EventTensor, bin_by_time, binarize, motion_cloud, moving_window
from spikenet.models import HDSNN

DIRECTIONS, SPEEDS = 8, (0.5, 1.0)  # pixels a millisecond
CLASSES = DIRECTIONS * len(SPEEDS)
WINDOW, STEPS, JITTER = 32, 48, 0.2  # pixels, milliseconds, pixels a millisecond
TAPS, KERNEL = 12, 9  # milliseconds, pixels
CONTRAST, THRESHOLD = 0.5, 0.5  # of log intensity
CLOUDS = "textures, tested on others"
SHARES = [1.0, 0.5, 0.25, 0.125, 0.06, 0.03, 0.015, 0.008, 0.004, 0.002, 0.001]

Scene = Callable[[int], tuple[Tensor, bool]]  # number of a recording -> texture of unit variance, whether it repeats


def clouds(first: int) -> Scene:
    """Textures that nobody else has: from seed `first` on."""
    return lambda number: (motion_cloud((1, 64, 64), frequency=0.125, bandwidth=0.1, seed=first + number)[0], True)


def photograph(name: str) -> Scene:
    """A photograph, its log intensity whitened as in Olshausen and Field (Vision Research 37, 1997)."""
    grey = torch.from_numpy(load_sample_image(name).mean(2)).add(1.0).log()
    fy, fx = (torch.fft.fftfreq(n, dtype=torch.float64) for n in grey.shape)
    f = (fy[:, None].square() + fx.square()).sqrt()
    white = torch.fft.ifft2(torch.fft.fft2(grey) * f * (-((f / 0.4) ** 4)).exp()).real
    return lambda _: ((white / white.std()).float(), False)


def velocity(label: int) -> Tensor:
    """Rows and columns a millisecond."""
    angle, speed = 2 * math.pi * (label % DIRECTIONS) / DIRECTIONS, SPEEDS[label // DIRECTIONS]
    return speed * torch.tensor([math.sin(angle), math.cos(angle)], dtype=torch.float64)


def recordings(scene: Scene, count: int, generator: torch.Generator) -> tuple[EventTensor, Tensor]:
    """Events `[T, B, 2, H, W]` and motions `[B]`: the window moves against the motion that it shows."""
    labels, camera, streams = torch.arange(count) % CLASSES, EventCamera(THRESHOLD, THRESHOLD), []
    for number, label in enumerate(labels.tolist()):
        image, repeats = scene(number)
        shaken = JITTER * torch.randn(STEPS + 1, 2, generator=generator, dtype=torch.float64)
        path = (shaken - velocity(label)).cumsum(0)
        room = torch.tensor(image.shape) - WINDOW - (path.amax(0) - path.amin(0))
        path += torch.rand(2, generator=generator, dtype=torch.float64) * room - path.amin(0)
        seen = CONTRAST * moving_window(image, path, (WINDOW, WINDOW), wrap=repeats)
        streams.append(camera(seen.exp(), torch.arange(STEPS + 1) * 1000))
    return binarize(bin_by_time(streams, dt_us=1000, steps=STEPS)), labels


def train(x: EventTensor, labels: Tensor, steps: int, generator: torch.Generator) -> HDSNN:
    """Logistic regression by Adam; each step sees a small piece of some of the recordings."""
    net, dense = HDSNN((2, WINDOW, WINDOW), CLASSES, TAPS, KERNEL), x.to_dense(torch.float32)
    optimiser = torch.optim.Adam(net.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=2e-2, total_steps=steps)
    for _ in range(steps):
        some = torch.randint(len(labels), (32,), generator=generator)
        t, row, column = (
            int(torch.randint(whole - part + 1, (), generator=generator))
            for whole, part in ((STEPS, TAPS + 7), (WINDOW, KERNEL + 5), (WINDOW, KERNEL + 5))
        )
        piece = dense[t : t + TAPS + 7, some, :, row : row + KERNEL + 5, column : column + KERNEL + 5]
        optimiser.zero_grad()
        net.loss(piece, labels[some]).backward()
        optimiser.step()
        schedule.step()
    return net


@torch.no_grad()
def accuracy(net: HDSNN, x: EventTensor, labels: Tensor) -> float:
    """Percent of the recordings whose motion is named."""
    dense = x.to_dense(torch.float32)
    answers = [net(part).argmax(1) for part in dense.split(16, 1)]
    return 100.0 * float((torch.cat(answers) == labels).float().mean())


def pruned(net: HDSNN, share: float, longest: bool = False) -> HDSNN:
    """The network with a share of its synapses: the strongest, or those of the shortest delays."""
    left = copy.deepcopy(net)
    if longest:
        mask = (torch.arange(TAPS) < max(1, round(share * TAPS))).expand(left.bank.weight.shape)
        prune.custom_from_mask(left.bank, "weight", mask)
    else:
        prune.l1_unstructured(left.bank, "weight", 1.0 - share)
    return left


def plot_kernels(net: HDSNN, path: str) -> None:
    """One row a direction, at the higher speed; one column a delay, the longest on the left."""
    delays = list(range(0, TAPS, 2))[::-1]
    kernels = net.bank.weight.detach()[-DIRECTIONS:, 0]
    figure, axes = plt.subplots(DIRECTIONS, len(delays) + 1, figsize=(7, 8.2), layout="constrained")
    for number, (row, kernel) in enumerate(zip(axes, kernels, strict=True)):
        dy, dx = velocity(CLASSES - DIRECTIONS + number).tolist()
        row[0].annotate("", (0.5 + 0.4 * dx, 0.5 - 0.4 * dy), (0.5 - 0.4 * dx, 0.5 + 0.4 * dy), arrowprops={"width": 1})
        row[0].axis("off")
        for axis, delay in zip(row[1:], delays, strict=True):
            axis.imshow(kernel[:, :, delay], cmap="RdBu_r", vmin=-kernel.abs().max(), vmax=kernel.abs().max())
            axis.set(xticks=[], yticks=[])
    for axis, delay in zip(axes[0, 1:], delays, strict=True):
        axis.set_title(f"{delay} ms", fontsize=9)
    figure.suptitle(f"Weights of ON less OFF events by delay, motion at {SPEEDS[-1]:g} pixel/ms", fontsize=10)
    figure.savefig(path, dpi=120)


def plot_pruning(curves: dict[str, Tensor], path: str) -> None:
    """Accuracy against the share of active synapses; a line and the range over the seeds."""
    figure, axis = plt.subplots(figsize=(6, 4), layout="constrained")
    for (name, curve), style in zip(curves.items(), ("o-", "s--"), strict=True):
        axis.plot(SHARES, curve.mean(0), style, label=name)
        axis.fill_between(SHARES, curve.amin(0), curve.amax(0), alpha=0.2)
    axis.axhline(100 / CLASSES, color="grey", linestyle=":", label="chance")
    axis.set(xscale="log", xlabel="share of synapses left", ylabel="accuracy, %", ylim=(0, 100))
    axis.grid(alpha=0.3)
    axis.legend()
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one seed, few textures, no photographs")
    quick = parser.parse_args().quick
    seeds, count, tests, steps = (1, 64, 32, 60) if quick else (3, 256, 160, 300)
    tasks: dict[str, Callable[[int], tuple[Scene, Scene]]] = {
        CLOUDS: lambda seed: (clouds(10_000 * seed), clouds(1_000_000 + 10_000 * seed))
    }
    if not quick:
        china, flower = photograph("china.jpg"), photograph("flower.jpg")
        tasks["china.jpg, tested on flower.jpg"] = lambda _: (china, flower)
        tasks["flower.jpg, tested on china.jpg"] = lambda _: (flower, china)
    print(f"{CLASSES} motions, chance {100 / CLASSES:.1f} %; {seeds} seeds")
    for task, scenes in tasks.items():
        found = []
        for seed in range(seeds):
            torch.manual_seed(seed)
            generator = torch.Generator().manual_seed(seed)
            for_training, for_test = scenes(seed)
            net = train(*recordings(for_training, count, generator), steps, generator)
            test = recordings(for_test, tests, generator)
            shares = SHARES if task == CLOUDS else SHARES[:1]
            found.append([[accuracy(pruned(net, share, how), *test) for share in shares] for how in (False, True)])
        strongest, shortest = torch.tensor(found).unbind(1)
        full = strongest[:, 0]
        print(f"{task}: {full.mean():.1f} % ({full.min():.1f} to {full.max():.1f})", flush=True)
        if task == CLOUDS:
            for share, kept, cut in zip(SHARES, strongest.mean(0), shortest.mean(0), strict=True):
                print(f"  {100 * share:5.1f} % of synapses: strongest {kept:.1f} %, shortest delays {cut:.1f} %")
            plot_kernels(net, "motion_kernels.png")
            plot_pruning({"strongest synapses": strongest, "shortest delays": shortest}, "motion_pruning.png")


if __name__ == "__main__":
    main()
