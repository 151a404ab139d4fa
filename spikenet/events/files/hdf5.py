"""HDF5 files as data from strangers: every size is checked before memory is taken, nothing outside is followed."""

from __future__ import annotations

import io
import mmap
import os
import zlib
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import cache
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from spikenet.errors import FormatError, SpikenetError
from spikenet.events.files.bounds import check_claim, gunzip, inflate
from spikenet.events.files.hdf5_heap import REFERENCE, Heap, Stored
from spikenet.events.files.hdf5_objects import MAGIC

# What damage makes h5py raise.
BROKEN = (OSError, EOFError, zlib.error, KeyError, RuntimeError, TypeError, ValueError, OverflowError, MemoryError)
_DEFLATE, _SHUFFLE, _CHECKSUM, _LZF = 1, 2, 3, 32000
_UNDONE = {_DEFLATE, _SHUFFLE, _CHECKSUM, _LZF}  # the filters that the library is left to undo
_CHECKSUM_BYTES = 4


@contextmanager
def open_hdf5(path: Path) -> Iterator[Hdf5]:
    """Open a ``.h5`` file, or a ``.h5.gz``. Errors: FormatError for every way in which the file can be broken."""
    with readable(path), closing(Hdf5(path)) as opened:
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


def open_id(path: Path) -> Any:
    """The library's handle of a file, to be closed; `h5py.File` would take twice as long."""
    from h5py import h5f

    return h5f.open(os.fsencode(path), h5f.ACC_RDONLY, _access())


@cache
def _access() -> Any:
    """How h5py opens files: nobody may open one in another way while it is open."""
    from h5py import h5p

    return h5p.create(h5p.FILE_ACCESS)


def holds(path: Path, head: bytes, names: set[bytes], broken: bool = False) -> bool:
    """Whether a file is HDF5 and has one of these names at its top; ``broken`` if it is HDF5 and does not open."""
    global _asked
    if not head.startswith(MAGIC):
        return False
    if _asked[0] is not head:  # each format that is asked would open the file again
        _asked = head, _names(path)
    found = _asked[1]
    return broken if found is None else not names.isdisjoint(found)


_asked: tuple[bytes, frozenset[bytes] | None] = b"", None  # what a file begins with, and the names at its top


def _names(path: Path) -> frozenset[bytes] | None:
    """What lies at the top of a file, links to elsewhere left out; None if it does not open."""
    try:
        with closing(open_id(path)) as file:
            return frozenset(name for name in file if _is_here(file, name))
    except BROKEN:
        return None


def _is_here(file: Any, name: bytes) -> bool:
    """Whether a name leads to something in the file itself, and by no other name."""
    from h5py import h5l

    hard: bool = file.links.get_info(name).type == h5l.TYPE_HARD
    return hard


def mapped(path: Path) -> memoryview:
    """The bytes of a file, not yet read. Errors: ValueError for an empty one."""
    with path.open("rb") as file:
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


class FileBytes:
    """The bytes of an open file from ``start`` on. They are read and not mapped: where another process cuts a file
    short, a map kills its reader."""

    def __init__(self, file: int, start: int) -> None:
        self._file, self._start = file, start
        self._size = max(os.fstat(file).st_size - start, 0)

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, part: slice, /) -> bytes:
        start, stop, _ = part.indices(self._size)
        return os.pread(self._file, max(stop - start, 0), self._start + start)


class DataSet(NamedTuple):
    """A data set of a file: the library's handle and plan, shape and chunks, bytes and type of an element."""

    id: Any
    plan: Any
    shape: tuple[int, ...]
    chunks: tuple[int, ...] | None
    width: int
    dtype: np.dtype


