"""Published energies, recomputed with our counter on our own full-size models, and the mean firing rates they imply.

    python benchmarks/energy_published.py [--quick]

The papers price ``E = 4.6 pJ * T * first + 0.9 pJ * SOPs``, with the multiply-accumulates of the first convolution,
which sees pixels at each of T steps, and synaptic operations (SOPs) of all layers behind it, whose rates they seldom
print. The first convolution and the dense multiply-accumulates of a step are counted here, on a picture of full size;
the SOPs are the published ones, and imply a mean rate of the layers' inputs of ``SOPs / (T * (dense - first))``.

A row agrees if it is less than one unit of the last printed digit away.
"""

from __future__ import annotations

import argparse
import functools
import json
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from spikenet.energy import count, picojoules
from spikenet.models import MaxFormer, Spikformer


class Dense(NamedTuple):
    """Multiply-accumulates of one step: of all connections, of the first of them, and of products of activations."""

    connections: float
    first: float
    products: float


class Row(NamedTuple):
    """A published row: energy in mJ with its digits, SOPs in G if they are, the channels of the first convolution that
    is charged (0: those of our model), and our model."""

    name: str
    printed: str
    sops: float | None
    first: int
    model: tuple[Callable[..., nn.Module], int, int] | tuple[Callable[..., nn.Module], int] | None = None
    T: int = 4


ROWS = [
    Row("Spikformer-8-384", "7.734", 6.82, 64, (Spikformer.imagenet, 384, 8)),
    Row("Spikformer-8-512", "11.577", 11.09, 64, (Spikformer.imagenet, 512, 8)),
    Row("Spikformer-10-512", "13.899", 13.67, 64, (Spikformer.imagenet, 512, 10)),
    Row("Spikformer-8-768", "21.477", 22.09, 64, (Spikformer.imagenet, 768, 8)),
    Row("Spikingformer-8-384", "4.69", 3.88, 48),
    Row("Spikingformer-8-512", "7.46", 6.52, 64),
    Row("Spikingformer-8-768", "13.68", 12.54, 96),
    Row("Max-Former-10-384", "4.89", None, 0, (MaxFormer.imagenet, 384)),
]
# syops-counter's README: network, mJ, AC and MAC in G; both are its own counts on trained networks.
SYOPS = [
    ("spiking ResNet-18", "0.734", 0.10, 0.14),
    ("SEW ResNet-18", "13.10", 0.50, 2.75),
    ("DSNN-18", "2.44", 1.69, 0.20),
    ("ResNet-18", "8.372", 0.0, 1.82),
]
# Dense networks as the spiking papers price them: mJ, MACs in G.
DENSE = [
    ("ViT-B/16, 384", "254.84", 55.4),
    ("DeiT-B, 224", "80.50", 17.5),
    ("Swin-B, 224", "70.84", 15.4),
    ("Swin-B, 384", "216.2", 47.0),
]


