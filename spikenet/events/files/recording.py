"""What every event file has in common: a format gives raw columns, a `Recording` makes streams of them."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from io import FileIO
from operator import lt
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import torch

from spikenet.errors import ArgumentError, DataError, FormatError
from spikenet.events.stream import EventStream, Sensor
from spikenet.kernels import buffers

PIECE = 1 << 22  # bytes of a file that are decoded at a time where memory is bounded


class Columns(NamedTuple):
    """Events as a format stores them, in the dtypes of an `EventStream`: int64 ``t`` in microseconds, int32 ``x`` and
    ``y``, int8 ``p``, each ``[E]``."""

    t: np.ndarray
    x: np.ndarray
    y: np.ndarray
    p: np.ndarray


class Measured(Columns):
    """Columns whose decoder knows their largest column, row and polarity, none being negative: no pass checks them."""

    top: tuple[int, int, int]


def blank(count: int) -> Columns:
    """Columns to be filled."""
    if count < buffers.SMALLEST // 8:
        empty = np.empty
        return Columns(empty(count, np.int64), empty(count, np.int32), empty(count, np.int32), empty(count, np.int8))
    kinds = (torch.int64, torch.int32, torch.int32, torch.int8)
    return Columns(*(buffers.empty((count,), kind).numpy() for kind in kinds))


def cut(columns: Columns, count: int) -> Columns:
    """The first events; all of them are what came in."""
    return columns if count == len(columns.t) else Columns(*(column[:count] for column in columns))


class Losses:
    """What a pass over a file left out, by reason.

    Args:
        path: the file, for messages.
        strict: whether damage is an error.
    """

    def __init__(self, path: Path, strict: bool) -> None:
        self.path, self.strict = path, strict
        self.skipped: dict[str, int] = {}
        self.damaged: dict[str, int] = {}
        self._at_opening: dict[str, int] = {}

    def skip(self, reason: str, count: int = 1) -> None:
        """Count what the format itself says is no event: a trigger, an event before the first time stamp."""
        if count:
            self.skipped[reason] = self.skipped.get(reason, 0) + count

    def refuse(self, reason: str, offset: int | None, count: int = 1, first: str = "") -> None:
        """Count damage, ``count`` of what the reason names.

        Errors: FormatError for a strict reader, which also says what the ``first`` one was.
        """
        if self.strict:
            raise FormatError(self.path, offset, reason + first)
        self.damaged[reason] = self.damaged.get(reason, 0) + count

    def opened(self) -> None:
        """What was damaged so far concerns every pass."""
        self._at_opening = self.damaged.copy()

    def clear(self) -> None:
        """Begin a new pass."""
        self.skipped.clear()
        self.damaged = self._at_opening.copy()


class Opening(NamedTuple):
    """What a format is given to open a file: the caller's sensor is a hint for formats whose layout depends on it, and
    ``index`` names one recording of a file that holds several. ``head`` holds the file's first bytes, ``size`` counts
    all of them."""

    path: Path
    losses: Losses
    sensor: Sensor | None
    index: int | None  # type: ignore[assignment]  # not the method of tuples, which nobody misses
    head: bytes
    size: int

    def whole(self) -> bytes | None:
        """All of the file, where it is so short that it has been read."""
        return self.head if self.size == len(self.head) else None

    def blocks(self, start: int, stop: int, size: int) -> Iterator[np.ndarray]:
        """The bytes from ``start`` to ``stop``, ``size`` at a time, as uint8 arrays that are good until the next one.

        Errors: DataError where the file cannot be read any more.
        """
        if stop <= len(self.head):
            for first in range(start, stop, size):
                yield np.frombuffer(self.head, np.uint8, min(size, stop - first), first).copy()
            return
        room = buffers.empty((min(size, stop - start),), torch.uint8).numpy()
        try:
            with FileIO(self.path) as file:
                file.seek(max(start, len(self.head)))
                for first in range(start, stop, size):
                    block, known = room[: min(size, stop - first)], self.head[first : first + size]
                    block[: len(known)] = np.frombuffer(known, np.uint8)
                    _fill(file, block[len(known) :])
                    yield block
        except OSError as error:
            raise DataError(f"{self.path} cannot be read: {error.strerror or error}") from error


class Source(Protocol):
    """An open file of one format. ``sensor`` is what the file itself says, None where it says nothing."""

    @property
    def header(self) -> Mapping[str, str]: ...

    @property
    def sensor(self) -> Sensor | None: ...

    def pieces(self, size: int) -> Iterator[Columns]:
        """Decode from the beginning, about ``size`` bytes of the file at a time; each call is a new pass."""


class Format(NamedTuple):
    """One file format; ``recognises`` sees the path and the first bytes of a file, and is not asked about one that does
    not begin with the byte ``begins``, if that is given."""

    name: str
    extensions: tuple[str, ...]
    recognises: Callable[[Path, bytes], bool]
    open: Callable[[Opening], Source]
    write: Callable[[EventStream, Path], None] | None = None
    begins: bytes = b""


class Recording:
    """An open event file: read whole, in chunks, or a slice of its time.

    Values are those that the file stores, unless a flip is asked for. Events keep their order, even where time steps
    back (`EventStream.sorted` sorts).

    Attributes:
        header: what the file says of itself, in words.
        sensor: the size of the sensor.
    """

    def __init__(
        self, source: Source, losses: Losses, sensor: Sensor | None, flips: tuple[bool, bool, bool], size: int
    ) -> None:
        found = sensor or source.sensor
        if found is None:
            raise ArgumentError(
                f"{losses.path} names no sensor size; sensor=Sensor(width, height, polarities) would work"
            )
        self.header, self.sensor = dict(source.header), found
        self._source, self._losses, self._flips, self._size = source, losses, flips, size
        losses.opened()

    @property
    def dropped(self) -> dict[str, int]:
        """What the last pass left out, by reason: events that the format marks as none, and damage if not strict."""
        return dict(Counter(self._losses.skipped) + Counter(self._losses.damaged))

    def read(self) -> EventStream:
        """All events. Errors: FormatError; a tolerant recording warns instead, with the count of what was left out."""
        streams = list(self._streams(max(self._size, 1)))
        if self._losses.damaged:
            lost = ", ".join(f"{count} x {reason}" for reason, count in self._losses.damaged.items())
            warnings.warn(f"{self._losses.path}: left out {lost}", stacklevel=3)
        return streams[0] if len(streams) == 1 else EventStream.concat(streams or [self._stream(blank(0))])

    def chunks(self, size: int = PIECE) -> Iterator[EventStream]:
        """The events in file order, decoded from about ``size`` bytes at a time, so memory stays bounded."""
        if size < 1:
            raise ArgumentError(f"size wants 1 byte or more, received {size}")
        return self._streams(size)

    def slice(self, start: int, stop: int) -> EventStream:
        """The events with ``start <= t < stop`` (microseconds), in bounded memory beside the result."""
        kept = [chunk.slice(start, stop) for chunk in self.chunks()]
        return EventStream.concat(kept or [self._stream(blank(0))])

    def _streams(self, size: int) -> Iterator[EventStream]:
        self._losses.clear()
        seen = 0
        for columns in self._source.pieces(size):
            yield self._stream(self._on_sensor(columns, seen))
            seen += len(columns.t)

    def _stream(self, columns: Columns) -> EventStream:
        t, x, y, p = map(torch.from_numpy, columns)
        flip_x, flip_y, flip_p = self._flips
        width, height, polarities = self.sensor
        x = width - 1 - x if flip_x else x
        y = height - 1 - y if flip_y else y
        p = polarities - 1 - p if flip_p else p
        return EventStream._trusted((t, x, y, p), self.sensor)

    def _on_sensor(self, columns: Columns, seen: int) -> Columns:
        """The events that lie on the sensor; ``seen`` events came before."""
        if isinstance(columns, Measured) and all(map(lt, columns.top, self.sensor)):
            return columns
        limits = dict(zip("xyp", self.sensor, strict=True))
        if all(_inside(getattr(columns, name), limit) for name, limit in limits.items()):
            return columns
        outside = np.zeros(len(columns.t), bool)
        for name, limit in limits.items():
            column = getattr(columns, name)
            outside |= (column < 0) | (column >= limit)
        first = int(outside.argmax())
        x, y, p = (int(column[first]) for column in columns[1:])
        width, height, polarities = self.sensor
        self._losses.refuse(
            f"event outside the {width} x {height} x {polarities} sensor",
            None,
            int(outside.sum()),
            f", first number {seen + first}: column {x}, row {y}, polarity {p}",
        )
        return Columns(*(column[~outside] for column in columns))


def _fill(file: FileIO, block: np.ndarray) -> None:
    """Read until ``block`` is full: one call need not bring all."""
    view = memoryview(block)  # type: ignore[arg-type]
    while len(view):
        count = file.readinto(view)
        if not count:
            raise OSError(f"it is {len(view)} bytes shorter than when it was opened")
        view = view[count:]


def _inside(column: np.ndarray, limit: int) -> bool:
    return not len(column) or (column.min() >= 0 and column.max() < limit)
