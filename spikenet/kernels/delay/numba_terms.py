"""Sums of shifted sequences, in Numba: the way for synapses of few taps. Importing this module imports numba.

    out[r, t] = sum over the terms of r, in order: coefficient source[row, t + shift]

Some batch entries are laid side by side, `[rows, steps * entries]`, so that a shift in time is an offset and a term
costs one pass along a row, at any density: no synapse is read twice, and no tap that is 0 is read at all.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numba
import numpy as np
import torch
from torch import Tensor

from spikenet.kernels import buffers
from spikenet.kernels.threads import over_lanes

ENTRIES = 8  # batch entries side by side
ROWS = 16  # output rows that are written together: a cache line of float32


class Terms(NamedTuple):
    """The terms of each output row.

    Args:
        begins: where each row's terms begin and the last one's end, int64 `[R + 1]`.
        row: which row of the source, int32.
        shift: how much later it is read, int32; negative for delays.
        coefficient: by what it is multiplied.
    """

    begins: np.ndarray
    row: np.ndarray
    shift: np.ndarray
    coefficient: np.ndarray


def sums(source: Tensor, terms: Terms, lead: int, steps: int) -> Tensor:
    """`[steps, B, R]` from `[T, B, M]`, which is 0 before and after; shifts are `-lead` or more."""
    batch, rows = source.shape[1], len(terms.begins) - 1
    out = buffers.empty((steps, batch, rows), source.dtype)
    highest = int(terms.shift.max(initial=0))
    length = max(lead + len(source), lead + highest + steps)
    entries = min(ENTRIES, batch)
    arrays = source.detach().contiguous().numpy(), *terms, out.numpy()
    run: Any = _sums

    def some(start: int, stop: int) -> None:
        run(*arrays, lead, length, entries, start, stop)

    over_lanes(some, batch, entries, out.numel())
    return out


def of_taps(k: Tensor, first: int, most: float) -> Terms | None:
    """The terms of the gradient of the input, from K `[N, M, D]`, if at most that part of its taps is other than 0."""
    taps = k.detach().permute(1, 0, 2).contiguous().numpy()
    count: Any = _count
    begins = np.zeros(len(taps) + 1, np.int64)
    count(taps, begins)
    if begins[-1] > most * taps.size:
        return None
    row, shift = np.empty(begins[-1], np.int32), np.empty(begins[-1], np.int32)
    coefficient = np.empty(begins[-1], taps.dtype)
    fill: Any = _fill
    fill(taps, first, row, shift, coefficient)
    return Terms(begins, row, shift, coefficient)


def of_synapses(weight: Tensor, tap: Tensor, first: int) -> Terms:
    """The terms of the output, from synapses `[N, M, elements]` of one tap each."""
    outputs, inputs, elements = weight.shape
    shift = (first - tap).to(torch.int32).flatten().numpy()
    row = np.tile(np.repeat(np.arange(inputs, dtype=np.int32), elements), outputs)
    begins = np.arange(outputs + 1, dtype=np.int64) * (inputs * elements)
    return Terms(begins, row, shift, weight.detach().contiguous().flatten().numpy())


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _count(taps: np.ndarray, begins: np.ndarray) -> None:
    for j in range(taps.shape[0]):
        flat, found = taps[j].reshape(-1), np.int32(0)
        for n in range(flat.size):
            found += np.int32(flat[n] != 0)
        begins[j + 1] = begins[j] + found


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
    begins: np.ndarray,  # [R + 1]
    row: np.ndarray,
    shift: np.ndarray,
    coefficient: np.ndarray,
    out: np.ndarray,  # [S, B, R], written
    lead: int,  # steps of silence before the source
    length: int,  # steps of a row, silence before and after included
    entries: int,  # batch entries side by side
    start: int,  # batch entries of this call
    stop: int,
) -> None:
    steps, rows = out.shape[0], out.shape[2]
    wide = np.zeros((source.shape[2], length * entries), source.dtype)
    totals = np.empty((ROWS, steps * entries), source.dtype)
    for b in range(start, stop, entries):
        n = min(entries, stop - b)
        if n < entries:
            wide = np.zeros((source.shape[2], length * n), source.dtype)
            totals = np.empty((ROWS, steps * n), source.dtype)
        _beside(source[:, b : b + n], wide[:, lead * n :])
        for r in range(0, rows, ROWS):
            group = min(ROWS, rows - r)
            for i in range(group):
                totals[i] = 0.0
                _add(totals[i], wide, row, shift, coefficient, begins[r + i], begins[r + i + 1], lead, n)
            _apart(totals[:group], out[:, b : b + n, r : r + group])


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _beside(source: np.ndarray, wide: np.ndarray) -> None:
    """`[T, n, M]` to `[M, T * n]`; the usual n is a constant, which makes the innermost loop straight code."""
    n = source.shape[1]
    for t in range(source.shape[0]):
        now = source[t]
        for j in range(source.shape[2]):
            to = wide[j, t * n : (t + 1) * n]
            if n == ENTRIES:
                for e in range(ENTRIES):
                    to[e] = now[e, j]
            else:
                for e in range(n):
                    to[e] = now[e, j]


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _apart(totals: np.ndarray, out: np.ndarray) -> None:
    """`[R, S * n]` to `[S, n, R]`, likewise."""
    n, rows = out.shape[1], out.shape[2]
    for t in range(out.shape[0]):
        for e in range(n):
            to, k = out[t, e], t * n + e
            if rows == ROWS:
                for i in range(ROWS):
                    to[i] = totals[i, k]
            else:
                for i in range(rows):
                    to[i] = totals[i, k]


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _add(
    total: np.ndarray,
    wide: np.ndarray,
    row: np.ndarray,
    shift: np.ndarray,
    coefficient: np.ndarray,
    k: int,
    last: int,
    lead: int,
    entries: int,
) -> None:
    """The terms from k on, in order, as one by one."""
    size = total.size
    while k + 8 <= last:
        x0, c0 = wide[row[k], (lead + shift[k]) * entries :], coefficient[k]
        x1, c1 = wide[row[k + 1], (lead + shift[k + 1]) * entries :], coefficient[k + 1]
        x2, c2 = wide[row[k + 2], (lead + shift[k + 2]) * entries :], coefficient[k + 2]
        x3, c3 = wide[row[k + 3], (lead + shift[k + 3]) * entries :], coefficient[k + 3]
        x4, c4 = wide[row[k + 4], (lead + shift[k + 4]) * entries :], coefficient[k + 4]
        x5, c5 = wide[row[k + 5], (lead + shift[k + 5]) * entries :], coefficient[k + 5]
        x6, c6 = wide[row[k + 6], (lead + shift[k + 6]) * entries :], coefficient[k + 6]
        x7, c7 = wide[row[k + 7], (lead + shift[k + 7]) * entries :], coefficient[k + 7]
        for n in range(size):
            half = total[n] + c0 * x0[n] + c1 * x1[n] + c2 * x2[n] + c3 * x3[n]
            total[n] = half + c4 * x4[n] + c5 * x5[n] + c6 * x6[n] + c7 * x7[n]
        k += 8
    while k < last:
        x0, c0 = wide[row[k], (lead + shift[k]) * entries :], coefficient[k]
        for n in range(size):
            total[n] += c0 * x0[n]
        k += 1
