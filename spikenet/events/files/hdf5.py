"""HDF5 files as data from strangers: every size is checked before memory is taken, nothing outside is followed."""

from __future__ import annotations

import io
import mmap
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from spikenet.errors import FormatError, SpikenetError
from spikenet.events.files.bounds import check_claim, gunzip, inflate
from spikenet.events.files.hdf5_heap import REFERENCE, Heap
from spikenet.events.files.hdf5_objects import MAGIC

# What damage makes h5py raise.
BROKEN = (OSError, EOFError, zlib.error, KeyError, RuntimeError, TypeError, ValueError, OverflowError, MemoryError)
_DEFLATE, _SHUFFLE, _CHECKSUM, _LZF = 1, 2, 3, 32000
_UNDONE = {_DEFLATE, _SHUFFLE, _CHECKSUM, _LZF}  # the filters that the library is left to undo
_CHECKSUM_BYTES = 4


@contextmanager
def open_hdf5(path: Path) -> Iterator[Hdf5]:
    """Open a ``.h5`` file, or a ``.h5.gz``. Errors: FormatError for every way in which the file can be broken."""
    with readable(path):
        opened = Hdf5(path)
        with opened.file:
            yield opened


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Every way in which a file can be broken is a FormatError here."""
    try:
        yield
    except SpikenetError:
        raise
    except BROKEN as error:
        raise FormatError(path, None, f"not a readable HDF5 file: {error}") from error


def holds(path: Path, head: bytes, names: set[str], broken: bool = False) -> bool:
    """Whether a file is HDF5 and has one of these names at its top; ``broken`` if it is HDF5 and does not open."""
    if not head.startswith(MAGIC):
        return False
    stamp = path.stat()
    found = _names(path, stamp.st_mtime_ns, stamp.st_size)
    return broken if found is None else not names.isdisjoint(found)


@lru_cache(maxsize=16)  # each format that is asked would open the file again
def _names(path: Path, changed: int, size: int) -> frozenset[str] | None:
    """What lies at the top of a file that was last changed then; None if it does not open."""
    import h5py

    try:
        with h5py.File(path, "r") as file:
            return frozenset(file)
    except BROKEN:
        return None


def mapped(path: Path) -> memoryview:
    """The bytes of a file, not yet read. Errors: ValueError for an empty one."""
    with path.open("rb") as file:
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


class Hdf5:
    """An open HDF5 file, or one in a ``.gz``.

    Args:
        path: the file.
    """

    def __init__(self, path: Path) -> None:
        import h5py

        unpacked = gunzip(path) if path.suffix == ".gz" else None
        self.path, self.file = path, h5py.File(path if unpacked is None else io.BytesIO(unpacked), "r")
        self._content = mapped(path) if unpacked is None else memoryview(unpacked)
        self._heap = Heap(path, self._content[self.file.userblock_size :])
        self._ragged: dict[str, tuple[np.ndarray, np.dtype]] = {}  # of data sets that were found in order

    def __contains__(self, name: str) -> bool:
        return name in self.file

    def array(self, name: str, kinds: str) -> np.ndarray:
        """A data set of plain numbers, read whole."""
        data = self.dataset(name)
        if data.dtype.kind not in kinds or data.dtype.itemsize > 8:
            raise FormatError(self.path, None, f"{name} wants {_words(kinds)}, received {data.dtype}")
        return _native(np.asarray(data[()]))

    def strings(self, name: str, rows: slice = slice(None)) -> list[str]:
        """Rows of a data set of text ``[N]``, of fixed or of any length."""
        import h5py

        data = self.dataset(name)
        if h5py.check_string_dtype(data.dtype) is None or data.ndim != 1:
            raise FormatError(self.path, None, f"{name} wants a list of names, received {data.dtype} {data.shape}")
        if data.dtype.kind == "O":
            items = [
                item.tobytes().rstrip(b"\0")
                for item in self._heap.arrays(self._references(name, data)[rows], np.dtype("u1"))
            ]
        else:
            items = data[rows].tolist()
        return [item.decode("utf-8") for item in items]

    def count(self, name: str) -> int:
        """The length of a data set with one dimension."""
        data = self.dataset(name)
        if data.ndim != 1:
            raise FormatError(self.path, None, f"{name} wants one dimension, received shape {data.shape}")
        return int(data.shape[0])

    def ragged(self, name: str, kinds: str, rows: slice) -> list[np.ndarray]:
        """Rows of a data set that holds an array of its own length in each."""
        if name not in self._ragged:
            self._ragged[name] = self._checked_ragged(name, kinds)
        references, inner = self._ragged[name]
        return [_native(part) for part in self._heap.arrays(references[rows], inner)]

    def _checked_ragged(self, name: str, kinds: str) -> tuple[np.ndarray, np.dtype]:
        """Where each array lies, and their type."""
        import h5py

        data = self.dataset(name)
        inner = h5py.check_vlen_dtype(data.dtype)
        if inner is None or inner.kind not in kinds or inner.itemsize > 8:
            raise FormatError(
                self.path, None, f"{name} wants arrays of {_words(kinds)}, received {inner or data.dtype}"
            )
        self.count(name)
        return self._references(name, data), inner

    def dataset(self, name: str) -> Any:
        """A data set of this file, of a size that the file may claim, stored where it says."""
        import h5py

        group, *rest = self.file, *name.split("/")
        for part in rest:
            if not isinstance(group, h5py.Group) or not isinstance(group.get(part, getlink=True), h5py.HardLink):
                raise FormatError(self.path, None, f"lacks the data set {name}; it holds {sorted(self.file)}")
            group = group[part]
        if not isinstance(group, h5py.Dataset) or group.external or group.is_virtual:
            raise FormatError(self.path, None, f"lacks the data set {name} (a group or a reference to other files)")
        for shape in filter(None, (group.shape, group.chunks)):
            check_claim(self.path, None, name, prod(shape) * group.id.get_type().get_size())
        self._check_chunks(name, group)
        return group

    def _check_chunks(self, name: str, data: Any) -> None:
        """Raise FormatError for a packed chunk that unpacks to more than a chunk: the library would follow it."""
        for _, offset, packed, filters in self._stored(name, data):
            if not _UNDONE.issuperset(filters):
                raise FormatError(self.path, offset, f"{name} is packed by filters {filters}; deflate would work")
            if _DEFLATE in filters:
                whole = prod(data.chunks) * data.id.get_type().get_size() + _CHECKSUM_BYTES
                if len(inflate(self._read(offset, packed), whole + 1)) > whole:
                    raise FormatError(self.path, offset, f"{name}: a chunk of {whole} bytes unpacks to more")

    def _references(self, name: str, data: Any) -> np.ndarray:
        """What a ragged data set itself holds: where each array lies in the heap, `REFERENCE` ``[N]``."""
        if len(data) > len(self._content):
            raise FormatError(self.path, None, f"{name} claims {len(data)} arrays in a file of {len(self._content)}")
        if self.file.id.get_create_plist().get_sizes() != (8, 8):
            raise FormatError(self.path, None, f"{name}: addresses of 8 bytes are wanted")
        if data.chunks is None and data.id.get_offset() is None and data.id.get_storage_size():
            raise FormatError(self.path, None, f"{name}: its storage layout cannot be read; chunks would work")
        references = np.zeros(data.shape, REFERENCE)
        for start, offset, packed, filters in self._stored(name, data):
            length = data.chunks[0] if data.chunks else len(data)
            raw = self._read(offset, packed) if not filters else self._unpack(name, data, offset, packed, filters)
            if len(raw) < length * REFERENCE.itemsize:
                raise FormatError(self.path, offset, f"{name}: the references end early")
            references[start : start + length] = np.frombuffer(raw, REFERENCE, length)[: len(references) - start]
        return references

    def _stored(self, name: str, data: Any) -> Iterator[tuple[int, int, int, list[int]]]:
        """Where the pieces of a data set lie: first row, offset, bytes, filters to undo."""
        plist = data.id.get_create_plist()
        if data.chunks is None:
            if data.id.get_offset() is not None:
                yield 0, data.id.get_offset(), data.id.get_storage_size(), []
            return
        filters = [plist.get_filter(i)[0] for i in range(plist.get_nfilters())]
        found: list[Any] = []
        data.id.chunk_iter(found.append)
        for chunk in found:
            used = [each for i, each in enumerate(filters) if not chunk.filter_mask >> i & 1]
            yield int(chunk.chunk_offset[0]), int(chunk.byte_offset), int(chunk.size), used

    def _unpack(self, name: str, data: Any, offset: int, packed: int, filters: list[int]) -> bytes:
        raw, whole = self._read(offset, packed), data.chunks[0] * data.id.get_type().get_size()
        for each in reversed(filters):
            if each == _DEFLATE:
                raw = inflate(raw, whole + 1)
            elif each == _SHUFFLE:
                raw = np.frombuffer(raw, np.uint8).reshape(-1, data.chunks[0]).T.tobytes()
            else:
                raise FormatError(self.path, offset, f"{name} is packed by filter {each}; deflate would work")
        return raw

    def _read(self, offset: int, size: int) -> bytes:
        return bytes(self._content[offset : offset + size])


def _native(array: np.ndarray) -> np.ndarray:
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def _words(kinds: str) -> str:
    return "floats" if kinds == "f" else "integers" if kinds == "iu" else "numbers"
