"""The linear recurrence in Numba: steps in order, vectorised over lanes. Importing this module imports numba."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from torch import Tensor

from spikenet.kernels import buffers
from spikenet.kernels.threads import over_lanes

BLOCK = 1024  # lanes worked on at a time: the row before stays in the first-level cache


def run(x: Tensor, a: Tensor, h0: Tensor, reverse: bool) -> Tensor:
    """See `ops.linear_scan`; half precision is widened first."""
    h = buffers.empty(tuple(x.shape), h0.dtype)
    kernel: Any = _scan
    arrays = [v.detach().to(h0.dtype).contiguous().numpy() for v in (x, a, h0)]

    def lanes(start: int, stop: int) -> None:
        kernel(*arrays, h.numpy(), reverse, start, stop)

    over_lanes(lanes, x.shape[1], BLOCK, x.numel())
    return h


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _scan(
    x: np.ndarray,  # [T, N]
    a: np.ndarray,  # [N]
    h0: np.ndarray,  # [N]
    h: np.ndarray,  # [T, N], written
    reverse: bool,
    start: int,  # lanes of this call
    stop: int,
) -> None:
    steps = x.shape[0]
    for first in range(start, stop, BLOCK):
        last = min(first + BLOCK, stop)
        before, factor = h0[first:last], a[first:last]
        for k in range(steps):
            t = steps - 1 - k if reverse else k
            now, row = h[t, first:last], x[t, first:last]
            for i in range(last - first):
                now[i] = factor[i] * before[i] + row[i]
            before = now
