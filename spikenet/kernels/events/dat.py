"""The records of Prophesee DAT files, two 32-bit words each. Importing this module imports numba."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np


@numba.njit(nogil=True, cache=True, error_model="numpy")
def decode(
    words: np.ndarray,  # uint32 [2 E]
    t: np.ndarray,  # int64 [E], written, as are x, y and p
    x: np.ndarray,
    y: np.ndarray,
    p: np.ndarray,
) -> tuple[Any, Any, Any]:
    """Fill the columns; returns the largest x, y and p."""
    top_x = top_y = top_p = np.int32(0)
    for i in range(t.size):
        t[i] = words[2 * i]
        word = words[2 * i + 1]
        column, row = np.int32(word & np.uint32(0x3FFF)), np.int32((word >> np.uint32(14)) & np.uint32(0x3FFF))
        polarity = np.int32((word >> np.uint32(28)) & np.uint32(1))
        x[i], y[i], p[i] = column, row, polarity
        top_x, top_y, top_p = max(top_x, column), max(top_y, row), max(top_p, polarity)
    return top_x, top_y, top_p
