"""A convolutional spiking network for event cameras."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence

from torch import nn

from spikenet.errors import ShapeError
from spikenet.layers import BatchNorm2d, Conv2d, ToDense
from spikenet.models.base import Network, Readout
from spikenet.neurons import LIF


class SpikingConvNet(Network):
    """Blocks of strided convolution, batch norm and LIF, a hidden layer of LIF neurons, and a linear layer read out
    over time.

    The shape follows the N-MNIST network of Fang et al., "Incorporating learnable membrane time constant", ICCV 2021
    ({c128k3 - BN - PLIF - MPk2s2} x 2 - DP - FC2048 - PLIF - DP - FC100 - PLIF - voting): much narrower, with a stride
    of 2 in place of pooling, plain LIF neurons, one hidden layer and a linear readout in place of voting.

    Called on an `EventTensor` or a dense ``[T, B, C, H, W]``, returns logits ``[B, classes]``.

    Args:
        in_shape: ``(C, H, W)`` of one step.
        classes: number of classes.
        channels: channels of each block; each block halves height and width.
        hidden: neurons in the fully connected layer.
        tau: membrane time constant in steps.
        dropout: share of spikes dropped before each linear layer while training.
        readout: how the outputs become one answer: mean or max over time, sum of their softmax over time, or the last
            step.

    Raises:
        ShapeError: the data are not of the form ``(C, H, W)``, or the input has other features.
    """

    def __init__(
        self,
        in_shape: Sequence[int],
        classes: int,
        channels: Sequence[int] = (16, 32),
        hidden: int = 128,
        tau: float = 2.0,
        dropout: float = 0.0,
        readout: Readout = "mean",
    ) -> None:
        if len(in_shape) != 3:
            raise ShapeError(
                f"SpikingConvNet takes data of shape (C, H, W), this data has {tuple(in_shape)}; SpikingMLP takes any."
            )
        height, width = (math.ceil(side / 2 ** len(channels)) for side in in_shape[1:])
        layers: OrderedDict[str, nn.Module] = OrderedDict(dense=ToDense())
        for number, (inputs, outputs) in enumerate(zip((in_shape[0], *channels), channels, strict=False), start=1):
            layers[f"block{number}"] = _block(inputs, outputs, tau)
        features = (in_shape[0], *channels)[-1] * height * width
        layers["flat"] = nn.Flatten(2)
        layers["hidden"] = _hidden(features, hidden, tau, dropout)
        layers["out"] = nn.Sequential(nn.Dropout(dropout), nn.Linear(hidden, classes))
        super().__init__(in_shape, nn.Sequential(layers), readout)


def _block(inputs: int, outputs: int, tau: float) -> nn.Sequential:
    conv = Conv2d(inputs, outputs, 3, stride=2, padding=1, bias=False)
    return nn.Sequential(OrderedDict(conv=conv, norm=BatchNorm2d(outputs), lif=LIF(tau, detach_reset=True)))


def _hidden(inputs: int, outputs: int, tau: float, dropout: float) -> nn.Sequential:
    linear = nn.Linear(inputs, outputs)
    return nn.Sequential(OrderedDict(dropout=nn.Dropout(dropout), linear=linear, lif=LIF(tau, detach_reset=True)))
