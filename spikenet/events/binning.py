"""From streams of time stamps to steps on a grid."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from spikenet.errors import ArgumentError
from spikenet.events.stream import EventStream
from spikenet.events.tensor import EventTensor


def bin_by_time(
    streams: EventStream | Sequence[EventStream], dt_us: int, steps: int | None = None, origin_us: int = 0
) -> EventTensor:
    """Count events per address in windows of equal time.

    Step ``k`` holds the events with ``origin_us + k * dt_us <= t < origin_us + (k + 1) * dt_us``.

    Args:
        streams: one recording, or the recordings of a batch, all from one sensor; the order of events does not matter.
        dt_us: length of a step in microseconds.
        steps: number of steps ``T``; none means up to the last event of each recording, which sets its length.
            Events outside the grid are left out.
        origin_us: the time at which step 0 begins.

    Returns:
        Counts, shape ``(T, B, *sensor.shape)``.
    """
    _check_positive("dt_us", dt_us)
    batch = [streams] if isinstance(streams, EventStream) else streams
    whole = EventStream.concat(batch)
    step = torch.div(whole.t - origin_us, dt_us, rounding_mode="floor")
    sizes = torch.tensor([len(stream) for stream in batch])
    if steps is None:
        lengths = torch.tensor([_filled(part) for part in step.split(sizes.tolist())])
    else:
        lengths = torch.full((len(batch),), steps)
    entry = torch.arange(len(batch)).repeat_interleave(sizes)
    return _count(whole, step, entry, lengths)


def bin_by_count(stream: EventStream, events_per_step: int, steps: int | None = None) -> EventTensor:
    """Count events per address in windows of equal numbers of events, in the stream's order.

    Args:
        stream: the events, ascending in time.
        events_per_step: events in a step; the last step holds what is left.
        steps: number of steps ``T``; none means as many as the events fill. Later events are left out.

    Returns:
        Counts, shape ``(T, 1, *stream.sensor.shape)``.
    """
    _check_positive("events_per_step", events_per_step)
    step = torch.div(torch.arange(len(stream)), events_per_step, rounding_mode="floor")
    lengths = torch.tensor([_filled(step) if steps is None else steps])
    return _count(stream, step, torch.zeros_like(step), lengths)


def _count(stream: EventStream, step: Tensor, entry: Tensor, lengths: Tensor) -> EventTensor:
    """Sort the events by (step, batch entry, address) and merge equal ones into counts."""
    steps, batch, size = int(lengths.max()), len(lengths), stream.sensor.size
    if steps < 0:
        raise ArgumentError(f"steps wants 0 or more, received {steps}")
    key = (step * batch + entry).mul_(size).add_(stream.address())
    inside = (step >= 0) & (step < steps)
    if not bool(inside.all()):
        key = key[inside]
    if steps * batch * size <= torch.iinfo(torch.int32).max:
        key = key.int()  # sorts several times faster
    distinct, counts = torch.unique_consecutive(key.sort().values, return_counts=True)
    begins = torch.arange(steps * batch + 1).mul_(size).to(distinct.dtype)
    indptr = torch.searchsorted(distinct, begins)
    indices = distinct.remainder_(size).int()
    return EventTensor._trusted(indptr, indices, counts.float(), (steps, batch, *stream.sensor.shape), lengths)


def _filled(step: Tensor) -> int:
    """Steps from 0 to the last event."""
    return max(int(step.max()) + 1, 0) if len(step) else 0


def _check_positive(name: str, value: int) -> None:
    if value < 1:
        raise ArgumentError(f"{name} wants 1 or more, received {value}")
