"""A fully connected spiking network: a plain baseline, not the model of a paper."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence

from torch import nn

from spikenet.layers import ToDense
from spikenet.models.base import Network, Readout
from spikenet.neurons import LIF, LeakyReadout


class SpikingMLP(Network):
    """Linear layers with LIF neurons between them; the last one feeds leaky integrators that are read out over time.

    Called on an `EventTensor` or a dense ``[T, B, *features]``, returns logits ``[B, classes]``.

    Args:
        in_shape: feature dimensions of one step.
        classes: number of classes.
        hidden: neurons in each hidden layer.
        tau: membrane time constant of the hidden neurons in steps.
        tau_out: time constant of the output integrators in steps.
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
        dropout: float = 0.0,
        readout: Readout = "mean",
    ) -> None:
        sizes = (math.prod(in_shape), *hidden)
        layers: OrderedDict[str, nn.Module] = OrderedDict(dense=ToDense(), flat=nn.Flatten(2))
        for number, (inputs, outputs) in enumerate(zip(sizes, hidden, strict=False), start=1):
            layers[f"hidden{number}"] = _hidden(inputs, outputs, tau, dropout)
        layers["out"] = nn.Sequential(nn.Linear(sizes[-1], classes), LeakyReadout(tau_out))
        super().__init__(in_shape, nn.Sequential(layers), readout)


def _hidden(inputs: int, outputs: int, tau: float, dropout: float) -> nn.Sequential:
    lif = LIF(tau, detach_reset=True)
    return nn.Sequential(OrderedDict(linear=nn.Linear(inputs, outputs), lif=lif, dropout=nn.Dropout(dropout)))
