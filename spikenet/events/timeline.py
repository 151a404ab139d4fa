"""Time: joining steps, joining sequences and turning an `EventTensor` around, each entry within its own length."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from spikenet.errors import ArgumentError, ShapeError
from spikenet.events.entries import collect, rows
from spikenet.events.tensor import EventTensor


def rebin(events: EventTensor, steps: int) -> EventTensor:
    """Join every ``steps`` time steps into one by adding their counts.

    ``T`` becomes ``ceil(T / steps)`` and a length ``ceil(length / steps)``; the last step holds what is left.
    Binning at ``dt`` and joining ``k`` steps is binning at ``k * dt``.

    Errors: ArgumentError for ``steps`` below 1.
    """
    if steps < 1:
        raise ArgumentError(f"rebin wants to join 1 or more steps, received {steps}")
    row = rows(events)
    b = row.remainder(max(events.batch, 1))
    joined = row.div(max(steps * events.batch, 1), rounding_mode="floor") * events.batch + b
    shape = (-(-events.T // steps), *events.shape[1:])
    lengths = (events.lengths + steps - 1).div(steps, rounding_mode="floor")
    return collect(joined, events.indices, events.values, shape, lengths)


def concat(parts: Sequence[EventTensor]) -> EventTensor:
    """Put sequences one after the other in time, each batch entry without a gap: a part begins at its entry's length.

    ``T`` and the lengths add up; with full lengths this is ``torch.cat``. It joins again what `EventTensor.narrow` cut.

    Errors: ArgumentError for no parts, ShapeError for different batches or features.
    """
    if not parts:
        raise ArgumentError("concat wants at least one EventTensor, received none")
    if len({part.shape[1:] for part in parts}) > 1:
        raise ShapeError(f"concat wants equal batches and features, received shapes {[part.shape for part in parts]}")
    batch, begin, row = parts[0].batch, torch.zeros_like(parts[0].lengths), []
    for part in parts:
        here = rows(part)
        row.append(here + begin[here.remainder(max(batch, 1))] * batch)
        begin = begin + part.lengths
    index, values = (torch.cat([getattr(part, name) for part in parts]) for name in ("indices", "values"))
    shape = (sum(part.T for part in parts), *parts[0].shape[1:])
    return collect(torch.cat(row), index, values, shape, begin)


def reverse(events: EventTensor) -> EventTensor:
    """Turn each batch entry around in time within its own length: step ``t`` becomes step ``length - 1 - t``."""
    row = rows(events)
    b = row.remainder(max(events.batch, 1))
    mirrored = (events.lengths[b] - 1) * events.batch + 2 * b - row
    return collect(mirrored, events.indices, events.values, events.shape, events.lengths)
