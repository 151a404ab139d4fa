"""Lane ranges worked on by several threads.

The compiled kernels release the interpreter lock, so plain threads do: no OpenMP runtime beside torch's, and a
forked data-loading worker starts with none of its parent's threads to miss.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait

import torch

SERIAL = 1 << 19  # elements below which a second thread costs more than it brings
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
        kernel(0, lanes)
        return
    width = -(-blocks // min(blocks, threads * PIECES)) * block
    starts = iter(range(0, lanes, width))  # shared: whoever is free takes the next range

    def work() -> None:
        for start in starts:
            kernel(start, min(start + width, lanes))

    others = [_threads(threads - 1).submit(work) for _ in range(min(threads, blocks) - 1)]
    try:
        work()
    finally:
        wait(others)
    for other in others:
        other.result()  # raises what the kernel raised


def _threads(count: int) -> ThreadPoolExecutor:
    global _pool, _owner
    if _pool is None or _owner != (os.getpid(), count):
        _pool, _owner = ThreadPoolExecutor(count, thread_name_prefix="spikenet"), (os.getpid(), count)
    return _pool
