"""Max-ResNet: a residual network with membrane shortcuts that shrinks its maps by maxima."""

from __future__ import annotations

import functools
from collections import OrderedDict
from collections.abc import Sequence

from torch import nn

from spikenet.errors import ArgumentError
from spikenet.layers import Chain, ChannelsLast, ConvNorm, Residual, Sum, ToDense, transformer_lif
from spikenet.layers.channels import MakeNeuron, branch
from spikenet.models.base import Network, Readout, head, picture

__all__ = ["MaxResNet"]


class MaxResNet(Network):
    """A stem of one convolution, then stages of blocks `x + BN(Conv(LIF(BN(Conv(LIF(x))))))`. The first block of a
    stage changes the width, its shortcut a 1x1 convolution without neuron; where the stage halves the map, a maximum
    follows the first norm, and the shortcut strides.

    The default has the sizes of Max-ResNet-18 [3, 3, 2]: 12,502,090 parameters for ten classes of ``(3, 32, 32)``.
    Which of its stages halve the map the parameters do not tell; here the second and the third.

    Called on an `EventTensor` or a dense ``[T, B, C, H, W]``, returns logits ``[B, classes]``.

    Args:
        in_shape: ``(C, H, W)`` of one step.
        classes: number of classes.
        stem: channels of the first convolution.
        widths: channels of the stages.
        depths: blocks of the stages.
        halve: which stages halve height and width.
        tau: membrane time constant in steps.
        dropout: share of the features dropped before the last layer while training.
        readout: how the outputs become one answer.

    Raises:
        ShapeError: the data are not of the form ``(C, H, W)``, or the input has other features.
        ArgumentError: if widths, depths and `halve` are not equally many.

    Source: Fang et al., "Spiking Transformers need high-frequency information", NeurIPS 2025; membrane shortcuts after
    Hu et al., IEEE TNNLS 2024.
    """

    def __init__(
        self,
        in_shape: Sequence[int],
        classes: int,
        stem: int = 64,
        widths: Sequence[int] = (128, 256, 512),
        depths: Sequence[int] = (3, 3, 2),
        halve: Sequence[bool] = (False, True, True),
        tau: float = 2.0,
        dropout: float = 0.0,
        readout: Readout = "mean",
    ) -> None:
        channels, neuron = picture("MaxResNet", in_shape), functools.partial(transformer_lif, tau=tau)
        if not len(widths) == len(depths) == len(halve) or not widths:
            raise ArgumentError(
                f"MaxResNet wants a width, a depth and a choice to halve for each stage, got {tuple(widths)}, "
                f"{tuple(depths)} and {tuple(halve)}."
            )
        layers: OrderedDict[str, nn.Module] = OrderedDict(dense=ToDense(), channels=ChannelsLast())
        layers["stem"] = ConvNorm(channels, stem)
        inputs = stem
        for stage, (width, depth, halved) in enumerate(zip(widths, depths, halve, strict=True), start=1):
            layers[f"stage{stage}_1"] = _first(inputs, width, halved, neuron)
            for number in range(2, depth + 1):
                convolutions = (ConvNorm(width, width), ConvNorm(width, width))
                layers[f"stage{stage}_{number}"] = Residual(*branch("membrane", neuron, *convolutions))
            inputs = width
        layers["out"] = head(inputs, classes, dropout, neuron())
        super().__init__(in_shape, nn.Sequential(layers), readout)


def _first(inputs: int, width: int, halved: bool, neuron: MakeNeuron) -> Sum:
    main = branch("membrane", neuron, ConvNorm(inputs, width, pool=halved), ConvNorm(width, width))
    return Sum(Chain(*main), ConvNorm(inputs, width, 1, 2 if halved else 1))
