"""Files whose body is a row of words of one size, as Prophesee's are: headers, cut ends, decoding piece by piece."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from spikenet.errors import ArgumentError
from spikenet.events.files.recording import Columns, Losses, Measured, Opening, blank, cut
from spikenet.events.stream import EventStream, Sensor

Decoder = Callable[[np.ndarray], Columns]  # words of the next piece -> its events


class WordSource:
    """An open file of words.

    Args:
        opening: the file.
        fields: its header.
        start: the byte at which the words begin.
        sensor: what the header says.
        word: the type of a word.
        width: bytes of a record, one word or more.
        decoder: makes what decodes one pass.
    """

    def __init__(
        self,
        opening: Opening,
        fields: dict[str, str],
        start: int,
        sensor: Sensor | None,
        word: type[np.unsignedinteger],
        width: int,
        decoder: Callable[[], Decoder],
    ) -> None:
        self.header, self.sensor = fields, sensor
        self._opening, self._start, self._word, self._width = opening, start, word, width
        self._decoder = decoder

    def pieces(self, size: int) -> Iterator[Columns]:
        opening, width = self._opening, self._width
        left = (opening.size - self._start) % width
        if left:
            reason = f"bytes of a cut record at the end, records have {width}"
            opening.losses.refuse(reason, opening.size - left, left)
        decode = self._decoder()
        for block in opening.blocks(self._start, opening.size - left, max(size // width, 1) * width):
            yield decode(block.view(self._word))


def check_writable(stream: EventStream, name: str, side: int, most_time: int) -> None:
    """Errors: ArgumentError for a stream with addresses or times that a format has no bits for."""
    width, height, polarities = stream.sensor
    t = stream.t.numpy()
    if max(width, height) > side or polarities != 2 or (len(t) and (t.min() < 0 or t.max() >= most_time)):
        raise ArgumentError(
            f"{name} files hold sensors of up to {side} x {side} with two polarities and times from 0 to "
            f"{most_time - 1} us, received {stream}" + (f" from {t.min()} to {t.max()} us" if len(t) else "")
        )


def columns_of(stream: EventStream) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The columns as arrays without gaps."""
    return tuple(np.ascontiguousarray(column.numpy()) for column in (stream.t, stream.x, stream.y, stream.p))  # type: ignore[return-value]


def write_words(path: Path, header: bytes, words: np.ndarray) -> None:
    with path.open("wb") as file:
        file.write(header)
        file.write(words.data)


def measured(columns: Columns, count: int, top: tuple[int, int, int]) -> Measured:
    """The first ``count`` of the columns."""
    made = Measured(*cut(columns, count))
    made.top = top
    return made


class RecordDecoder:
    """Decodes the records of one pass, piece by piece.

    Args:
        losses: where records that make no event are counted.
        kernel: one of `spikenet.kernels.events.records`.
        record: bytes of each.
        skipped: what a record is that makes no event; none where that is part of the time code.
    """

    def __init__(self, losses: Losses, kernel: Callable[..., Any], record: int, skipped: str | None = None) -> None:
        self.losses, self.kernel, self.record, self.skipped = losses, kernel, record, skipped
        self.shift = 0

    def __call__(self, records: np.ndarray) -> Measured:
        number = len(records) // self.record
        records.setflags(write=False)  # one compiled kernel, whatever the bytes lie in
        columns = blank(number)
        count, self.shift, *top = self.kernel(records, self.shift, *columns)
        if self.skipped:
            self.losses.skip(self.skipped, number - count)
        x, y, p = top
        return measured(columns, count, (x, y, p))
