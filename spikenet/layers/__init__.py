"""Connections and containers: folding layers, delays, recurrence, attention, readouts, and the stream."""

from spikenet.layers.attention import QKAttention, SpikeDrivenSelfAttention, SpikingSelfAttention
from spikenet.layers.aware_attention import MagnitudeAwareAttention, NormAwareAttention, SigmoidAttention
from spikenet.layers.causal_attention import CausalSpikingAttention, sequence_parallel
from spikenet.layers.channels import (
    Chain,
    ChannelNorm,
    ChannelsLast,
    ConvNorm,
    LinearNorm,
    MeanOverSpace,
    Residual,
    SpikePool,
    Sum,
    transformer_lif,
)
from spikenet.layers.checkpointed import CheckpointedTime
from spikenet.layers.delay import DelayLinear, DelayState
from spikenet.layers.delay_bank import DelayBank, DelayBankConv2d
from spikenet.layers.delay_conv import DelayConv1d, DelayConv2d
from spikenet.layers.delay_recurrent import DelayRecurrent, DelayRecurrentState
from spikenet.layers.delay_schedule import SigmaSchedule, delay_groups
from spikenet.layers.dense import ToDense
from spikenet.layers.event_conv import EventConv2d
from spikenet.layers.event_linear import EventLinear
from spikenet.layers.fold import (
    AdaptiveAvgPool2d,
    AvgPool2d,
    BatchNorm1d,
    BatchNorm2d,
    Conv1d,
    Conv2d,
    MaxPool2d,
    ThresholdNorm2d,
)
from spikenet.layers.levy_baxter import LevyBaxter, ProbabilisticSynapses
from spikenet.layers.linear_attention import SpikingLinearAttention
from spikenet.layers.mixing import DepthwiseMixing, FeedForward
from spikenet.layers.pulse_synapses import PulseSynapses
from spikenet.layers.readout import LastReadout, MaxReadout, MeanReadout, SoftmaxSumReadout
from spikenet.layers.recurrent import Recurrent, RecurrentState
from spikenet.layers.rwkv import WKV, TokenShift
from spikenet.layers.selective_scan import BidirectionalMamba, SelectiveScan
from spikenet.layers.sequence_dropout import SequenceDropout
from spikenet.layers.spike_coding import (
    SpikeCodedLinear,
    SpikeCounts,
    SpikeTrain,
    spike_coded,
    spike_counts,
    spike_train,
)
from spikenet.layers.spiking_linear import SpikingLinear
from spikenet.layers.stem import PatchMerging, RelativePosition, SpikingConvStem, SpikingPatchSplitting
from spikenet.layers.stream import Stream

__all__ = [
    "WKV",
    "AdaptiveAvgPool2d",
    "AvgPool2d",
    "BatchNorm1d",
    "BatchNorm2d",
    "BidirectionalMamba",
    "CausalSpikingAttention",
    "Chain",
    "ChannelNorm",
    "ChannelsLast",
    "CheckpointedTime",
    "Conv1d",
    "Conv2d",
    "ConvNorm",
    "DelayBank",
    "DelayBankConv2d",
    "DelayConv1d",
    "DelayConv2d",
    "DelayLinear",
    "DelayRecurrent",
    "DelayRecurrentState",
    "DelayState",
    "DepthwiseMixing",
    "EventConv2d",
    "EventLinear",
    "FeedForward",
    "LastReadout",
    "LevyBaxter",
    "LinearNorm",
    "MagnitudeAwareAttention",
    "MaxPool2d",
    "MaxReadout",
    "MeanOverSpace",
    "MeanReadout",
    "NormAwareAttention",
    "PatchMerging",
    "ProbabilisticSynapses",
    "PulseSynapses",
    "QKAttention",
    "Recurrent",
    "RecurrentState",
    "RelativePosition",
    "Residual",
    "SelectiveScan",
    "SequenceDropout",
    "SigmaSchedule",
    "SigmoidAttention",
    "SoftmaxSumReadout",
    "SpikeCodedLinear",
    "SpikeCounts",
    "SpikeDrivenSelfAttention",
    "SpikePool",
    "SpikeTrain",
    "SpikingConvStem",
    "SpikingLinear",
    "SpikingLinearAttention",
    "SpikingPatchSplitting",
    "SpikingSelfAttention",
    "Stream",
    "Sum",
    "ThresholdNorm2d",
    "ToDense",
    "TokenShift",
    "delay_groups",
    "sequence_parallel",
    "spike_coded",
    "spike_counts",
    "spike_train",
    "transformer_lif",
]
