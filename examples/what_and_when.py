"""What comes next, and when: a spiking reservoir's readouts follow a change within trials where FORCE does not.

    python examples/what_and_when.py [--quick] [--picture what_and_when.png]

A cue sets off 400 Izhikevich neurons. After a latency one of two stimuli follows, A with probability p, else B. Two
readouts of the filtered spikes learn to predict it, by an error-modulated, attention-gated three-factor rule: "when"
(any stimulus) online in every step, "what" (A or B) offline at the end of the trial. Attention is open where a
stimulus is, or was expected on the trial before. Then the latency changes, and later the probability. FORCE reads the
same spikes by recursive least squares that are never reset: it gives every trial of its life the same weight.

The task is that of Yamada and Chao, arXiv 2510.14382 (their sizes and constants are not public; all numbers are ours).
Learning rates and noise were set on seed 0; this is seed 1. Every prediction is made before its trial is learned from.
"""

import argparse
import math

import torch
from matplotlib.figure import Figure
from torch import Tensor

from spikenet.layers import Recurrent
from spikenet.learning import DeltaRule, RecursiveLeastSquares
from spikenet.neurons import Izhikevich

EXCITATORY, INHIBITORY, MS, STEP = 320, 80, 400, 5  # the readouts look every 5 ms
NEURONS = EXCITATORY + INHIBITORY
SLOW = 16  # traces of the cue, with time constants from 10 to 400 ms
WIDTH = 20.0  # ms, of a stimulus
TAU_RISE, TAU_DECAY = 2.0, 20.0  # ms
WHEN, WHAT = DeltaRule(lr=0.4), DeltaRule(lr=0.06, online=False)
BLUE, GREY, RED, ORANGE = "#2f6db5", "#8a97a5", "#c8452f", "#e08a1e"


def reservoir(generator: torch.Generator) -> tuple[Recurrent, Tensor]:
    """Neurons as in Izhikevich's network of 2003, connected with probability 0.1, and what the cue gives each."""
    r = torch.rand(EXCITATORY, generator=generator)
    s = torch.rand(INHIBITORY, generator=generator)
    ones = torch.ones(EXCITATORY)
    a, b = torch.cat([0.02 * ones, 0.02 + 0.08 * s]), torch.cat([0.2 * ones, 0.25 - 0.05 * s])
    c, d = torch.cat([-65 + 15 * r**2, torch.full((INHIBITORY,), -65.0)]), torch.cat([8 - 6 * r**2, 2 + 0 * s])
    network = Recurrent(Izhikevich(a, b, c, d), NEURONS)
    weight = torch.rand(NEURONS, NEURONS, generator=generator)
    weight[:, :EXCITATORY] *= 0.5
    weight[:, EXCITATORY:] *= -2.0
    weight *= torch.rand(NEURONS, NEURONS, generator=generator) < 0.1
    network.weight.requires_grad_(False).copy_(weight)
    return network, 12 * torch.randn(SLOW, NEURONS, generator=generator) / SLOW**0.5


