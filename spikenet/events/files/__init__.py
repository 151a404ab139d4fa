"""Event files: one file a format, recognised by their content."""

from __future__ import annotations

import os
from pathlib import Path

from spikenet.errors import ArgumentError, DataError, FormatError, UnknownNameError
from spikenet.events.files.aedat2 import AEDAT2
from spikenet.events.files.aedat3 import AEDAT3
from spikenet.events.files.aedat4 import AEDAT4
from spikenet.events.files.asldvs import ASLDVS
from spikenet.events.files.bin import BIN, BS1, BS3
from spikenet.events.files.dat import DAT
from spikenet.events.files.ecf import ECF
from spikenet.events.files.evt2 import EVT2
from spikenet.events.files.evt3 import EVT3
from spikenet.events.files.evt21 import EVT21
from spikenet.events.files.npy import NPY, NPZ
from spikenet.events.files.ntidigits import NTIDIGITS
from spikenet.events.files.own import SPIKENET
from spikenet.events.files.recording import Format, Losses, Opening, Recording
from spikenet.events.files.shd import SHD
from spikenet.events.files.stmnist import STMNIST
from spikenet.events.files.text import TEXT
from spikenet.events.stream import EventStream, Sensor

_ALL: tuple[Format, ...] = (
    *(AEDAT2, AEDAT3, AEDAT4, BIN, BS1, BS3, DAT, ECF, EVT2, EVT21, EVT3, TEXT),
    *(ASLDVS, NPY, NPZ, NTIDIGITS, SHD, STMNIST, SPIKENET),
)
FORMATS = {entry.name: entry for entry in _ALL}
"""File formats by name, as `read` and `write` take them."""
_ANY = [entry for entry in _ALL if not entry.begins]
_BEGINNING = {
    first: [entry for entry in _ALL if entry.begins in (b"", first)] for first in {entry.begins for entry in _ALL}
}

_HEAD = 1 << 16  # bytes that a format may recognise a file by; a file that is no longer is not read again


def open_recording(
    path: str | Path,
    *,
    format: str | None = None,
    sensor: Sensor | None = None,
    strict: bool = True,
    flip_x: bool = False,
    flip_y: bool = False,
    flip_p: bool = False,
    index: int | None = None,
) -> Recording:
    """Open an event file for reading whole, in chunks or a slice of time.

    Args:
        path: the file.
        format: a name of `FORMATS`; none recognises the format by the file's first bytes and its extension.
        sensor: the size of the sensor, for files that do not say it, or instead of what they say.
        strict: damage is an error; otherwise what cannot be read or lies outside the sensor is left out and counted.
        flip_x: mirror columns, ``width - 1 - x``.
        flip_y: mirror rows.
        flip_p: exchange polarities.
        index: which recording of a file that holds several.

    Errors: DataError where the file cannot be read, FormatError where it is broken or of no known format,
    UnknownNameError for a format's name, ArgumentError where the sensor or the index is missing.
    """
    path = path if isinstance(path, Path) else Path(path)
    head, size = _head(path)
    chosen = _recognised(path, head) if format is None else _named(format)
    losses = Losses(path, strict)
    source = chosen.open(Opening(path, losses, sensor, index, head, size))
    return Recording(source, losses, sensor, (flip_x, flip_y, flip_p), size)


def read(
    path: str | Path,
    *,
    format: str | None = None,
    sensor: Sensor | None = None,
    strict: bool = True,
    flip_x: bool = False,
    flip_y: bool = False,
    flip_p: bool = False,
    index: int | None = None,
) -> EventStream:
    """All events of a file; the options and errors are those of `open_recording`.

    A reader that is not strict warns with the count of what it left out.
    """
    return open_recording(
        path, format=format, sensor=sensor, strict=strict, flip_x=flip_x, flip_y=flip_y, flip_p=flip_p, index=index
    ).read()


def write(stream: EventStream, path: str | Path, *, format: str | None = None) -> None:
    """Write a stream to a file, whole or not at all.

    Args:
        stream: the events.
        path: the file; an existing one is replaced.
        format: a name of `FORMATS`; none goes by the extension, where that belongs to one format alone.

    Errors: ArgumentError for an extension that names no format or several, and for a stream that the format cannot
    hold; UnknownNameError for a format's name; OSError where the place cannot be written.
    """
    path = Path(path)
    chosen = _by_extension(path) if format is None else _named(format)
    if chosen.write is None:
        raise ArgumentError(f"{chosen.name} files can be read only; written can be {', '.join(sorted(_writable()))}")
    unfinished = path.with_name(f".{path.name}.unfinished")
    try:
        chosen.write(stream, unfinished)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def _head(path: Path) -> tuple[bytes, int]:
    """The file's first bytes and its size."""
    try:
        file = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))  # a file object takes as long as the read
        try:
            size = os.fstat(file).st_size
            return os.read(file, min(size or _HEAD, _HEAD)), size  # room that is not used is not asked for
        finally:
            os.close(file)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error


def _named(name: str) -> Format:
    if name not in FORMATS:
        raise UnknownNameError("event file format", name, FORMATS)
    return FORMATS[name]


def _recognised(path: Path, head: bytes) -> Format:
    found = [entry for entry in _BEGINNING.get(head[:1], _ANY) if entry.recognises(path, head)]
    if len(found) == 1:
        return found[0]
    names = ", ".join(entry.name for entry in found or FORMATS.values())
    if not head:
        raise FormatError(path, 0, f"is empty; format= may still name one of: {names}")
    problem = "may be of several formats" if found else "is of no known format"
    raise FormatError(path, 0, f"{problem}, it begins with {head[:16]!r}; format= takes one of: {names}")


def _writable() -> list[str]:
    return [name for name, entry in FORMATS.items() if entry.write]


def _by_extension(path: Path) -> Format:
    found = [entry for entry in FORMATS.values() if entry.write and path.name.endswith(entry.extensions)]
    if len(found) == 1:
        return found[0]
    names = ", ".join(sorted(entry.name for entry in found) or sorted(_writable()))
    raise ArgumentError(f"the extension of {path.name} names {len(found)} formats; format= takes one of: {names}")
