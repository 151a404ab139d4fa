"""Updates of the weights of compressed rows in Numba. Importing this module imports numba."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from torch import Tensor

from spikenet.kernels.plasticity.numba_backend import _bounded
from spikenet.kernels.plasticity.ops import Change
from spikenet.kernels.threads import over_lanes


def update(
    values: Tensor,
    indptr: Tensor,
    indices: Tensor,
    gain: Tensor,
    x: Tensor,
    y: Tensor,
    loss: Tensor,
    change: Change,
    eligibility: Tensor | None,
    modulator: Tensor | None,
) -> None:
    """See `ops.update_sparse`."""
    arrays = [v.numpy() for v in (values, indptr, indices, gain, x, y, loss)]
    real = arrays[0].dtype.type
    held = np.zeros((0, 1), real) if eligibility is None else eligibility.numpy()
    told = np.zeros((0, 1, 1), real) if modulator is None else modulator.numpy()
    kernel: Any = _update

    def rows(first: int, stop: int) -> None:
        kernel(*arrays, *(real(v) for v in change), held, told, first, stop)

    over_lanes(rows, len(indptr) - 1, 1, len(gain) * len(values))


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _update(
    values: np.ndarray,  # [E], changed
    indptr: np.ndarray,
    indices: np.ndarray,
    gain: np.ndarray,  # [T, N, O]
    x: np.ndarray,  # [T, N, I]
    y: np.ndarray,
    loss: np.ndarray,
    low: float,
    high: float,
    mu_plus: float,
    mu_minus: float,
    decay: float,
    eligibility: np.ndarray,  # [B, E], changed; [0, 1] for none
    modulator: np.ndarray,  # [T, B, O]
    first: int,  # rows of this call
    stop: int,
) -> None:
    steps, entries, _ = gain.shape
    batch = eligibility.shape[0]
    for o in range(first, stop):
        begin, w, places = indptr[o], values[indptr[o] : indptr[o + 1]], indices[indptr[o] : indptr[o + 1]]
        up, down = np.zeros_like(w), np.zeros_like(w)
        for t in range(steps):
            for b in range(max(batch, 1)):
                for n in range(b * entries // max(batch, 1), (b + 1) * entries // max(batch, 1)):
                    for e in range(w.size):
                        up[e] += gain[t, n, o] * x[t, n, places[e]]
                        down[e] += y[t, n, o] * loss[t, n, places[e]]
                for e in range(w.size):
                    fall = down[e] if mu_minus == 0 else _bounded(w[e] - low, mu_minus) * down[e]
                    if batch == 0:
                        w[e] = min(max(w[e] - fall, low), high)
                    rise = up[e] if mu_plus == 0 else _bounded(high - w[e], mu_plus) * up[e]
                    if batch == 0:
                        w[e] = min(max(w[e] + rise, low), high)
                    else:
                        eligibility[b, begin + e] = decay * eligibility[b, begin + e] + (rise - fall)
                    up[e], down[e] = 0, 0
            if batch > 0:
                for e in range(w.size):
                    change = w.dtype.type(0)
                    for b in range(batch):
                        change += modulator[t, b, o] * eligibility[b, begin + e]
                    w[e] = min(max(w[e] + change, low), high)
