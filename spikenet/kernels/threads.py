"""Lane ranges worked on by several threads.

The compiled kernels release the interpreter lock, so plain threads do: no OpenMP runtime beside torch's, and a
forked data-loading worker starts with none of its parent's threads to miss.
"""

from __future__ import annotations

import ctypes
import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait

import torch

SERIAL = 1 << 19  # elements below which a second thread costs more than it brings
PIECES = 4  # ranges a thread, so that a slow core does not hold up the rest

_processor: Callable[[], int] | None = (
    getattr(ctypes.CDLL(None), "sched_getcpu", None) if sys.platform == "linux" else None
)


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

    others = _threads(threads - 1).submit(work, min(threads, blocks) - 1)
    try:
        work()
    finally:
        wait(others)
    for other in others:
        other.result()  # raises what the kernel raised


class _Threads:
    """Threads kept off the processor that their caller runs on.

    Left alone, Linux may wake a thread behind its caller and let both share a processor for tens of milliseconds while
    another is idle.
    """

    def __init__(self, count: int) -> None:
        self._ids: list[int] = []
        self._pool = ThreadPoolExecutor(count, "spikenet", lambda: self._ids.append(threading.get_native_id()))
        self._placed: tuple[int, set[int], int] | None = None

    def submit(self, work: Callable[[], None], times: int) -> list[Future[None]]:
        self._make_way()
        return [self._pool.submit(work) for _ in range(times)]

    def _make_way(self) -> None:
        if _processor is None:
            return
        here, allowed = _processor(), os.sched_getaffinity(0)
        place = here, allowed, len(self._ids)
        if place != self._placed and len(allowed) > 1:
            for thread in self._ids:
                os.sched_setaffinity(thread, allowed - {here})
            self._placed = place


_pool: _Threads | None = None
_owner: tuple[int, int] = (0, 0)  # process and size of the pool


def _threads(count: int) -> _Threads:
    global _pool, _owner
    if _pool is None or _owner != (os.getpid(), count):
        _pool, _owner = _Threads(count), (os.getpid(), count)
    return _pool
