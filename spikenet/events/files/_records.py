"""Files that are runs of records of one size, and the room that decoders write to."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import torch

from spikenet.events.files.recording import Columns, Losses
from spikenet.events.stream import Sensor
from spikenet.kernels import buffers

Decoder = Callable[..., tuple[int, int]]
"""A kernel of `spikenet.kernels.events.records`: records, time to add, t, x, y, p -> number of events, time to add."""


def room(capacity: int) -> Columns:
    """Columns that nobody has written yet."""
    if capacity < buffers.SMALLEST // 8:
        empty = np.empty
        return Columns(
            empty(capacity, np.int64), empty(capacity, np.int32), empty(capacity, np.int32), empty(capacity, np.int8)
        )
    dtypes = (torch.int64, torch.int32, torch.int32, torch.int8)
    return Columns(*(buffers.empty((capacity,), dtype).numpy() for dtype in dtypes))


def cut(columns: Columns, count: int) -> Columns:
    """The first events; all of them are what came in."""
    if count == len(columns.t):
        return columns
    return Columns(*(column[:count] for column in columns))


def grown(columns: Columns, count: int, wanted: int, guess: int = 0) -> Columns:
    """Room for ``wanted`` events, ``guess`` the first time and at least twice as many as before after that; the first
    ``count`` are kept."""
    if wanted <= len(columns.t):
        return columns
    larger = room(max(wanted, guess if not count else 2 * len(columns.t)))
    for old, new in zip(columns, larger, strict=True):
        new[:count] = old[:count]
    return larger


class RecordSource:
    """An open file of records.

    Args:
        path: the file.
        losses: counts what is left out.
        start: where the records begin.
        record: bytes of each.
        decode: the kernel.
        header: what the file says of itself.
        sensor: the sensor that the file names.
        skipped: what a record is that makes no event; none where that is part of the time code.
    """

    def __init__(
        self,
        path: Path,
        losses: Losses,
        start: int,
        record: int,
        decode: Decoder,
        header: Mapping[str, str],
        sensor: Sensor | None,
        skipped: str | None,
    ) -> None:
        self.header, self.sensor = header, sensor
        self._path, self._losses, self._start = path, losses, start
        self._record, self._decode, self._skipped = record, decode, skipped

    def pieces(self, size: int) -> Iterator[Columns]:
        """See `Source`."""
        shift = 0
        for block in self._blocks(max(size // self._record, 1) * self._record):
            number = len(block) // self._record
            columns = room(number)
            count, shift = self._decode(block, shift, *columns)
            if self._skipped:
                self._losses.skip(self._skipped, number - count)
            yield cut(columns, count)

    def _blocks(self, step: int) -> Iterator[np.ndarray]:
        """Whole records, ``step`` bytes at a time."""
        offset = self._start
        with self._path.open("rb") as file:
            file.seek(offset)
            while block := file.read(step):
                offset += len(block)
                left = len(block) % self._record
                if len(block) > left:
                    yield np.frombuffer(block, np.uint8, len(block) - left)
                if left:
                    reason = f"records have {self._record} bytes, but {left} are left at the end"
                    self._losses.refuse(reason, offset - left, left)
