"""Synapses of one tap each by the events of a quiet sequence, in Numba. Importing this module imports numba.

An event adds the weights of its input's synapses where and when they are heard. Sums go by input, element, then the
time of the event: those of `numba_terms`, but for the zeros.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from torch import Tensor

from spikenet.kernels import buffers
from spikenet.kernels.delay.numba_events import listed
from spikenet.kernels.delay.numba_vectors import multiply_add
from spikenet.kernels.threads import over_lanes


def forward(x: Tensor, weight: Tensor, tap: Tensor, taps: int, first: int, steps: int) -> Tensor:
    """See `taps.delay_taps`; x and weights in float32 or float64."""
    batch, outputs = x.shape[1], len(weight)
    y = buffers.empty((steps, batch, outputs), x.dtype)
    place = tap.permute(1, 2, 0).contiguous().numpy() * outputs + np.arange(
        outputs
    )  # [M, E, N]: step and output in one
    weights = weight.detach().permute(1, 2, 0).contiguous().numpy()
    arrays = x.detach().contiguous().numpy(), place.astype(np.uint32), weights, y.numpy()
    run: Any = _forward

    def some(start: int, stop: int) -> None:
        run(*arrays, taps, first, start, stop)

    over_lanes(some, batch, 1, y.numel())
    return y


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _forward(
    x: np.ndarray,  # [T, B, M]
    place: np.ndarray,  # uint32 [M, E, N]
    weight: np.ndarray,  # [M, E, N]
    y: np.ndarray,  # [S, B, N], written
    taps: int,
    first: int,
    start: int,  # batch entries of this call
    stop: int,
) -> None:
    steps, inputs, outputs = y.shape[0], x.shape[2], y.shape[2]
    sums = np.empty((steps + 2 * (taps - 1)) * outputs, y.dtype)  # with what is heard before and after
    begins, time = np.empty(inputs + 1, np.int64), np.empty(inputs * x.shape[0], np.int32)
    values = np.empty(time.size, x.dtype)
    for b in range(start, stop):
        sums[:] = 0.0
        listed(x, b, 0, inputs, begins, time, values)
        for j in range(inputs):
            for k in range(place.shape[1]):
                to, w = place[j, k], weight[j, k]
                for e in range(begins[j], begins[j + 1]):
                    value, now = values[e], time[e] - first + taps - 1
                    heard = sums[now * outputs : (now + taps) * outputs]
                    for i in range(outputs):
                        heard[to[i]] = multiply_add(value, w[i], heard[to[i]])
        for s in range(steps):
            row = sums[(taps - 1 + s) * outputs : (taps + s) * outputs]
            for i in range(outputs):
                y[s, b, i] = row[i]
