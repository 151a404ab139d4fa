"""The stored entries of an `EventTensor` as plain columns, and back: every operation on events is made of these."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor

from spikenet.errors import ShapeError
from spikenet.events.tensor import EventTensor

_INT32 = torch.iinfo(torch.int32).max


def rows(events: EventTensor) -> Tensor:
    """The row ``t * B + b`` of each entry, int64 ``[nnz]``."""
    row = torch.arange(events.T * events.batch, device=events.device)
    return row.repeat_interleave(events.indptr.diff(), output_size=events.nnz)


def coordinates(events: EventTensor) -> list[Tensor]:
    """The position of each entry on every feature axis, int64 ``[nnz]`` each."""
    rest, found = events.indices.long(), []
    for size in reversed(events.features):
        found.append(rest.remainder(size))
        rest = rest.div(size, rounding_mode="floor")
    return found[::-1]


def flat(position: Sequence[Tensor], features: Sequence[int]) -> Tensor:
    """The feature index that positions on every axis make together: what `coordinates` took apart."""
    index = torch.zeros_like(position[0])
    for place, size in zip(position, features, strict=True):
        index = index * size + place
    return index


def keep(
    events: EventTensor, chosen: Tensor, index: Tensor, values: Tensor, features: Sequence[int] | None = None
) -> EventTensor:
    """The entries that a mask ``[nnz]`` names, at new indices that ascend as the old ones did."""
    kept = torch.cat([chosen.new_zeros(1, dtype=torch.int64), chosen.cumsum(0)])
    shape = _shape(events.T, events.batch, events.features if features is None else features)
    return EventTensor._trusted(kept[events.indptr], index[chosen].int(), values[chosen], shape, events.lengths)


def collect(row: Tensor, index: Tensor, values: Tensor, shape: Sequence[int], lengths: Tensor) -> EventTensor:
    """Sort entries by row and feature index and add up those that meet; a sum of 0 leaves no entry.

    Sums are made in the dtype of ``values`` and are exact for whole counts below 2^24.
    """
    steps, batch, *features = _shape(shape[0], shape[1], shape[2:])
    size = prod(features)
    distinct, sums = _sums(row * size + index, values, steps * batch * size)
    begins = torch.arange(steps * batch + 1, device=row.device).mul_(size).to(distinct.dtype)
    indptr = torch.searchsorted(distinct, begins)
    index = distinct.remainder(size) if size else distinct
    return EventTensor._trusted(indptr, index.int(), sums.float(), (steps, batch, *features), lengths)


def _sums(key: Tensor, values: Tensor, keys: int) -> tuple[Tensor, Tensor]:
    """The keys, 0 to ``keys - 1``, whose values do not add up to 0, ascending, and what they add up to."""
    if keys <= 2 * len(key):  # few enough to have a place for each
        every = values.new_zeros(keys).index_add_(0, key, values)
        distinct = every.nonzero().squeeze(1)
        return distinct, every[distinct]
    if keys <= _INT32:
        key = key.int()  # sorts several times faster
    key, order = key.sort(stable=True)
    distinct, place = torch.unique_consecutive(key, return_inverse=True)
    sums = values.new_zeros(len(distinct)).index_add_(0, place, values[order])
    return distinct[sums != 0], sums[sums != 0]


def _shape(steps: int, batch: int, features: Sequence[int]) -> tuple[int, ...]:
    if prod(features) > _INT32:
        raise ShapeError(f"features want at most {_INT32} in all, asked for {tuple(features)}")
    return (steps, batch, *features)
