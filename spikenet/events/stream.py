"""Raw events: what a sensor reported, one row an event, before any time grid."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from spikenet.errors import ArgumentError, DataError, DtypeError, ShapeError

_COLUMNS = {"t": torch.int64, "x": torch.int32, "y": torch.int32, "p": torch.int8}


class Sensor(NamedTuple):
    """The size of a sensor: pixels across and down and the number of polarities.

    A cochlea or any other one-dimensional sensor is ``Sensor(channels)``.
    """

    width: int
    height: int = 1
    polarities: int = 1

    @property
    def shape(self) -> tuple[int, ...]:
        """``(P, H, W)``, or ``(W,)`` for a sensor with one row and one polarity."""
        if self.height == self.polarities == 1:
            return (self.width,)
        return (self.polarities, self.height, self.width)

    @property
    def size(self) -> int:
        """The number of addresses, ``P * H * W``."""
        return self.polarities * self.height * self.width


@dataclass(frozen=True, eq=False, repr=False)
class EventStream:
    """One recording as it came from the sensor; every instance is valid, for the constructor checks it.

    Attributes:
        t: time stamps in whole microseconds, int64 ``[E]``. Usually ascending, but kept as they came: see ``sorted``.
        x: column, int32 ``[E]``, ``0 <= x < sensor.width``.
        y: row, int32 ``[E]``, ``0 <= y < sensor.height``.
        p: polarity, int8 ``[E]``, ``0 <= p < sensor.polarities``; with two polarities 0 is OFF and 1 is ON.
        sensor: the size of the sensor.

    Errors: DtypeError and ShapeError for columns of the wrong kind, DataError for an event outside the sensor.
    """

    t: Tensor
    x: Tensor
    y: Tensor
    p: Tensor
    sensor: Sensor

    def __post_init__(self) -> None:
        self.check()

    @classmethod
    def from_numpy(
        cls, t: ArrayLike, x: ArrayLike, y: ArrayLike | None = None, p: ArrayLike | None = None, *, sensor: Sensor
    ) -> EventStream:
        """Make a stream from integer arrays of any width; without ``y`` or ``p`` those are 0.

        Arrays that already have the stream's dtype are not copied.
        """
        zeros = np.zeros(np.shape(t), np.int8)
        columns = {"t": t, "x": x, "y": zeros if y is None else y, "p": zeros if p is None else p}
        return cls(**{name: _column(name, values) for name, values in columns.items()}, sensor=sensor)

    @classmethod
    def concat(cls, streams: Sequence[EventStream]) -> EventStream:
        """Put streams of one sensor one after the other; time stamps and order stay as they are."""
        sensors = {stream.sensor for stream in streams}
        if len(sensors) != 1:
            raise ArgumentError(f"concat wants one or more streams of one sensor, received sensors {sorted(sensors)}")
        columns = (torch.cat([getattr(stream, name) for stream in streams]) for name in _COLUMNS)
        return cls._trusted(columns, sensors.pop())

    @classmethod
    def _trusted(cls, columns: Iterable[Tensor], sensor: Sensor) -> EventStream:
        """Build from columns t, x, y, p that are valid by construction, without reading them."""
        t, x, y, p = columns
        made = object.__new__(cls)
        vars(made).update(t=t, x=x, y=y, p=p, sensor=sensor)
        return made

    def check(self) -> None:
        """Raise unless the columns have their dtypes and one length and every event lies on the sensor."""
        if min(self.sensor) < 1:
            raise ArgumentError(f"a sensor wants at least 1 in every direction, received {self.sensor}")
        for name, dtype in _COLUMNS.items():
            self._check_column(name, getattr(self, name), dtype)
        limits = {"x": self.sensor.width, "y": self.sensor.height, "p": self.sensor.polarities}
        for name, limit in limits.items():
            _check_range(name, getattr(self, name).numpy(), limit)

    def _check_column(self, name: str, column: Tensor, dtype: torch.dtype) -> None:
        if column.dtype != dtype or column.device.type != "cpu":
            raise DtypeError(f"{name} wants {dtype} on the CPU, received {column.dtype} on {column.device}")
        if column.ndim != 1 or len(column) != len(self.t):
            shapes = ", ".join(f"{n} {tuple(getattr(self, n).shape)}" for n in _COLUMNS)
            raise ShapeError(f"t, x, y and p want one length and one dimension, received {shapes}")

    def __len__(self) -> int:
        return len(self.t)

    def __repr__(self) -> str:
        width, height, polarities = self.sensor
        return f"EventStream({len(self)} events in {self.duration} us on {width}x{height}x{polarities})"

    @property
    def duration(self) -> int:
        """Microseconds from the earliest to the latest event; 0 for an empty stream."""
        return int(self.t.max() - self.t.min()) if len(self) else 0

    def address(self) -> Tensor:
        """The flat index of each event in ``sensor.shape``, int64 ``[E]``: ``(p * H + y) * W + x``."""
        row = self.p.long().mul_(self.sensor.height).add_(self.y)
        return row.mul_(self.sensor.width).add_(self.x)

    def slice(self, start: int, stop: int) -> EventStream:
        """The events with ``start <= t < stop`` (microseconds); time stamps stay as they are."""
        return self.take((self.t >= start) & (self.t < stop))

    def sorted(self) -> EventStream:
        """The events in ascending time; those of one microsecond keep their order."""
        return self.take(torch.from_numpy(np.argsort(self.t.numpy(), kind="stable")))

    def take(self, chosen: Tensor) -> EventStream:
        """The events that a boolean mask or an index tensor ``[N]`` names, in that order."""
        rows = chosen.nonzero().squeeze(1) if chosen.dtype == torch.bool else chosen
        return self._trusted((getattr(self, name).index_select(0, rows) for name in _COLUMNS), self.sensor)


def _column(name: str, values: ArrayLike) -> Tensor:
    """A numpy column as a tensor of the stream's dtype, refusing to round or to wrap."""
    array = np.asarray(values)
    dtype = np.dtype(str(_COLUMNS[name]).removeprefix("torch."))
    if array.dtype.kind not in "iub" and array.size:
        raise DtypeError(f"{name} wants integers, received {array.dtype}")
    limits = np.iinfo(dtype)
    if array.size and (array.min() < limits.min or array.max() > limits.max):
        raise DataError(f"{name} wants values that fit {dtype}, received {array.min()} to {array.max()}")
    return torch.from_numpy(np.require(array, dtype, ["C", "W"]))


def _check_range(name: str, column: np.ndarray, limit: int) -> None:
    if column.size and not (column.min() >= 0 and column.max() < limit):
        first = int(np.flatnonzero((column < 0) | (column >= limit))[0])
        raise DataError(f"{name} wants 0 to {limit - 1} on this sensor, received {column[first]} at event {first}")
