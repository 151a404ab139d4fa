"""NumPy's own files: one structured array (``.npy``) or an archive of four arrays (``.npz``), never with objects.

- ``npy``: fields t, x, y, p, as in DVS-Lip (Tan et al., CVPR 2022), whose dtype ``t i4, x i1, y i1, p i1`` means its
  128 x 128 pixels; for any other integer dtype the caller names the sensor. Other fields are ignored.
- ``npz``: arrays t, x, y, p of one length, as in HARDVS (Wang et al., AAAI 2024; 346 x 260 pixels), and if it is there
  ``sensor``, three integers: width, height, polarities. Without it the caller names the sensor.

Times are whole microseconds. Both are decoded piece by piece, packed archives too.
"""

from __future__ import annotations

import struct
import tokenize
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np

from spikenet.errors import FormatError, SpikenetError
from spikenet.events.files.arrays import Raw, check_holds, check_kind, check_lengths, chosen, sensor_of, to_columns
from spikenet.events.files.bounds import check_claim, length_of
from spikenet.events.files.recording import Columns, Format, Opening
from spikenet.events.stream import EventStream, Sensor

_MAGIC = b"\x93NUMPY"
_ZIP = b"PK\x03\x04"
_NAMES = ("t", "x", "y", "p")
_STEP = 1 << 18
_LIP = np.dtype([("t", "<i4"), ("x", "i1"), ("y", "i1"), ("p", "i1")])
_LIP_SENSOR = Sensor(128, 128, 2)
# What numpy's header parser and zipfile raise for broken files.
_BROKEN_HEADER = (ValueError, TypeError, KeyError, SyntaxError, EOFError, RecursionError, MemoryError, OverflowError)
_BROKEN = (*_BROKEN_HEADER, tokenize.TokenError, struct.error, OSError, zlib.error, zipfile.BadZipFile, RuntimeError)


class _Array(NamedTuple):
    """What an array's header says, and where its numbers begin."""

    dtype: np.dtype
    length: int
    start: int


def _header(path: Path, name: str, file: IO[bytes]) -> _Array:
    version = np.lib.format.read_magic(file)
    if version not in ((1, 0), (2, 0)):
        raise FormatError(path, 6, f"{name}: version {version} of the npy format; 1.0 and 2.0 can be read")
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(file)
    if dtype.hasobject:
        raise FormatError(path, 10, f"{name} holds pickled objects ({dtype}), which are never loaded")
    return _Array(dtype, length_of(path, name, shape), file.tell())


