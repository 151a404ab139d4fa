"""The inner loops of the noise filters, on plain integer arrays. Importing this module imports numba."""

from __future__ import annotations

import numba
import numpy as np

_NEVER = np.iinfo(np.int64).min


@numba.njit(cache=True)
def after_rest(
    t: np.ndarray,  # int64 [E], ascending
    x: np.ndarray,  # int32 [E]
    y: np.ndarray,  # int32 [E]
    width: int,
    height: int,
    period: int,  # microseconds
) -> np.ndarray:
    """Mark each event that comes ``period`` or more after the last event of its pixel that was marked."""
    last = np.full((height, width), _NEVER, np.int64)
    kept = np.zeros(len(t), np.bool_)
    for i in range(len(t)):
        before = last[y[i], x[i]]
        if before == _NEVER or t[i] - before >= period:
            kept[i] = True
            last[y[i], x[i]] = t[i]
    return kept


@numba.njit(cache=True)
def supported(
    t: np.ndarray,  # int64 [E], ascending
    x: np.ndarray,  # int32 [E]
    y: np.ndarray,  # int32 [E]
    width: int,
    height: int,
    dt: int,  # microseconds
) -> np.ndarray:
    """Mark each event at whose eight neighbouring pixels an event came at most ``dt`` before it."""
    latest = np.full((height + 2, width + 2), _NEVER, np.int64)  # of a pixel's neighbours; an edge that nobody reads
    kept = np.zeros(len(t), np.bool_)
    for i in range(len(t)):
        row, column = y[i] + 1, x[i] + 1
        before = latest[row, column]
        kept[i] = before != _NEVER and t[i] - before <= dt
        for r in range(row - 1, row + 2):
            for c in range(column - 1, column + 2):
                if r != row or c != column:
                    latest[r, c] = t[i]
    return kept
