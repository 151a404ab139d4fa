"""Lane ranges worked on by several threads.

The compiled kernels release the interpreter lock, so plain threads do: no OpenMP runtime beside torch's, and a
forked data-loading worker starts with none of its parent's threads to miss.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import torch

SERIAL = 1 << 16  # elements below which a second thread costs more than it brings
PIECES = 4  # ranges a thread, so that a slow core does not hold up the rest

_pool: ThreadPoolExecutor | None = None
_owner: tuple[int, int] = (0, 0)  # process and size of the pool


def over_lanes(kernel: Callable[[int, int], None], lanes: int, block: int, elements: int) -> None:
    """Call `kernel(start, stop)` over ranges that cover `lanes`, each a multiple of `block` but the last.

    Lanes are independent, so the result does not depend on the number of threads.
    """
    threads = torch.get_num_threads()
    blocks = -(-lanes // block)
    if threads == 1 or elements < SERIAL or blocks < 2:
        return kernel(0, lanes)
    width = -(-blocks // min(blocks, threads * PIECES)) * block
    starts = range(0, lanes, width)
    for _ in _threads(threads).map(lambda start: kernel(start, min(start + width, lanes)), starts):
        pass  # a kernel that raised raises here


def _threads(count: int) -> ThreadPoolExecutor:
    global _pool, _owner
    if _pool is None or _owner != (os.getpid(), count):
        _pool, _owner = ThreadPoolExecutor(count, thread_name_prefix="spikenet"), (os.getpid(), count)
    return _pool
