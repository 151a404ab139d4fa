"""Training of many small networks with delays at once: the recipe, its data and the loop, on a GPU or the CPU.

The loop is the published one (Hammouamri et al., ICLR 2024, and its code): Adam, one cycle of the learning rate over
the run, delays at a rate of their own that falls by a cosine, both stepped every epoch; sigma falls in the first
quarter. What a recipe adds (augmentation, averaged weights) happens on the dense batch.
"""

from __future__ import annotations

import json
import multiprocessing
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from spikenet.data import SHD
from spikenet.events.binning import TimeGrid
from spikenet.layers import DelayLinear, SigmaSchedule
from spikenet.models import DelayNet
from spikenet.models.base import Readout

FOLDS = 5
LAST = 0.23


@dataclass(frozen=True)
class Recipe:
    """How one network is made and trained; the defaults are those published for SHD, but for the number of epochs."""

    delays: str = "learned"  # or "fixed", as drawn, or "none"
    form: str = "spikenet"  # or "dcls", the package's layer in the same network
    hidden: tuple[int, ...] = (256, 256)
    taps: int = 25
    elements: int = 1
    tau: float = 1.005
    dropout: float = 0.4
    readout: Readout = "softmax-sum"
    epochs: int = 150
    batch: int = 256  # about: an epoch has batches of one size
    lr: float = 5e-3
    delay_lr: float = 0.1
    decay: float = 1e-5
    fall: float = 0.25  # share of the epochs in which sigma falls
    settle: float = 1.0  # share of the epochs after which the delays are rounded and held
    smoothing: float = 0.0
    average: float = 0.0  # share of the averaged weights that a step keeps; 0 takes the last weights
    shift: int = 0  # of a recording by up to so many channels
    slide: int = 0  # of a recording by up to so many steps
    stretch: float = 0.0  # of its time, up or down by up to this share
    drop: float = 0.0  # share of the counts that is lost
    mask: float = 0.0  # longest stretch of time, and broadest band of channels, that is lost, as a share of all
    blend: float = 0.0  # share of the recordings that are mixed, count by count, with another of their class
    tf32: bool = True  # on a GPU: products with TF32's errors in both forms, or with those of float32


class Split(NamedTuple):
    """Counts `[T, N, C]` and labels `[N]` to train on and to measure on."""

    x: Tensor
    labels: Tensor
    x_held: Tensor
    labels_held: Tensor
    classes: int


# Data.


class Spoken(NamedTuple):
    """A file of spoken words: counts `[T, N, 140]` in steps of 10 ms, labels and speakers `[N]`."""

    x: Tensor
    labels: Tensor
    speakers: Tensor
    classes: int


@cache
def spoken(path: Path, steps: int) -> Spoken:
    """The whole file, five channels joined to one."""
    recordings = SHD(train=path, test=path).recordings(path)
    x = recordings.batch(np.arange(len(recordings)), TimeGrid(10_000, steps)).to_dense(torch.uint8)
    assert recordings.speakers is not None
    labels, speakers = torch.from_numpy(recordings.labels), torch.from_numpy(recordings.speakers)
    return Spoken(x, labels.long(), speakers.long(), len(recordings.classes))


def fold(data: Spoken, number: int, of: int = FOLDS) -> Tensor:
    """Which recordings are held out, bool `[N]`: of each class and speaker every fifth, in the order of the file."""
    group = data.labels * (int(data.speakers.max()) + 1) + data.speakers
    order = torch.argsort(group, stable=True)
    starts = torch.searchsorted(group[order], group[order])
    held = torch.empty(len(group), dtype=torch.bool)
    held[order] = (torch.arange(len(group)) - starts) % of == number
    return held


def part(data: Spoken, train: Tensor, held: Tensor) -> Split:
    """Some recordings to train on, others to measure on."""
    return Split(data.x[:, train], data.labels[train], data.x[:, held], data.labels[held], data.classes)


# The network.


