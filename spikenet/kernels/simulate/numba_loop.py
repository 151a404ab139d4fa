"""The parts of the compiled time loop that are the same for all neurons. Importing this module imports numba.

A spike is not sent out when it comes, but looked up when it arrives: each step goes through the spikes of the last
`horizon` steps and adds the synapses whose delay has just run out. So all sums of a step lie in one short row that
stays in the cache, where a ring buffer over all delays would not.
"""

from __future__ import annotations

import math

import numpy as np

from spikenet.kernels.simulate.numba_threads import APART, bare, prefetch
from spikenet.kernels.simulate.plan import BLOCK

SEGMENTS = 512  # runs of synapses that are looked up before they are added
AHEAD = 6  # runs whose synapses are on their way while one is added
SPARSE = 8  # sums for each synapse above which those alone are set back
LINE = 64  # bytes
QUADS = BLOCK // 4
CONSTANT, POISSON, NORMAL = range(3)
KINDS = {"constant": CONSTANT, "poisson": POISSON, "normal": NORMAL}


@bare
def deliver(
    t: int,
    delay: np.ndarray,
    class_weight: np.ndarray,
    offsets: np.ndarray,
    targets: np.ndarray,
    weights: np.ndarray,
    sums: np.ndarray,
    ids: np.ndarray,  # rows that fired, [slots, width]
    counts: np.ndarray,  # [slots, lists]
    begins: np.ndarray,  # where each list begins in `ids`
    segments: np.ndarray,  # [3, SEGMENTS]
) -> int:
    """Add what arrives at step t to `sums`. Returns how many `segments` hold it all, for `forget`,
    if that is little; else -1."""
    slots, classes, found, total, few = counts.shape[0], delay.size, 0, 0, True
    for k in range(classes):
        slot = (t - delay[k] + slots) % slots
        for each in range(begins.size):
            first = begins[each]
            for j in range(first, first + counts[slot, each]):
                i = np.uint64(ids[slot, j]) * np.uint64(classes) + np.uint64(k)
                start, stop = offsets[i], offsets[i + np.uint64(1)]
                if start < stop:
                    segments[0, found], segments[1, found], segments[2, found] = start, stop, k
                    total += stop - start
                    found += 1
                    if found == SEGMENTS:
                        _add(segments, found, class_weight, targets, weights, sums)
                        found, few = 0, False
    _add(segments, found, class_weight, targets, weights, sums)
    return found if few and total * SPARSE < sums.size else -1


@bare
def forget(segments: np.ndarray, found: int, targets: np.ndarray, sums: np.ndarray) -> None:
    """Set the sums to which the segments were added back to zero: cheaper than all of them where little arrives."""
    for s in range(found):
        for e in range(np.uint64(segments[0, s]), np.uint64(segments[1, s])):
            sums[targets[e]] = 0


@bare
def _add(
    segments: np.ndarray,
    found: int,
    class_weight: np.ndarray,
    targets: np.ndarray,
    weights: np.ndarray,
    sums: np.ndarray,
) -> None:
    for s in range(min(AHEAD, found)):
        _ask_for(segments[0, s], segments[1, s], targets, weights)
    for s in range(found):
        if s + AHEAD < found:
            _ask_for(segments[0, s + AHEAD], segments[1, s + AHEAD], targets, weights)
        start, stop = np.uint64(segments[0, s]), np.uint64(segments[1, s])
        if class_weight.size > 0:
            weight = class_weight[segments[2, s]]
            for e in range(start, stop):
                sums[targets[e]] += weight
        else:
            for e in range(start, stop):
                sums[targets[e]] += weights[e]


