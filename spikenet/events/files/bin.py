"""The record formats of N-MNIST and N-Caltech101 and of SLAYER. None has a header: the caller names the sensor.

- ``bin`` (Orchard et al., Frontiers in Neuroscience 9:437, 2015; SLAYER calls it ``.bs2``): records of 5 bytes: column,
  row, then polarity (bit 7 of the third byte, 1 = ON) and a 23-bit time stamp in microseconds, most significant byte
  first. A record with row 240 is no event: it adds 8192 us to its own and every later time stamp.
- ``bs1``: the same with a column of 2 bytes, most significant first, and no row.
- ``bs3``: records of 7 bytes: column and row of 12 bits each, a byte of polarity, a 24-bit time stamp.

Values are those stored. Layouts after the readers of event-Python and slayerPytorch.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from spikenet.errors import ArgumentError, FormatError
from spikenet.events.files.recording import Format, Losses, Opening
from spikenet.events.files.words import RecordDecoder, WordSource
from spikenet.events.stream import EventStream, Sensor

RECORD = 5
_ROWS = 240  # a row of this number is a marker


def decode_bin(content: bytes | np.ndarray, path: str | Path, sensor: Sensor) -> EventStream:
    """The events of a ``bin`` file whose bytes are in memory; ``path`` is only for messages.

    Args:
        content: the bytes, or the same as uint8 ``[5 * records]``.
        path: where they come from.
        sensor: every event must lie on it.

    Errors: FormatError for a cut record or an event outside the sensor.
    """
    from spikenet.kernels.events.records import decode_bin as decode

    records = np.frombuffer(content, np.uint8)
    if left := len(records) % RECORD:
        reason = f"records have {RECORD} bytes, but {left} are left at the end"
        raise FormatError(path, len(records) - left, reason)
    columns = RecordDecoder(Losses(Path(path), True), decode, RECORD)(records)
    if any(top >= limit for top, limit in zip(columns.top, sensor, strict=True)):
        raise FormatError(path, RECORD * (first := _first_outside(records, sensor)), _outside(records, first, sensor))
    return EventStream._trusted(map(torch.from_numpy, columns), sensor)


def _first_outside(records: np.ndarray, sensor: Sensor) -> int:
    x, y, high = records.reshape(-1, RECORD).T[:3]
    outside = (x >= sensor.width) | (y >= sensor.height) | (high >> 7 >= sensor.polarities)
    return int((outside & (y != _ROWS)).argmax())


def _outside(records: np.ndarray, first: int, sensor: Sensor) -> str:
    x, y, high = records.reshape(-1, RECORD)[first, :3]
    width, height, polarities = sensor
    return f"event at column {x}, row {y}, polarity {high >> 7} on a {width} x {height} x {polarities} sensor"


def encode_bin(stream: EventStream) -> bytes:
    """The bytes of a ``bin`` file, without markers. Errors: ArgumentError for what 5 bytes cannot hold (8.3 s, 256
    columns, 240 rows, two polarities)."""
    t, x, y, p = _fitting(stream, "bin", Sensor(256, _ROWS, 2), 23)
    return _joined(x, y, p << 7 | t >> 16, t >> 8, t)


def _encode_bs1(stream: EventStream) -> bytes:
    t, x, _, p = _fitting(stream, "bs1", Sensor(1 << 16, 1, 2), 23)
    return _joined(x >> 8, x, p << 7 | t >> 16, t >> 8, t)


def _encode_bs3(stream: EventStream) -> bytes:
    t, x, y, p = _fitting(stream, "bs3", Sensor(1 << 12, 1 << 12, 128), 24)
    return _joined(x >> 4, (x & 15) << 4 | y >> 8, y, p, t >> 16, t >> 8, t)


def _fitting(stream: EventStream, name: str, most: Sensor, bits: int) -> list[np.ndarray]:
    """The columns as int64, if the format can hold them."""
    columns = [column.numpy().astype(np.int64) for column in (stream.t, stream.x, stream.y, stream.p)]
    t = columns[0]
    if any(size > limit for size, limit in zip(stream.sensor, most, strict=True)) or (t >> bits).any():
        raise ArgumentError(
            f"the .{name} format holds {most.width} x {most.height} x {most.polarities} addresses and times "
            f"of 0 or more below 2^{bits} us, received {stream}"
        )
    return columns


def _joined(*columns: np.ndarray) -> bytes:
    return np.stack([(column & 0xFF).astype(np.uint8) for column in columns], axis=1).tobytes()


class _Layout(NamedTuple):
    """What tells one of the formats from the others; the kernel's name is ``decode_<name>``."""

    name: str
    extensions: tuple[str, ...]
    record: int
    encode: Callable[[EventStream], bytes]

    def format(self) -> Format:
        return Format(self.name, self.extensions, self._recognises, self._open, self._write)

    def _recognises(self, path: Path, head: bytes) -> bool:
        return os.fspath(path).endswith(self.extensions)

    def _open(self, opening: Opening) -> WordSource:
        from spikenet.kernels.events import records

        kernel = getattr(records, f"decode_{self.name}")
        decoder = partial(RecordDecoder, opening.losses, kernel, self.record)
        return WordSource(opening, {}, 0, None, np.uint8, self.record, decoder)

    def _write(self, stream: EventStream, path: Path) -> None:
        path.write_bytes(self.encode(stream))


BIN, BS1, BS3 = (
    layout.format()
    for layout in (
        _Layout("bin", (".bin", ".bs2"), 5, encode_bin),
        _Layout("bs1", (".bs1",), 5, _encode_bs1),
        _Layout("bs3", (".bs3",), 7, _encode_bs3),
    )
)