class Dcls(nn.Module):
    """The package's layer in place of a `DelayLinear` with the same parameters; rounded in evaluation as published."""

    def __init__(self, ours: DelayLinear, learned: bool) -> None:
        from DCLS.construct.modules import Dcls1d

        super().__init__()
        self.version = "gauss" if learned else "max"
        self.taps = ours.taps
        self.inner = Dcls1d(
            ours.in_features, ours.out_features, ours.elements, dilated_kernel_size=ours.taps, bias=False,
            version=self.version,
        )  # fmt: skip
        state = ours.dcls_state()
        state.setdefault("SIG", torch.zeros_like(state["P"]))
        self.inner.load_state_dict(state)
        self.inner.SIG.requires_grad_(False)
        self.inner.P.requires_grad_(learned)

    def forward(self, x: Tensor) -> Tensor:
        inner = self.inner
        padded = functional.pad(x.permute(1, 2, 0), (self.taps - 1, (self.taps - 1) // 2))
        if self.training:
            inner.clamp_parameters()
            return inner(padded).permute(2, 0, 1)
        rounded = inner.P.detach().round().clamp(-(self.taps // 2), self.taps // 2)
        inner.DCK.version = "max"
        k = inner.DCK(inner.weight, rounded, torch.zeros_like(inner.SIG))
        inner.DCK.version = self.version
        return functional.conv1d(padded, k).permute(2, 0, 1)


def network(recipe: Recipe, channels: int, classes: int) -> DelayNet:
    """The network of a recipe; what is drawn follows from torch's seed and is the same for all kinds of delays."""
    taps = 1 if recipe.delays == "none" else recipe.taps
    net = DelayNet(
        (channels,), classes, recipe.hidden, taps, recipe.elements,
        learned=recipe.delays == "learned", tau=recipe.tau, dropout=recipe.dropout, readout=recipe.readout,
    )  # fmt: skip
    if recipe.form == "dcls":
        for block in net.body[2:]:  # type: ignore[index]
            block.delays = Dcls(block.delays, recipe.delays == "learned")
    return net


def positions(net: nn.Module) -> list[nn.Parameter]:
    return [p for name, p in net.named_parameters() if name.endswith((".delay", ".P")) and p.requires_grad]


class _DclsSigma:
    """`SigmaSchedule` for the package's layers."""

    def __init__(self, net: nn.Module, epochs: int) -> None:
        self.layers = [m.inner for m in net.modules() if isinstance(m, Dcls)]
        self.epoch, self.epochs, self.first = 0, epochs, float(self.layers[0].SIG.flatten()[0])

    def step(self) -> None:
        for layer in self.layers if self.epoch < self.epochs else ():
            layer.SIG.data.mul_((LAST / self.first) ** (1 / self.epochs))
        self.epoch += 1


# The loop.


def train(recipe: Recipe, split: Split, seed: int) -> dict[str, Any]:
    """Train one network; returns the accuracy on what is held out after the last epoch, and now and then before."""
    start = time.perf_counter()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    x, labels, x_held, labels_held = (tensor.to(device) for tensor in split[:4])
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = recipe.tf32
    torch.manual_seed(seed)
    net = network(recipe, x.shape[-1], split.classes).to(device)
    shown: Any = AveragedModel(net, multi_avg_fn=get_ema_multi_avg_fn(recipe.average), use_buffers=True)
    shown = shown if recipe.average else net
    moves = schedules(net, recipe)
    optimisers = [m.optimizer for m in moves if hasattr(m, "optimizer")]
    batches = max(1, round(len(labels) / recipe.batch))
    size = len(labels) // batches
    if device == "cuda":  # forward and backward as graphs: a small network waits for its launches otherwise
        net = torch.cuda.make_graphed_callables(net.train(), (x[:, :size].float(),))
    curve = []
    for epoch in range(recipe.epochs):
        net.train()
        for rows in torch.randperm(len(labels), device=device)[: batches * size].split(size):
            batch, wanted = augmented(x, labels, rows, recipe)
            loss = functional.cross_entropy(net(batch), wanted, label_smoothing=recipe.smoothing)
            for optimiser in optimisers:
                optimiser.zero_grad(set_to_none=True)
            loss.backward()
            for optimiser in optimisers:
                optimiser.step()
            if recipe.average:
                shown.update_parameters(net)
        for move in moves:
            move.step()
        if epoch + 1 == int(recipe.settle * recipe.epochs) < recipe.epochs and len(optimisers) > 1:
            settle(net)
            del optimisers[1]
        if (epoch + 1) % 50 == 0 or epoch + 1 == recipe.epochs:
            curve.append((epoch + 1, accuracy(shown, x_held, labels_held)))
    return {"accuracy": curve[-1][1], "curve": curve, "seconds": round(time.perf_counter() - start, 1)}


@torch.no_grad()
def settle(net: nn.Module) -> None:
    """Round the delays; with a sigma of 0 a whole delay is one tap up to a thousandth of its weight."""
    for layer in net.modules():
        if isinstance(layer, DelayLinear):
            layer.delay.copy_(layer.delay.round())
            layer.sigma.zero_()
        elif isinstance(layer, Dcls):
            layer.inner.P.copy_(layer.inner.P.round())
            layer.inner.SIG.zero_()


def schedules(net: nn.Module, recipe: Recipe) -> list[Any]:
    """What moves the two rates and sigma, all stepped every epoch."""
    delays = positions(net)
    apart = {id(p) for p in delays}
    decayed = [p for name, p in net.named_parameters() if p.requires_grad and id(p) not in apart and "norm" not in name]
    norms = [p for name, p in net.named_parameters() if "norm" in name]
    weights = torch.optim.Adam([{"params": decayed, "weight_decay": recipe.decay}, {"params": norms}], lr=1e-3)
    moves: list[Any] = [torch.optim.lr_scheduler.OneCycleLR(weights, recipe.lr, total_steps=recipe.epochs)]
    if delays:
        optimiser = torch.optim.Adam(delays, lr=recipe.delay_lr)
        moves.append(torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, recipe.epochs))
        moves.append(
            (SigmaSchedule if recipe.form == "spikenet" else _DclsSigma)(net, int(recipe.fall * recipe.epochs))
        )
    return moves


@torch.no_grad()
def accuracy(net: nn.Module, x: Tensor, labels: Tensor) -> float:
    net.eval()
    right = sum(
        int((net(x[:, rows].float()).argmax(-1) == labels[rows]).sum()) for rows in torch.arange(len(labels)).split(512)
    )
    return right / len(labels)


def augmented(x: Tensor, labels: Tensor, rows: Tensor, r: Recipe) -> tuple[Tensor, Tensor]:
    """A batch `[T, B, C]`, changed as the recipe says, and its labels."""
    wanted = labels[rows]
    batch = _moved(x, rows, r)
    if r.blend:
        other = _moved(x, _of_same_class(labels, wanted), r)
        take = torch.rand_like(batch) < 0.5
        take &= (torch.rand(len(rows), device=x.device) < r.blend)[None, :, None]
        batch = torch.where(take, other, batch)
    if r.drop:
        batch = batch * (torch.rand_like(batch) >= r.drop)
    for axis in (0, 2) if r.mask else ():
        batch = batch * _window(batch, axis, r.mask)
    return batch, wanted


def _of_same_class(labels: Tensor, wanted: Tensor) -> Tensor:
    same = (labels[None] == wanted[:, None]).float()
    return torch.multinomial(same, 1)[:, 0]


def _moved(x: Tensor, rows: Tensor, r: Recipe) -> Tensor:
    """Recordings moved along time and channels and stretched, each by its own draw; silence comes in."""
    if not (r.shift or r.slide or r.stretch):
        return x[:, rows].float()
    (steps, _, channels), size, device = x.shape, len(rows), x.device
    stretch = 1 + r.stretch * (2 * torch.rand(size, device=device) - 1)
    slide = torch.randint(-r.slide, r.slide + 1, (size,), device=device)
    t = ((torch.arange(steps, device=device)[:, None] - slide) * stretch).round().long()
    c = torch.arange(channels, device=device) - torch.randint(-r.shift, r.shift + 1, (size, 1), device=device)
    there = ((t >= 0) & (t < steps))[..., None] & ((c >= 0) & (c < channels))
    return x[t.clamp(0, steps - 1)[..., None], rows[:, None], c.clamp(0, channels - 1)].float() * there


def _window(batch: Tensor, axis: int, share: float) -> Tensor:
    """0 in one window of each recording, up to `share` of the axis long, else 1."""
    length, size = batch.shape[axis], batch.shape[1]
    long = torch.rand(size, device=batch.device) * share * length
    begin = torch.rand(size, device=batch.device) * (length - long)
    place = torch.arange(length, device=batch.device)[:, None]
    keep = ((place < begin) | (place >= begin + long)).float()  # [length, B]
    return keep[..., None] if axis == 0 else keep.t()[None]


# Many at once.


class Task(NamedTuple):
    """One run: what it belongs to, its recipe and seed, and what makes its split, called in the process that trains."""

    name: str
    recipe: Recipe
    seed: int
    split: Callable[[], Split]
    where: str  # what the split is, in words


def run_all(tasks: Sequence[Task], processes: int, seconds: float, results: Path) -> list[dict[str, Any]]:
    """Run the tasks in their order, several at once, each in one thread, for so long; returns what was done.

    Every result is a line of the file `results` as soon as it is there.
    """
    done, end = [], time.perf_counter() + seconds
    with results.open("w") as file, multiprocessing.get_context("spawn").Pool(processes, _start) as pool:
        waiting = pool.imap_unordered(_run, tasks)
        for number in range(len(tasks)):
            try:
                done.append(waiting.next(max(end - time.perf_counter(), 0.01)))
            except multiprocessing.TimeoutError:
                print(f"{len(tasks) - number} of {len(tasks)} runs are not done after {seconds:.0f} s", flush=True)
                break
            file.write(json.dumps(done[-1]) + "\n")
            file.flush()
            print(f"{len(done):4d} {_line(done[-1])}", flush=True)
    return done


def _start() -> None:
    warnings.filterwarnings("ignore", message="The AccumulateGrad node's stream")  # the graphs were captured on another
    torch.set_num_threads(1)
    torch.backends.cudnn.benchmark = True  # the package's convolutions, the fastest way that cuDNN has


def _run(task: Task) -> dict[str, Any]:
    changed = {k: v for k, v in asdict(task.recipe).items() if v != getattr(Recipe(), k)}
    result = train(task.recipe, task.split(), task.seed)
    return {"name": task.name, "recipe": changed, "seed": task.seed, "split": task.where, **result}


def _line(result: dict[str, Any]) -> str:
    made = " ".join(f"{k}={v}" for k, v in result["recipe"].items())
    what = f"{result['name']:24} seed {result['seed']} {result['split']:16}"
    return f"{what} {result['accuracy']:.4f} {result['seconds']:6.1f} s  {made}"
