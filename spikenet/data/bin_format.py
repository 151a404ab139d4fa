"""The ``.bin`` record format of N-MNIST and N-Caltech101 (Orchard et al., Frontiers in Neuroscience 9:437, 2015).

A file is a run of 5-byte records without a header: column, row, then polarity (bit 7 of the third byte, 1 = ON) and a
23-bit time stamp in microseconds, most significant byte first. A record with row 240 is no event: it adds 8192 us to
its own and every later time stamp. Values are kept as stored: nothing is flipped or moved.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from spikenet.errors import ArgumentError, DataError, FormatError
from spikenet.events import EventStream, Sensor

RECORD = 5
NMNIST_SENSOR = Sensor(34, 34, 2)
_MARKER_ROW = 240
_MARKER_US = 8192
_TIME_BITS = 23


def read_bin(path: str | Path, sensor: Sensor = NMNIST_SENSOR) -> EventStream:
    """Read one file. Errors: DataError where it cannot be read, FormatError (naming the byte) where it is broken."""
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error
    return decode_bin(content, path, sensor)


def decode_bin(content: bytes | np.ndarray, path: str | Path, sensor: Sensor = NMNIST_SENSOR) -> EventStream:
    """Decode the bytes of a file; ``path`` is only for the message.

    Args:
        content: the bytes, or the same as uint8 ``[5 * records]``.
        path: where they come from.
        sensor: every event must lie on it.

    Errors: FormatError for a cut record or an event outside the sensor.
    """
    if len(content) % RECORD:
        whole = len(content) // RECORD * RECORD
        raise FormatError(path, whole, f"records have {RECORD} bytes, but {len(content) - whole} are left at the end")
    x, y, high, middle, low = np.ascontiguousarray(np.frombuffer(content, np.uint8).reshape(-1, RECORD).T)
    t = high.astype(np.int64)
    t = (t & 0x7F) << 16 | middle.astype(np.int64) << 8 | low
    event = y != _MARKER_ROW
    _check_on_sensor(x, y, event, path, sensor)
    if not event.all():
        t += _MARKER_US * np.cumsum(~event)
        t, x, y, high = t[event], x[event], y[event], high[event]
    columns = (t, x.astype(np.int32), y.astype(np.int32), (high >> 7).astype(np.int8))
    t, x, y, p = map(torch.from_numpy, columns)
    return EventStream(t, x, y, p, sensor)


def encode_bin(stream: EventStream) -> bytes:
    """The bytes of a file, without markers. Errors: ArgumentError for what 5 bytes cannot hold (8.3 s, 256 columns,
    240 rows, two polarities)."""
    width, height, polarities = stream.sensor
    t = stream.t.numpy()
    fits = width <= 256 and height <= _MARKER_ROW and polarities <= 2
    if not fits or (t < 0).any() or (t >> _TIME_BITS).any():
        raise ArgumentError(f"the .bin format holds 256 x 240 x 2 addresses and times below 2^23 us, received {stream}")
    flags = stream.p.numpy().astype(np.int64) << 7 | t >> 16
    columns = (stream.x.numpy(), stream.y.numpy(), flags, t >> 8, t)
    return np.stack([(column & 0xFF).astype(np.uint8) for column in columns], axis=1).tobytes()


def _check_on_sensor(x: np.ndarray, y: np.ndarray, event: np.ndarray, path: str | Path, sensor: Sensor) -> None:
    outside = event & ((x >= sensor.width) | (y >= sensor.height))
    if outside.any():
        first = int(outside.argmax())
        where = f"column {x[first]}, row {y[first]}"
        raise FormatError(path, RECORD * first, f"event at {where} on a {sensor.width} x {sensor.height} sensor")