class ViT(nn.Module):
    """ViT-B/16, which is DeiT-B too, of torch's own layers, on one step ``[1, B, 3, side, side]``."""

    def __init__(self, side: int) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 768, 16, stride=16)
        self.token, self.places = (
            nn.Parameter(torch.zeros(1, 1, 768)),
            nn.Parameter(torch.zeros((side // 16) ** 2 + 1, 768)),
        )
        block = nn.TransformerEncoderLayer(768, 12, 3072, activation="gelu", batch_first=True, norm_first=True)
        self.blocks = nn.TransformerEncoder(block, 12, enable_nested_tensor=False)
        self.head = nn.Linear(768, 1000)

    def forward(self, x: Tensor) -> Tensor:
        patches = self.patches(x[0]).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.token.expand(len(patches), -1, -1), patches], 1) + self.places
        return self.head(self.blocks(tokens)[:, 0])


class Basic(nn.Module):
    """Two convolutions and a shortcut."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first, self.second = convolved(inputs, outputs, 3, stride), convolved(outputs, outputs, 3, 1)
        self.shortcut = convolved(inputs, outputs, 1, stride) if stride > 1 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return (self.second(self.first(x).relu()) + self.shortcut(x)).relu()


def convolved(inputs: int, outputs: int, kernel: int, stride: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False), nn.BatchNorm2d(outputs))


class ResNet18(nn.Module):
    """The plain network, on one step ``[1, B, 3, 224, 224]``."""

    def __init__(self) -> None:
        super().__init__()
        blocks = [Basic(64, 64, 1), Basic(64, 64, 1)]
        for width in (128, 256, 512):
            blocks += [Basic(width // 2, width, 2), Basic(width, width, 1)]
        self.body = nn.Sequential(convolved(3, 64, 7, 2), nn.ReLU(), nn.MaxPool2d(3, 2, 1), *blocks)
        self.head = nn.Linear(512, 1000)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x[0]).mean((2, 3)))


@functools.cache
def counted(make: Callable[..., nn.Module], *sizes: int) -> Dense:
    """One step of one picture of 224 pixels a side, or as many as the network takes."""
    torch.manual_seed(0)
    net = make(*sizes).eval()
    side = sizes[0] if make is ViT else 224
    with torch.inference_mode(), count(net, strict=True) as work:
        net(torch.rand(1, 1, 3, side, side))
    connections = [layer.dense_macs for layer in work.layers if layer.operation == "connection"]
    products = [layer.dense_macs for layer in work.layers if layer.operation == "product"]
    return Dense(sum(connections), connections[0], sum(products))


def first(width: int) -> float:
    """The convolution of pixels that makes so many channels, counted."""
    net = nn.Conv2d(3, width, 3, padding=1, bias=False)
    with torch.inference_mode(), count(net, steps=1) as work:
        net(torch.rand(1, 3, 224, 224))
    return work.macs


def agrees(ours: float, printed: str) -> str:
    """Whether mJ agree within one unit of the last digit printed."""
    unit = 10.0 ** -len(printed.partition(".")[2])
    assert abs(ours - float(printed)) < unit, f"{ours} is not {printed}"
    return f"{printed:>9} {ours:9.4f}"


def transformers(quick: bool) -> list[dict[str, object]]:
    columns = ("paper mJ", "ours mJ", "SOPs G", "first G", "own first", "dense G", "rate")
    print(" " * 20, *(f"{name:>9}" for name in columns))
    results: list[dict[str, object]] = []
    for row in ROWS:
        dense = counted(*row.model) if row.model and not (quick and 768 in row.model) else None
        charged = first(row.first) if row.first or dense is None else dense.first
        sops = row.sops or (float(row.printed) * 1e9 - picojoules(row.T * charged, 0)) / picojoules(0, 1e9)
        ours = picojoules(row.T * charged, sops * 1e9) / 1e9
        mark = " " if row.sops else "*"
        line = f"{row.name:20} {agrees(ours, row.printed)} {sops:8.2f}{mark} {charged / 1e9:9.5f}"
        result: dict[str, object] = {"name": row.name, "published": row.printed, "ours_mj": ours, "first": charged}
        if dense:
            rate = sops * 1e9 / (row.T * (dense.connections - dense.first))
            line += f" {dense.first / 1e9:9.5f} {dense.connections / 1e9:9.5f} {rate:9.2%}"
            result |= {**dense._asdict(), "rate": rate}
        print(line)
        results.append(result)
    print(
        "SOPs: as published, since the rates are not; * not printed, worked back from the energy, which agrees by\n"
        "itself. Spikformer's authors charge the first convolution of 8-512 in all rows; 'own first' is each model's.\n"
        "Attention products, q (k^T v), come on top of the dense count."
    )
    return results


def others(quick: bool) -> None:
    print("\n" + " " * 20, *(f"{name:>9}" for name in ("paper mJ", "ours mJ", "AC G", "MAC G", "counted G")))
    for name, printed, acs, macs in SYOPS:
        line = f"{name:20} {agrees(picojoules(macs * 1e9, acs * 1e9) / 1e9, printed)} {acs:9.2f} {macs:9.2f}"
        print(line + (f" {counted(ResNet18).connections / 1e9:9.3f}" if name == "ResNet-18" else ""))
    for name, printed, macs in DENSE:
        line = f"{name:20} {agrees(picojoules(macs * 1e9, 0) / 1e9, printed)} {'':9} {macs:9.2f}"
        if "Swin" not in name and not (quick and "384" in name):
            dense = counted(ViT, int(name[-3:]))
            line += f" {(dense.connections + dense.products) / 1e9:9.3f}"
        print(line)
    print(
        "counted: with torch's own layers. syops adds an operation or two an element for norms, activations and pools."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="without the largest models")
    quick = parser.parse_args().quick
    results = transformers(quick)
    others(quick)
    print("\nRESULT " + json.dumps(results))


if __name__ == "__main__":
    main()
