"""Labelled recordings in memory, and the fixed rules that cut them into parts."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from spikenet.errors import ArgumentError, DataError
from spikenet.events import EventStream, Sensor
from spikenet.events.files.bin import decode_bin


class Recordings(ABC):
    """A sequence of ``(EventStream, label)``; streams are decoded when they are asked for.

    Attributes:
        labels: class numbers, int64 ``[N]``.
    """

    labels: np.ndarray

    @abstractmethod
    def stream(self, index: int) -> EventStream:
        """Decode one recording, ``0 <= index < len(self)``."""

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
