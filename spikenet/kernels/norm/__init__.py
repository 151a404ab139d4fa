"""Batch norm and the neuron behind it in one pass."""

from spikenet.kernels.norm.fused import Norm, norm_scan

__all__ = ["Norm", "norm_scan"]
