"""Connections and containers: folding layers, delays, recurrence, readouts, and the stream."""

from spikenet.layers.delay import DelayLinear, DelayState
from spikenet.layers.delay_bank import DelayBank, DelayBankConv2d
from spikenet.layers.delay_conv import DelayConv1d, DelayConv2d
from spikenet.layers.delay_recurrent import DelayRecurrent, DelayRecurrentState
from spikenet.layers.delay_schedule import SigmaSchedule, delay_groups
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
    "DelayBank",
    "DelayBankConv2d",
    "DelayConv1d",
    "DelayConv2d",
    "DelayLinear",
    "DelayRecurrent",
    "DelayRecurrentState",
    "DelayState",
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
    "SigmaSchedule",
    "SoftmaxSumReadout",
    "SpikingLinear",
    "Stream",
    "ToDense",
    "delay_groups",
]
