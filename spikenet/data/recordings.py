"""Labelled recordings, in memory, in files or in the cache, and the fixed rules that cut them into parts."""

from __future__ import annotations

import os
import warnings
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from spikenet.errors import ArgumentError, DataError, FormatError
from spikenet.events import EventStream, EventTensor, Sensor, read, write
from spikenet.events.binning import TimeGrid
from spikenet.events.files.bin import decode_bin

_TEST_SEED, _VALIDATION_SEED = 1, 2
_KEPT = "spikenet"  # the format of cached recordings


class Recordings(ABC):
    """A sequence of ``(EventStream, label)``; streams are decoded when they are asked for.

    Attributes:
        labels: class numbers, int64 ``[N]``.
    """

    labels: np.ndarray

    @abstractmethod
    def stream(self, index: int) -> EventStream:
        """Decode one recording, ``0 <= index < len(self)``."""

    def origin(self, index: int) -> Path | None:
        """The file that a recording of the cache was made from, None for one that is not kept there."""
        return None

    def batch(self, indices: np.ndarray, grid: TimeGrid) -> EventTensor:
        """Some recordings on a time grid, side by side; each is counted while it lies in the processor's cache."""
        return grid.batch([grid.count(self.stream(index)) for index in indices.tolist()])

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[EventStream, int]:
        if not 0 <= index < len(self):
            raise IndexError(f"recording {index} of {len(self)}")
        return self.stream(index), int(self.labels[index])


class Selection(Recordings):
    """Some recordings of a larger set, by number."""

    def __init__(self, recordings: Recordings, chosen: np.ndarray) -> None:
        self.recordings, self.chosen = recordings, chosen
        self.labels = recordings.labels[chosen]

    def stream(self, index: int) -> EventStream:
        return self.recordings.stream(int(self.chosen[index]))

    def origin(self, index: int) -> Path | None:
        return self.recordings.origin(int(self.chosen[index]))

    def batch(self, indices: np.ndarray, grid: TimeGrid) -> EventTensor:
        return self.recordings.batch(self.chosen[indices], grid)


class BinRecordings(Recordings):
    """Recordings kept as the records of the ``.bin`` format, one after the other: 5 bytes an event.

    One array instead of many objects, so that forked data workers share it with the process that read it.

    Args:
        records: all files joined, uint8.
        sizes: bytes of each file ``[N]``.
        labels: class numbers ``[N]``.
        sensor: every event lies on it.
    """

    def __init__(self, records: np.ndarray, sizes: ArrayLike, labels: ArrayLike, sensor: Sensor) -> None:
        self.records, self.sensor = records, sensor
        self.labels = np.asarray(labels, np.int64)
        self.starts = np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)])

    def stream(self, index: int) -> EventStream:
        content = self.records[self.starts[index] : self.starts[index + 1]]
        return decode_bin(content, f"recording {index}", self.sensor)


class FileRecordings(Recordings):
    """Recordings in files of their own, decoded when they are asked for; only names and labels are kept in memory.

    Args:
        root: the folder of all files.
        names: path of each below the root ``[N]``.
        labels: class numbers ``[N]``.
        sensor: every event lies on it.
        format: a name of ``spikenet.events.FORMATS``.
        from_start: whether times count from the first event of a recording, for files with the camera's own clock.
    """

    def __init__(
        self,
        root: Path,
        names: Sequence[str],
        labels: ArrayLike,
        sensor: Sensor,
        format: str,
        from_start: bool = False,
    ) -> None:
        self.root, self.names = root, packed(names)
        self.labels = np.asarray(labels, np.int64)
        self.sensor, self.format, self.from_start = sensor, format, from_start

    def stream(self, index: int) -> EventStream:
        stream = read(self.root / os.fsdecode(self.names[index]), format=self.format, sensor=self.sensor)
        return since(stream, int(stream.t.min())) if self.from_start and len(stream) else stream


class Made(Recordings):
    """Recordings that are made from files, and take long to make."""

    @abstractmethod
    def origin(self, index: int) -> Path:
        """The file that a recording is made from."""


class CachedRecordings(Recordings):
    """Recordings that take long to make, kept as files of the cache once they are made; made anew where the file that
    they come from has changed since.

    Args:
        source: makes them.
        names: the name of each ``[N]``, which may hold folders.
        folder: where they are kept; its name must follow from everything that decides the content.
    """

    def __init__(self, source: Made, names: Sequence[str], folder: Path) -> None:
        self.source, self.names, self.folder = source, packed(names), folder
        self.labels = source.labels

    def origin(self, index: int) -> Path:
        return self.source.origin(index)

    def stream(self, index: int) -> EventStream:
        path = self.folder / f"{os.fsdecode(self.names[index])}.events"
        if _is_newer(path, self.source.origin(index)):
            try:
                return read(path, format=_KEPT)
            except FormatError as error:
                warnings.warn(f"{error}; it is made anew", stacklevel=2)
        stream = self.source.stream(index)
        _keep(stream, path)
        return stream


