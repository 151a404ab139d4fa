"""Traces and updates in Numba. Importing this module imports numba.

Rows of the weights do not depend on each other, so each is taken through all steps while it lies in the cache. Where
nothing spiked nothing is done: a row is gone through when its own neuron spiked, else only in the columns that did.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import torch
from torch import Tensor

from spikenet.kernels.plasticity.ops import Change
from spikenet.kernels.threads import over_lanes

BLOCK = 256  # lanes of a trace that are worked on together


def trace(spikes: Tensor, start: Tensor, decay: float, nearest: bool) -> tuple[Tensor, Tensor]:
    """See `ops.trace`; spikes are [T, lanes]."""
    before, last = torch.empty_like(spikes), start.clone()
    arrays = spikes.numpy(), before.numpy(), last.numpy()
    factor = arrays[0].dtype.type(decay)
    kernel: Any = _trace

    def lanes(first: int, stop: int) -> None:
        kernel(*arrays, factor, nearest, first, stop)

    over_lanes(lanes, spikes.shape[1], BLOCK, spikes.numel())
    return before, last


def update(
    weight: Tensor,
    gain: Tensor,
    x: Tensor,
    y: Tensor,
    loss: Tensor,
    change: Change,
    eligibility: Tensor | None,
    modulator: Tensor | None,
) -> None:
    """See `ops.update`."""
    steps, entries, _ = gain.shape
    heard = loss.numpy()
    indices = np.flatnonzero(heard)
    begins = np.searchsorted(indices, np.arange(steps * entries + 1) * heard.shape[2])
    columns = (indices % heard.shape[2]).astype(np.int32)
    real = heard.dtype.type
    constants = [real(v) for v in change]
    arrays = [v.numpy() for v in (weight, gain, x, y)]
    sparse = begins, columns, heard.reshape(-1)[indices]
    held = np.zeros((0, 1, 1), real) if eligibility is None else eligibility.numpy()
    told = np.zeros((0, 1, 1), real) if modulator is None else modulator.numpy()
    kernel: Any = _update if eligibility is None else _modulated

    def rows(first: int, stop: int) -> None:
        if eligibility is None:
            kernel(*arrays, *sparse, *constants[:4], first, stop)
        else:
            kernel(*arrays, *sparse, *constants, held, told, first, stop)

    touched = int(np.count_nonzero(arrays[1])) * weight.shape[1] + len(columns) * weight.shape[0]
    over_lanes(rows, weight.shape[0], 1, touched if eligibility is None else len(gain) * eligibility.numel())


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _trace(
    spikes: np.ndarray, before: np.ndarray, last: np.ndarray, decay: float, nearest: bool, first: int, stop: int
) -> None:
    for t in range(spikes.shape[0]):
        for i in range(first, stop):
            left = last[i] * decay
            before[t, i] = left
            spike = spikes[t, i]
            if nearest:
                last[i] = spike if spike != 0 else left
            else:
                last[i] = left + spike


@numba.njit(nogil=True, cache=True, error_model="numpy", inline="always")
def _bounded(room: float, mu: float) -> float:
    if mu == 1:
        return room
    return room**mu


@numba.njit(nogil=True, cache=True, error_model="numpy", inline="always")
def _fall(w: np.ndarray, down: np.ndarray, i: int, low: float, high: float, mu: float) -> None:
    fall = down[i] if mu == 0 else _bounded(w[i] - low, mu) * down[i]
    w[i] = min(max(w[i] - fall, low), high)
    down[i] = 0


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _update(
    weight: np.ndarray,  # [O, I], changed
    gain: np.ndarray,  # [T, N, O]
    x: np.ndarray,  # [T, N, I]
    y: np.ndarray,  # [T, N, O]
    begins: np.ndarray,  # the columns and losses of step t and entry n are begins[t N + n] to the next one
    columns: np.ndarray,
    losses: np.ndarray,
    low: float,
    high: float,
    mu_plus: float,
    mu_minus: float,
    first: int,  # rows of this call
    stop: int,
) -> None:
    steps, entries, _ = gain.shape
    up, down = np.zeros_like(weight[0]), np.zeros_like(weight[0])
    for o in range(first, stop):
        w = weight[o]
        for t in range(steps):
            rises = False
            for n in range(entries):
                factor = gain[t, n, o]
                if factor != 0:
                    rises = True
                    for i in range(w.size):
                        up[i] += factor * x[t, n, i]
                factor = y[t, n, o]
                for k in range(begins[t * entries + n], begins[t * entries + n + 1] if factor != 0 else 0):
                    down[columns[k]] += factor * losses[k]
                    if entries == 1:
                        _fall(w, down, columns[k], low, high, mu_minus)
            for k in range(begins[t * entries], begins[(t + 1) * entries] if entries > 1 else 0):
                _fall(w, down, columns[k], low, high, mu_minus)
            if rises:
                for i in range(w.size):
                    rise = up[i] if mu_plus == 0 else _bounded(high - w[i], mu_plus) * up[i]
                    w[i] = min(max(w[i] + rise, low), high)
                up[:] = 0


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _modulated(
    weight: np.ndarray,
    gain: np.ndarray,
    x: np.ndarray,
    y: np.ndarray,
    begins: np.ndarray,
    columns: np.ndarray,
    losses: np.ndarray,
    low: float,
    high: float,
    mu_plus: float,
    mu_minus: float,
    decay: float,
    eligibility: np.ndarray,  # [B, O, I], changed
    modulator: np.ndarray,  # [T, B, O]
    first: int,
    stop: int,
) -> None:
    steps, entries, _ = gain.shape
    batch = eligibility.shape[0]
    each = entries // batch
    change = np.zeros_like(weight[0])
    for o in range(first, stop):
        w = weight[o]
        for t in range(steps):
            moves = False
            for b in range(batch):
                e = eligibility[b, o]
                for i in range(w.size):
                    e[i] *= decay
                for n in range(b * each, (b + 1) * each):
                    factor = gain[t, n, o]
                    if factor != 0:
                        for i in range(w.size):
                            rise = x[t, n, i] if mu_plus == 0 else _bounded(high - w[i], mu_plus) * x[t, n, i]
                            e[i] += factor * rise
                    factor = y[t, n, o]
                    if factor != 0:
                        for k in range(begins[t * entries + n], begins[t * entries + n + 1]):
                            i = columns[k]
                            fall = losses[k] if mu_minus == 0 else _bounded(w[i] - low, mu_minus) * losses[k]
                            e[i] -= factor * fall
                factor = modulator[t, b, o]
                if factor != 0:
                    moves = True
                    for i in range(w.size):
                        change[i] += factor * e[i]
            if moves:
                for i in range(w.size):
                    w[i] = min(max(w[i] + change[i], low), high)
                change[:] = 0
