"""Synapses of one tap each, step by step, in Numba. Importing this module imports numba.

The sums of `numba_terms`, of steps that become known one after the other: each reads every synapse once.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from spikenet.kernels.delay.numba_terms import of_synapses
from spikenet.kernels.delay.numba_vectors import LANES, weigher

_weigh: Any = weigher(1)


class Steps:
    """See `steps.delay_steps`. Vectors of batch entries: `[blocks, steps, rows and a silent one, LANES]`."""

    def __init__(self, like: Tensor, weight: Tensor, tap: Tensor, taps: int) -> None:
        batch, inputs = like.shape
        terms, blocks = of_synapses(weight, tap, 0), -(-batch // LANES)
        self._known = torch.zeros(blocks, 2 * taps, inputs + 1, LANES, dtype=weight.dtype)
        offset = ((terms.shift - 1) * (inputs + 1) + terms.row) * LANES
        self._offset = offset.astype(np.int32 if self._known.numel() < 1 << 31 else np.int64)
        self._coefficient, self._outputs, self._like = terms.coefficient, len(weight), like
        self._taps = self._now = taps

    def heard(self) -> Tensor:
        """`[B, N]`, in the step after the last that was sent."""
        total = torch.zeros(len(self._known), self._outputs, LANES, dtype=self._known.dtype)
        run: Any = _heard
        run(self._known.numpy(), self._now, self._offset, self._coefficient, total.numpy())
        return total.mT.flatten(0, 1)[: len(self._like)].to(self._like.dtype)

    def send(self, z: Tensor) -> None:
        """`[B, M]`, in that step."""
        if self._now == self._known.shape[1]:
            self._known[:, : self._taps] = self._known[:, -self._taps :]
            self._now = self._taps
        blocks = len(self._known)
        whole = functional.pad(z, (0, 0, 0, blocks * LANES - len(z)))
        self._known[:, self._now, :-1] = whole.unflatten(0, (blocks, LANES)).mT
        self._now += 1


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _heard(known: np.ndarray, now: int, offset: np.ndarray, coefficient: np.ndarray, total: np.ndarray) -> None:
    source, sums, terms = known.reshape(known.size), total.reshape(total.size), offset.size // total.shape[1]
    for block in range(known.shape[0]):
        base = (block * known.shape[1] + now) * known.shape[2] * LANES
        for r in range(total.shape[1]):
            at = (block * total.shape[1] + r) * LANES
            _weigh(sums, at, source, base, offset, coefficient, r * terms, (r + 1) * terms)
