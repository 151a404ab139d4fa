"""Spiking motifs in rasters, found by synapses at heterogeneous delays (Perrinet, ICANN 2023: 98.8 %).

    python benchmarks/motifs.py [--quick] [--rounds N]

A motif is a kernel K over 128 neurons and 31 delays. Rasters of 1000 steps are drawn from

    P(neuron a fires at t) = sigmoid(logit(1e-3) + sum_b sum_d B(b, t + d) K[b, a, d]),    B: 1 event a motif on average

and the evidence for motif b at t is `sum_a sum_d A(a, t - d) K[b, a, d]`, which is a `DelayBank`. The most likely
places are taken, as many as there are events; an event counts as found if its motif and its very step are among them.
The correlation that it is compared with has firing probabilities for weights instead of log odds.

Kernels are drawn as in the author's notebooks: the largest part of normal numbers (1 %, as the paper has it), times an
envelope over the delays, each followed by a trough (1, -0.8, -0.2), which makes the mean 0. How large the numbers are
the paper does not say, and the notebooks have 4 and 14: accuracies are given for several.

Kernels are also learned, by logistic regression on rasters with known events (Adam; the paper: SGD, 10,000 rasters),
and looked for in fresh rasters. The time is that of the evidence by events beside torch's convolution.
"""

from __future__ import annotations

import argparse
import math
from typing import Any

import torch
from _compare import Contender, alternate, finish, machine, report
from torch import Tensor
from torch.nn import functional

from spikenet.layers import DelayBank

NEURONS, MOTIFS, DELAYS, STEPS = 128, 144, 31, 1000
RATE, BACKGROUND, ACTIVE = 1e-3, 1e-3, 0.01
SIZES = (4.0, 6.0, 8.0, 14.0)
SIZE = 8.0  # where one is taken


def kernels(size: float, motifs: int = MOTIFS, delays: int = DELAYS) -> Tensor:
    """K, `[motifs, NEURONS, delays]`."""
    k = size * torch.randn(motifs, NEURONS, delays)
    k = k * (k > size * math.sqrt(2) * torch.erfinv(torch.tensor(1 - 2 * ACTIVE)))
    s = torch.linspace(0, 1, delays)
    k = k * torch.exp(-s / 0.4) * (1 - torch.exp(-s / 0.05))
    trough = torch.tensor([-0.2, -0.8, 1.0])[None, None]
    return functional.conv1d(functional.pad(k.reshape(-1, 1, delays), (2, 0)), trough).view_as(k)


def raster(k: Tensor) -> tuple[Tensor, Tensor]:
    """Spikes `[STEPS, NEURONS]` and the events of the motifs `[STEPS, motifs]` that they come from."""
    events = (torch.rand(STEPS, len(k)) < RATE).float()
    events[: k.shape[2] - 1] = 0.0  # their spikes would lie before the first step
    later = functional.conv1d(events.T.flip(1)[None], k.transpose(0, 1).flip(2), padding=k.shape[2] - 1)[0, :, :STEPS]
    log_odds = math.log(BACKGROUND / (1 - BACKGROUND)) + later.flip(1).T
    return (torch.rand(STEPS, NEURONS) < log_odds.sigmoid()).float(), events


def detector(k: Tensor) -> DelayBank:
    bank = DelayBank(NEURONS, len(k), k.shape[2], bias=False).eval()
    bank.weight.data = k
    return bank


@torch.no_grad()
def found(weights: Tensor, k: Tensor, rasters: int) -> float:
    """Percent of the events found with these weights in rasters drawn from k."""
    bank, hits, total = detector(weights), 0.0, 0.0
    for _ in range(rasters):
        spikes, events = raster(k)
        evidence = bank(spikes[:, None])[:, 0]
        threshold = evidence.flatten().topk(int(events.sum())).values[-1]
        hits, total = hits + float((evidence >= threshold)[events == 1].sum()), total + float(events.sum())
    return 100 * hits / total


def correlation(k: Tensor) -> Tensor:
    """Firing probabilities for weights."""
    return (k + math.log(BACKGROUND / (1 - BACKGROUND))).sigmoid()


