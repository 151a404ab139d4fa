"""Sums of shifted sequences, in Numba: the way for synapses of few taps. Importing this module imports numba.

    out[r, t] = sum over the terms of r, in order, in groups: coefficient source[row, t + shift]

Some batch entries are laid side by side, `[rows, steps * entries]`, so that a shift in time is an offset, and no tap
that is 0 is read at all. What some steps of output hear stays in the second-level cache, and a few rows of it in the
first-level one while every output row adds its terms of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numba
import numpy as np
import torch
from torch import Tensor

from spikenet.kernels import buffers
from spikenet.kernels.delay.numba_vectors import GROUP, LANES, transposer, weigher
from spikenet.kernels.threads import over_lanes

ENTRIES = 16  # batch entries side by side
SOURCES = 2 * GROUP  # source rows that are worked on together
SPAN = 32 * ENTRIES  # numbers of an output row that are, steps times entries
LARGE = 1 << 24  # bytes of output that no cache will keep
VECTORS = 8  # registers that hold running sums

_weigh_many: Any = weigher(VECTORS)
_weigh_one: Any = weigher(1)
transposed: Any = transposer(streamed=False)
_streamed: Any = transposer(streamed=True)


class Terms(NamedTuple):
    """The terms of each output row, in whole groups, filled up with terms of 0 times a silent row after the last.

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
    out = buffers.empty((steps, source.shape[1], len(terms.begins)), source.dtype)
    over_lanes(adder(source, terms, lead, out), source.shape[1], min(ENTRIES, source.shape[1]), out.numel())
    return out