class Hdf5:
    """An open HDF5 file, or one in a ``.gz``.

    Args:
        path: the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if path.suffix == ".gz":
            import h5py

            unpacked = gunzip(path)
            self._file = h5py.File(io.BytesIO(unpacked), "r")
            self._id, content = self._file.id, unpacked
        else:
            self._id, content = open_id(path), None
        self._plan = self._id.get_create_plist()
        start = self._plan.get_userblock()
        self._content: Stored = (
            FileBytes(self._id.get_vfd_handle(), start) if content is None else memoryview(content)[start:]
        )
        self._heap = Heap(path, self._content)
        self._steps: set[bytes] = set()  # paths that are no links to elsewhere
        self._sets: dict[str, DataSet] = {}
        self._ragged: dict[str, tuple[np.ndarray, np.dtype]] = {}  # of data sets that were found in order

    def close(self) -> None:
        """Close the file, for the library too, which would take one that is written anew for the old one."""
        import h5py

        self._sets.clear()
        if h5py.h5f.get_obj_count(self._id, h5py.h5f.OBJ_ALL) > 1:  # an error that is kept may hold on to one
            h5py.File(self._id).close()
        else:
            self._id.close()

    def __contains__(self, name: str) -> bool:
        return all(map(self._id.links.exists, _steps(name)))

    def array(self, name: str, kinds: str) -> np.ndarray:
        """A data set of plain numbers, read whole."""
        data = self.dataset(name)
        if data.dtype.kind not in kinds or data.dtype.itemsize > 8:
            raise FormatError(self.path, None, f"{name} wants {_words(kinds)}, received {data.dtype}")
        return _native(_whole(data))

    def strings(self, name: str, rows: slice = slice(None)) -> list[str]:
        """Rows of a data set of text ``[N]``, of fixed or of any length."""
        import h5py

        data = self.dataset(name)
        if h5py.check_string_dtype(data.dtype) is None or len(data.shape) != 1:
            raise FormatError(self.path, None, f"{name} wants a list of names, received {data.dtype} {data.shape}")
        if data.dtype.kind == "O":
            items = [
                item.tobytes().rstrip(b"\0")
                for item in self._heap.arrays(self._references(name, data)[rows], np.dtype("u1"))
            ]
        else:
            items = _whole(data)[rows].tolist()
        return [item.decode("utf-8") for item in items]

    def count(self, name: str) -> int:
        """The length of a data set with one dimension."""
        data = self.dataset(name)
        if len(data.shape) != 1:
            raise FormatError(self.path, None, f"{name} wants one dimension, received shape {data.shape}")
        return data.shape[0]

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
        if not isinstance(inner, np.dtype) or inner.kind not in kinds or inner.itemsize > 8:  # texts have a type, too
            raise FormatError(
                self.path, None, f"{name} wants arrays of {_words(kinds)}, received {inner or data.dtype}"
            )
        self.count(name)
        return self._references(name, data), inner

    def dataset(self, name: str) -> DataSet:
        """A data set of this file, of a size that the file may claim, stored where it says."""
        if name not in self._sets:
            self._sets[name] = self._found(name)
        return self._sets[name]

    def _found(self, name: str) -> DataSet:
        from h5py import h5d, h5o

        for step in _steps(name):
            if step in self._steps:
                continue
            if not self._id.links.exists(step) or not _is_here(self._id, step):
                held = sorted(link.decode("utf-8", "replace") for link in self._id)
                raise FormatError(self.path, None, f"lacks the data set {name}; it holds {held}")
            self._steps.add(step)
        found = h5o.open(self._id, name.encode())
        plan = found.get_create_plist() if isinstance(found, h5d.DatasetID) else None
        if plan is None or plan.get_layout() == h5d.VIRTUAL or plan.get_external_count():
            raise FormatError(self.path, None, f"lacks the data set {name} (a group or a reference to other files)")
        chunks = plan.get_chunk() if plan.get_layout() == h5d.CHUNKED else None
        dtype = found.dtype
        width = REFERENCE.itemsize if dtype.hasobject else dtype.itemsize
        data = DataSet(found, plan, found.shape or (), chunks, width, dtype)
        for shape in filter(None, (data.shape, chunks)):
            check_claim(self.path, None, name, prod(shape) * data.width)
        self._check_chunks(name, data)
        return data

    def _check_chunks(self, name: str, data: DataSet) -> None:
        """Raise FormatError for a packed chunk that unpacks to more than a chunk: the library would follow it."""
        for _, offset, packed, filters in self._stored(name, data):
            if not _UNDONE.issuperset(filters):
                raise FormatError(self.path, offset, f"{name} is packed by filters {filters}; deflate would work")
            if _DEFLATE in filters:
                whole = prod(data.chunks or ()) * data.width + _CHECKSUM_BYTES
                if len(inflate(self._read(offset, packed), whole + 1)) > whole:
                    raise FormatError(self.path, offset, f"{name}: a chunk of {whole} bytes unpacks to more")

    def _references(self, name: str, data: DataSet) -> np.ndarray:
        """What a ragged data set itself holds: where each array lies in the heap, `REFERENCE` ``[N]``."""
        rows = data.shape[0]
        if rows > len(self._content):
            raise FormatError(self.path, None, f"{name} claims {rows} arrays in a file of {len(self._content)}")
        if self._plan.get_sizes() != (8, 8):
            raise FormatError(self.path, None, f"{name}: addresses of 8 bytes are wanted")
        if data.chunks is None and data.id.get_offset() is None and data.id.get_storage_size():
            raise FormatError(self.path, None, f"{name}: its storage layout cannot be read; chunks would work")
        references = np.zeros(data.shape, REFERENCE)
        for start, offset, packed, filters in self._stored(name, data):
            length = data.chunks[0] if data.chunks else rows
            raw = self._read(offset, packed) if not filters else self._unpack(name, data, offset, packed, filters)
            if len(raw) < length * REFERENCE.itemsize:
                raise FormatError(self.path, offset, f"{name}: the references end early")
            references[start : start + length] = np.frombuffer(raw, REFERENCE, length)[: len(references) - start]
        return references

    def _stored(self, name: str, data: DataSet) -> Iterator[tuple[int, int, int, list[int]]]:
        """Where the pieces of a data set lie: first row, offset, bytes, filters to undo."""
        if data.chunks is None:
            if data.id.get_offset() is not None:
                yield 0, data.id.get_offset(), data.id.get_storage_size(), []
            return
        filters = [data.plan.get_filter(i)[0] for i in range(data.plan.get_nfilters())]
        found: list[Any] = []
        data.id.chunk_iter(found.append)
        for chunk in found:
            used = [each for i, each in enumerate(filters) if not chunk.filter_mask >> i & 1]
            yield int(chunk.chunk_offset[0]), int(chunk.byte_offset), int(chunk.size), used

    def _unpack(self, name: str, data: DataSet, offset: int, packed: int, filters: list[int]) -> bytes:
        (rows,) = data.chunks or (0,)
        raw, whole = self._read(offset, packed), rows * data.width
        for each in reversed(filters):
            if each == _DEFLATE:
                raw = inflate(raw, whole + 1)
            elif each == _SHUFFLE:
                raw = np.frombuffer(raw, np.uint8).reshape(-1, rows).T.tobytes()
            else:
                raise FormatError(self.path, offset, f"{name} is packed by filter {each}; deflate would work")
        return raw

    def _read(self, offset: int, size: int) -> bytes:
        return bytes(self._content[offset : offset + size])


def _steps(name: str) -> list[bytes]:
    """The paths that lead to a name: ``a``, ``a/b``, ``a/b/c``."""
    parts = name.encode().split(b"/")
    return [b"/".join(parts[: count + 1]) for count in range(len(parts))]


def _whole(data: DataSet) -> np.ndarray:
    """All of a data set of numbers or of texts of one length."""
    from h5py import h5s

    found = np.empty(data.shape, data.dtype)
    if found.size:
        data.id.read(h5s.ALL, h5s.ALL, found)
    return found


def _native(array: np.ndarray) -> np.ndarray:
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def _words(kinds: str) -> str:
    return "floats" if kinds == "f" else "integers" if kinds == "iu" else "numbers"