def learned(k: Tensor, rasters: int, batch: int = 4) -> Tensor:
    """Weights by logistic regression on rasters whose events are known."""
    bank = DelayBank(NEURONS, len(k), k.shape[2])
    torch.nn.init.constant_(bank.bias, math.log(RATE))
    optimiser = torch.optim.Adam(bank.parameters(), lr=0.03)
    for _ in range(rasters // batch):
        spikes, events = (torch.stack(parts, 1) for parts in zip(*(raster(k) for _ in range(batch)), strict=True))
        optimiser.zero_grad()
        functional.binary_cross_entropy_with_logits(bank(spikes), events).backward()
        optimiser.step()
    return bank.weight.detach()


def same(a: Tensor, b: Tensor) -> float:
    """Percent of the motifs whose learned kernel correlates best with its own true one."""
    a, b = (functional.normalize(x.flatten(1) - x.flatten(1).mean(1, keepdim=True), dim=1) for x in (a, b))
    return 100 * float(((a @ b.T).argmax(1) == torch.arange(len(a))).float().mean())


def over_seeds(what: str, run: Any, seeds: int) -> dict[str, Any]:
    values = []
    for seed in range(seeds):
        torch.manual_seed(seed)
        values.append(run())
    mean = sum(values) / seeds
    print(f"  {what:58} {mean:6.2f} % ({min(values):.2f} to {max(values):.2f})", flush=True)
    return {"case": what, "percent": round(mean, 2), "least": round(min(values), 2), "most": round(max(values), 2)}


def speed(rounds: int) -> dict[str, Any]:
    """The evidence for one raster: by the events, and by torch's convolution, as the author computes it."""
    torch.manual_seed(0)
    k = kernels(SIZE)
    spikes, _ = raster(k)
    bank, volume, weight = (
        detector(k),
        functional.pad(spikes.T[None], (DELAYS - 1, 0)).contiguous(),
        k.flip(2).contiguous(),
    )
    with torch.no_grad():
        torch.testing.assert_close(
            bank(spikes[:, None])[:, 0].T, functional.conv1d(volume, weight)[0], atol=1e-4, rtol=1e-4
        )
        ways = [
            Contender("spikenet", lambda: bank(spikes[:, None])),
            Contender("torch conv1d", lambda: functional.conv1d(volume, weight)),
        ]
        return report(f"evidence for {MOTIFS} motifs, {STEPS} steps", alternate(ways, rounds), "spikenet")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one seed, few rasters, nothing learned")
    parser.add_argument("--rounds", type=int, default=5, help="alternations (default 5)")
    options = parser.parse_args()
    seeds, rasters = (1, 2) if options.quick else (3, 10)
    print(machine())
    print(f"{seeds} seeds, {rasters} rasters each; motif and exact step found, mean (least to most over the seeds)")
    results = []

    def known(size: float, motifs: int = MOTIFS, delays: int = DELAYS, correlated: bool = False) -> float:
        k = kernels(size, motifs, delays)
        return found(correlation(k) if correlated else k, k, rasters)

    for size in SIZES:
        results.append(over_seeds(f"known kernels of size {size:g}", lambda size=size: known(size), seeds))
        name = f"correlation, kernels of size {size:g}"
        results.append(over_seeds(name, lambda size=size: known(size, correlated=True), seeds))
    for motifs in () if options.quick else (512, 1364):
        name = f"{motifs} motifs, size {SIZE:g}"
        results.append(over_seeds(name, lambda motifs=motifs: known(SIZE, motifs), seeds))
        name = f"correlation, {name}"
        results.append(over_seeds(name, lambda motifs=motifs: known(SIZE, motifs, correlated=True), seeds))
    for delays in () if options.quick else (7, 15):
        name = f"{delays} delays, size {SIZE:g}"
        results.append(over_seeds(name, lambda delays=delays: known(SIZE, delays=delays), seeds))
    if not options.quick:
        recovered = []

        def after_learning() -> float:
            k = kernels(SIZE)
            weights = learned(k, 600)
            recovered.append(same(weights, k))
            return found(weights, k, rasters)

        results.append(over_seeds(f"learned kernels, size {SIZE:g}", after_learning, seeds))
        print(f"  learned kernels that are most like their own: {', '.join(f'{r:.1f} %' for r in recovered)}")
    results.append(speed(options.rounds))
    finish(results)


if __name__ == "__main__":
    main()