@bare
def _ask_for(start: int, stop: int, targets: np.ndarray, weights: np.ndarray) -> None:
    for e in range(start, stop, LINE // targets.itemsize):
        prefetch(targets, e)
    if weights.size > 0:
        for e in range(start, stop, LINE // weights.itemsize):
            prefetch(weights, e)


@bare
def block_words(key: int, block: int, step: int, words: np.ndarray) -> None:
    """One 32-bit word for each of a block's lanes: lane i of block b takes word `i // QUADS` of the counter
    `b QUADS + i % QUADS`. Philox4x32-10, see `dynamics.philox`."""
    mask, half = np.uint64(0xFFFFFFFF), np.uint64(32)
    key0, key1 = np.uint64(key) & mask, (np.uint64(key) >> half) & mask
    low, high = np.uint64(step) & mask, (np.uint64(step) >> half) & mask
    for q in range(QUADS):
        c0, c1, c2, c3 = np.uint64(block * QUADS + q) & mask, low, high, np.uint64(0)
        k0, k1 = key0, key1
        for _ in range(10):
            a, b = np.uint64(0xD2511F53) * c0, np.uint64(0xCD9E8D57) * c2
            c0, c1, c2, c3 = (b >> half) ^ c1 ^ k0, b & mask, (a >> half) ^ c3 ^ k1, a & mask
            k0, k1 = (k0 + np.uint64(0x9E3779B9)) & mask, (k1 + np.uint64(0xBB67AE85)) & mask
        words[q], words[q + QUADS] = c0, c1
        words[q + 2 * QUADS], words[q + 3 * QUADS] = c2, c3


@bare
def add_drives(
    sums: np.ndarray,
    columns: np.ndarray,  # where each input of the group begins
    block: int,
    first_block: int,  # of this thread
    n: int,
    step: int,
    mine: np.ndarray,  # the first and the last (not included) of the group's drives
    drives: np.ndarray,  # int64 [drives, 7]: input, first lane, last lane, kind, key, begin of guide, of thresholds
    strengths: np.ndarray,  # weight of each drive
    guides: np.ndarray,
    tables: np.ndarray,
    words: np.ndarray,
) -> None:
    """Add the drives of a group to a block's inputs."""
    for d in range(mine[0], mine[1]):
        low, high = max(drives[d, 1] - block * BLOCK, 0), min(drives[d, 2] - block * BLOCK, n)
        if low >= high:
            continue
        start = columns[drives[d, 0]] + (block - first_block) * BLOCK
        x, weight, kind, key = sums[start : start + n], strengths[d], drives[d, 3], drives[d, 4]
        if kind == CONSTANT:
            for i in range(low, high):
                x[i] += weight
        elif kind == POISSON:
            block_words(key, block, step, words)
            guide, table = guides[drives[d, 5] :], tables[drives[d, 6] :]
            for i in range(low, high):
                number = float(guide[words[i] >> np.uint32(20)])
                if number < 0:  # the upper bits do not decide: search on from the smallest that they allow
                    number = _search(table, words[i], -1 - number)
                x[i] += weight * x.dtype.type(number)
        else:
            for i in range(low, high):
                x[i] += weight * x.dtype.type(_normal(key, block * BLOCK + i, step))


@bare
def _search(table: np.ndarray, word: int, start: float) -> float:
    number = np.uint64(start)
    while np.uint64(word) >= table[number]:
        number += np.uint64(1)
    return float(number)


@bare
def note(
    rows: np.ndarray,
    first: int,
    last: int,
    step: int,  # of this run
    populations: np.ndarray,
    watched: np.ndarray,
    tally: np.ndarray,
    per_step: np.ndarray,
    recorded: np.ndarray,  # [2, capacity]: step, row
    number: int,
) -> int:
    """Count the spikes `rows[first:last]`, write down the watched ones; returns how many are written down by now."""
    for j in range(first, last):
        row = np.uint64(rows[j])
        tally[row] += 1
        per_step[step, populations[row]] += 1
        if watched[row]:
            recorded[0, number], recorded[1, number] = step, rows[j]
            number += 1
    return number


@bare
def halted(halt: np.ndarray, shards: int, turn: int) -> bool:
    """Whether any thread has asked to stop at this turn or before."""
    stop = False
    for p in range(shards):
        stop |= halt[p * APART] <= turn
    return stop


@bare
def _normal(key: int, lane: int, step: int) -> float:
    """As `dynamics.philox.draw` in float64."""
    mask, half = np.uint64(0xFFFFFFFF), np.uint64(32)
    k0, k1 = np.uint64(key) & mask, (np.uint64(key) >> half) & mask
    c0, c1, c2, c3 = np.uint64(lane) & mask, np.uint64(step) & mask, (np.uint64(step) >> half) & mask, np.uint64(0)
    for _ in range(10):
        a, b = np.uint64(0xD2511F53) * c0, np.uint64(0xCD9E8D57) * c2
        c0, c1, c2, c3 = (b >> half) ^ c1 ^ k0, b & mask, (a >> half) ^ c3 ^ k1, a & mask
        k0, k1 = (k0 + np.uint64(0x9E3779B9)) & mask, (k1 + np.uint64(0xBB67AE85)) & mask
    u = ((c0 >> np.uint64(9)) * np.uint64(2) + np.uint64(1)) * 2.0**-24
    v = ((c1 >> np.uint64(9)) * np.uint64(2) + np.uint64(1)) * 2.0**-24
    return math.sqrt(-2.0 * math.log(u)) * math.cos(2.0 * math.pi * v)