def adder(source: Tensor, terms: Terms, lead: int, out: Tensor) -> Callable[[int, int], None]:
    """What writes the sums of some batch entries, from the first to the one after the last."""
    entries, rows = min(ENTRIES, source.shape[1]), len(terms.begins)
    ahead = int(terms.shift.max(initial=0))
    span = SPAN // entries
    length = (lead + ahead + -(-len(out) // span) * span) * entries
    offset = terms.row * length + terms.shift * entries
    size = (source.shape[2] + 1) * length + LANES  # a last vector may read past a row
    offset = offset.astype(np.int32 if size < 1 << 31 else np.int64)
    arrays = source.detach().contiguous().numpy(), terms.begins, offset, terms.coefficient, out.numpy()
    run: Any = _sums

    def some(start: int, stop: int) -> None:
        wide = buffers.empty((size,), source.dtype)
        wide[source.shape[2] * length :] = 0.0
        totals = torch.empty(rows, SPAN + LANES, dtype=source.dtype)  # rows that do not share sets of the cache
        run(*arrays, wide.numpy(), totals.numpy(), lead, ahead, length, entries, start, stop)

    return some


def of_taps(k: Tensor, first: int, most: float) -> Terms | None:
    """The terms of the gradient of the input, from K `[N, M, D]`, if at most that part of its taps is other than 0."""
    taps = k.detach().permute(1, 0, 2).contiguous().numpy()
    count: Any = _count
    begins = np.zeros((len(taps), -(-taps.shape[1] // SOURCES) + 1), np.int64)
    if count(taps, begins) > most * taps.size:
        return None
    total = begins[-1, -1]
    row, shift = np.full(total, taps.shape[1]), np.zeros(total, np.int64)
    coefficient = np.zeros(total, taps.dtype)
    fill: Any = _fill
    fill(taps, first, begins, row, shift, coefficient)
    return Terms(begins, row, shift, coefficient)


def of_synapses(weight: Tensor, tap: Tensor, first: int) -> Terms:
    """The terms of the output, from synapses `[N, M, elements]` of one tap each; every row has as many."""
    outputs, inputs, elements = weight.shape
    own = inputs * elements
    row, shift, coefficient = (
        np.full((outputs, -(-own // GROUP) * GROUP), fill, kind)
        for fill, kind in ((inputs, np.int64), (0, np.int64), (0.0, weight.numpy().dtype))
    )
    row[:, :own] = np.arange(own) // elements
    shift[:, :own] = first - tap.flatten(1).numpy()
    coefficient[:, :own] = weight.detach().flatten(1).numpy()
    block = np.minimum(np.arange(-(-inputs // SOURCES) + 1) * SOURCES * elements, row.shape[1])
    block[-1] = row.shape[1]
    begins = np.arange(outputs)[:, None] * row.shape[1] + block
    return Terms(begins, row.ravel(), shift.ravel(), coefficient.ravel())


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _count(taps: np.ndarray, begins: np.ndarray) -> int:
    """How many taps are other than 0; begins of whole groups for them."""
    total, place = 0, 0
    for j in range(taps.shape[0]):
        begins[j, 0] = place
        for block in range(begins.shape[1] - 1):
            flat, found = taps[j, block * SOURCES : (block + 1) * SOURCES].reshape(-1), np.int32(0)
            for n in range(flat.size):
                found += np.int32(flat[n] != 0)
            total += int(found)
            place += (int(found) + GROUP - 1) // GROUP * GROUP
            begins[j, block + 1] = place
    return total


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _fill(
    taps: np.ndarray, first: int, begins: np.ndarray, row: np.ndarray, shift: np.ndarray, coefficient: np.ndarray
) -> None:
    n = 0
    for j in range(taps.shape[0]):
        for i in range(taps.shape[1]):
            if i % SOURCES == 0:
                n = begins[j, i // SOURCES]
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
    wide: np.ndarray,  # M rows of `length` and a silent one, written
    totals: np.ndarray,  # [R, SPAN + LANES]
    lead: int,  # steps of silence before the source
    ahead: int,  # steps that an output may hear from later on
    length: int,
    entries: int,  # batch entries side by side
    start: int,  # batch entries of this call
    stop: int,
) -> None:
    flat, span, rows = totals.reshape(totals.size), SPAN // entries, len(begins)
    for b in range(start, stop, entries):
        n, known = min(entries, stop - b), 0
        for t in range(0, out.shape[0], span):
            steps = min(span, out.shape[0] - t)
            _beside(source, known, lead, t + lead + ahead + span, b, n, wide, length, entries)
            known = t + lead + ahead + span
            totals[:] = 0.0
            for block in range(begins.shape[1] - 1):
                for r in range(begins.shape[0]):
                    lo, hi, at = begins[r, block], begins[r, block + 1], r * totals.shape[1]
                    _add(flat, at, wide, (lead + t) * entries, offset, coefficient, lo, hi, steps * entries)
            apart(totals, 0, rows, out, 0, t, steps, b, n, entries)


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
    while left > VECTORS // 2:  # as fast as so many alone
        _weigh_many(total, at, wide, base, offset, coefficient, lo, hi)
        at, base, left = at + VECTORS * LANES, base + VECTORS * LANES, left - VECTORS
    while left > 0:
        _weigh_one(total, at, wide, base, offset, coefficient, lo, hi)
        at, base, left = at + LANES, base + LANES, left - 1


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _beside(
    source: np.ndarray, start: int, lead: int, stop: int, b: int, n: int, wide: np.ndarray, length: int, entries: int
) -> None:
    """`[T, B, M]` between silences, the first of `lead` steps, as M rows of steps times entries, those from start to
    stop; squares of LANES in registers."""
    batch, inputs = source.shape[1], source.shape[2]
    flat, whole = source.reshape(source.size), inputs // LANES * LANES if n == LANES == entries else 0
    for u in range(start, stop):
        now, to = u - lead, u * entries
        if 0 <= now < source.shape[0]:
            first = (now * batch + b) * inputs
            for j in range(0, whole, LANES):
                transposed(flat, first + j, inputs, wide, to + j * length, length)
            for j in range(whole, inputs):
                for e in range(n):
                    wide[to + j * length + e] = flat[first + e * inputs + j]
        else:
            for j in range(inputs):
                for e in range(entries):
                    wide[to + j * length + e] = 0.0


@numba.njit(nogil=True, cache=True, error_model="numpy")
def apart(
    totals: np.ndarray,
    at: int,
    rows: int,
    out: np.ndarray,
    r: int,
    t: int,
    steps: int,
    b: int,
    n: int,
    entries: int,
) -> None:
    """Rows of `steps` times entries, from column `at` on, to `[t : t + steps, b : b + n, r : r + rows]`; likewise."""
    batch, width, row = out.shape[1], totals.shape[1], out.shape[2]
    flat, sums = out.reshape(out.size), totals.reshape(totals.size)
    whole = rows // LANES * LANES if n == LANES == entries else 0
    streamed = flat.nbytes >= LARGE and row % LANES == 0 and flat.ctypes.data % 64 == 0
    for s in range(steps):
        first, column = ((t + s) * batch + b) * row + r, at + s * entries
        for i in range(0, whole, LANES):
            if streamed:
                _streamed(sums, i * width + column, width, flat, first + i, row)
            else:
                transposed(sums, i * width + column, width, flat, first + i, row)
        for e in range(n):
            for i in range(whole, rows):
                flat[first + e * row + i] = totals[i, column + e]
