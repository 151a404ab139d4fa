"""Spikformer: the first Transformer whose attention is made of spikes."""

from __future__ import annotations

import functools
from collections import OrderedDict
from collections.abc import Sequence

from torch import nn

from spikenet.layers import FeedForward, SpikingPatchSplitting, SpikingSelfAttention, ToDense, transformer_lif
from spikenet.models.base import Network, Readout, block, head, picture

__all__ = ["Spikformer"]


class Spikformer(Network):
    """Spiking patch splitting, blocks of spiking self-attention and feed-forward layers with plain addition, the mean
    over the tokens, and a linear layer read out over time.

    A still picture `[B, C, H, W]` is repeated: `x.expand(4, *x.shape)`.

    Called on an `EventTensor` or a dense ``[T, B, C, H, W]``, returns logits ``[B, classes]``.

    Args:
        in_shape: ``(C, H, W)`` of one step.
        classes: number of classes.
        dim: features of a token.
        depth: number of blocks.
        heads: of the attention; they change no parameter.
        pool: which of the four stages of the patch splitting halve height and width.
        scale: factor of the attention product.
        qkv_bias: the projections to q, k and v have a bias.
        ratio: width of the hidden feed-forward layer over `dim`.
        tau: membrane time constant in steps.
        pool_before_neuron: pool potentials instead of spikes.
        dropout: share of the features dropped before the last layer while training.
        readout: how the outputs become one answer.

    Raises:
        ShapeError: the data are not of the form ``(C, H, W)``, or the input has other features.

    Source: Zhou et al., "Spikformer: when spiking neural network meets Transformer", ICLR 2023. The layer norms that
    the authors' code makes and never calls are left out.
    """

    def __init__(
        self,
        in_shape: Sequence[int],
        classes: int,
        dim: int = 64,
        depth: int = 2,
        heads: int = 8,
        pool: Sequence[bool] = (True, True, True, False),
        scale: float = 0.125,
        qkv_bias: bool = False,
        ratio: float = 4.0,
        tau: float = 2.0,
        pool_before_neuron: bool = False,
        dropout: float = 0.0,
        readout: Readout = "mean",
    ) -> None:
        channels, neuron = picture("Spikformer", in_shape), functools.partial(transformer_lif, tau=tau)
        layers: OrderedDict[str, nn.Module] = OrderedDict(dense=ToDense())
        layers["stem"] = SpikingPatchSplitting(channels, dim, pool, pool_before_neuron, neuron=neuron)
        for number in range(1, depth + 1):
            attention = SpikingSelfAttention(dim, heads, scale, bias=qkv_bias, neuron=neuron)
            layers[f"block{number}"] = block(attention=attention, mlp=FeedForward(dim, ratio, neuron=neuron))
        layers["out"] = head(dim, classes, dropout)
        super().__init__(in_shape, nn.Sequential(layers), readout)

    @classmethod
    def cifar(cls, classes: int = 10, dim: int = 384, depth: int = 4) -> Spikformer:
        """Of 32 x 32 pictures; the paper's 4-384 has 9,324,730 parameters."""
        pool = (False, False, True, True)
        return cls((3, 32, 32), classes, dim, depth, dim // 32, pool, qkv_bias=True)

    @classmethod
    def imagenet(cls, dim: int = 512, depth: int = 8) -> Spikformer:
        """Of 224 x 224 pictures; the paper's 8-512 has 29,689,384 parameters."""
        return cls((3, 224, 224), 1000, dim, depth, 12 if dim == 768 else 8, (True,) * 4)

    @classmethod
    def dvs(cls, classes: int = 10, dim: int = 256, depth: int = 2) -> Spikformer:
        """Of 128 x 128 event frames; the paper's 2-256 has 2,566,666 parameters."""
        return cls((2, 128, 128), classes, dim, depth, 16, (True,) * 4, scale=0.25)