class _Structured:
    """An open ``.npy`` file."""

    def __init__(self, opening: Opening) -> None:
        chosen(opening, 1)
        self._path, self._losses = opening.path, opening.losses
        with self._path.open("rb") as file:
            try:
                self._array = _header(self._path, "the array", file)
            except SpikenetError:
                raise
            except _BROKEN as error:
                raise FormatError(self._path, 0, f"not a readable npy file: {error}") from error
        dtype = self._array.dtype
        if not set(_NAMES) <= set(dtype.names or ()):
            raise FormatError(self._path, 10, f"a structured array with fields t, x, y, p is wanted, received {dtype}")
        for name in _NAMES:
            check_kind(opening, name, dtype[name])
        self.sensor = _LIP_SENSOR if dtype == _LIP else None
        self.header: Mapping[str, str] = {"dtype": str(dtype), "events": str(self._array.length)}

    def pieces(self, size: int) -> Iterator[Columns]:
        dtype, length, start = self._array
        stored = self._path.stat().st_size
        there, left = divmod(stored - start, dtype.itemsize)
        if there < length:
            self._losses.refuse(f"{length} events are announced, {there} are there", stored, length - there)
        elif there > length or left:
            over = stored - start - length * dtype.itemsize
            self._losses.refuse("bytes after the last event", stored - over, over)
        length, count = min(length, there), max(size // dtype.itemsize, 1)
        with self._path.open("rb") as file:
            file.seek(start)
            for first in range(0, length, count):
                events = np.fromfile(file, dtype, min(count, length - first))
                yield to_columns(Raw(*(events[name] for name in _NAMES)), self._losses, first, seconds=False)


class _Archive:
    """An open ``.npz`` file: its four members are unpacked side by side."""

    def __init__(self, opening: Opening) -> None:
        chosen(opening, 1)
        self._path, self._losses = opening.path, opening.losses
        self.sensor: Sensor | None = None
        with _opened(self._path) as archive:
            present = set(archive.namelist())
            if missing := [name for name in _NAMES if f"{name}.npy" not in present]:
                held = sorted(name.removesuffix(".npy") for name in present)
                raise FormatError(self._path, None, f"lacks the arrays {missing}; it holds {held}")
            self._arrays = {name: self._member(archive, name) for name in _NAMES}
            for name, array in self._arrays.items():
                check_kind(opening, name, array.dtype)
            if "sensor.npy" in present:
                self.sensor = self._read_sensor(archive)
        check_lengths(opening, **{name: array.length for name, array in self._arrays.items()})
        self.header: Mapping[str, str] = {"events": str(self._arrays["t"].length)}

    def pieces(self, size: int) -> Iterator[Columns]:
        length = self._arrays["t"].length
        count = max(length * size // self._path.stat().st_size, 1)
        with _opened(self._path) as archive, ExitStack() as stack:
            files = [stack.enter_context(archive.open(f"{name}.npy")) for name in _NAMES]
            for file, array in zip(files, self._arrays.values(), strict=True):
                file.read(array.start)
            for first in range(0, length, count):
                part = min(count, length - first)
                pairs = zip(files, self._arrays.values(), strict=True)
                raw = Raw(*(_numbers(file, array.dtype, part) for file, array in pairs))
                yield to_columns(raw, self._losses, first, seconds=False)

    def _member(self, archive: zipfile.ZipFile, name: str) -> _Array:
        """What the header of a member says, checked against the sizes in the archive's table."""
        info = archive.getinfo(f"{name}.npy")
        if info.header_offset < 0:
            raise FormatError(self._path, None, f"{name} begins before the file, says the archive's table")
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise FormatError(self._path, info.header_offset, f"{name} is packed by method {info.compress_type}")
        check_claim(self._path, info.header_offset, name, info.file_size)
        with archive.open(info) as file:
            array = _header(self._path, name, file)
        if info.file_size != array.start + array.length * array.dtype.itemsize:
            reason = f"{name} has {info.file_size} bytes for {array.length} numbers of {array.dtype}"
            raise FormatError(self._path, info.header_offset, reason)
        return array

    def _read_sensor(self, archive: zipfile.ZipFile) -> Sensor:
        array = self._member(archive, "sensor")
        if array.dtype.kind not in "iu" or array.length != 3:
            raise FormatError(self._path, None, f"sensor wants 3 integers, received {array.length} of {array.dtype}")
        sizes = np.frombuffer(archive.read("sensor.npy")[array.start :], array.dtype).tolist()
        return sensor_of(self._path, sizes)


def _numbers(file: IO[bytes], dtype: np.dtype, count: int) -> np.ndarray:
    """The next numbers of a member, unpacked by small pieces: large ones take the memory several times."""
    numbers, step = np.empty(count, dtype), max(_STEP // dtype.itemsize, 1)
    for start in range(0, count, step):
        size = min(step, count - start)
        numbers[start : start + size] = np.frombuffer(file.read(size * dtype.itemsize), dtype, size)
    return numbers


@contextmanager
def _opened(path: Path) -> Iterator[zipfile.ZipFile]:
    """An archive; whatever is raised for a broken one becomes a FormatError."""
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except SpikenetError:
        raise
    except _BROKEN as error:
        raise FormatError(path, None, f"not a readable npz file: {error}") from error


def _write_npy(stream: EventStream, path: Path) -> None:
    check_holds("npy", stream, _LIP_SENSOR, np.iinfo(np.int32).max)
    events = np.empty(len(stream), _LIP)
    for name in _NAMES:
        events[name] = getattr(stream, name).numpy()
    with path.open("wb") as file:
        np.save(file, events)


def _write_npz(stream: EventStream, path: Path) -> None:
    check_holds("npz", stream, None)
    arrays = {name: getattr(stream, name).numpy() for name in _NAMES}
    with path.open("wb") as file:
        np.savez(file, sensor=np.array(stream.sensor, np.int64), **arrays)


def _is_archive(path: Path, head: bytes) -> bool:
    return head.startswith(_ZIP) and path.suffix == ".npz"


NPY = Format("npy", (".npy",), lambda path, head: head.startswith(_MAGIC), _Structured, _write_npy, begins=_MAGIC[:1])
NPZ = Format("npz", (".npz",), _is_archive, _Archive, _write_npz, begins=_ZIP[:1])
