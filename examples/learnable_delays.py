"""Delays are learned until the spikes of a motif arrive together: learned against true delays, and a picture of them.

    python examples/learnable_delays.py [--quick]

Three motifs use the same eight channels, a spike each, and differ only in when the channels spike. A neuron hears all
spikes of its motif at once if its delays are `D - lag`, with any D that leaves them within reach. Kernels are wide at
first and narrow from epoch to epoch, so that a gradient reaches delays that are far off; then the delays are rounded,
and the weights go on alone. Writes learnable_delays.png.
"""

import argparse

import matplotlib
import torch
from torch import Tensor, nn

from spikenet import LeakyReadout
from spikenet.layers import DelayLinear, MaxReadout, SigmaSchedule, delay_groups

matplotlib.use("Agg")
import matplotlib.pyplot as plt

MOTIFS, CHANNELS, LAG, TAPS, STEPS = 3, 8, 20, 25, 50


def recordings(lags: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Spikes `[T, B, channels]` of motifs that begin at random, among as many others, and which motif it is."""
    motif = torch.randint(MOTIFS, (count,))
    begin = torch.randint(STEPS - LAG + 1, (count, 1))
    x = torch.rand(STEPS, count, CHANNELS) < 1 / STEPS
    x.scatter_(0, (begin + lags[motif])[None], True)
    return x.float(), motif


def aligned(delay: Tensor, lags: Tensor) -> tuple[Tensor, Tensor]:
    """When each spike of a motif arrives, and the moment D at which most do, by neuron."""
    arrival = delay.detach()[..., 0] + lags
    return arrival, arrival.median(1, keepdim=True).values


def picture(wide: Tensor, narrow: Tensor, true: Tensor, apart: tuple[Tensor, Tensor]) -> None:
    """One neuron's kernels before and after, and how far the spikes of all motifs arrive from each other."""
    figure, axes = plt.subplots(1, 3, figsize=(13, 3.6), layout="constrained")
    for axis, kernels, title in zip(axes, (wide, narrow), ("one neuron's synapses before", "and after"), strict=False):
        axis.imshow(kernels, aspect="auto", cmap="Greys", vmin=0)
        axis.plot(true, range(CHANNELS), "|", color="tab:red", markersize=14, markeredgewidth=2, label="true delay")
        axis.set(title=title, xlabel="delay, steps", ylabel="channel")
    axes[1].legend(frameon=False, loc="lower right")
    bins = torch.arange(-LAG - 2.5, LAG + 3.5).tolist()
    axes[2].hist([error.flatten().tolist() for error in apart], bins, label=["as drawn", "learned"],
                 color=["tab:gray", "tab:red"], histtype="stepfilled", alpha=0.6)  # fmt: skip
    axes[2].set(title="all synapses", xlabel="learned - true delay, steps", ylabel="synapses")
    axes[2].legend(frameon=False)
    figure.savefig("learnable_delays.png", dpi=130)
    print("learnable_delays.png")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer epochs")
    epochs = 20 if parser.parse_args().quick else 80
    torch.manual_seed(0)
    lags = torch.randint(LAG, (MOTIFS, CHANNELS))
    layer = DelayLinear(CHANNELS, MOTIFS, TAPS, sigma=TAPS // 2)
    nn.init.constant_(layer.weight, 2 / CHANNELS)
    net = nn.Sequential(layer, LeakyReadout(1.0), MaxReadout())  # the highest potential tells the motif
    drawn, wide = layer.delay.detach().clone(), layer.synapses().detach()
    settle = 3 * epochs // 4
    schedule = SigmaSchedule(net, epochs // 2, settle=settle)
    optimiser = torch.optim.Adam(delay_groups(net, lr=0.01, delay_lr=0.3))
    for epoch in range(epochs):
        if epoch == settle:
            optimiser.param_groups[1]["lr"] = 0.0
        for _ in range(10):
            x, motif = recordings(lags, 256)
            loss = nn.functional.cross_entropy(net.train()(x), motif)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        schedule.step()
        if (epoch + 1) % (epochs // 5) == 0:
            x, motif = recordings(lags, 1000)
            right = (net.eval()(x).argmax(-1) == motif).float().mean()
            print(f"epoch {epoch + 1:3d}  loss {loss:.3f}  sigma {float(layer.sigma):.2f}  right {right:.1%}")
    arrival, together = aligned(layer.delay, lags)
    true = (together - lags).round()
    print("\nlearned/true delay, D - lag, channel by channel")
    for k in range(MOTIFS):
        pairs = zip(layer.rounded()[k, :, 0].tolist(), true[k].int().tolist(), strict=True)
        print(f"motif {k}, D = {together[k].item():.0f}:  " + "  ".join(f"{a:2d}/{b:2d}" for a, b in pairs))
    print(f"{int(((arrival - together).abs() <= 1).sum())} of {arrival.numel()} within a step of the true delay")
    before, middle = aligned(drawn, lags)
    picture(wide[1], layer.synapses().detach()[1], true[1], (before - middle, arrival - together))


if __name__ == "__main__":
    main()
