"""Batch norm and the neuron behind it in one pass."""

from spikenet.kernels.norm.fused import Norm, bind_norm, norm_scan

__all__ = ["Norm", "bind_norm", "norm_scan"]