@torch.no_grad()
def trials(count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Spikes `[T, trials, neurons]` after the cue, from rest with noise, and the readouts' features every 5 ms:
    filtered spikes less each neuron's mean over the first ten trials."""
    network, cue = reservoir(generator)
    tau = torch.logspace(1.0, 2.6, SLOW)
    time = torch.arange(MS)[:, None] / tau
    drive = 4 + (time * (1 - time).exp()) @ cue
    spikes = network(drive[:, None] + 0.3 * torch.randn(MS, count, NEURONS, generator=generator))
    h, r, features = torch.zeros(count, NEURONS), torch.zeros(count, NEURONS), []
    for t, now in enumerate(spikes):
        r, h = r * math.exp(-1 / TAU_DECAY) + h, h * math.exp(-1 / TAU_RISE) + now
        if t % STEP == STEP - 1:
            features.append(r)
    found = torch.stack(features).double()
    found = found - found[:, :10].mean((0, 1))
    return spikes, found / found.square().sum(-1).mean().sqrt()


def stimulus(latency: float) -> Tensor:
    """A bump at the latency, `[steps]`."""
    time = torch.arange(STEP, MS + 1, STEP, dtype=torch.float64)
    return (-((time - latency) ** 2) / (2 * WIDTH**2)).exp()


def by_local_rule(features: Tensor, latencies: Tensor, comes_a: Tensor) -> tuple[Tensor, Tensor]:
    """Predictions of all trials `[trials, steps, 3]` (any stimulus, A, B), and the weights after them."""
    weight = torch.zeros(3, NEURONS, dtype=torch.float64)
    expected, made = torch.zeros(len(features), 3, dtype=torch.float64), []
    for n, latency in enumerate(latencies.tolist()):
        x, bump = features[:, n : n + 1], stimulus(latency)
        target = torch.stack([bump, bump * comes_a[n], bump * ~comes_a[n]], 1)
        gate = ((bump[:, None] > 0.05) | (expected > 0.05)).double()
        expected = (x @ weight.T)[:, 0]
        made.append(expected)
        WHEN.run(x, target[:, None, :1], weight[:1], gate=gate[:, None, :1])
        WHAT.run(x, target[:, None, 1:], weight[1:], gate=gate[:, None, 1:])
    return torch.stack(made), weight


def by_force(features: Tensor, latencies: Tensor, comes_a: Tensor) -> Tensor:
    """The same predictions by recursive least squares."""
    weight, rule, state, made = torch.zeros(3, NEURONS, dtype=torch.float64), RecursiveLeastSquares(), None, []
    for n, latency in enumerate(latencies.tolist()):
        x, bump = features[:, n : n + 1], stimulus(latency)
        made.append((x @ weight.T)[:, 0])
        target = torch.stack([bump, bump * comes_a[n], bump * ~comes_a[n]], 1)
        _, state = rule.run(x, target[:, None], weight, state)
    return torch.stack(made)


def peaks(predicted: Tensor) -> Tensor:
    """ms at which every trial's prediction is highest."""
    return (predicted.argmax(1) + 1) * float(STEP)


def amplitude(predicted: Tensor, latencies: Tensor) -> Tensor:
    """What was predicted for the moment of the stimulus, `[trials]`."""
    at = (latencies / STEP - 1).round().long()
    return predicted.gather(1, at[:, None])[:, 0]


def settled(right: Tensor, since: int, until: int) -> str:
    """Trials after `since` until five in a row are right."""
    for n in range(since, until - 4):
        if right[n : n + 5].all():
            return f"{n - since} trials"
    return f"not in {until - since} trials"


def compare(name: str, made: Tensor, latencies: Tensor, p: Tensor, phase: int) -> None:
    """How fast the peak comes within 10 % of the new latency, and A's share within 0.15 of its new probability."""
    timely = (peaks(made[..., 0]) - latencies).abs() <= 0.1 * latencies
    a, b = (amplitude(made[..., k], latencies).clamp(min=0) for k in (1, 2))
    share = torch.stack([(a / (a + b)).nan_to_num()[max(0, n - 4) : n + 1].mean() for n in range(len(a))])
    likely = (share - p).abs() <= 0.15
    print(f"{name:12} a new latency: {settled(timely, phase, 2 * phase)}; "
          f"a new probability: {settled(likely, 2 * phase, 3 * phase)}")  # fmt: skip


def magnitudes(features: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Probabilities, and A's mean amplitude over the second half of a life with each of them."""
    probabilities = torch.arange(1, 10) / 10
    latencies, found = torch.full((features.shape[1],), 150.0), []
    for p in probabilities:
        comes_a = torch.rand(features.shape[1], generator=generator) < p
        made, _ = by_local_rule(features, latencies, comes_a)
        found.append(amplitude(made[..., 1], latencies)[len(made) // 2 :].mean())
    return probabilities, torch.stack(found)


def picture(path: str, spikes: Tensor, lives: dict[str, Tensor], latencies: Tensor, p: Tensor, sizes: tuple) -> None:
    """The reservoir in a trial; "when" over a life by both rules; A and B over a life; amplitude by probability."""
    figure = Figure(figsize=(13, 7), layout="constrained")
    grid = figure.add_gridspec(2, 6)
    raster, *maps = (figure.add_subplot(grid[0, 2 * k : 2 * k + 2]) for k in range(3))
    course, scatter = figure.add_subplot(grid[1, :4]), figure.add_subplot(grid[1, 4:])
    time, neuron = spikes[:, -1].nonzero(as_tuple=True)
    raster.plot(time, neuron, "|", color="#1c2733", ms=2, mew=0.6)
    raster.set(xlabel="ms after the cue", ylabel="neuron", title="the reservoir in a trial", xlim=(0, MS))
    for axis, (name, made) in zip(maps, lives.items(), strict=True):
        axis.imshow(
            made[..., 0], aspect="auto", origin="lower", cmap="magma", vmin=0, vmax=1, extent=(0, MS, 0, len(p))
        )
        axis.plot(latencies, torch.arange(len(p)), color="white", lw=1, ls=":")
        axis.set(xlabel="ms after the cue", ylabel="trial", title=f'"when", {name}')
    for (name, made), style in zip(lives.items(), ("-", ":"), strict=True):
        for k, colour, what in ((1, BLUE, "A"), (2, ORANGE, "B")):
            course.plot(amplitude(made[..., k], latencies), style, color=colour, lw=1.2, label=f"{what}, {name}")
    course.plot(p, color=GREY, lw=1, ls="--", label="probability of A")
    course.set(xlabel="trial", ylabel='amplitude of "what"', ylim=(-0.15, 1.1), xlim=(0, len(p) - 1))
    course.legend(frameon=False, ncols=3, loc="upper right")
    scatter.plot(*sizes, "o", color=BLUE)
    scatter.set(xlabel="probability of A", ylabel="amplitude of A", xlim=(0, 1), ylim=(0, None))
    figure.savefig(path, dpi=120)
    print(f"written: {path}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer trials")
    parser.add_argument("--picture", default="what_and_when.png", help="where the picture goes")
    options = parser.parse_args()
    generator = torch.Generator().manual_seed(1)
    phase = 25 if options.quick else 100
    spikes, features = trials(3 * phase, generator)
    latencies = torch.tensor([150.0] * phase + [250.0] * 2 * phase)
    p = torch.tensor([0.8] * 2 * phase + [0.2] * phase)
    comes_a = torch.rand(3 * phase, generator=generator) < p
    print(f"reservoir: {1000 * spikes.mean():.0f} Hz; {3 * phase} trials; after {phase} the latency goes from 150 to "
          f"250 ms, after {2 * phase} A's probability from 0.8 to 0.2")  # fmt: skip
    local, weight = by_local_rule(features, latencies, comes_a)
    lives = {"three-factor": local, "FORCE": by_force(features, latencies, comes_a)}
    for name, made in lives.items():
        compare(name, made, latencies, p, phase)
    sizes = magnitudes(features[:, : 2 * phase], generator)
    slope = (torch.cov(torch.stack(sizes).double())[0, 1] / sizes[0].double().var()).item()
    print(f"amplitude against probability: correlation {torch.corrcoef(torch.stack(sizes).double())[0, 1]:.3f}, "
          f"slope {slope:.2f}")  # fmt: skip
    when, what = weight[:1], torch.linalg.qr(weight[1:].T).Q
    cosine = ((when / when.norm()) @ what).norm().clamp(max=1)
    print(f'angle between the weights of "when" and the plane of "what": {math.degrees(cosine.acos()):.0f} degrees')
    picture(options.picture, spikes, lives, latencies, p, sizes)


if __name__ == "__main__":
    main()
