"""Formats that keep events as parallel arrays: the numbers checked, converted and cut into pieces."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from spikenet.errors import ArgumentError, FormatError
from spikenet.events.files.recording import Columns, Losses, Opening
from spikenet.events.stream import EventStream, Sensor

LONGEST = 60_000  # seconds; even half a float can hold it
_LATEST = 1 << 53  # microseconds; beyond it a float64 no longer tells two of them apart
_RANGES = {"t": (0, _LATEST), "x": (-(1 << 31), (1 << 31) - 1), "y": (-(1 << 31), (1 << 31) - 1), "p": (-128, 127)}


class Raw(NamedTuple):
    """Events as a file holds them, of any numeric dtype; times in whole microseconds, or in seconds (any float).

    Arrays that may be written to become the stream's own; those that are to be read again are read-only.
    """

    t: np.ndarray
    x: np.ndarray
    y: np.ndarray
    p: np.ndarray


@dataclass
class ArraySource:
    """A recording whose arrays are in memory; ``stored`` is the size of the file they came from."""

    raw: Raw
    losses: Losses
    sensor: Sensor | None
    header: Mapping[str, str]
    seconds: bool
    stored: int

    def __post_init__(self) -> None:
        for array in self.raw:
            array.setflags(write=False)

    def pieces(self, size: int) -> Iterator[Columns]:
        total = len(self.raw.t)
        count = max(total * size // self.stored, 1)
        for start in range(0, total, count):
            part = Raw(*(array[start : start + count] for array in self.raw))
            yield to_columns(part, self.losses, start, self.seconds)


def to_columns(raw: Raw, losses: Losses, first: int, seconds: bool) -> Columns:
    """Check and convert the events from number ``first`` on; a tolerant reader leaves out the bad ones.

    Errors: FormatError, naming the event, for a time that is no number, below 0 or absurdly late, for a value that is
    not whole or fits no column.
    """
    bad = np.zeros(len(raw.t), bool)
    for name, values in zip("txyp", raw, strict=True):
        wrong = _wrong_seconds(values) if seconds and name == "t" else _wrong_whole(values, *_RANGES[name])
        if wrong is not None:
            number = int(wrong.argmax())
            wanted = "seconds from 0 to 60000" if seconds and name == "t" else "whole numbers from {} to {}"
            wanted = wanted.format(*_RANGES[name])
            received = f", received {values[number]} at event {first + number}"
            losses.refuse(f"{name} wants {wanted}", first + number, int((wrong & ~bad).sum()), received)
            bad |= wrong
    if bad.any():
        raw = Raw(*(array[~bad] for array in raw))
    t, x, y, p = raw
    t = microseconds(t) if seconds else t
    return Columns(_column(t, np.int64), _column(x, np.int32), _column(y, np.int32), _column(p, np.int8))


def _column(values: np.ndarray, dtype: type) -> np.ndarray:
    """The values as a stream's column; without a copy where they are that already and may be changed."""
    column = np.require(values, dtype, ["C", "W"])
    return column if column.strides == (column.itemsize,) else column.copy()  # one row of a record counts as "C"


def microseconds(seconds: np.ndarray) -> np.ndarray:
    """Whole microseconds of times that are 0 or more, int64; of halves, which have 2^15 such values, from a table."""
    if seconds.dtype == np.float16:
        return _of_halves()[seconds.view(np.uint16) & 0x7FFF]  # minus zero too is 0
    return _whole_microseconds(seconds)


@cache
def _of_halves() -> np.ndarray:
    return _whole_microseconds(np.arange(0x7C00, dtype=np.uint16).view(np.float16))


def _whole_microseconds(seconds: np.ndarray) -> np.ndarray:
    return np.rint(seconds.astype(np.float64) * 1e6).astype(np.int64)  # half a float has no room for them


def in_time(seconds: np.ndarray) -> bool:
    """Whether every time is a number from 0 to `LONGEST`; False may mean a minus zero, so look again.

    The bits of floats that are not negative have the order of the floats, and integers compare many times faster.
    """
    bits = np.dtype(f"u{seconds.dtype.itemsize}")
    longest = np.array(LONGEST, seconds.dtype).view(bits)
    return not len(seconds) or bool(seconds.view(bits).max() <= longest)


def _wrong_seconds(seconds: np.ndarray) -> np.ndarray | None:
    if in_time(np.ascontiguousarray(seconds)):
        return None
    wrong: np.ndarray = ~((seconds >= 0) & (seconds <= LONGEST))
    return wrong if wrong.any() else None


def _wrong_whole(values: np.ndarray, low: int, high: int) -> np.ndarray | None:
    """Which values are not whole or out of range, None if all are well; integers are judged by their extremes."""
    if not values.size or (values.dtype.kind in "iub" and _holds_none_outside(values.dtype, low, high)):
        return None
    if values.dtype.kind != "f":
        if low <= int(values.min()) and int(values.max()) <= high:
            return None
        return (values < low) | (values > high)
    values = values.astype(np.float64)  # where the limits are exact
    wrong: np.ndarray = ~((values >= low) & (values <= high) & (values == np.rint(values)))
    return wrong if wrong.any() else None


def _holds_none_outside(dtype: np.dtype, low: int, high: int) -> bool:
    """Whether a dtype of integers has no value out of range."""
    if dtype.kind == "b":
        return True
    limits = np.iinfo(dtype)
    return low <= limits.min and limits.max <= high


def check_lengths(opening: Opening, **lengths: int) -> None:
    """Raise FormatError unless all arrays of a recording have one length; which events lost a part cannot be known."""
    if len(set(lengths.values())) > 1:
        raise FormatError(opening.path, None, f"arrays of one length are wanted, received {lengths}")


def check_kind(opening: Opening, name: str, dtype: np.dtype, kinds: str = "iubf") -> None:
    """Raise FormatError for objects, text and whatever else is no number of 8 bytes or less."""
    if dtype.kind not in kinds or dtype.itemsize > 8 or dtype.subdtype is not None:
        raise FormatError(opening.path, None, f"{name} wants numbers of kind {kinds}, received {dtype}")


def chosen(opening: Opening, count: int) -> int:
    """The number of the recording to read. Errors: ArgumentError where it is missing or the file has no such one."""
    index = 0 if opening.index is None and count == 1 else opening.index
    if index is None or not 0 <= index < count:
        raise ArgumentError(f"{opening.path} holds {count} recordings, received index={opening.index}")
    return index


def sensor_of(path: Path, sizes: object) -> Sensor:
    """The sensor that a file names by three sizes. Errors: FormatError for what can be none."""
    if isinstance(sizes, list) and len(sizes) == 3 and all(type(n) is int and 0 < n < 1 << 31 for n in sizes):
        return Sensor(*sizes)
    raise FormatError(path, None, f"a sensor wants width, height and polarities of 1 or more, received {sizes}")


def check_holds(name: str, stream: EventStream, sensor: Sensor | None, latest: int = _LATEST) -> None:
    """Raise ArgumentError unless a format holds this stream: its sensor (None for any) and its times."""
    if sensor is not None and stream.sensor != sensor:
        raise ArgumentError(f"{name} files hold events of {sensor}, received {stream.sensor}")
    t = stream.t
    if len(t) and not (int(t.min()) >= 0 and int(t.max()) <= latest):
        raise ArgumentError(
            f"{name} files hold times from 0 to {latest} us, received {int(t.min())} to {int(t.max())}; "
            "format='spikenet' holds all"
        )
