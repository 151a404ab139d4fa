"""Maxima over neighbouring pixels, channels last."""

from spikenet.kernels.pool.max_pool import max_pool

__all__ = ["max_pool"]
