"""Space: pooling, cropping, padding, moving and mirroring an `EventTensor`.

Operations on an `EventTensor` are functions that take it first and return a new one; the old one is untouched. They
run on its device, cost what its entries cost and equal the dense operation exactly for whole counts below 2^24.
A tuple of sizes speaks of the trailing feature axes: ``(y, x)`` for a camera, ``(channel,)`` for a cochlea.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

import torch

from spikenet.errors import ArgumentError, ShapeError
from spikenet.events.entries import collect, coordinates, flat, keep, rows
from spikenet.events.tensor import EventTensor


def pool(events: EventTensor, kernel: Sequence[int]) -> EventTensor:
    """Sum the counts of neighbouring addresses, in windows that do not overlap.

    Where ``kernel`` does not divide an axis, its last window holds what is left: no event is lost. This is
    ``avg_pool(kernel, ceil_mode=True)`` times the number of addresses in each window.

    Args:
        events: shape ``(T, B, *features)``.
        kernel: size of a window on each trailing feature axis, such as ``(2, 2)``.

    Returns:
        The same with each of those axes ``ceil(size / kernel)`` long.

    Errors: ArgumentError for a size below 1, ShapeError for more sizes than feature axes.
    """
    sizes = _trailing("pool", events, kernel, 1)
    if min(sizes) < 1:
        raise ArgumentError(f"pool wants windows of 1 or more, received {tuple(kernel)}")
    features = [ceil(length / size) for length, size in zip(events.features, sizes, strict=True)]
    position = [place.div(size, rounding_mode="floor") for place, size in zip(coordinates(events), sizes, strict=True)]
    shape = (*events.shape[:2], *features)
    return collect(rows(events), flat(position, features), events.values, shape, events.lengths)


def pad(events: EventTensor, widths: Sequence[int]) -> EventTensor:
    """Add empty addresses at the edges, or with negative widths cut addresses and their events off.

    Args:
        events: shape ``(T, B, *features)``.
        widths: in the order of ``torch.nn.functional.pad``: before and after on the last axis, then on the one before
            it, and so on: ``(left, right, top, bottom)``.

    Errors: ShapeError for widths that do not come in pairs, are too many or cut off more than there is.
    """
    if len(widths) % 2:
        raise ShapeError(f"pad wants widths in pairs, received {tuple(widths)}")
    before = _trailing("pad", events, widths[-2::-2], 0)
    after = _trailing("pad", events, widths[::-2], 0)
    features = [sum(sizes) for sizes in zip(before, events.features, after, strict=True)]
    if min(features) < 0:
        raise ShapeError(f"pad by {tuple(widths)} would cut off more than the features {events.features}")
    position = [place + width for place, width in zip(coordinates(events), before, strict=True)]
    inside = torch.ones(events.nnz, dtype=torch.bool, device=events.device)
    for place, size in zip(position, features, strict=True):
        inside &= (place >= 0) & (place < size)
    return keep(events, inside, flat(position, features), events.values, features)


def crop(events: EventTensor, start: Sequence[int], size: Sequence[int]) -> EventTensor:
    """Cut a window out: on each trailing feature axis the addresses ``start`` to ``start + size - 1``.

    Errors: ShapeError for a window that does not lie inside the features.
    """
    begins, sizes = _trailing("crop", events, start, 0), list(_trailing("crop", events, size, 0))
    skipped = len(events.features) - len(start)
    sizes[:skipped] = events.features[:skipped]
    ends = [begin + length for begin, length in zip(begins, sizes, strict=True)]
    fits = all(0 <= a <= b <= full for a, b, full in zip(begins, ends, events.features, strict=True))
    if len(start) != len(size) or not fits:
        raise ShapeError(f"crop from {tuple(start)} of size {tuple(size)} does not fit features {events.features}")
    widths = [(-begin, end - full) for begin, end, full in zip(begins, ends, events.features, strict=True)]
    return pad(events, [width for pair in reversed(widths) for width in pair])


def shift(events: EventTensor, offset: Sequence[int]) -> EventTensor:
    """Move all events by ``offset`` addresses on each trailing feature axis; those that leave the features are lost.

    Errors: ShapeError for more offsets than feature axes.
    """
    _trailing("shift", events, offset, 0)
    return pad(events, [width for step in reversed(offset) for width in (step, -step)])


def flip(events: EventTensor, dim: int) -> EventTensor:
    """Mirror one feature axis, as ``torch.flip`` does: -1 for x, -2 for y, -3 for the polarity.

    Time is turned around by `reverse`. Errors: ArgumentError for a dimension that is no feature axis.
    """
    dims, axes = len(events.shape), len(events.features)
    if not (2 <= dim < dims or -axes <= dim < 0):
        raise ArgumentError(f"flip wants a feature axis, -{axes} to -1 or 2 to {dims - 1}, received {dim}")
    axis = dim % dims - 2
    position = coordinates(events)
    position[axis] = events.features[axis] - 1 - position[axis]
    return collect(rows(events), flat(position, events.features), events.values, events.shape, events.lengths)


def select_polarity(events: EventTensor, polarity: int) -> EventTensor:
    """The events of one polarity, shape ``(T, B, 1, H, W)``. Errors: ShapeError for another layout or no such one."""
    polarities, height, width = _camera("select_polarity", events)
    if not 0 <= polarity < polarities:
        raise ShapeError(f"select_polarity wants 0 to {polarities - 1}, received {polarity}")
    return crop(events, (polarity, 0, 0), (1, height, width))


def merge_polarities(events: EventTensor) -> EventTensor:
    """The sum over the polarities, shape ``(T, B, 1, H, W)``. Errors: ShapeError for another layout."""
    polarities, _, _ = _camera("merge_polarities", events)
    return pool(events, (max(polarities, 1), 1, 1))


def _camera(name: str, events: EventTensor) -> tuple[int, int, int]:
    if len(events.features) != 3:
        raise ShapeError(f"{name} wants (T, B, P, H, W), received {events.shape}")
    polarities, height, width = events.features
    return polarities, height, width


def _trailing(name: str, events: EventTensor, given: Sequence[int], rest: int) -> tuple[int, ...]:
    """One number a feature axis: those given for the trailing axes, ``rest`` for the axes before them."""
    if not 1 <= len(given) <= len(events.features):
        raise ShapeError(f"{name} wants 1 to {len(events.features)} axes for {events.shape}, received {tuple(given)}")
    return (*[rest] * (len(events.features) - len(given)), *given)
