"""Early exit: a network that answers when it is sure takes a fraction of the time steps, at the same accuracy.

    python examples/early_exit.py [--quick] [--picture early_exit.png]

Handwritten digits seen by a simulated event camera (digits-dvs, 1077 training, 360 validation and 360 test recordings),
in 15 steps of 20 ms. The network of the preset is trained so that its answer counts at every step; the last epoch is
taken. The threshold of Dynamic Confidence and its temperature are chosen on the validation part: the fastest that is
as accurate there as all steps. The test part is looked at once. Seeds 0, 1 and 2.
"""

import argparse

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

import spikenet as sn
from spikenet.models import SpikingConvNet
from spikenet.training import EarlyExit, fit_early_exit, oracle_exit, tradeoff

STEP_MS, STEPS = 20, 15
TEMPERATURES = (0.5, 1.0, 2.0, 4.0, 8.0)


def train(data: sn.data.DigitsDVS, epochs: int) -> SpikingConvNet:
    """Cross-entropy of the mean output so far, at every step."""
    net = SpikingConvNet(data.feature_shape, 10, channels=(16, 32), hidden=128, dropout=0.3)
    optimiser, loader = torch.optim.AdamW(net.parameters()), data.train_dataloader()
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 5e-3, epochs=epochs, steps_per_epoch=len(loader))
    so_far = torch.arange(1, STEPS + 1).view(-1, 1, 1)
    for epoch in range(epochs):
        loader.sampler.set_epoch(epoch)
        for events, labels in loader:
            means = net.body(events).cumsum(0) / so_far
            loss = nn.functional.cross_entropy(means.flatten(0, 1), labels.repeat(STEPS), label_smoothing=0.1)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
    return net.eval()


@torch.no_grad()
def outputs(net: SpikingConvNet, loader) -> tuple[Tensor, Tensor]:
    """Of every step `[T, B, classes]`, and the labels."""
    batches = [(net.body(events), labels) for events, labels in loader]
    return torch.cat([o for o, _ in batches], 1), torch.cat([labels for _, labels in batches])


def picture(path: str, test: Tensor, labels: Tensor, chosen: EarlyExit) -> None:
    """Accuracy by steps with a fixed and a free end; when recordings stop; how the confidence of some of them grows."""
    figure = Figure(figsize=(13, 3.8), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    exits, steps = chosen(test), torch.arange(1, STEPS + 1)
    fixed = (test.cumsum(0).argmax(-1) == labels).double().mean(1)
    found, best = tradeoff(test, labels, chosen.temperature).frontier(), oracle_exit(test, labels)
    left.plot(steps, 100 * fixed, color="#8a97a5", label="all stop at the same step")
    left.plot(found.steps, 100 * found.accuracy, color="#2f6db5", label="each stops when sure")
    left.plot(exits.mean_steps, 100 * exits.accuracy(labels), "o", color="#c8452f", label="threshold chosen before")
    left.plot(best.mean_steps, 100 * best.accuracy(labels), "*", color="#e08a1e", ms=10, label="oracle")
    left.set(xlabel="steps on average", ylabel="test accuracy (%)", xlim=(1, STEPS), ylim=(85, 100.5))
    left.legend(frameon=False, loc="lower right")
    wrong = exits.answers != labels
    parts = [exits.steps[~wrong].tolist(), exits.steps[wrong].tolist()]
    bins = [k + 0.5 for k in range(STEPS + 1)]
    middle.hist(parts, bins, stacked=True, color=["#2f6db5", "#c8452f"], label=["right", "wrong"], log=True)
    middle.set(xlabel="step of the answer", ylabel="recordings")
    middle.legend(frameon=False)
    confidence = chosen.confidence(test)
    for b in exits.steps.argsort(descending=True)[:: len(labels) // 12].tolist():
        stop = exits.steps[b].item()
        right.plot(steps[stop - 1 :], confidence[stop - 1 :, b], color="#d5dbe1", lw=1, zorder=0)
        right.plot(steps[:stop], confidence[:stop, b], color="#2f6db5", lw=1.2)
        right.plot(stop, confidence[stop - 1, b], "o", color="#2f6db5", ms=4)
    right.axhline(chosen.threshold, color="#c8452f", lw=1)
    right.set(xlabel="step", ylabel="confidence", title="a dozen recordings, and the threshold")
    figure.savefig(path, dpi=120)
    print(f"written: {path}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one seed, two epochs")
    parser.add_argument("--picture", default="early_exit.png", help="where the picture goes")
    options = parser.parse_args()
    print("seed  threshold  temperature   all steps      early exit      steps (of 15)  saved   oracle")
    rows = []
    for seed in range(1 if options.quick else 3):
        torch.manual_seed(seed)
        data = sn.data.DigitsDVS(
            batch_size=32, augment=[sn.events.RandomShift(1)], seed=seed, dt_us=1000 * STEP_MS, steps=STEPS
        )
        net = train(data, 2 if options.quick else 12)
        chosen = fit_early_exit(*outputs(net, data.val_dataloader()), TEMPERATURES)
        test, labels = outputs(net, data.test_dataloader())
        exits, best = chosen(test), oracle_exit(test, labels)
        full, early = EarlyExit(1.0)(test).accuracy(labels), exits.accuracy(labels)
        rows.append((full, early, exits.mean_steps))
        print(f"{seed:4d} {chosen.threshold:10.3f} {chosen.temperature:12g} {full:11.2%} {early:15.2%} "
              f"{exits.mean_steps:16.2f} {1 - exits.mean_steps / STEPS:10.1%}  {best.mean_steps:.2f}")  # fmt: skip
    full, early, steps = torch.tensor(rows).mean(0).tolist()
    gain = 100 * (early - full)
    print(f"mean over {len(rows)}: {1 - steps / STEPS:.1%} of the steps saved, {gain:+.2f} points of accuracy")
    frames = data.test_dataloader().dataset.__getitems__([0])[0].to_dense()
    with torch.no_grad():
        live = chosen.live(sn.Stream(net.body), frames)
    print(f"live, the first test recording: class {live.answers.item()} after {live.steps.item()} of {STEPS} frames")
    picture(options.picture, test, labels, chosen)


if __name__ == "__main__":
    main()
