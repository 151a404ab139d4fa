"""The tally in Numba. Importing this module imports numba.

Spikes are told by their bits: a number is 0, 1 or -1 where its bits without the sign are those of 0 or 1, and the order
of such bits is that of the sizes. So most tensors are read once, as whole numbers, many at a time; a lane in which
something else turns up is read by the slower loop.
"""

from __future__ import annotations

import math
from typing import Any

import numba
import numpy as np
import torch
from torch import Tensor

from spikenet.kernels.threads import over_lanes

_TILE = 512  # values whose sums a core keeps at hand


def tally(flat: Tensor, reach: Tensor) -> Tensor:
    """See ``spikenet.kernels.count.ops.tally``; `flat` is `[steps, n]`."""
    x = np.ascontiguousarray(flat.numpy())
    steps, n = x.shape
    out = np.zeros((steps, 7))
    weights = np.ascontiguousarray(reach.numpy())
    if len(weights) > 1:
        repeats = math.gcd(n // len(weights), max(_TILE // len(weights), 1))
        _rows(x, np.tile(weights, repeats), out)
        return torch.from_numpy(out)
    even = n - n % _TILE
    for part in (x[:, :even], x[:, even:]):
        _rows(part, np.full(min(_TILE, part.shape[1]), weights[0]), out)
    return torch.from_numpy(out)


def _rows(x: np.ndarray, weights: np.ndarray, out: np.ndarray) -> None:
    """Add the tally of `x` `[steps, n]` to `out`; a lane is a step's share of up to `_TILE` neighbouring weights."""
    if not x.size:
        return
    bits = x.view(np.int32 if x.dtype == np.float32 else np.int64)
    one = np.ones(1, x.dtype).view(bits.dtype)
    tiles = -(-len(weights) // _TILE)
    flat = np.empty((len(x) * tiles, 7))
    over_lanes(lambda start, stop: _tiles(x, bits, one, weights, tiles, start, stop, flat), len(flat), 1, x.size)
    parts = flat.reshape(len(x), tiles, 7)
    out[:, :4] += parts[:, :, :4].sum(1)
    out[:, 4:] = np.maximum(out[:, 4:], parts[:, :, 4:].max(1))


def tally_events(values: Tensor, indices: Tensor, starts: Tensor, reach: Tensor) -> Tensor:
    """See ``spikenet.kernels.count.ops.tally_events``."""
    out = np.zeros((len(starts) - 1, 7))
    _events(values.numpy(), indices.numpy(), starts.numpy(), reach.numpy(), out)
    return torch.from_numpy(out)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _tiles(x: Any, bits: Any, one: Any, weights: Any, tiles: Any, start: Any, stop: Any, parts: Any) -> Any:
    met, sums = np.empty(_TILE, bits.dtype), np.empty(_TILE)
    for lane in range(start, stop):
        row, marks = x[lane // tiles], bits[lane // tiles]
        first = (lane % tiles) * _TILE
        weight = weights[first : first + _TILE]
        if not _spikes(marks, one[0], first, len(weights), weight, met, parts[lane]):
            size = np.empty(1, bits.dtype)
            size[0] = _numbers(row, marks, one[0], first, len(weights), weight, met, sums, parts[lane])
            parts[lane, 4] = size.view(x.dtype)[0]
            if not np.isfinite(parts[lane, 4]):
                parts[lane, 6] = 1.0


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _spikes(marks: Any, one: Any, first: Any, period: Any, weight: Any, met: Any, out: Any) -> Any:
    """The tally of a lane of 0, 1 and -1; False at anything else. Counts lie side by side, one a weight, so that no
    step of the inner loop waits for another."""
    width, size = len(weight), np.iinfo(marks.dtype).max
    zero = marks.dtype.type(0)
    met[:] = zero
    odd, signs = zero, zero
    for base in range(first, len(marks), period):
        part = marks[base : base + width]
        for p in range(width):
            mark = part[p] & size
            some = mark != 0
            met[p] += some
            odd |= (mark ^ one) if some else zero
            signs |= part[p] if some else zero
        if odd:
            return False
    total, reached = 0, 0.0
    for p in range(width):
        total += met[p]
        reached += met[p] * weight[p]
    out[0], out[1], out[2], out[3] = total, total, reached, reached
    out[4], out[5], out[6] = total > 0, signs < 0, 0.0
    return True


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _numbers(
    row: Any, marks: Any, one: Any, first: Any, period: Any, weight: Any, met: Any, sums: Any, out: Any
) -> Any:
    """The tally of a lane of any numbers; the largest comes back as its bits."""
    width, most = len(weight), np.iinfo(marks.dtype).max
    zero = marks.dtype.type(0)
    met[:], sums[:] = zero, 0.0
    largest, signs, odd = zero, zero, zero
    for base in range(first, len(row), period):
        part, mine = row[base : base + width], marks[base : base + width]
        for p in range(width):
            v, mark = part[p], mine[p] & most
            sums[p] += abs(v)
            met[p] += mark != 0
            largest = mark if mark > largest else largest
            signs |= mine[p] if mark != 0 else zero
            odd |= one if v != np.trunc(v) else zero
    out[:4] = 0.0
    for p in range(width):
        out[0] += sums[p]
        out[1] += met[p]
        out[2] += sums[p] * weight[p]
        out[3] += met[p] * weight[p]
    out[5], out[6] = signs < 0, odd != 0
    return largest


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _events(values: Any, indices: Any, starts: Any, weights: Any, out: Any) -> Any:
    period = len(weights)
    for t in range(len(starts) - 1):
        row = out[t]
        for e in range(starts[t], starts[t + 1]):
            v = values[e]
            size = abs(v)
            weight = weights[indices[e] % period]
            row[0] += size
            row[2] += size * weight
            if v != 0:
                row[1] += 1
                row[3] += weight
            row[4] = max(row[4], size)
            if v < 0:
                row[5] = 1.0
            if not (v == np.trunc(v) and size < np.inf):
                row[6] = 1.0
