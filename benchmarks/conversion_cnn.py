"""A small CNN on digits-dvs frames, converted to spikes, and trained on with weights of few bits.

    python benchmarks/conversion_cnn.py [--quick] [--seeds 0 1 2] [--bits 4]

Frames are counts of events, 100 ms of each of the three saccades: 6 channels. For each seed:

1. the CNN is trained with ReLU and with `QuantizedReLU(8)`, and converted (`to_spiking`): thresholds are the maximum of
   each channel's activations on the training part, their 99.9th percentile, or those that `QuantizedReLU` learned;
2. the spiking network of the last is trained on for a few epochs, in float and with weights of `--bits` bits, alike;
3. the integer file of the latter is computed with integers alone and compared with it, all test recordings.

Split: digits-dvs's 1077 training and 360 test recordings; nothing is chosen by the test part or by any other: one
recipe, a fixed number of epochs, accuracy after the last. Differences are paired by seed.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from _compare import machine
from torch import Tensor, nn
from torch.nn import functional

from spikenet import layers
from spikenet.data import DigitsDVS
from spikenet.energy import count, energy_model, price, with_bits
from spikenet.interop import IntegerNetwork, Integers, QuantizedReLU, quantized, save_integers, to_spiking
from spikenet.training import seed_everything

STEPS, BATCH, MOST = 8, 64, 15  # steps of the spiking network; recordings a batch; highest count of a pixel


def frames(loader: object) -> tuple[Tensor, Tensor]:
    """All recordings of a part as `[1, N, 6, 24, 24]`, and their labels."""
    batches = [(events.to_dense(), labels) for events, labels in loader]  # type: ignore[attr-defined]
    x = torch.cat([dense.movedim(0, 1).flatten(1, 2) for dense, _ in batches])
    return x.clamp(max=MOST).float().unsqueeze(0), torch.cat([labels for _, labels in batches])


def cnn(activation: Callable[[], nn.Module]) -> nn.Sequential:
    parts: list[nn.Module] = []
    for inputs, outputs in ((6, 16), (16, 32)):
        conv = layers.Conv2d(inputs, outputs, 3, 2, padding=1, bias=False)
        parts += [conv, layers.BatchNorm2d(outputs), activation()]
    return nn.Sequential(*parts, nn.Flatten(2), nn.Linear(32 * 6 * 6, 10), layers.MeanReadout())


def train(net: nn.Module, x: Tensor, y: Tensor, epochs: int, lr: float, steps: int = 1) -> None:
    optimizer = torch.optim.AdamW(net.parameters(), lr, weight_decay=1e-4)
    rounds = epochs * (len(y) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=rounds)
    net.train()
    for _ in range(epochs):
        for chosen in torch.randperm(len(y))[: len(y) // BATCH * BATCH].view(-1, BATCH):
            loss = functional.cross_entropy(net(x[:, chosen].expand(steps, *[-1] * 4)), y[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    net.eval()


@torch.inference_mode()
def accuracy(net: nn.Module, x: Tensor, y: Tensor, steps: int = 1) -> float:
    answers = [net(part.expand(steps, *[-1] * 4)).argmax(1) for part in x.split(90, 1)]
    return float((torch.cat(answers) == y).double().mean())


def differing(net: nn.Sequential, x: Tensor) -> int:
    """Numbers of the answer that the integer file computes otherwise."""
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        save_integers(net, Path(folder) / "net")
        integer = IntegerNetwork(Path(folder) / "net")
        parts = (part.expand(STEPS, *[-1] * 4) for part in x.split(90, 1))
        return sum(int((integer(part) != net(part).double().numpy()).sum()) for part in parts)


def energies(net: nn.Sequential, x: Tensor, bits: int) -> tuple[float, float]:
    """nJ a recording with 32 bits a weight and potential, and with `bits` and 16, by moved data and operations."""
    with torch.inference_mode(), count(net) as work:
        net(x[:, :90].expand(STEPS, *[-1] * 4))
    model = energy_model("data-movement")
    return tuple(float(price(with_bits(work, *sizes), model).total) / 1e3 for sizes in ((32, 32), (bits, 16)))  # type: ignore[return-value]


def run(seed: int, data: Sequence[tuple[Tensor, Tensor]], epochs: int, more: int, bits: int) -> dict[str, float]:
    (x, y), (tx, ty) = data
    found: dict[str, float] = {}
    for name, activation in (("relu", nn.ReLU), ("quantised", lambda: QuantizedReLU(STEPS))):
        seed_everything(seed)
        net = cnn(activation)
        train(net, x, y, epochs, 5e-3)
        found[f"ANN, {name}"] = accuracy(net, tx, ty)
        for percentile in (100.0, 99.9) if name == "relu" else (100.0,):
            spiking = to_spiking(net[:-1], x, percentile=percentile)
            label = f"SNN, {'learned' if name == 'quantised' else f'{percentile:g} %'}"
            found[label] = accuracy(spiking, tx, ty, STEPS)
    tuned = {"SNN tuned, float": spiking, f"SNN tuned, {bits} bits": quantized(spiking, Integers(bits))}
    found[f"SNN rounded, {bits} bits"] = accuracy(tuned[f"SNN tuned, {bits} bits"], tx, ty, STEPS)
    for label, net in tuned.items():
        seed_everything(seed)
        train(net, x, y, more, 5e-4, STEPS)
        found[label] = accuracy(net, tx, ty, STEPS)
    found["differing"] = differing(net, tx)
    found["nJ, 32 bits"], found[f"nJ, {bits} bits"] = energies(net, tx, bits)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one seed, few epochs")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--bits", type=int, default=4)
    options = parser.parse_args()
    seeds, epochs, more = (options.seeds[:1], 2, 1) if options.quick else (options.seeds, 20, 3)
    print(machine())
    module = DigitsDVS(dt_us=100_000, steps=3, batch_size=120)
    module.setup()
    data = [frames(module.train_dataloader()), frames(module.test_dataloader())]
    print(f"{len(data[0][1])} training and {len(data[1][1])} test recordings", flush=True)
    results = []
    for seed in seeds:
        start = time.perf_counter()
        results.append(run(seed, data, epochs, more, options.bits))
        shown = "  ".join(f"{k} {v:.4g}" for k, v in results[-1].items())
        print(f"seed {seed}, {time.perf_counter() - start:.0f} s: {shown}", flush=True)
    few = f"SNN tuned, {options.bits} bits"
    pairs = [("SNN, 100 %", "ANN, relu"), ("SNN, 99.9 %", "ANN, relu"), ("SNN, learned", "ANN, quantised")]
    means = {name: statistics.mean(r[name] for r in results) for name in results[0]}
    for name, value in means.items():
        print(f"{name:22} {value:.4f}")
    for name, beside in [*pairs, (few, "SNN tuned, float")]:
        off = [100 * (r[name] - r[beside]) for r in results]
        print(f"{name} - {beside}: {statistics.mean(off):+.2f} points, each {np.round(off, 2).tolist()}")
        means[f"{name} - {beside}"] = statistics.mean(off)
    print("RESULT", json.dumps({"seeds": seeds, "epochs": epochs, "more": more, **means}))


if __name__ == "__main__":
    main()
