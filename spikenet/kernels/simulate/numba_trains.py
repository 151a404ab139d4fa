"""Poisson trains, one draw a neuron and step, compiled: the draws of `dynamics.philox.draw`. Imports numba."""

from __future__ import annotations

import math

import numba
import numpy as np


def poisson_trains(key: int, first: int, steps: int, chances: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where neuron n spikes at step t: uniform(key; n, t) < chances[n].

    Args:
        key: seed of the draws.
        first: the first step.
        steps: how many.
        chances: float64 [n].

    Returns:
        Where each step begins, int64 [steps + 1], and the neurons, int64, ascending within a step.
    """
    mean = steps * float(chances.sum())
    room = int(mean + 8 * math.sqrt(mean)) + len(chances)
    indptr = np.zeros(steps + 1, np.int64)
    found = np.empty(room, np.int64)
    while not _draw(key, first, chances, indptr, found):
        found = np.empty(2 * len(found), np.int64)
    return indptr, found[: indptr[-1]]


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _draw(key: int, first: int, chances: np.ndarray, indptr: np.ndarray, found: np.ndarray) -> bool:
    """False if there was no room in `found`."""
    mask, half = np.uint64(0xFFFFFFFF), np.uint64(32)
    fires, at = np.zeros(chances.size, np.uint8), 0
    for t in range(indptr.size - 1):
        step = np.uint64(first + t)
        low, high = step & mask, (step >> half) & mask
        for n in range(chances.size):
            k0, k1 = np.uint64(key) & mask, (np.uint64(key) >> half) & mask
            c0, c1, c2, c3 = np.uint64(n) & mask, low, high, np.uint64(0)
            for _ in range(10):
                a, b = np.uint64(0xD2511F53) * c0, np.uint64(0xCD9E8D57) * c2
                c0, c1, c2, c3 = (b >> half) ^ c1 ^ k0, b & mask, (a >> half) ^ c3 ^ k1, a & mask
                k0, k1 = (k0 + np.uint64(0x9E3779B9)) & mask, (k1 + np.uint64(0xBB67AE85)) & mask
            fires[n] = ((c0 >> np.uint64(9)) * np.uint64(2) + np.uint64(1)) * 2.0**-24 < chances[n]
        if at + chances.size > found.size:
            return False
        for n in range(chances.size):
            if fires[n]:
                found[at] = n
                at += 1
        indptr[t + 1] = at
    return True
