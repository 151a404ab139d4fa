"""A neuron's scan over time with dense weights from its output back to its input."""

from spikenet.kernels.recurrent.ops import recurrent_scan

__all__ = ["recurrent_scan"]