def _is_newer(kept: Path, origin: Path) -> bool:
    """Whether there is a kept file and it is younger than what it was made from, which need not be there any more."""
    if not kept.is_file():
        return False
    return not origin.is_file() or kept.stat().st_mtime_ns >= origin.stat().st_mtime_ns


def _keep(stream: EventStream, path: Path) -> None:
    unfinished = path.with_name(f".{os.getpid()}-{path.name}")  # another process may make the same recording
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(stream, unfinished, format=_KEPT)
        unfinished.replace(path)
    except OSError as error:
        raise DataError(f"{path} cannot be written: {error}; $SPIKENET_CACHE names another folder") from error


def packed(names: Sequence[str]) -> np.ndarray:
    """Names as one array of bytes: forked workers copy the pages of Python objects that they look at."""
    return np.array([os.fsencode(name) for name in names], np.bytes_)


def since(stream: EventStream, start: int) -> EventStream:
    """The stream with times that count from ``start``."""
    return EventStream._trusted((stream.t - start, stream.x, stream.y, stream.p), stream.sensor)


@dataclass(frozen=True)
class EventData:
    """A data set cut in three: what a module's ``read`` returns.

    Errors: DataError for an empty part or a label without a class.
    """

    name: str
    classes: tuple[str, ...]
    sensor: Sensor
    train: Recordings
    val: Recordings
    test: Recordings

    def __post_init__(self) -> None:
        for part in ("train", "val", "test"):
            labels = getattr(self, part).labels
            if not len(labels):
                raise DataError(f"{self.name}: the {part} part is empty")
            if labels.min() < 0 or labels.max() >= len(self.classes):
                raise DataError(
                    f"{self.name}: labels in the {part} part want 0 to {len(self.classes) - 1} "
                    f"for its {len(self.classes)} classes, received {labels.min()} to {labels.max()}"
                )


def cut(
    name: str,
    classes: Sequence[str],
    sensor: Sensor,
    found: Mapping[str, Recordings],
    test_share: float = 0.2,
    val_share: float = 0.1,
) -> EventData:
    """The published parts as they are; what was not published is held out, stratified, by a rule that never changes.

    Args:
        name: the data's name; a test part of our own is added to it.
        classes: class names in the order of the labels.
        sensor: the sensor of all recordings.
        found: ``"train"``, and ``"test"`` and ``"val"`` where they were published.
        test_share: the share of the train part that serves for testing where none was published.
        val_share: the share of what then remains that serves for validation where none was published.
    """
    train, test, val = found["train"], found.get("test"), found.get("val")
    if test is None:
        train, test = _divided(train, test_share, _TEST_SEED)
        name = f"{name}, own test part of {test_share:.0%}"
    if val is None:
        train, val = _divided(train, val_share, _VALIDATION_SEED)
    return EventData(name, tuple(classes), sensor, train, val, test)


def _divided(recordings: Recordings, share: float, seed: int) -> tuple[Recordings, Recordings]:
    rest, held = hold_out(recordings.labels, round(share * len(recordings)), seed)
    return Selection(recordings, rest), Selection(recordings, held)


def philox(seed: int, purpose: int, epoch: int = 0, index: int = 0) -> np.random.Philox:
    """Random bits that follow from these numbers alone; different numbers never share a draw.

    Raw Philox bits are the same in every numpy version (NEP 19), so rules built on them stay fixed.
    """
    return np.random.Philox(key=[seed, purpose], counter=[0, 0, index, epoch])


def shuffled(size: int, bits: np.random.Philox) -> np.ndarray:
    """The numbers 0 to ``size - 1`` in random order."""
    return np.argsort(bits.random_raw(size), kind="stable")


def hold_out(labels: np.ndarray, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Set ``count`` recordings aside, every class in proportion (largest remainders make the sum exact).

    Returns:
        The numbers of the rest and of those held out, both ascending.

    Errors: ArgumentError unless both sides get at least one recording.
    """
    if not 0 < count < len(labels):
        raise ArgumentError(f"{count} of {len(labels)} recordings cannot be held out; 1 to {len(labels) - 1} can")
    order = shuffled(len(labels), philox(seed, 0))
    present, sizes = np.unique(labels, return_counts=True)
    shares = _proportional(sizes, count)
    held = [order[labels[order] == label][:share] for label, share in zip(present, shares, strict=True)]
    chosen = np.sort(np.concatenate(held))
    return np.setdiff1d(np.arange(len(labels)), chosen), chosen


def _proportional(sizes: np.ndarray, count: int) -> np.ndarray:
    """``count`` shared out in proportion to ``sizes``, in whole numbers."""
    exact = count * sizes / sizes.sum()
    shares: np.ndarray = np.floor(exact).astype(np.int64)
    largest = np.argsort(shares - exact, kind="stable")[: count - shares.sum()]
    shares[largest] += 1
    return shares
