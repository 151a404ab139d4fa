"""Layers with learned delays on one CUDA device: spikenet beside the DCLS package and a plain linear layer.

    python benchmarks/gpu_delays.py [--quick] [--rounds N]

All get the same spikes, weights, positions, sigma and gradient. Outputs and gradients are compared with spikenet's
reference in float64 before anything is timed, and the errors are printed; one past its bound is marked, and ends the
program with an error at the end. Times are of whole modules with autograd, the contenders alternated: eager, and as
replays of the same work captured in a CUDA graph, which leave out the time that Python takes; how long that is, is
told apart. The schedule's mean is taken as in `delays.py`. Memory is the peak of one forward and backward pass beyond
what was held before.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from _compare import finish
from delays import EPOCHS, FALLING, LAST, STANDS_FOR, heard, layer, peer
from gpu import alternate, captured
from torch import Tensor, nn

from spikenet.kernels import use_backend
from spikenet.layers import DelayLinear

WORST = {"float32": 2e-5, "tf32": 2e-3, "bfloat16": 2e-2}  # error of a result over its norm
Work = Callable[[], list[Tensor]]
past: list[str] = []  # errors past their bounds


def made(features: tuple[int, int], taps: int, sigma: float) -> DelayLinear:
    if features[0] == features[1]:
        return layer(features[0], taps, sigma).cuda()
    torch.manual_seed(0)
    return DelayLinear(*features, taps, sigma=sigma, extend=(taps - 1) // 2).cuda()


def ours(net: DelayLinear, x: Tensor, grad: Tensor, first: bool, precision: str) -> Work:
    """Forward and backward; weights and delays are float32 throughout."""
    dtype = torch.bfloat16 if precision == "bfloat16" else x.dtype
    x, grad = x.to(dtype), grad.to(dtype)

    def run() -> list[Tensor]:
        torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
        leaf = x.detach().requires_grad_(not first)
        y = net(leaf)
        leaves = [net.weight, net.delay, *([] if first else [leaf])]
        return [y.detach(), *torch.autograd.grad(y, leaves, grad)]

    return run


def dcls(net: DelayLinear, x: Tensor, grad: Tensor, first: bool) -> Work:
    """The reference, with cuDNN's default of TF32."""
    theirs, seen = peer(net).cuda(), grad.permute(1, 2, 0).contiguous()

    def run() -> list[Tensor]:
        leaf = x.detach().requires_grad_(not first)
        y = heard(theirs, leaf, net.taps)
        leaves = [theirs.weight, theirs.P, *([] if first else [leaf])]
        weight, position, *rest = torch.autograd.grad(y, leaves, seen)
        return [y.detach().permute(2, 0, 1), weight, -position[0], *rest]

    return run


def linear(net: DelayLinear, x: Tensor, grad: Tensor, first: bool) -> Work:
    """A plain float32 linear layer of the same sizes; it has no taps, and nothing is compared."""
    plain, seen = nn.Linear(net.in_features, net.out_features, bias=False).cuda(), grad[: len(x)]

    def run() -> list[Tensor]:
        torch.backends.cuda.matmul.allow_tf32 = False
        leaf = x.detach().requires_grad_(not first)
        torch.autograd.grad(plain(leaf), [plain.weight, *([] if first else [leaf])], seen)
        return []

    return run


def errors(got: list[Tensor], truth: list[Tensor]) -> list[float]:
    return [float((a.double() - b).norm() / b.norm()) for a, b in zip(got, truth, strict=True)]


def checked(works: dict[str, Work], truth: list[Tensor]) -> dict[str, list[float]]:
    """Every contender's errors, printed; ours are marked where they pass what their precision allows."""
    found = {name: errors(work(), truth) for name, work in works.items() if name != "linear float32"}
    for name, row in found.items():
        allowed = next((worst for precision, worst in WORST.items() if name == f"spikenet {precision}"), 1.0)
        mark = "" if max(row) < allowed else f"   PAST {allowed:.0e}"
        print(f"    {name:22} errors of y and gradients " + " ".join(f"{e:.1e}" for e in row) + mark, flush=True)
        if mark:
            past.append(f"{name}: {max(row):.1e}")
    return found


