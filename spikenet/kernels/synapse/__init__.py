"""Spikes and weights: event-driven products and convolutions, and spikes kept at one bit each."""

from spikenet.kernels.synapse.crossover import convolution_crossover, linear_crossover
from spikenet.kernels.synapse.event_conv import event_conv2d
from spikenet.kernels.synapse.event_linear import event_linear
from spikenet.kernels.synapse.linear import spike_linear
from spikenet.kernels.synapse.pack import pack, unpack
from spikenet.kernels.synapse.sparse_conv import sparse_conv2d
from spikenet.kernels.synapse.sparse_linear import sparse_linear
from spikenet.kernels.synapse.split import split_bfloat16

__all__ = [
    "convolution_crossover",
    "event_conv2d",
    "event_linear",
    "linear_crossover",
    "pack",
    "sparse_conv2d",
    "sparse_linear",
    "spike_linear",
    "split_bfloat16",
    "unpack",
]
