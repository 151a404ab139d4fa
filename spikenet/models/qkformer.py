"""QKFormer: a hierarchy of spiking Transformer stages, the early ones with query-key masks."""

from __future__ import annotations

import functools
from collections import OrderedDict
from collections.abc import Sequence
from typing import Literal

from torch import nn

from spikenet.errors import ArgumentError
from spikenet.layers import (
    Chain,
    ChannelsLast,
    ConvNorm,
    FeedForward,
    PatchMerging,
    QKAttention,
    SpikingSelfAttention,
    ToDense,
    transformer_lif,
)
from spikenet.models.base import Network, Readout, block, head, picture

__all__ = ["QKFormer"]


class QKFormer(Network):
    """Three stages of widths D/4, D/2 and D, each after a merging of patches with a shortcut: query-key attention in
    the first two, spiking self-attention in the last, plain addition everywhere.

    Called on an `EventTensor` or a dense ``[T, B, C, H, W]``, returns logits ``[B, classes]``; a still picture is
    repeated with `x.expand(4, *x.shape)`.

    Args:
        in_shape: ``(C, H, W)`` of one step.
        classes: number of classes.
        dim: D, features of a token of the last stage, a multiple of 8.
        depths: blocks of the stages.
        heads: of the attention in every stage; they change no parameter.
        over: what the query-key attention masks, tokens or channels.
        ratio: width of the hidden feed-forward layers over their input's.
        tau: membrane time constant in steps.
        dropout: share of the features dropped before the last layer while training.
        readout: how the outputs become one answer.

    Raises:
        ShapeError: the data are not of the form ``(C, H, W)``, or the input has other features.
        ArgumentError: if D is no multiple of 8.

    Source: Zhou et al., "QKFormer: hierarchical spiking Transformer using Q-K attention", NeurIPS 2024.
    """

    def __init__(
        self,
        in_shape: Sequence[int],
        classes: int,
        dim: int = 64,
        depths: Sequence[int] = (1, 1, 1),
        heads: int = 4,
        over: Literal["token", "channel"] = "token",
        ratio: float = 4.0,
        tau: float = 2.0,
        dropout: float = 0.0,
        readout: Readout = "mean",
    ) -> None:
        channels, neuron = picture("QKFormer", in_shape), functools.partial(transformer_lif, tau=tau)
        if dim % 8 or len(depths) != 3:
            raise ArgumentError(f"QKFormer wants a width that is a multiple of 8 and three depths, got {dim}, {depths}")
        widths = (dim // 8, dim // 4, dim // 2, dim)
        first = Chain(ChannelsLast(), ConvNorm(channels, widths[0], pool=True), neuron())
        layers: OrderedDict[str, nn.Module] = OrderedDict(dense=ToDense(), first=first)
        for stage, (inputs, width, depth) in enumerate(zip(widths, widths[1:], depths, strict=False), start=1):
            layers[f"merge{stage}"] = PatchMerging(inputs, width, neuron=neuron)
            for number in range(1, depth + 1):
                attention = (
                    SpikingSelfAttention(width, heads, neuron=neuron)
                    if stage == 3
                    else QKAttention(width, heads, over, neuron=neuron)
                )
                mlp = FeedForward(width, ratio, neuron=neuron)
                layers[f"stage{stage}_{number}"] = block(attention=attention, mlp=mlp)
        layers["out"] = head(dim, classes, dropout)
        super().__init__(in_shape, nn.Sequential(layers), readout)

    @classmethod
    def imagenet(cls, dim: int = 768) -> QKFormer:
        """Of 224 x 224 pictures; the paper's 10-768 has 64,962,760 parameters."""
        heads = {384: 6, 512: 8}.get(dim, 12)
        return cls((3, 224, 224), 1000, dim, (1, 2, 7), heads)
