"""Counts: limiting, thinning and forgetting how many events an entry of an `EventTensor` stands for."""

from __future__ import annotations

import torch

from spikenet.errors import ArgumentError, DataError
from spikenet.events.entries import keep
from spikenet.events.tensor import EventTensor


def clamp(events: EventTensor, maximum: float) -> EventTensor:
    """Limit each count to ``maximum``, as ``torch.clamp(max=maximum)``. Errors: ArgumentError unless it is above 0."""
    if not maximum > 0:
        raise ArgumentError(f"clamp wants a maximum above 0, received {maximum}")
    return _revalue(events, events.values.clamp(max=maximum))


def binarize(events: EventTensor) -> EventTensor:
    """1 wherever the count is not 0."""
    return _revalue(events, (events.values != 0).float())


def drop(events: EventTensor, probability: float, generator: torch.Generator | None = None) -> EventTensor:
    """Lose each event independently with ``probability``: a count ``c`` becomes Binomial(c, 1 - probability).

    Args:
        events: whole counts.
        probability: chance of losing an event, 0 to 1.
        generator: source of the draws, on the device of ``events``; none means torch's own.

    Errors: ArgumentError for an impossible probability, DataError for values that are no counts.
    """
    if not 0 <= probability <= 1:
        raise ArgumentError(f"drop wants a probability of 0 to 1, received {probability}")
    counts = events.values
    if bool(((counts < 0) | (counts != counts.round())).any()):
        raise DataError("drop wants whole counts of events; these values are weights")
    return _revalue(events, torch.binomial(counts, torch.full_like(counts, 1 - probability), generator=generator))


def _revalue(events: EventTensor, values: torch.Tensor) -> EventTensor:
    return keep(events, values != 0, events.indices, values)
