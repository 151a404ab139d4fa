"""The tally in Numba. Importing this module imports numba."""

from __future__ import annotations

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
    if len(reach) > 1:
        _rows(x, np.ascontiguousarray(reach.numpy()), out)
        return torch.from_numpy(out)
    even = n - n % _TILE
    for part in (x[:, :even], x[:, even:]):
        _rows(part, np.full(min(_TILE, part.shape[1]), reach.item()), out)
    return torch.from_numpy(out)


def _rows(x: np.ndarray, weights: np.ndarray, out: np.ndarray) -> None:
    """Add the tally of `x` `[steps, n]` to `out`; a lane is a step's share of up to `_TILE` neighbouring weights."""
    if not x.size:
        return
    bits = x.view(np.int32 if x.dtype == np.float32 else np.int64)
    tiles = -(-len(weights) // _TILE)
    parts = np.empty((len(x) * tiles, 7))
    over_lanes(lambda start, stop: _tiles(x, bits, weights, tiles, start, stop, parts), len(parts), 1, x.size)
    parts = parts.reshape(len(x), tiles, 7)
    parts[:, :, 4] = parts[:, :, 4].astype(bits.dtype).view(x.dtype)
    parts[:, :, 6] = np.maximum(parts[:, :, 6], ~np.isfinite(parts[:, :, 4]))
    out[:, :4] += parts[:, :, :4].sum(1)
    out[:, 4:] = np.maximum(out[:, 4:], parts[:, :, 4:].max(1))


def tally_events(values: Tensor, indices: Tensor, starts: Tensor, reach: Tensor) -> Tensor:
    """See ``spikenet.kernels.count.ops.tally_events``."""
    out = np.zeros((len(starts) - 1, 7))
    _events(values.numpy(), indices.numpy(), starts.numpy(), reach.numpy(), out)
    return torch.from_numpy(out)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _tiles(x, bits, weights, tiles, start, stop, parts):
    """Sums lie side by side, one a weight, so that the loop over a tile is free of dependences. The largest size is
    found among the numbers' bits, whose order is that of the sizes."""
    period = len(weights)
    mask = np.iinfo(bits.dtype).max
    sums, met = np.empty(512), np.empty(512, np.int32)
    for lane in range(start, stop):
        row, marks = x[lane // tiles], bits[lane // tiles]
        first = (lane % tiles) * 512
        width = min(period - first, 512)
        sums[:], met[:] = 0.0, 0
        largest, below, odd = marks.dtype.type(0), 0, 0
        for base in range(first, len(row), period):
            for p in range(width):
                v, mark = row[base + p], marks[base + p] & mask
                sums[p] += abs(v)
                met[p] += mark != 0
                largest = max(largest, mark)
                below |= v < 0
                odd |= v != np.trunc(v)
        _close(sums, met, weights, first, width, parts[lane])
        parts[lane, 4], parts[lane, 5], parts[lane, 6] = largest, below, odd


@numba.njit(cache=True, nogil=True, error_model="numpy", inline="always")
def _close(sums, met, weights, first, width, out):
    out[:4] = 0.0
    for p in range(width):
        out[0] += sums[p]
        out[1] += met[p]
        out[2] += sums[p] * weights[first + p]
        out[3] += met[p] * weights[first + p]


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _events(values, indices, starts, weights, out):
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
