"""Connections and containers: folding layers, recurrence, readouts, and the stream."""

from spikenet.layers.dense import ToDense
from spikenet.layers.event_conv import EventConv2d
from spikenet.layers.event_linear import EventLinear
from spikenet.layers.fold import AdaptiveAvgPool2d, AvgPool2d, BatchNorm2d, Conv2d, MaxPool2d
from spikenet.layers.levy_baxter import LevyBaxter, ProbabilisticSynapses
from spikenet.layers.readout import LastReadout, MaxReadout, MeanReadout, SoftmaxSumReadout
from spikenet.layers.recurrent import Recurrent, RecurrentState
from spikenet.layers.spiking_linear import SpikingLinear
from spikenet.layers.stream import Stream

__all__ = [
    "AdaptiveAvgPool2d",
    "AvgPool2d",
    "BatchNorm2d",
    "Conv2d",
    "EventConv2d",
    "EventLinear",
    "LastReadout",
    "LevyBaxter",
    "MaxPool2d",
    "MaxReadout",
    "MeanReadout",
    "ProbabilisticSynapses",
    "Recurrent",
    "RecurrentState",
    "SoftmaxSumReadout",
    "SpikingLinear",
    "Stream",
    "ToDense",
]
