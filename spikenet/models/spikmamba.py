"""SpikMamba: spiking linear attention in windows, and selective state spaces over all tokens."""

from __future__ import annotations

import functools
from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from spikenet.errors import ArgumentError, ShapeError
from spikenet.layers import ToDense, transformer_lif
from spikenet.layers.channels import ChannelNorm, MakeNeuron, Residual
from spikenet.layers.fold import Conv2d
from spikenet.layers.linear_attention import SpikingLinearAttention
from spikenet.layers.selective_scan import BidirectionalMamba
from spikenet.models.base import Network, Readout, head, picture

__all__ = ["SpikMamba"]


class SpikMamba(Network):
    """Patches with learned places in space and time, blocks of spiking linear attention in windows, and blocks of
    bidirectional Mamba over the tokens of all steps.

    After the authors' code, whose variants differ; the width of windows and the number of Mamba blocks are options,
    and the gate's projection is applied once.

    Called on an `EventTensor` or a dense ``[T, B, C, H, W]``, returns logits ``[B, classes]``.

    Args:
        in_shape: ``(C, H, W)`` of one step.
        classes: number of classes.
        steps: most time steps, for the learned places in time.
        dim: features of a token.
        patch: side of a patch, a divisor of H and W.
        depth: blocks of attention.
        scans: blocks of Mamba.
        heads: of the attention.
        window: side of the attention's windows in tokens, a divisor of the map's sides.
        ratio: width of the hidden feed-forward layers over `dim`.
        tau: membrane time constant in steps.
        dropout: share of the features dropped while training, those of each patch and step one by one, and of those
            before the last layer.
        readout: how the outputs become one answer.

    Raises:
        ShapeError: the data are not of the form ``(C, H, W)``, or the input has other features or more steps.
        ArgumentError: if patch or window do not divide the sides.

    Source: Chen et al., "SpikMamba: when SNN meets Mamba in event-based human action recognition", ACM MM Asia 2024.
    """

    def __init__(
        self,
        in_shape: Sequence[int],
        classes: int,
        steps: int = 16,
        dim: int = 64,
        patch: int = 4,
        depth: int = 2,
        scans: int = 1,
        heads: int = 4,
        window: int = 4,
        ratio: float = 4.0,
        tau: float = 2.0,
        dropout: float = 0.25,
        readout: Readout = "mean",
    ) -> None:
        channels, neuron = picture("SpikMamba", in_shape), functools.partial(transformer_lif, tau=tau)
        if any(side % (patch * window) for side in in_shape[1:]):
            raise ArgumentError(
                f"SpikMamba wants sides that are whole windows of {window} x {window} patches of {patch}, got "
                f"{in_shape[1]} x {in_shape[2]}."
            )
        layers: OrderedDict[str, nn.Module] = OrderedDict(dense=ToDense())
        grid = in_shape[1] // patch, in_shape[2] // patch
        layers["stem"] = _Patches(channels, dim, patch, grid, steps, dropout, neuron)
        for number in range(1, depth + 1):
            layers[f"block{number}"] = _Block(dim, heads, window, ratio, neuron)
        for number in range(1, scans + 1):
            layers[f"scan{number}"] = Residual(BidirectionalMamba(dim))
        layers["out"] = head(dim, classes, dropout)
        super().__init__(in_shape, nn.Sequential(layers), readout)


class _Patches(nn.Module):
    """Spikes of the patches and their places: `[T, B, C, H, W]` -> `[T, B, H / p, W / p, D]`."""

    def __init__(
        self,
        channels: int,
        dim: int,
        patch: int,
        grid: tuple[int, int],
        steps: int,
        dropout: float,
        neuron: MakeNeuron,
    ) -> None:
        super().__init__()
        self.conv = Conv2d(channels, dim, patch, stride=patch)
        self.drop, self.norm, self.lif = nn.Dropout(dropout), ChannelNorm(dim), neuron(1.0)
        self.space, self.time = nn.Parameter(torch.zeros(*grid, dim)), nn.Parameter(torch.zeros(steps, 1, 1, 1, dim))

    def forward(self, x: Tensor) -> Tensor:
        if len(x) > len(self.time):
            raise ShapeError(f"SpikMamba has places for {len(self.time)} steps, it was given {len(x)}")
        tokens = self.norm(self.drop(self.conv(x).movedim(2, -1)))
        return self.lif(tokens) + self.space + self.time[: len(x)]


class _Block(nn.Module):
    """Attention between two depth-wise convolutions, gated, and a feed-forward layer, as in MLLA."""

    def __init__(self, dim: int, heads: int, window: int, ratio: float, neuron: MakeNeuron) -> None:
        super().__init__()
        self.place, self.place_again, self.conv = (Conv2d(dim, dim, 3, padding=1, groups=dim) for _ in range(3))
        self.norm, self.norm_again = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.gate, self.widen, self.out = (nn.Linear(dim, dim) for _ in range(3))
        self.attention = SpikingLinearAttention(dim, heads, window, neuron)
        self.mlp = nn.Sequential(nn.Linear(dim, int(ratio * dim)), nn.GELU(), nn.Linear(int(ratio * dim), dim))

    def forward(self, x: Tensor) -> Tensor:
        x = x + _each(self.place, x)
        s = self.norm(x)
        mixed = self.attention(functional.silu(_each(self.conv, self.widen(s))))
        x = x + self.out(mixed * functional.silu(self.gate(s)))
        x = x + _each(self.place_again, x)
        return x + self.mlp(self.norm_again(x))


def _each(conv: nn.Module, x: Tensor) -> Tensor:
    return conv(x.movedim(-1, 2)).movedim(2, -1)
