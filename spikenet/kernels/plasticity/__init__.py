"""Spike traces, and weights and eligibilities that change by products of what lies on their two sides."""

from spikenet.kernels.plasticity.ops import Change, Memory, eprop, trace, update, update_sparse

__all__ = ["Change", "Memory", "eprop", "trace", "update", "update_sparse"]
