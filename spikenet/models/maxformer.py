"""Max-Former: spiking Transformer stages that keep high frequencies, by maxima and depth-wise convolutions."""

from __future__ import annotations

import functools
from collections import OrderedDict
from collections.abc import Sequence
from typing import Literal

from torch import nn

from spikenet.errors import ArgumentError, UnknownNameError
from spikenet.layers import (
    Chain,
    ChannelsLast,
    ConvNorm,
    DepthwiseMixing,
    FeedForward,
    PatchMerging,
    SpikingSelfAttention,
    Sum,
    ToDense,
    transformer_lif,
)
from spikenet.layers.channels import MakeNeuron
from spikenet.models.base import Network, Readout, block, head, picture

__all__ = ["MaxFormer"]

Mixer = int | Literal["attention", "none"]
_MIXERS = ("attention", "none")


class MaxFormer(Network):
    """Stages that double their width and halve their map, with membrane shortcuts throughout: depth-wise convolutions
    mix the tokens of the early ones, spiking self-attention those of the last.

    Called on an `EventTensor` or a dense ``[T, B, C, H, W]``, returns logits ``[B, classes]``; a still picture is
    repeated with `x.expand(4, *x.shape)`.

    Args:
        in_shape: ``(C, H, W)`` of one step.
        classes: number of classes.
        dim: D, features of a token of the last stage; each stage before has half as many, and the convolutions of
            the embedding half of the first stage's, at `"eighth"` down to an eighth.
        embed: first embedding: `"same"` keeps the size (CIFAR), `"quarter"` takes a quarter of height and width
            (ImageNet), `"eighth"` an eighth (event cameras).
        mixers: of the stages: the side of a depth-wise kernel, `"attention"`, or `"none"`.
        depths: blocks of the stages.
        heads: of the attention; they change no parameter.
        ratio: width of the hidden feed-forward layers over their input's.
        tau: membrane time constant in steps.
        dropout: share of the features dropped before the last layer while training.
        readout: how the outputs become one answer.

    Raises:
        ShapeError: the data are not of the form ``(C, H, W)``, or the input has other features.
        ArgumentError: if there are not as many depths as mixers, or D cannot be halved as often.
        UnknownNameError: for another embedding or mixer.

    Source: Fang et al., "Spiking Transformers need high-frequency information", NeurIPS 2025.
    """

    def __init__(
        self,
        in_shape: Sequence[int],
        classes: int,
        dim: int = 64,
        embed: Literal["same", "quarter", "eighth"] = "same",
        mixers: Sequence[Mixer] = ("none", 3, "attention"),
        depths: Sequence[int] = (1, 1, 1),
        heads: int = 4,
        ratio: float = 4.0,
        tau: float = 2.0,
        dropout: float = 0.0,
        readout: Readout = "mean",
    ) -> None:
        channels, neuron = picture("MaxFormer", in_shape), functools.partial(transformer_lif, tau=tau)
        if embed not in _EMBEDDINGS:
            raise UnknownNameError("embedding", embed, _EMBEDDINGS)
        if len(mixers) != len(depths) or not mixers:
            raise ArgumentError(f"MaxFormer wants a depth for each mixer, got {tuple(mixers)} and {tuple(depths)}.")
        for mixer in mixers:
            if not isinstance(mixer, int) and mixer not in _MIXERS:
                raise UnknownNameError("mixer", mixer, (*_MIXERS, "the side of a kernel"))
        narrowest = (8 if embed == "eighth" else 2) * 2 ** (len(mixers) - 1)
        if dim < 1 or dim % narrowest:
            raise ArgumentError(
                f"MaxFormer wants a width that is a multiple of {narrowest} for these stages, got {dim}."
            )
        width = dim // 2 ** (len(mixers) - 1)
        layers: OrderedDict[str, nn.Module] = OrderedDict(dense=ToDense(), channels=ChannelsLast())
        for stage, (mixer, depth) in enumerate(zip(mixers, depths, strict=True), start=1):
            if stage == 1:
                layers["embed1"] = _EMBEDDINGS[embed](channels, width, neuron)
            else:
                layers[f"embed{stage}"] = PatchMerging(width, 2 * width, "membrane", pool_shortcut=True, neuron=neuron)
                width *= 2
            for number in range(1, depth + 1):
                layers[f"stage{stage}_{number}"] = _block(mixer, width, heads, ratio, neuron)
        layers["out"] = head(width, classes, dropout, neuron())
        super().__init__(in_shape, nn.Sequential(layers), readout)

    @classmethod
    def cifar(cls, classes: int = 10) -> MaxFormer:
        """Of 32 x 32 pictures; 6,568,282 parameters for ten classes."""
        return cls((3, 32, 32), classes, 384, depths=(1, 1, 2), heads=8)

    @classmethod
    def imagenet(cls, dim: int = 768) -> MaxFormer:
        """Of 224 x 224 pictures; 10-768 has 63,992,200 parameters."""
        return cls((3, 224, 224), 1000, dim, "quarter", (7, 5, "attention"), (1, 2, 7), dim // 64)

    @classmethod
    def dvs(cls, classes: int = 10) -> MaxFormer:
        """Of 128 x 128 event frames; 1,455,626 parameters for ten classes."""
        return cls((2, 128, 128), classes, 256, "eighth", (3, "attention"), (1, 1), 16, ratio=1.0)


def _block(mixer: Mixer, width: int, heads: int, ratio: float, neuron: MakeNeuron) -> nn.Sequential:
    mlp = FeedForward(width, ratio, "membrane", neuron)
    if mixer == "none":
        return block(mlp=mlp)
    if mixer == "attention":
        return block(attention=SpikingSelfAttention(width, heads, shortcut="membrane", neuron=neuron), mlp=mlp)
    return block(mixing=DepthwiseMixing(width, mixer, neuron=neuron), mlp=mlp)


def _same(channels: int, width: int, neuron: MakeNeuron) -> Chain:
    half = width // 2
    both = Sum(ConvNorm(half, width), ConvNorm(half, width, 1))
    return Chain(ConvNorm(channels, half), neuron(1.0), both)


def _quarter(channels: int, width: int, neuron: MakeNeuron) -> Chain:
    half = width // 2
    main = Chain(ConvNorm(half, width, stride=2), neuron(1.0), ConvNorm(width, width))
    return Chain(ConvNorm(channels, half, stride=2), neuron(1.0), Sum(main, ConvNorm(half, width, 1, 2)))


def _eighth(channels: int, width: int, neuron: MakeNeuron) -> Chain:
    first, second, third = width // 8, width // 4, width // 2
    start = [ConvNorm(channels, first), neuron(1.0), ConvNorm(first, second, pool=True), neuron(1.0)]
    main = Chain(ConvNorm(second, third, pool=True), neuron(1.0), ConvNorm(third, width, pool=True))
    return Chain(*start, Sum(main, ConvNorm(second, width, 1, 4)))


_EMBEDDINGS = {"same": _same, "quarter": _quarter, "eighth": _eighth}
