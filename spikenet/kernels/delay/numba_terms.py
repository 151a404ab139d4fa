"""Sums of shifted sequences, in Numba: the way for synapses of few taps. Importing this module imports numba.

    out[r, t] = sum over the terms of r, in order: coefficient source[row, t + shift]

Some batch entries are laid side by side, `[rows, steps * entries]`, so that a shift in time is an offset: no synapse is
read twice, and no tap that is 0 is read at all. A few rows of the source over some steps stay in the first-level cache
while every output row adds its terms of them.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numba
import numpy as np
import torch
from torch import Tensor

from spikenet.kernels import buffers
from spikenet.kernels.delay.numba_vectors import LANES, weigher
from spikenet.kernels.threads import over_lanes

ENTRIES = 16  # batch entries side by side
SOURCES = 8  # source rows that are worked on together
SPAN = 32 * ENTRIES  # numbers of an output row that are, steps times entries
VECTORS = 8  # registers that hold running sums

_weigh_many: Any = weigher(VECTORS)
_weigh_one: Any = weigher(1)


class Terms(NamedTuple):
    """The terms of each output row.

    Args:
        begins: where those of an output row and `SOURCES` rows of the source begin, and the row's last one ends, int64
            `[R, blocks + 1]`.
        row: which row of the source, int64.
        shift: how much later it is read, int64; negative for delays.
        coefficient: by what it is multiplied.
    """

    begins: np.ndarray
    row: np.ndarray
    shift: np.ndarray
    coefficient: np.ndarray


def sums(source: Tensor, terms: Terms, lead: int, steps: int) -> Tensor:
    """`[steps, B, R]` from `[T, B, M]`, which is 0 before and after; shifts are `-lead` or more."""
    batch, rows = source.shape[1], len(terms.begins)
    out = buffers.empty((steps, batch, rows), source.dtype)
    highest = int(terms.shift.max(initial=0))
    entries = min(ENTRIES, batch)
    length = max(lead + len(source), lead + highest + steps) * entries
    arrays = source.detach().contiguous().numpy(), terms.begins, terms.row * length + terms.shift * entries
    run: Any = _sums

    def some(start: int, stop: int) -> None:
        wide = buffers.empty((source.shape[2] * length + LANES,), source.dtype)  # a last vector may read past a row
        totals = torch.empty(rows, SPAN + LANES, dtype=source.dtype)  # rows that do not share sets of the cache
        run(*arrays, terms.coefficient, out.numpy(), wide.numpy(), totals.numpy(), lead, length, entries, start, stop)

    over_lanes(some, batch, entries, out.numel())
    return out


def of_taps(k: Tensor, first: int, most: float) -> Terms | None:
    """The terms of the gradient of the input, from K `[N, M, D]`, if at most that part of its taps is other than 0."""
    taps = k.detach().permute(1, 0, 2).contiguous().numpy()
    count: Any = _count
    begins = np.zeros((len(taps), -(-taps.shape[1] // SOURCES) + 1), np.int64)
    total = count(taps, begins)
    if total > most * taps.size:
        return None
    row, shift = np.empty(total, np.int64), np.empty(total, np.int64)
    coefficient = np.empty(total, taps.dtype)
    fill: Any = _fill
    fill(taps, first, row, shift, coefficient)
    return Terms(begins, row, shift, coefficient)


def of_synapses(weight: Tensor, tap: Tensor, first: int) -> Terms:
    """The terms of the output, from synapses `[N, M, elements]` of one tap each."""
    outputs, inputs, elements = weight.shape
    shift = (first - tap).flatten().numpy()
    row = np.tile(np.repeat(np.arange(inputs), elements), outputs)
    block = np.minimum(np.arange(-(-inputs // SOURCES) + 1) * SOURCES, inputs)
    begins = (np.arange(outputs)[:, None] * inputs + block) * elements
    return Terms(begins, row, shift, weight.detach().contiguous().flatten().numpy())


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _count(taps: np.ndarray, begins: np.ndarray) -> int:
    total = 0
    for j in range(taps.shape[0]):
        begins[j, 0] = total
        for block in range(begins.shape[1] - 1):
            flat, found = taps[j, block * SOURCES : (block + 1) * SOURCES].reshape(-1), np.int32(0)
            for n in range(flat.size):
                found += np.int32(flat[n] != 0)
            total += int(found)
            begins[j, block + 1] = total
    return total


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _fill(taps: np.ndarray, first: int, row: np.ndarray, shift: np.ndarray, coefficient: np.ndarray) -> None:
    n = 0
    for j in range(taps.shape[0]):
        for i in range(taps.shape[1]):
            for d in range(taps.shape[2]):
                if taps[j, i, d] != 0:
                    row[n], shift[n], coefficient[n] = i, d - first, taps[j, i, d]
                    n += 1


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _sums(
    source: np.ndarray,  # [T, B, M]
    begins: np.ndarray,  # [R, blocks + 1]
    offset: np.ndarray,  # of a term in `wide`
    coefficient: np.ndarray,
    out: np.ndarray,  # [S, B, R], written
    wide: np.ndarray,  # M rows of `length`
    totals: np.ndarray,  # [R, SPAN + LANES]
    lead: int,  # steps of silence before the source
    length: int,
    entries: int,  # batch entries side by side
    start: int,  # batch entries of this call
    stop: int,
) -> None:
    flat, span = totals.reshape(totals.size), SPAN // entries
    wide[:] = 0.0  # silence, before and after too
    for b in range(start, stop, entries):
        n = min(entries, stop - b)
        _beside(source[:, b : b + n], wide[lead * entries :], length, entries)
        for t in range(0, out.shape[0], span):
            steps = min(span, out.shape[0] - t)
            totals[:] = 0.0
            for block in range(begins.shape[1] - 1):
                for r in range(begins.shape[0]):
                    lo, hi = begins[r, block], begins[r, block + 1]
                    _add(
                        flat,
                        r * totals.shape[1],
                        wide,
                        (lead + t) * entries,
                        offset,
                        coefficient,
                        lo,
                        hi,
                        steps * entries,
                    )
            _apart(totals, out[t : t + steps, b : b + n], entries)


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _add(
    total: np.ndarray,
    at: int,
    wide: np.ndarray,
    base: int,
    offset: np.ndarray,
    coefficient: np.ndarray,
    lo: int,
    hi: int,
    size: int,
) -> None:
    """The terms from lo to hi, in order; what is added past `size` is never read."""
    left = (size + LANES - 1) // LANES
    while left >= VECTORS:
        _weigh_many(total, at, wide, base, offset, coefficient, lo, hi)
        at, base, left = at + VECTORS * LANES, base + VECTORS * LANES, left - VECTORS
    while left > 0:
        _weigh_one(total, at, wide, base, offset, coefficient, lo, hi)
        at, base, left = at + LANES, base + LANES, left - 1


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _beside(source: np.ndarray, wide: np.ndarray, length: int, entries: int) -> None:
    """`[T, n, M]` to M rows of T times entries; the usual n is a constant, which makes the inner loop straight code."""
    n = source.shape[1]
    for t in range(source.shape[0]):
        now = source[t]
        for j in range(source.shape[2]):
            to = wide[j * length + t * entries : j * length + t * entries + n]
            if n == ENTRIES:
                for e in range(ENTRIES):
                    to[e] = now[e, j]
            else:
                for e in range(n):
                    to[e] = now[e, j]


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _apart(totals: np.ndarray, out: np.ndarray, entries: int) -> None:
    """Rows of S times entries to `[S, n, R]`."""
    for t in range(out.shape[0]):
        for e in range(out.shape[1]):
            to, k = out[t, e], t * entries + e
            for i in range(out.shape[2]):
                to[i] = totals[i, k]
