"""The Spike-driven Transformer: attention by masks and additions, and integer training for spiking inference."""

from __future__ import annotations

import functools
from collections import OrderedDict
from collections.abc import Sequence
from typing import Literal

from torch import nn

from spikenet.errors import ArgumentError, UnknownNameError
from spikenet.layers import (
    FeedForward,
    SpikeDrivenSelfAttention,
    SpikingPatchSplitting,
    SpikingSelfAttention,
    ToDense,
    transformer_lif,
)
from spikenet.layers.channels import MakeNeuron
from spikenet.models.base import Network, Readout, block, head, picture
from spikenet.neurons import MultiSpikeLIF, Neuron

__all__ = ["SpikeDrivenTransformer"]


class SpikeDrivenTransformer(Network):
    """Patch splitting, blocks of spike-driven self-attention and feed-forward layers with membrane shortcuts, the mean
    over the tokens, a neuron, and a linear layer read out over time.

    `levels` above 1 trains with whole numbers: a neuron sends `c = floor(min(max(x, 0), levels) + 1/2)` spikes in a
    step and keeps no potential, `c / levels` goes on, and at inference `spikenet.events.expand` turns it into `levels`
    binary steps, with which linear layers give the same result.

    Called on an `EventTensor` or a dense ``[T, B, C, H, W]``, returns logits ``[B, classes]``; a still picture is
    repeated with `x.expand(4, *x.shape)`.

    Args:
        in_shape: ``(C, H, W)`` of one step.
        classes: number of classes.
        dim: features of a token, a multiple of 8.
        depth: number of blocks.
        attention: `"gate"`, a mask of the channels (version 1), or `"product"`, q k^T v with values four times as wide
            and a scale of 2 d^(-1/2) (version 3).
        heads: of the product.
        pool: which of the four stages of the patch splitting halve height and width.
        ratio: width of the hidden feed-forward layer over `dim`.
        levels: most spikes of a neuron in a step.
        tau: membrane time constant in steps, with one level.
        dropout: share of the features dropped before the last layer while training.
        readout: how the outputs become one answer.

    Raises:
        ShapeError: the data are not of the form ``(C, H, W)``, or the input has other features.
        ArgumentError: for less than one level, or heads that do not divide the features; UnknownNameError for another
            attention.

    Source: Yao et al., "Spike-driven Transformer", NeurIPS 2023 (version 1; the convolution over heads that its code
    makes and never calls is left out); Yao et al., "Scaling spike-driven Transformer with efficient spike firing
    approximation training", IEEE TPAMI 47(4), 2025 (integer training and attention of version 3, not its stages).
    """

    def __init__(
        self,
        in_shape: Sequence[int],
        classes: int,
        dim: int = 64,
        depth: int = 2,
        attention: Literal["gate", "product"] = "gate",
        heads: int = 8,
        pool: Sequence[bool] = (True, True, True, False),
        ratio: float = 4.0,
        levels: int = 1,
        tau: float = 2.0,
        dropout: float = 0.0,
        readout: Readout = "mean",
    ) -> None:
        channels = picture("SpikeDrivenTransformer", in_shape)
        if attention not in ("gate", "product"):
            raise UnknownNameError("attention", attention, ("gate", "product"))
        if levels < 1:
            raise ArgumentError(f"SpikeDrivenTransformer wants 1 level or more, got {levels}.")
        neuron = functools.partial(transformer_lif, tau=tau) if levels == 1 else functools.partial(_integer, levels)
        layers: OrderedDict[str, nn.Module] = OrderedDict(dense=ToDense())
        layers["stem"] = SpikingPatchSplitting(channels, dim, pool, shortcut="membrane", neuron=neuron)
        for number in range(1, depth + 1):
            mixing = _attention(attention, dim, heads, neuron)
            layers[f"block{number}"] = block(attention=mixing, mlp=FeedForward(dim, ratio, "membrane", neuron))
        layers["out"] = head(dim, classes, dropout, neuron(1.0))
        super().__init__(in_shape, nn.Sequential(layers), readout)

    @classmethod
    def imagenet(cls, dim: int = 512, depth: int = 8) -> SpikeDrivenTransformer:
        """Of 224 x 224 pictures; 8-512 has 29,689,384 parameters."""
        return cls((3, 224, 224), 1000, dim, depth, pool=(True,) * 4)

    @classmethod
    def cifar(cls, classes: int = 10, dim: int = 512, depth: int = 2) -> SpikeDrivenTransformer:
        """Of 32 x 32 pictures; 2-512 has 10,233,418 parameters for ten classes."""
        return cls((3, 32, 32), classes, dim, depth, pool=(False, False, True, True))


def _integer(levels: int, v_threshold: float) -> Neuron:
    """Whole numbers of spikes without memory: a time constant of one step forgets all that was."""
    return MultiSpikeLIF(levels, tau=1.0, v_threshold=v_threshold)


def _attention(kind: str, dim: int, heads: int, neuron: MakeNeuron) -> nn.Module:
    if kind == "gate":
        return SpikeDrivenSelfAttention(dim, neuron=neuron)
    if heads < 1 or dim % heads:
        raise ArgumentError(f"SpikeDrivenTransformer: {heads} heads do not divide {dim} features evenly.")
    scale = 2 * (dim // heads) ** -0.5
    return SpikingSelfAttention(dim, heads, scale, "membrane", value_ratio=4, neuron=neuron)
