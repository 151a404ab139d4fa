"""Fully connected layers with learned delays: Hammouamri, Khalfaoui-Hassani and Masquelier, ICLR 2024."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import torch
from torch import nn

from spikenet.layers import BatchNorm1d, DelayLinear, SequenceDropout, ToDense
from spikenet.models.base import Network, Readout
from spikenet.neurons import LIF, LeakyReadout
from spikenet.neurons.surrogate import atan


class DelayNet(Network):
    """Blocks of `DelayLinear`, batch norm, LIF and dropout; a last `DelayLinear` feeds leaky integrators, which are
    read out over time.

    A neuron reset to 0, with little or no memory of its own: what spans time are the delays. Each layer adds
    ``(taps - 1) // 2`` steps to the sequence, so that late spikes are heard. Dropout silences a neuron for the whole
    sequence, as in the published code.

    Called on an `EventTensor` or a dense ``[T, B, *features]``, returns logits ``[B, classes]``. Delays want a learning
    rate of their own and a falling sigma: `spikenet.layers.delay_groups` and `SigmaSchedule`, which
    ``spikenet train`` uses by itself.

    Args:
        in_shape: feature dimensions of one step.
        classes: number of classes.
        hidden: neurons in each hidden layer.
        taps: steps that a synapse can reach; 1 makes a network without delays.
        elements: synapses between each pair of neurons.
        kernel: how a synapse spreads over the taps in training; see `DelayLinear`.
        sigma: width of the kernels to start from, in steps; by default ``taps // 2``.
        learned: learn the delays. False leaves them as drawn, in whole steps, one tap a synapse in training too.
        tau: membrane time constant of all neurons in steps.
        dropout: share of hidden neurons dropped while training.
        readout: how the outputs become one answer: sum of their softmax over time, mean or max over time, or the last
            step.

    Raises:
        ShapeError: the input has other features.

    Source: "Learning delays in spiking neural networks using dilated convolutions with learnable spacings", ICLR 2024,
    arXiv 2306.17670, and its code. The published networks have 140 inputs: for SHD the defaults here (214,016
    parameters), for SSC and GSC ``hidden=(512, 512, 512), taps=31, tau=1.5, dropout=0.25`` (1,230,848; 2,458,624 with
    ``elements=2``).
    """

    def __init__(
        self,
        in_shape: Sequence[int],
        classes: int,
        hidden: Sequence[int] = (256, 256),
        taps: int = 25,
        elements: int = 1,
        kernel: Literal["gauss", "max", "v1", "v0"] = "gauss",
        sigma: float | None = None,
        learned: bool = True,
        tau: float = 1.005,
        dropout: float = 0.4,
        readout: Readout = "softmax-sum",
    ) -> None:
        sizes, extend = (math.prod(in_shape), *hidden, classes), (taps - 1) // 2
        width = float(taps // 2) if sigma is None else sigma
        delays = [
            DelayLinear(a, b, taps, elements=elements, kernel=kernel if learned else "v0", sigma=width, extend=extend)
            for a, b in pairwise(sizes)
        ]
        for layer in delays if not learned else ():
            _fix(layer)
        layers: OrderedDict[str, nn.Module] = OrderedDict(dense=ToDense(), flat=nn.Flatten(2))
        for number, (layer, size) in enumerate(zip(delays, hidden, strict=False), start=1):
            layers[f"hidden{number}"] = _hidden(layer, size, tau, dropout)
        layers["out"] = nn.Sequential(OrderedDict(delays=delays[-1], lif=LeakyReadout(tau, decay_input=False)))
        super().__init__(in_shape, nn.Sequential(layers), readout, extend=extend * len(delays))


def _hidden(delays: DelayLinear, size: int, tau: float, dropout: float) -> nn.Sequential:
    lif = LIF(tau, decay_input=False, detach_reset=True, surrogate=atan(5.0))
    parts = OrderedDict(delays=delays, norm=BatchNorm1d(size), lif=lif, dropout=SequenceDropout(dropout))
    return nn.Sequential(parts)


def _fix(layer: DelayLinear) -> None:
    """Leave the delays as they are, in whole steps."""
    layer.delay.requires_grad_(False)
    with torch.no_grad():
        layer.delay.round_()
