"""Training with delays in lockstep: spikenet's layer and the DCLS package's, from the same weights on the same batches.

    python benchmarks/delays_lockstep.py --train FILE [--steps 200]     # FILE in the layout of SHD
    python benchmarks/delays_lockstep.py --quick                        # a small network on made counts

Copies of one network train by the published recipe (Hammouamri et al., ICLR 2024), each on its own, with the same
batches and dropout masks: with spikenet's layer, with the package's, and with the package's whose first weights were
moved by as much as products are rounded. Spikes are all or nothing, so that rounding errors grow until two copies are
as far apart as any two runs: two ways of computing the same thing come apart as the moved copy does, and no faster.

On the way the state of the package's copy is put into spikenet's layer, and into the package's in float64. From the
same state and batch, without dropout, the gradients of both float32 forms are compared with those in float64: how far
they are off, and whether they are too long or too short along them.

On spoken English digits of six speakers, on an H100: with TF32 the losses of the first 20 steps are within 0.2 % of the
package's (the moved copy's within 0.4 %), and over steps 676 to 1350 their mean is 2e-4 below it (1e-4). Gradients are
1.6 % off float64 in the median (the package's 1.9 %; delays 2.6 and 2.6 %), for the spikes that rounding adds or takes
away, 4e-4 from the package's, and in the median no more than 3e-4 too long or too short along it; with float32
(`--exact`) 7e-7 off (2e-6).
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from _compare import finish, machine
from _delay_training import Dcls, Recipe, network, schedules, spoken
from torch import Tensor, nn
from torch.nn import functional

from spikenet.layers import SequenceDropout

TIME = 64  # steps of 10 ms
SHOWN = (1, 2, 3, 5, 10, 20, 50, 100)
FORMS = {"spikenet": "spikenet", "package": "dcls", "package, moved": "dcls"}
TAKEN = {"spikenet": "spikenet", "package": "dcls", "float64": "dcls"}
KINDS = {"weights": ("weight",), "delays": ("delay", "P")}


class Copy:
    """A network in training."""

    def __init__(self, form: str, recipe: Recipe, channels: int, classes: int, device: str) -> None:
        torch.manual_seed(0)
        recipe = replace(recipe, form=form)
        self.net = network(recipe, channels, classes).to(device).train()
        self.moves = schedules(self.net, recipe)
        self.optimisers = [m.optimizer for m in self.moves if hasattr(m, "optimizer")]

    def gradients(self, x: Tensor, labels: Tensor, mask: int) -> Tensor:
        """Of all parameters; returns the loss."""
        torch.manual_seed(mask)
        self.net.zero_grad()
        loss = functional.cross_entropy(self.net(x), labels)
        loss.backward()
        return loss.detach()

    def learn(self, epoch_ends: bool) -> None:
        for optimiser in self.optimisers:
            optimiser.step()
        for move in self.moves if epoch_ends else ():
            move.step()


def take(net: nn.Module, package: nn.Module) -> None:
    """The state of a network with the package's layers, in any form and dtype."""
    with torch.no_grad():
        for block, theirs in zip(net.body[2:], package.body[2:], strict=True):  # type: ignore[index, misc]
            if isinstance(block.delays, Dcls):
                block.delays.load_state_dict(theirs.delays.state_dict())
            else:
                theirs.delays.inner.clamp_parameters()  # as the call to come does
                block.delays.load_dcls_state(theirs.delays.inner.state_dict())
            if hasattr(block, "norm"):
                block.norm.load_state_dict(theirs.norm.state_dict())


def gradient(net: nn.Module, kind: str) -> Tensor:
    """Of all weights, or all delays (positions, turned round)."""
    found = [
        p.grad.double().flatten() * (-1 if name.endswith("P") else 1)
        for name, p in net.named_parameters()
        if p.grad is not None and name.split(".")[-1] in KINDS[kind] and "norm" not in name
    ]
    return torch.cat(found)


def compared(forms: dict[str, Copy], package: Copy, x: Tensor, labels: Tensor) -> dict[str, float]:
    """Errors of the float32 forms beside float64: `|g - g64| / |g64|`, and `g g64 / g64 g64 - 1`."""
    found = {}
    for copy in forms.values():
        take(copy.net, package.net)
        copy.gradients(x.to(next(copy.net.parameters()).dtype), labels, 0)
    for kind in KINDS:
        true = gradient(forms["float64"].net, kind)
        for name in ("spikenet", "package"):
            got = gradient(forms[name].net, kind)
            found[f"{name}, {kind}, error"] = float((got - true).norm() / true.norm())
            found[f"{name}, {kind}, too long"] = float(got @ true / (true @ true) - 1)
        apart = gradient(forms["spikenet"].net, kind) - gradient(forms["package"].net, kind)
        found[f"apart, {kind}, error"] = float(apart.norm() / true.norm())
    return found


