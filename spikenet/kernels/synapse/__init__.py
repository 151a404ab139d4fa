"""Spikes and weights: spikes kept at one bit each, and their products with dense matrices."""

from spikenet.kernels.synapse.linear import spike_linear
from spikenet.kernels.synapse.pack import pack, unpack
from spikenet.kernels.synapse.split import split_bfloat16

__all__ = ["pack", "spike_linear", "split_bfloat16", "unpack"]
