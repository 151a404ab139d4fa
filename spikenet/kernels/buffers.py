"""Large CPU output buffers that are used again.

A fresh large buffer costs a page fault and a zeroed page for every 4 KiB: as much time as a fused kernel spends
on it. Buffers lent here go back to the pool when the tensor that owns them is freed.
"""

from __future__ import annotations

import contextlib
import math
import mmap
import threading
import weakref
from collections import deque

import numpy as np
import torch
from torch import Tensor

SMALLEST = 1 << 20  # bytes; smaller tensors come from torch's allocator
LARGEST_IDLE = 1 << 29  # bytes kept idle in all
PAGE = mmap.PAGESIZE
# A forked child has the parent's buffers, idle ones too: what it writes must stay its own. Windows has no fork.
_OWN = {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS} if hasattr(mmap, "MAP_PRIVATE") else {}

_idle: dict[int, deque[np.ndarray]] = {}
_lock = threading.RLock()  # a buffer may come back while its own thread is in here


def empty(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """An uninitialised CPU tensor, from the pool if it is large."""
    bytes_needed = math.prod(shape) * dtype.itemsize
    if bytes_needed < SMALLEST:
        return torch.empty(shape, dtype=dtype)
    buffer = _take(_rounded(bytes_needed))
    lent = buffer[:bytes_needed].view(np.uint8)
    weakref.finalize(lent, _give_back, buffer).atexit = False
    storage = torch.from_numpy(lent).untyped_storage()
    strides = torch.empty(shape, device="meta").stride()
    return torch.empty(0, dtype=dtype).set_(storage, 0, shape, strides)  # no view: it may be changed in place


def _rounded(size: int) -> int:
    """Up to a sixteenth of the next power of two, so that nearby sizes share buffers."""
    step = max(1 << (size.bit_length() - 4), PAGE)
    return -(-size // step) * step


def _take(size: int) -> np.ndarray:
    with _lock:
        queue = _idle.pop(size, None)
        if queue:
            _idle[size] = queue  # now the youngest size
            return queue.pop()
    return _fresh(size)


def _fresh(size: int) -> np.ndarray:
    """Pages of its own, huge ones where the system has them: fewer faults, fewer address translations."""
    pages = mmap.mmap(-1, size, **_OWN)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with contextlib.suppress(OSError):  # a kernel built without them
            pages.madvise(mmap.MADV_HUGEPAGE)
    return np.frombuffer(pages, np.uint8)


def _give_back(buffer: np.ndarray) -> None:
    """Keep `buffer` for the next one of its size; the oldest sizes make room for it."""
    with _lock:
        _idle.setdefault(buffer.nbytes, deque()).append(buffer)
        while sum(size * len(queue) for size, queue in _idle.items()) > LARGEST_IDLE:
            oldest = next(iter(_idle))
            _idle[oldest].popleft()
            if not _idle[oldest]:
                del _idle[oldest]
