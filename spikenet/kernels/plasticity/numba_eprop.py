"""E-prop in Numba: each neuron through all steps of one batch entry after the other. Importing this imports numba."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from torch import Tensor

from spikenet.kernels.plasticity.ops import Memory
from spikenet.kernels.threads import over_lanes


def eprop(
    x: Tensor,
    slope: Tensor,
    signal: Tensor,
    memory: Memory,
    gradient: Tensor,
    filtered: Tensor,
    beta: Tensor | None,
    adaptation: Tensor | None,
) -> None:
    """See `ops.eprop`."""
    arrays = [v.numpy() for v in (x, slope, signal)]
    real = arrays[0].dtype.type
    held = np.zeros((0, 1, 1), real) if adaptation is None else adaptation.numpy()
    rise = np.zeros(0, real) if beta is None else beta.numpy()
    kernel: Any = _eprop

    def rows(first: int, stop: int) -> None:
        kernel(*arrays, *(real(v) for v in memory), gradient.numpy(), filtered.numpy(), rise, held, first, stop)

    over_lanes(rows, gradient.shape[0], 1, len(x) * filtered.numel())


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _eprop(
    x: np.ndarray,
    slope: np.ndarray,
    signal: np.ndarray,
    rho: float,
    kappa: float,
    gradient: np.ndarray,
    filtered: np.ndarray,
    beta: np.ndarray,  # [O], or [0] for none
    adaptation: np.ndarray,  # [0, 1, 1] for none
    first: int,  # neurons of this call
    stop: int,
) -> None:
    steps, batch, _ = x.shape
    for o in range(first, stop):
        g = gradient[o]
        for t in range(steps):
            for b in range(batch):
                f, now, s, heed = filtered[b, o], x[t, b], slope[t, b, o], signal[t, b, o]
                if adaptation.shape[0] == 0:
                    for i in range(g.size):
                        f[i] = kappa * f[i] + s * now[i]
                        g[i] += heed * f[i]
                else:
                    a, left = adaptation[b, o], rho - beta[o] * s
                    for i in range(g.size):
                        e = s * (now[i] - beta[o] * a[i])
                        a[i] = left * a[i] + s * now[i]
                        f[i] = kappa * f[i] + e
                        g[i] += heed * f[i]
