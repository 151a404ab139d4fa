"""Sort synapses by source row and class, a share of them for each thread. Importing this module imports numba.

Synapses come in batches, twice: once to be counted, once to be put in their place. What is held is the result alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain
from typing import NamedTuple

import numba
import numpy as np

from spikenet.kernels.simulate.plan import BLOCK, Shard, columns, shares

AHEAD = 8  # batches that are made at the same time


class Batch(NamedTuple):
    """Synapses of one projection. `kinds` (their classes) and `weights` are [E], or [1] for all; weights [0] if the
    class has one."""

    pre: np.ndarray  # int32 [E]: row
    post: np.ndarray  # int32 [E]: lane of the group
    kinds: np.ndarray  # int32
    weights: np.ndarray
    group: int
    input: int


def sort(
    batches: Callable[[bool], Iterable[Batch]],
    groups: Sequence[int],
    inputs: Sequence[int],
    rows: int,
    classes: int,
    threads: int,
    weight_dtype: np.dtype | None,
) -> list[Shard]:
    """One shard for each thread.

    Args:
        batches: yields the same batches whenever it is called; with True their weights too.
        groups: lanes of each group.
        inputs: inputs of each group.
        rows: source rows.
        classes: classes of synapses.
        threads: shares.
        weight_dtype: of the weights, or None where classes have them.
    """
    share = shares(list(groups), threads)
    places = [columns(list(groups), list(inputs), s) for s in share]
    counts = [np.zeros(rows * classes + 1, np.int64) for _ in share]
    with ThreadPoolExecutor(threads) as pool:
        for batch in batches(False):
            ends = batch.pre, batch.post, batch.kinds, classes
            work = [pool.submit(_count, *ends, *_range(s, batch), c) for s, c in zip(share, counts, strict=True)]
            _finish(work)
        offsets = [_offsets(c) for c in counts]
        del counts  # as large as the synapses' own arrays in a network of many delays
        shards = [_empty(o, size, weight_dtype) for o, (_, size) in zip(offsets, places, strict=True)]
        cursors = [o[:-1].copy() for o in offsets]
        for batch in batches(True):
            ends = batch.pre, batch.post, batch.kinds, classes
            work = [
                pool.submit(
                    _place, *ends, batch.weights, *_range(s, batch), int(at[batch.group, batch.input]), c, *made[1:]
                )
                for s, (at, _), c, made in zip(share, places, cursors, shards, strict=True)
            ]
            _finish(work)
    return shards


def ahead(makers: Sequence[Iterator[Batch]], threads: int) -> Iterator[Batch]:
    """All that the makers make, in order. As many of them as there are threads, up to eight, work on their next batch
    at the same time: drawing takes longer than sorting."""
    window = min(threads, AHEAD)
    if window == 1:
        yield from chain.from_iterable(makers)
        return
    with ThreadPoolExecutor(window) as pool:
        next_ones = [pool.submit(next, maker, None) for maker in makers[:window]]
        for k, maker in enumerate(makers):
            while (batch := next_ones[k].result()) is not None:
                next_ones[k] = pool.submit(next, maker, None)
                yield batch
            next_ones += [pool.submit(next, later, None) for later in makers[k + window : k + window + 1]]


def _finish(work: Sequence[Future[None]]) -> None:
    for each in work:
        each.result()


def _empty(offsets: np.ndarray, columns: int, weight_dtype: np.dtype | None) -> Shard:
    """Room for the synapses."""
    n = int(offsets[-1])
    targets = np.empty(n, np.uint16 if columns <= 1 << 16 else np.uint32)
    return Shard(offsets, targets, np.empty(0 if weight_dtype is None else n, weight_dtype or np.float32))


def _range(share: Sequence[tuple[int, int]], batch: Batch) -> tuple[int, int]:
    low, high = share[batch.group]
    return low * BLOCK, high * BLOCK


def _offsets(counts: np.ndarray) -> np.ndarray:
    sums = np.cumsum(counts)
    return sums.astype(np.uint32) if sums[-1] < 1 << 32 else sums


@numba.njit(nogil=True, cache=True)
def _count(
    pre: np.ndarray, post: np.ndarray, kinds: np.ndarray, classes: int, low: int, high: int, counts: np.ndarray
) -> None:
    shared = kinds.size == 1
    for e in range(pre.size):
        if low <= post[e] < high:
            counts[
                np.uint64(pre[e]) * np.uint64(classes) + np.uint64(kinds[0] if shared else kinds[e]) + np.uint64(1)
            ] += 1


@numba.njit(nogil=True, cache=True)
def _place(
    pre: np.ndarray,
    post: np.ndarray,
    kinds: np.ndarray,
    classes: int,
    given: np.ndarray,
    low: int,
    high: int,
    column: int,
    cursors: np.ndarray,
    targets: np.ndarray,
    weights: np.ndarray,
) -> None:
    shared, alike = kinds.size == 1, given.size == 1
    for e in range(pre.size):
        if low <= post[e] < high:
            i = np.uint64(pre[e]) * np.uint64(classes) + np.uint64(kinds[0] if shared else kinds[e])
            at = np.uint64(cursors[i])
            cursors[i] += 1
            targets[at] = column + post[e] - low
            if weights.size > 0:
                weights[at] = given[0] if alike else given[e]
