"""All fast code, on plain tensors. The only room that imports Numba or Triton; each kernel has a plain twin."""

from spikenet.kernels.backends import use_backend

__all__ = ["use_backend"]
