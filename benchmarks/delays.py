"""A layer with learned delays on the CPU: spikenet beside the DCLS package, in training and with rounded delays.

    python benchmarks/delays.py [--quick] [--rounds N] [--threads N] [--flush]

Both get the same float32 spikes, weights, positions and sigma, DCLS padded as its authors pad it; outputs and gradients
are compared before anything is timed. A training run at the published schedule (Hammouamri et al., ICLR 2024: 150
epochs, sigma from `taps // 2` to 0.23 over the first 37) is timed at four sigmas, and their mean is weighted by the
epochs that each stands for.

At a small sigma the far taps of DCLS's kernels are denormal numbers, with which many processors are slow; its users
meet them as they are met here. `--flush` takes them for 0 (in the main thread, so with `--threads 1`), to see what
they cost.
"""

from __future__ import annotations

import argparse
import importlib.util
from collections.abc import Callable
from typing import Any

import torch
from _compare import Contender, alternate, finish, machine, report
from torch import Tensor
from torch.nn import functional

from spikenet.layers import DelayLinear

EPOCHS, FALLING, LAST = 150, 37, 0.23
STANDS_FOR = {4: 9, 13: 10, 27: 18, FALLING: 113}  # an epoch, and how many it stands for

Work = Callable[[], list[Tensor]]


def layer(features: int, taps: int, sigma: float) -> DelayLinear:
    torch.manual_seed(0)
    return DelayLinear(features, features, taps, sigma=sigma, extend=(taps - 1) // 2)


def peer(ours: DelayLinear) -> Any:
    """The reference's layer with the same parameters."""
    from DCLS.construct.modules import Dcls1d

    theirs = Dcls1d(ours.in_features, ours.out_features, 1, dilated_kernel_size=ours.taps, bias=False, version="gauss")
    theirs.load_state_dict(ours.dcls_state())
    theirs.SIG.requires_grad_(False)
    return theirs


def heard(theirs: Any, x: Tensor, taps: int) -> Tensor:
    """`[T, B, N]` in, `[B, N, T]` out."""
    return theirs(functional.pad(x.permute(1, 2, 0), (taps - 1, (taps - 1) // 2)))


def training(features: int, taps: int, x: Tensor, sigma: float, first: bool) -> dict[str, Work]:
    """Forward and backward; the first layer's input asks for no gradient."""
    ours = layer(features, taps, sigma)
    grad = torch.randn(len(x) + ours.extend, x.shape[1], features)

    def run() -> list[Tensor]:
        leaf = x.detach().requires_grad_(not first)
        ours.zero_grad()
        y = ours(leaf)
        y.backward(grad)
        return [y.detach(), ours.weight.grad, -ours.delay.grad[None], *([] if first else [leaf.grad])]  # type: ignore[list-item, operator, index]

    found: dict[str, Work] = {"spikenet": run}
    if importlib.util.find_spec("DCLS"):
        theirs, seen = peer(ours), grad.permute(1, 2, 0).contiguous()

        def reference() -> list[Tensor]:
            leaf = x.detach().requires_grad_(not first)
            theirs.zero_grad()
            y = heard(theirs, leaf, taps)
            y.backward(seen)
            return [y.detach().permute(2, 0, 1), theirs.weight.grad, theirs.P.grad, *([] if first else [leaf.grad])]  # type: ignore[list-item]

        found["dcls"] = reference
    return found


def inference(features: int, taps: int, x: Tensor) -> dict[str, Work]:
    """Rounded delays, as both evaluate."""
    ours = layer(features, taps, LAST).eval()

    @torch.no_grad()
    def run() -> list[Tensor]:
        return [ours(x)]

    found: dict[str, Work] = {"spikenet": run}
    if importlib.util.find_spec("DCLS"):
        theirs = peer(ours)
        with torch.no_grad():
            theirs.P.round_()
            theirs.SIG.zero_()
        theirs.version = theirs.DCK.version = "max"

        @torch.no_grad()
        def reference() -> list[Tensor]:
            return [heard(theirs, x, taps).permute(2, 0, 1)]

        found["dcls"] = reference
    return found


def timed(what: str, works: dict[str, Work], rounds: int) -> dict[str, Any]:
    """Results compared, then times."""
    truth = works["spikenet"]()
    for name, work in works.items():
        for a, b in zip(truth, work(), strict=True):
            assert (a - b).norm() < 2e-5 * b.norm(), f"{name} differs in {what}"
    seconds = alternate([Contender(name, lambda work=work: work()) for name, work in works.items()], rounds)
    return report(what, seconds, "spikenet")


def case(features: int, taps: int, batch: int, steps: int, density: float, rounds: int) -> list[dict[str, Any]]:
    """One size of layer, in all forms."""
    torch.manual_seed(1)
    x = (torch.rand(steps, batch, features) < density).float()
    size = f"{features} -> {features}, {taps} taps, B={batch} T={steps}, density {density}"
    results = []
    for first in (False, True):
        times: dict[str, list[tuple[int, float]]] = {}
        place = "first layer" if first else "hidden layer"
        for epoch, count in STANDS_FOR.items():
            sigma = taps // 2 * (LAST / (taps // 2)) ** (epoch / FALLING)
            what = f"forward + backward, {place}, sigma {sigma:.2f}, {size}"
            results.append(timed(what, training(features, taps, x, sigma, first), rounds))
            for name in ("spikenet", "dcls"):
                if name in results[-1]:
                    times.setdefault(name, []).append((count, results[-1][name]["median_ms"]))
        means = {name: sum(n * ms for n, ms in row) / EPOCHS for name, row in times.items()}
        line = ", ".join(f"{name} {ms:.1f} ms" for name, ms in means.items())
        ratio = f", ratio {means['dcls'] / means['spikenet']:.2f}" if "dcls" in means else ""
        print(f"\nMean over the schedule, {place}: {line}{ratio}")
        results.append({"case": f"mean over the schedule, {place}, {size}", "mean_ms": means})
    results.append(timed(f"rounded inference, {size}", inference(features, taps, x), rounds))
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one small case, few rounds")
    parser.add_argument("--rounds", type=int, default=5, help="alternations (default 5)")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="torch threads")
    parser.add_argument("--flush", action="store_true", help="take denormal numbers for 0; wants --threads 1")
    options = parser.parse_args()
    torch.set_flush_denormal(options.flush)
    torch.set_num_threads(options.threads)
    print(machine())
    if options.quick:
        finish(case(32, 9, 16, 30, 0.1, 3))
    else:
        finish(case(256, 25, 256, 126, 0.1, options.rounds))


if __name__ == "__main__":
    main()
