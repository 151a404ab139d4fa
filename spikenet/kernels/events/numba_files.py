"""Many small files read by compiled code, which leaves Python to other threads. Importing this module imports numba.

What goes wrong is not told apart here: the caller reads again, in Python, and finds out.
"""

from __future__ import annotations

import os
from typing import Any

import numba
import numpy as np
from numba.core import types

from spikenet.kernels.threads import over_lanes

_open: Any = types.ExternalFunction("open", types.int32(types.voidptr, types.int32))
_read: Any = types.ExternalFunction("read", types.intp(types.int32, types.voidptr, types.uintp))
_close: Any = types.ExternalFunction("close", types.int32(types.int32))
HERE = os.name == "posix"  # others name these functions otherwise


def read_files(prefix: bytes, names: np.ndarray, room: np.ndarray, share: int) -> tuple[np.ndarray, np.ndarray] | None:
    """Read files into parts of an array, several at once.

    Args:
        prefix: what their paths begin with.
        names: what follows, bytes ``[N]``.
        room: uint8, receives them.
        share: files that are read one after the other, into a part of the array of their own.

    Returns:
        Where each begins and ends. None where a part is too small for its files or a file cannot be read.
    """
    begins, stops = np.empty(len(names), np.int64), np.empty(len(names), np.int64)
    paths = np.frombuffer(names.tobytes(), np.uint8).reshape(len(names), names.itemsize)
    before = np.frombuffer(prefix, np.uint8)
    part = len(room) // max(-(-len(names) // share), 1)
    fine = []

    def some(first: int, last: int) -> None:
        for start in range(first, last, share):
            low, stop = start // share * part, min(start + share, last)
            fine.append(_read_some(before, paths, room, start, stop, low, low + part, begins, stops))

    over_lanes(some, len(names), share, len(room))
    return (begins, stops) if all(fine) else None


@numba.njit(cache=True, nogil=True)
def _read_some(
    prefix: np.ndarray,  # uint8
    paths: np.ndarray,  # uint8 [N, width], filled up with 0
    room: np.ndarray,  # uint8
    first: int,
    last: int,
    low: int,
    high: int,
    begins: np.ndarray,  # int64 [N]
    stops: np.ndarray,  # int64 [N]
) -> bool:
    """Read the files from ``first`` on and before ``last`` into the array from ``low`` on and before ``high``."""
    path = np.zeros(len(prefix) + paths.shape[1] + 1, np.uint8)
    path[: len(prefix)] = prefix
    for k in range(first, last):
        path[len(prefix) : len(prefix) + paths.shape[1]] = paths[k]
        file = _open(path.ctypes, 0)  # to read
        if file < 0:
            return False
        begins[k] = low
        count = 1
        while count > 0 and low < high:
            count = _read(file, room[low:].ctypes, high - low)
            low += max(count, 0)
        _close(file)
        if count != 0:  # an error, or more than there is room for
            return False
        stops[k] = low
    return True
