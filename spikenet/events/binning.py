"""From streams of time stamps to steps on a grid."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import index
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from spikenet.errors import ArgumentError, ShapeError
from spikenet.events.stream import EventStream, Sensor
from spikenet.events.tensor import EventTensor
from spikenet.kernels.backends import forced
from spikenet.kernels.events.binning import count, stack

_BIN_ROWS = 240  # a row of this number is a marker
_MOST_ADDRESSES = torch.iinfo(torch.int32).max
_LATEST = 1 << 62  # microseconds; differences of earlier times fit 64 bits
_MOST_STEPS = 1 << 28  # where nobody has asked for so many: 2 GiB of row starts


class Counted(NamedTuple):
    """One recording on a grid: distinct addresses in each step, the addresses, how often each occurs, the sensor."""

    rows: Tensor
    indices: Tensor
    values: Tensor
    sensor: Sensor


class TimeGrid:
    """Windows of equal time, on which recordings are counted one by one, while they lie in the cache, and then batched.

    Args:
        dt_us: length of a step in microseconds.
        steps: number of steps; none means up to the last event of each recording, which sets its length.
        origin_us: the time at which step 0 begins.

    Errors: ArgumentError for a step of no length, for a negative number of steps and for numbers that are not whole.
    """

    def __init__(self, dt_us: int, steps: int | None = None, origin_us: int = 0) -> None:
        _check_positive("dt_us", dt_us)
        if steps is not None and _whole("steps", steps) < 0:
            raise ArgumentError(f"steps wants 0 or more, received {steps}")
        if dt_us >= _LATEST or abs(_whole("origin_us", origin_us)) >= _LATEST:
            raise ArgumentError(f"dt_us and origin_us want less than 2^62 us, received {dt_us} and {origin_us}")
        self.dt_us, self.steps, self.origin_us = dt_us, steps, origin_us

    def count(self, stream: EventStream) -> Counted:
        """Count the events of a recording by step and address.

        Errors: ShapeError for a sensor of more addresses than an `EventTensor` has, ArgumentError where the last event
        asks for too many steps and for times of 2^62 us or more, which cannot be subtracted.
        """
        _check_times(stream.t)
        if stream.sensor.size > _MOST_ADDRESSES:
            raise ShapeError(
                f"a sensor wants at most {_MOST_ADDRESSES} addresses to be binned, received {stream.sensor}"
            )
        steps = self._filled(stream.t) if self.steps is None else self.steps
        columns = (stream.t, stream.x, stream.y, stream.p)
        return Counted(*count(*columns, self.dt_us, self.origin_us, steps, stream.sensor), stream.sensor)

    def batch(self, recordings: Sequence[Counted]) -> EventTensor:
        """Lay recordings of one sensor side by side. Errors: ArgumentError for none, or for several sensors."""
        sensors = {recording.sensor for recording in recordings}
        if len(sensors) != 1:
            raise ArgumentError(f"a batch wants one or more streams of one sensor, received sensors {sorted(sensors)}")
        lengths = torch.tensor([len(recording.rows) for recording in recordings])
        steps = int(lengths.max())
        stacked = stack([recording[:3] for recording in recordings], steps)
        return EventTensor._trusted(*stacked, (steps, len(recordings), *sensors.pop().shape), lengths)

    def batch_joined(self, joined: EventStream, stops: np.ndarray) -> EventTensor:
        """Recordings that lie one after the other in one stream, side by side; as `batch` of their counts.

        Args:
            joined: the events of all; those of each ascend in time, or take the way through streams.
            stops: where each recording ends, int64 ``[B]``, ``B`` of 1 or more.

        Errors: those of `count`.
        """
        columns = (joined.t, joined.x, joined.y, joined.p)
        on_cpu = all(column.device.type == "cpu" for column in columns)
        if self.steps is not None and on_cpu and forced() != "reference" and joined.sensor.size <= _MOST_ADDRESSES:
            from spikenet.kernels.events.numba_binning import batch_columns

            _check_times(joined.t)
            arrays = [np.ascontiguousarray(column.numpy()) for column in columns]
            laid = batch_columns(arrays, stops, self.dt_us, self.origin_us, self.steps, joined.sensor)
            if laid is not None:
                return EventTensor._trusted(*laid, (self.steps, len(stops), *joined.sensor.shape))
        begins = np.concatenate([[0], stops[:-1]]).tolist()
        return self.batch(
            [
                self.count(EventStream._trusted((column[begin:stop] for column in columns), joined.sensor))
                for begin, stop in zip(begins, stops.tolist(), strict=True)
            ]
        )

    def batch_bin(
        self,
        read: Callable[[int, np.ndarray], int],
        batch: int,
        sensor: Sensor,
        folder: tuple[bytes, np.ndarray] | None = None,
    ) -> EventTensor | None:
        """``batch`` plain ``.bin`` files side by side, several times faster than through streams.

        None where one is damaged, holds markers or steps back in time, for a sensor with rows that stand for markers,
        and on a grid without a number of steps: those take the way through streams.

        Args:
            read: writes the bytes of one of the files, by number, to the beginning of an array, uint8, as far as they
                fit, and returns how many there are.
            batch: how many there are.
            sensor: every event lies on it.
            folder: what the paths of the files begin with, and what follows, bytes ``[B]``; they are read by compiled
                code then, and by ``read`` only where that fails. None for what are no files of their own.
        """
        from spikenet.kernels.events.numba_bin import batch_bin

        if self.steps is None or sensor.height > _BIN_ROWS or forced() == "reference":
            return None
        laid = batch_bin(read, batch, folder, self.dt_us, self.origin_us, self.steps, sensor)
        return laid and EventTensor._trusted(*laid, (self.steps, batch, *sensor.shape))

    def _filled(self, t: Tensor) -> int:
        """Steps from 0 to the last event."""
        steps = max((int(t.max()) - self.origin_us) // self.dt_us + 1, 0) if len(t) else 0
        if steps > _MOST_STEPS:
            raise ArgumentError(
                f"the last event, at {int(t.max())} us, asks for {steps} steps of {self.dt_us} us after origin_us="
                f"{self.origin_us}; origin_us={int(t.min())}, the first event's time, or a number of steps would do"
            )
        return steps


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

    Errors: ArgumentError for numbers that cannot work, for no streams and for several sensors; ShapeError for a sensor
    of more addresses than an `EventTensor` has.
    """
    grid = TimeGrid(dt_us, steps, origin_us)
    batch = [streams] if isinstance(streams, EventStream) else streams
    return grid.batch([grid.count(stream) for stream in batch])


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
    numbered = EventStream._trusted((torch.arange(len(stream)), stream.x, stream.y, stream.p), stream.sensor)
    return bin_by_time(numbered, events_per_step, steps)


def _check_times(t: Tensor) -> None:
    if not len(t):
        return
    times = t.numpy()
    first, last = int(times.min()), int(times.max())
    if first <= -_LATEST or last >= _LATEST:
        raise ArgumentError(
            f"times to be binned want less than 2^62 us either way, received {first} to {last}; times that count from "
            "the first event would work"
        )


def _check_positive(name: str, value: int) -> None:
    if _whole(name, value) < 1:
        raise ArgumentError(f"{name} wants 1 or more, received {value}")


def _whole(name: str, value: int) -> int:
    try:
        return index(value)
    except TypeError:
        raise ArgumentError(f"{name} wants a whole number, received {value!r}") from None
