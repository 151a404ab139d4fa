"""A file read by compiled code, which leaves Python to other threads. Importing this module imports numba.

What goes wrong is not told apart here: the caller reads again, in Python, and finds out.
"""

from __future__ import annotations

import os
from typing import Any

import numba
import numpy as np
from numba.core import types

_open: Any = types.ExternalFunction("open", types.int32(types.voidptr, types.int32))
_read: Any = types.ExternalFunction("read", types.intp(types.int32, types.voidptr, types.uintp))
_close: Any = types.ExternalFunction("close", types.int32(types.int32))
HERE = os.name == "posix"  # others name these functions otherwise


def paths(prefix: bytes, names: np.ndarray) -> np.ndarray:
    """What `read_file` takes, uint8 ``[N, width]``: what all paths begin with, what follows (bytes ``[N]``), zeros."""
    joined = np.zeros((len(names), len(prefix) + names.itemsize + 1), np.uint8)
    joined[:, : len(prefix)] = np.frombuffer(prefix, np.uint8)
    joined[:, len(prefix) : -1] = np.frombuffer(names.tobytes(), np.uint8).reshape(len(names), names.itemsize)
    return joined


@numba.njit(cache=True, nogil=True)
def read_file(path: np.ndarray, room: np.ndarray) -> int:
    """Read a file to the beginning of an array, uint8. Returns its size; -1 where it cannot be read or does not leave a
    byte of the array free."""
    file = _open(path.ctypes, 0)  # to read
    if file < 0:
        return -1
    size, count = 0, 1
    while count > 0 and size < len(room):
        count = _read(file, room[size:].ctypes, len(room) - size)
        size += max(count, 0)
    _close(file)
    return size if count == 0 else -1
