"""Spikes and weights: spikes kept at one bit each, and their products with dense matrices."""

from spikenet.kernels.synapse.pack import pack, unpack

__all__ = ["pack", "unpack"]
