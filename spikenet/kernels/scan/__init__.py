"""Linear recurrences over time, `h[t] = a h[t-1] + x[t]`, computed in order or by parallel scan."""

from spikenet.kernels.scan.ops import linear_scan

__all__ = ["linear_scan"]
