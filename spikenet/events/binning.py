"""From streams of time stamps to steps on a grid."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from spikenet.errors import ArgumentError
from spikenet.events.stream import EventStream
from spikenet.events.tensor import EventTensor
from spikenet.kernels.events.binning import count


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
    if steps is None:
        lengths = torch.tensor([_filled(stream.t, dt_us, origin_us) for stream in batch])
    else:
        lengths = torch.full((len(batch),), steps)
    return _count(batch, dt_us, origin_us, lengths)


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
    number = torch.arange(len(stream))
    lengths = torch.tensor([_filled(number, events_per_step, 0) if steps is None else steps])
    numbered = EventStream._trusted((number, stream.x, stream.y, stream.p), stream.sensor)
    return _count([numbered], events_per_step, 0, lengths)


def _count(streams: Sequence[EventStream], dt: int, origin: int, lengths: Tensor) -> EventTensor:
    """The events of every step, on a grid as long as the longest recording."""
    sensors = {stream.sensor for stream in streams}
    if len(sensors) != 1:
        raise ArgumentError(f"a batch wants one or more streams of one sensor, received sensors {sorted(sensors)}")
    steps, sensor = int(lengths.max()), sensors.pop()
    if steps < 0:
        raise ArgumentError(f"steps wants 0 or more, received {steps}")
    recordings = [(stream.t, stream.x, stream.y, stream.p) for stream in streams]
    indptr, indices, values = count(recordings, dt, origin, steps, sensor)
    return EventTensor._trusted(indptr, indices, values, (steps, len(streams), *sensor.shape), lengths)


def _filled(t: Tensor, dt: int, origin: int) -> int:
    """Steps from 0 to the last event."""
    return max((int(t.max()) - origin) // dt + 1, 0) if len(t) else 0


def _check_positive(name: str, value: int) -> None:
    if value < 1:
        raise ArgumentError(f"{name} wants 1 or more, received {value}")
