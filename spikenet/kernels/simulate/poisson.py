"""Poisson numbers from one 32-bit word each, by the inverse of the distribution function."""

from __future__ import annotations

import math

import numpy as np

GUIDE = 4096  # entries by the word's upper 12 bits: where the search begins
LARGEST_MEAN = 1e4


def thresholds(mean: float) -> np.ndarray:
    """`T` uint64, ascending: the number is the count of entries <= the word. P(number <= k) is T[k] / 2^32, rounded to
    the nearest; the last entry is 2^32. Numbers of a probability below 2^-33 do not come."""
    if mean == 0.0:
        return np.array([1 << 32], np.uint64)
    most = int(mean + 12 * math.sqrt(mean) + 20)
    k = np.arange(most + 1, dtype=np.float64)
    log_p = k * math.log(mean) - mean - np.array([math.lgamma(i + 1) for i in k])
    found = np.rint(np.minimum(np.cumsum(np.exp(log_p)), 1.0) * 2.0**32).astype(np.uint64)
    return np.append(found[found < np.uint64(1 << 32)], np.uint64(1 << 32))


def guide(table: np.ndarray) -> np.ndarray:
    """For every value of a word's upper 12 bits the number if these decide it, else -1 - the smallest one that it can
    be; float32 [4096]."""
    lowest = np.arange(GUIDE, dtype=np.uint64) << np.uint64(20)
    low = np.searchsorted(table, lowest, side="right")
    high = np.searchsorted(table, lowest + np.uint64((1 << 20) - 1), side="right")
    return np.where(low == high, low, -1 - low).astype(np.float32)


def numbers(table: np.ndarray, words: np.ndarray) -> np.ndarray:
    """The Poisson numbers of uint32 words, the plain way."""
    return np.searchsorted(table, words.astype(np.uint64), side="right")