def peak(work: Work) -> float:
    """MiB of one call beyond what is held."""
    work()
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    work()
    torch.cuda.synchronize()
    return (torch.cuda.max_memory_allocated() - before) / 2**20


def in_float64(net: DelayLinear, x: Tensor, grad: Tensor, first: bool) -> list[Tensor]:
    wide = DelayLinear(net.in_features, net.out_features, net.taps, extend=net.extend, dtype=torch.float64).cuda()
    wide.load_state_dict(net.state_dict())
    with use_backend("reference"):
        return ours(wide, x.double(), grad.double(), first, "float64")()


def shown(times: dict[str, list[float]], against: str) -> dict[str, float]:
    medians = {name: statistics.median(row) for name, row in times.items()}
    for name, row in times.items():
        ratio = statistics.median(b / a for a, b in zip(row, times[against], strict=True))
        print(f"    {name:22} {medians[name]:8.3f} ms ({min(row):.3f} .. {max(row):.3f})   {against} / it: {ratio:.2f}")
    return medians


def timed(works: dict[str, Work], rounds: int) -> dict[str, dict[str, float]]:
    """Eager, and as graphs."""
    print("  eager")
    eager = shown(alternate(works, rounds), "dcls tf32")  # type: ignore[arg-type]
    replays = {name: replay for name, work in works.items() if (replay := captured(work))}
    print("  CUDA graphs", flush=True)
    return {"eager": eager, "graph": shown(alternate(replays, rounds), "dcls tf32")}


def over(ms: dict[str, dict[str, float]], other: str) -> dict[str, dict[str, float]]:
    """Ours over another's, eager and in graphs."""
    ours = {way: {name: row[name] for name in row if name.startswith("spikenet")} for way, row in ms.items()}
    return {way: {name: round(t / ms[way][other], 4) for name, t in row.items()} for way, row in ours.items()}


def told(what: str, ratios: dict[str, dict[str, float]]) -> None:
    for way, row in ratios.items():
        print(f"  {what}, {way}: " + ", ".join(f"{name} {ratio:.3f}" for name, ratio in row.items()))


