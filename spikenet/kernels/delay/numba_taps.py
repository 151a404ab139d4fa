"""Synapses of one tap each, in Numba. Importing this module imports numba.

    out[r, t] = sum over the synapses of r, in order, in groups: weight source[row, t - tap]

Batch entries whose every number is 0 or 1 are packed into words, a bit a number, of which a group of synapses reads its
bits for `FIELDS` stretches of time at once and looks its sums up; others are multiplied and added as they are, with the
same bits in the output.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np
import torch
from torch import Tensor

from spikenet.kernels import buffers
from spikenet.kernels.delay.numba_terms import ENTRIES, Terms, adder, apart, of_synapses, transposed
from spikenet.kernels.delay.numba_vectors import FIELDS, GROUP, LANES, WORDS, look_up, looks_up
from spikenet.kernels.threads import over_lanes

TILE = WORDS * LANES  # words that are looked up together
ROWS = 128  # output rows whose sums wait to be written
ALL, NO = np.int32((1 << GROUP * FIELDS) - 1), np.int32(-1 << 31)  # the bits of a word; what is no number's bit


def forward(x: Tensor, weight: Tensor, tap: Tensor, taps: int, first: int, steps: int) -> Tensor:
    """See `taps.delay_taps`; x and weights in float32 or float64."""
    out = buffers.empty((steps, x.shape[1], len(weight)), x.dtype)
    terms, entries = of_synapses(weight, tap, first), min(ENTRIES, x.shape[1])
    run = adder(x, terms, taps - 1, out)
    if finds(x.dtype, steps, x.shape[1]):
        arrays = x.detach().contiguous().numpy(), np.empty(0, np.int64), np.empty(0, np.int32)
        run = _finder(tuple(x.shape), arrays, terms, weight.shape[2], taps - 1, first, out, run)
    over_lanes(run, x.shape[1], entries, out.numel())
    return out


def forward_of_spikes(
    indptr: Tensor,
    indices: Tensor,
    shape: tuple[int, ...],
    weight: Tensor,
    tap: Tensor,
    taps: int,
    first: int,
    steps: int,
) -> Tensor:
    """The same for spikes, each 1, in compressed rows of `shape` `[T, B, M]`, where `finds` says yes."""
    out = buffers.empty((steps, shape[1], len(weight)), weight.dtype)
    terms, arrays = of_synapses(weight, tap, first), (np.empty((0, 0, 0), np.float32), indptr.numpy(), indices.numpy())
    run = _finder(shape, arrays, terms, weight.shape[2], taps - 1, first, out, None)
    over_lanes(run, shape[1], min(ENTRIES, shape[1]), out.numel())
    return out


def finds(dtype: torch.dtype, steps: int, batch: int) -> bool:
    """Whether sums can be looked up, and half a tile of them or more."""
    return dtype == torch.float32 and 2 * steps * min(ENTRIES, batch) >= FIELDS * TILE and looks_up()


def _finder(
    shape: tuple[int, ...],  # [T, B, M]
    source: tuple[np.ndarray, ...],  # dense, or empty; begins of rows and indices of spikes, or empty
    terms: Terms,
    elements: int,
    lead: int,
    first: int,
    out: Tensor,
    otherwise: Callable[[int, int], None] | None,
) -> Callable[[int, int], None]:
    """What writes the sums of some batch entries by their words, or leaves them to `otherwise`."""
    entries, own = min(ENTRIES, shape[1]), shape[2] * elements
    apiece, apart_by = -(-len(out) // FIELDS), len(terms.row) // out.shape[2]
    length = (lead + apiece) * entries
    size = (own + 1) * length + TILE  # one row of silence; a last tile may read past it
    offset = np.minimum(np.arange(len(terms.row)) % apart_by, own) * length + (terms.shift - first) * entries
    offset = offset.astype(np.int32 if size < 1 << 31 else np.int64)
    sizes = first, lead, apiece, elements, entries
    pack: Any = _packed
    look: Any = _looked_up

    def some(start: int, stop: int) -> None:
        words = buffers.empty((size,), torch.int32)
        words[own * length :] = 0
        totals = torch.empty(min(ROWS, out.shape[2]), FIELDS * TILE)
        for b in range(start, stop, entries):
            n = min(entries, stop - b)
            if pack(*source, *shape, words.numpy(), *sizes, b, n):
                look(words.numpy(), offset, terms.coefficient, totals.numpy(), out.numpy(), lead, apiece, entries, b, n)
            elif otherwise:
                otherwise(b, b + n)

    return some


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _looked_up(
    words: np.ndarray,
    offset: np.ndarray,  # of a term in `words`
    coefficient: np.ndarray,
    totals: np.ndarray,  # [ROWS, FIELDS TILE], written
    out: np.ndarray,  # [S, B, R], written
    lead: int,  # steps before the first that an output may hear
    apiece: int,  # steps of output that a field stands for
    entries: int,  # batch entries side by side
    b: int,  # the first of them
    n: int,  # how many of them there are
) -> None:
    flat, span, terms = totals.reshape(totals.size), TILE // entries, offset.size // out.shape[2]
    for u in range(0, apiece, span):
        for r in range(0, out.shape[2], ROWS):
            rows = min(ROWS, out.shape[2] - r)
            for i in range(rows):
                lo, hi, at = (r + i) * terms, (r + i + 1) * terms, i * totals.shape[1]
                look_up(flat, at, words, (lead + u) * entries, offset, coefficient, lo, hi)
            for f in range(FIELDS):
                t = f * apiece + u
                apart(totals, f * TILE, rows, out, r, t, min(span, apiece - u, out.shape[0] - t), b, n, entries)


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _packed(
    dense: np.ndarray,  # [T, B, M], or empty
    begins: np.ndarray,  # [T B + 1], or empty
    spikes: np.ndarray,
    steps: int,  # T
    batch: int,  # B
    inputs: int,  # M
    words: np.ndarray,  # a row for each term of an output, written
    first: int,
    lead: int,
    apiece: int,
    elements: int,
    entries: int,
    b: int,
    n: int,
) -> bool:
    """Whether all numbers are 0 or 1; if so, their words. In field f, step u is that of the output `f apiece + u`."""
    length = (lead + apiece) * entries
    block, ones = np.zeros((entries, inputs), np.int32), np.empty((FIELDS, inputs), np.int32)
    for f in range(FIELDS):
        for j in range(inputs):
            ones[f, j] = 1 << (GROUP * f + j * elements % GROUP)
    flat, whole = block.reshape(block.size), inputs // LANES * LANES if entries == LANES else 0
    for u in range(-lead, apiece):
        block[:] = 0
        for f in range(FIELDS if u >= 0 else 1):  # before that, fields are those of later words
            t = first + f * apiece + u
            for e in range(n if 0 <= t < steps else 0):
                if begins.size:
                    row = t * batch + b + e
                    _join_spikes(spikes[begins[row] : begins[row + 1]], block[e], ones[f])
                else:
                    _join(dense[t, b + e], block[e], ones[f])
        if _all(flat) < 0:
            return False
        at = (lead + u) * entries
        for j in range(0, whole, LANES):
            transposed(flat, j, inputs, words, at + j * elements * length, elements * length)
        for j in range(whole, inputs):
            for e in range(entries):
                words[at + j * elements * length + e] = block[e, j]
    for j in range(inputs):
        _completed(words[j * elements * length : (j + 1) * elements * length], j * elements, lead, entries, length)
    return True


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _join_spikes(spikes: np.ndarray, bits: np.ndarray, ones: np.ndarray) -> None:
    """Add the ones of the spikes to the bits."""
    for j in spikes:
        bits[j] |= ones[j]


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _join(numbers: np.ndarray, bits: np.ndarray, ones: np.ndarray) -> None:
    """Add the ones of the numbers that are 1 to the bits; a number that is neither 0 nor 1 makes them negative."""
    for j in range(numbers.size):
        number, one = numbers[j], ones[j]
        bits[j] |= one if number == 1 else NO if number != 0 else np.int32(0)


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _all(bits: np.ndarray) -> np.int32:
    """Every bit that one of them has."""
    found = np.int32(0)
    for p in range(bits.size):
        found |= bits[p]
    return found


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _completed(words: np.ndarray, term: int, lead: int, entries: int, length: int) -> None:
    """The words of an input in its lead, and those of its other terms, whose place in a group is another."""
    later = length - lead * entries
    for stop in range(lead * entries, 0, -later):  # at once, what does not hear itself
        for p in range(max(stop - later, 0), stop):
            words[p] |= words[p + later] << np.int32(GROUP) & ALL
    for k in range(1, words.size // length):
        for p in range(length):
            words[k * length + p] = words[p] >> np.int32(term % GROUP) << np.int32((term + k) % GROUP)