def lockstep(
    recipe: Recipe, x: Tensor, labels: Tensor, classes: int, steps: int, every: int
) -> tuple[list[list[float]], list[dict[str, float]]]:
    """The copies' losses in every step, and what was compared from equal states every so many steps."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = recipe.tf32
    made = partial(Copy, recipe=recipe, channels=x.shape[-1], classes=classes, device=device)
    copies, equal = (
        [made(form) for form in FORMS.values()],
        undropped({name: made(form) for name, form in TAKEN.items()}),
    )
    move(copies[2].net, 2.0**-12 if recipe.tf32 and device == "cuda" else 2.0**-20)
    print(f"{'step':>5} {'loss':>9} {'spikenet off':>13} {'moved off':>13}    the package's, and the others beside it")
    losses: list[list[float]] = []
    found: list[dict[str, float]] = []
    for step, epoch_ends, rows in batches(len(labels), recipe, steps):
        batch, wanted = x[:, rows].to(device).float(), labels[rows].to(device)
        if step % every == 0:
            found.append(compared(equal, copies[1], batch, wanted))
        losses.append([float(copy.gradients(batch, wanted, step)) for copy in copies])
        for copy in copies:
            copy.learn(epoch_ends)
        if step + 1 in SHOWN or (step + 1) % every == 0:
            print(_row(step, losses[-1]), flush=True)
    return losses, found


def undropped(copies: dict[str, Copy]) -> dict[str, Copy]:
    """Without dropout, and the one named so in float64."""
    copies["float64"].net.double()
    for layer in (layer for copy in copies.values() for layer in copy.net.modules()):
        if isinstance(layer, SequenceDropout):
            layer.p = 0.0
    return copies


@torch.no_grad()
def move(net: nn.Module, share: float) -> None:
    """Each weight by about so much of itself."""
    for name, p in net.named_parameters():
        if name.endswith("weight") and "norm" not in name:
            p.mul_(1 + share * torch.randn_like(p))


def batches(recordings: int, recipe: Recipe, steps: int) -> Iterator[tuple[int, bool, Tensor]]:
    """Step by step: whether an epoch ends with it, and its recordings."""
    number, draw = max(1, round(recordings / recipe.batch)), torch.Generator().manual_seed(0)
    for step in range(steps):
        if step % number == 0:
            order = torch.randperm(recordings, generator=draw)
        yield step, step % number == number - 1, order[step % number :: number][: recordings // number]


def _row(step: int, losses: list[float]) -> str:
    ours, package, moved = losses
    return f"{step + 1:5d} {package:9.6f} {ours - package:13.1e} {moved - package:13.1e}"


def told(losses: list[list[float]], found: list[dict[str, float]]) -> dict[str, Any]:
    """Print both in short and return them."""
    half = losses[len(losses) // 2 :]
    off = {name: statistics.mean(row[k] - row[1] for row in half) for name, k in (("spikenet", 0), ("moved", 2))}
    print("mean over the second half: spikenet off {spikenet:+.2e}, moved off {moved:+.2e}".format(**off))
    print(f"\ngradients from equal states, median of {len(found)}, and of the last third; worst")
    parts = {}
    for key in found[0]:
        all_, last = [row[key] for row in found], [row[key] for row in found[-max(1, len(found) // 3) :]]
        parts[key] = [statistics.median(all_), statistics.median(last), max(all_, key=abs)]
        print(f"  {key:28} {parts[key][0]:9.1e} {parts[key][1]:9.1e} {parts[key][2]:9.1e}")
    return {"off": off, "gradients": parts}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", type=Path, help="training file in the layout of SHD")
    parser.add_argument("--steps", type=int, default=200, help="training steps (default 200)")
    parser.add_argument("--every", type=int, default=10, help="compare gradients every so many steps (default 10)")
    parser.add_argument("--exact", action="store_true", help="float32's errors on a GPU, instead of TF32's")
    parser.add_argument("--quick", action="store_true", help="a small network on made counts")
    options = parser.parse_args()
    print(torch.cuda.get_device_name() if torch.cuda.is_available() else machine(), flush=True)
    recipe = Recipe(tf32=not options.exact)
    if options.quick:
        recipe, labels, classes = replace(recipe, hidden=(16, 16), epochs=20, batch=12), torch.arange(36) % 4, 4
        x = torch.poisson(torch.full((30, 36, 20), 0.3), generator=torch.Generator().manual_seed(0))
    else:
        x, labels, _, classes = spoken(options.train, TIME)
    finish([told(*lockstep(recipe, x, labels, classes, options.steps if not options.quick else 60, options.every))])


if __name__ == "__main__":
    main()