def training(features: tuple[int, int], taps: int, x: Tensor, first: bool, rounds: int) -> list[dict[str, Any]]:
    """Forward and backward at the sigmas of the published schedule, and their mean."""
    results: list[dict[str, Any]] = []
    means: dict[str, dict[str, float]] = {"eager": {}, "graph": {}}
    grad = torch.randn(len(x) + (taps - 1) // 2, x.shape[1], features[1], device="cuda")
    for epoch, count in STANDS_FOR.items():
        sigma = taps // 2 * (LAST / (taps // 2)) ** (epoch / FALLING)
        net = made(features, taps, sigma)
        what = f"{features[0]} -> {features[1]}, {taps} taps, {tuple(x.shape)}, first layer: {first}, sigma {sigma:.2f}"
        print(f"\nforward + backward, {what}")
        works: dict[str, Work] = {f"spikenet {p}": ours(net, x, grad, first, p) for p in WORST}
        works |= {"dcls tf32": dcls(net, x, grad, first), "linear float32": linear(net, x, grad, first)}
        found = checked(works, in_float64(net, x, grad, first))
        memory = {name: peak(work) for name, work in works.items()}
        print("    MiB: " + ", ".join(f"{name} {mib:.0f}" for name, mib in memory.items()))
        medians = timed(works, rounds)
        results.append({"case": what, "ms": medians, "MiB": memory, "errors": found})
        results[-1] |= {"over_linear": over(medians, "linear float32"), "over_dcls": over(medians, "dcls tf32")}
        results[-1] |= {"memory_over_dcls": {name: round(mib / memory["dcls tf32"], 4) for name, mib in memory.items()}}
        told("over a linear layer", results[-1]["over_linear"])
        for way, row in medians.items():
            for name, ms in row.items():
                means[way][name] = means[way].get(name, 0.0) + count * ms / EPOCHS
    for way, row in means.items():
        print(f"\nMean over the schedule, {way}, ms: " + ", ".join(f"{name} {ms:.3f}" for name, ms in row.items()))
    mean = {"case": f"mean over the schedule, {features}, {taps} taps, first layer: {first}", "ms": means}
    mean["over_dcls"] = over(means, "dcls tf32")
    told("over DCLS", mean["over_dcls"])
    return [*results, mean]


def inference(features: tuple[int, int], taps: int, x: Tensor, rounds: int) -> dict[str, Any]:
    """Rounded delays, without gradients."""
    net = made(features, taps, LAST).eval()
    theirs, plain = peer(net).cuda(), nn.Linear(*features, bias=False).cuda()
    theirs.P.data.round_()
    theirs.SIG.data.zero_()
    theirs.version = theirs.DCK.version = "max"
    half = x.bfloat16()

    def precise(run: Callable[[], Tensor], tf32: bool = False) -> Work:
        @torch.no_grad()
        def work() -> list[Tensor]:
            torch.backends.cuda.matmul.allow_tf32 = tf32
            return [run()]

        return work

    wide = made(features, taps, LAST).double().eval()
    wide.delay.data.copy_(net.rounded())  # what is almost a half in float32 may be less than that in float64
    with torch.no_grad(), use_backend("reference"):
        truth = [wide(x.double())]
    works = {
        "spikenet float32": precise(lambda: net(x)),
        "spikenet tf32": precise(lambda: net(x), tf32=True),
        "spikenet bfloat16": precise(lambda: net(half)),
        "dcls tf32": precise(lambda: heard(theirs, x, taps).permute(2, 0, 1)),
        "linear float32": precise(lambda: plain(x)),
    }
    what = f"{features[0]} -> {features[1]}, {taps} taps, {tuple(x.shape)}"
    print(f"\nrounded inference, {what}")
    found, result = checked(works, truth), {"case": f"rounded inference, {what}", "ms": timed(works, rounds)}
    result |= {"errors": found, "over_linear": over(result["ms"], "linear float32")}
    told("over a linear layer", result["over_linear"])
    return result


def host(features: tuple[int, int], taps: int, x: Tensor, rounds: int) -> dict[str, Any]:
    """Microseconds until a call of forward and backward is on its way, beside a linear layer's."""
    net = made(features, taps, LAST)
    grad = torch.randn(len(x) + net.extend, x.shape[1], features[1], device="cuda")
    works: dict[str, Work] = {f"spikenet {p}": ours(net, x, grad, False, p) for p in WORST}
    works["linear float32"] = linear(net, x, grad, False)
    times: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(rounds + 2):
        for name, work in works.items():
            torch.cuda.synchronize()
            start = time.perf_counter()
            for _ in range(30):  # the device's queue takes that many without a wait
                work()
            times[name].append((time.perf_counter() - start) / 30 * 1e6)
    torch.cuda.synchronize()
    us = {name: round(statistics.median(row[2:]), 1) for name, row in times.items()}
    print(f"\nHost microseconds of forward + backward: {us}; load {os.getloadavg()}")
    return {"case": "host", "us": us, "load": os.getloadavg()}


def spikes(steps: int, batch: int, features: int, density: float) -> Tensor:
    torch.manual_seed(1)
    return (torch.rand(steps, batch, features, device="cuda") < density).float()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="the smaller case, few rounds")
    parser.add_argument("--rounds", type=int, default=7, help="alternations (default 7)")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        print("This benchmark needs a CUDA device.")
        finish([])
        return
    print(torch.cuda.get_device_name(), torch.__version__)
    rounds = 3 if options.quick else options.rounds
    x = spikes(126, 256, 256, 0.1)
    results = [host((256, 256), 25, x, rounds)]
    results += [inference((256, 256), 25, x, rounds), *training((256, 256), 25, x, False, rounds)]
    if not options.quick:
        x = spikes(500, 64, 700, 0.05)
        results += [*training((700, 512), 100, x, True, rounds), inference((700, 512), 100, x, rounds)]
    finish(results)
    sys.exit("errors past their bounds: " + "; ".join(past) if past else 0)


if __name__ == "__main__":
    main()
