"""A fully connected spiking network: a plain baseline, not the model of a paper."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import nn

from spikenet.layers import ToDense
from spikenet.models.base import Network, Readout
from spikenet.neurons import LIF, LeakyReadout


class SpikingMLP(Network):
    """Linear layers with LIF neurons between them; the last linear layer feeds leaky integrators, which are read out
    over time.

    Called on an `EventTensor` or a dense ``[T, B, *features]``, returns logits ``[B, classes]``.

    Args:
        in_shape: feature dimensions of one step.
        classes: number of classes.
        hidden: neurons in each hidden layer.
        tau: membrane time constant of the hidden neurons in steps.
        tau_out: time constant of the output integrators in steps.
        gain: factor on the initial weights of the first layer, whose input is sparse.
        dropout: share of hidden spikes dropped while training.
        readout: how the outputs become one answer: mean or max over time, sum of their softmax over time, or the last
            step.

    Raises:
        ShapeError: the input has other features.
    """

    def __init__(
        self,
        in_shape: Sequence[int],
        classes: int,
        hidden: Sequence[int] = (256,),
        tau: float = 2.0,
        tau_out: float = 2.0,
        gain: float = 1.0,
        dropout: float = 0.0,
        readout: Readout = "mean",
    ) -> None:
        sizes = (math.prod(in_shape), *hidden)
        layers: list[nn.Module] = [ToDense(), nn.Flatten(2)]
        for inputs, outputs in zip(sizes, hidden, strict=False):
            layers += [nn.Linear(inputs, outputs), LIF(tau, detach_reset=True), nn.Dropout(dropout)]
        body = nn.Sequential(*layers, nn.Linear(sizes[-1], classes), LeakyReadout(tau_out))
        super().__init__(in_shape, body, readout)
