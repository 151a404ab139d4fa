"""HDF5 files as data from strangers: every size is checked before memory is taken, nothing outside is followed."""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from math import prod
from pathlib import Path
from typing import TypeVar

import numpy as np

from spikenet.errors import FormatError, SpikenetError
from spikenet.events.files.bounds import gunzip
from spikenet.events.files.hdf5_heap import REFERENCE, Heap, Stored
from spikenet.events.files.hdf5_library import Library
from spikenet.events.files.hdf5_objects import MAGIC, Objects, superblock
from spikenet.events.files.hdf5_plain import Plain, Unusual
from spikenet.events.files.hdf5_sets import DataSet, joined

Answer = TypeVar("Answer")

# What damage makes h5py raise.
BROKEN = (OSError, EOFError, zlib.error, KeyError, RuntimeError, TypeError, ValueError, OverflowError, MemoryError)


@contextmanager
def open_hdf5(path: Path, content: bytes | None = None) -> Iterator[Hdf5]:
    """Open a ``.h5`` file, or a ``.h5.gz``; all of its ``content``, if that is at hand, is not read again.

    Errors: FormatError for every way in which the file can be broken.
    """
    with readable(path), closing(Hdf5(path, content)) as opened:
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
        with closing(Hdf5(path)) as file:
            return file.names()
    except (FormatError, *BROKEN):
        return None


def attributes(path: Path) -> dict[str, str]:
    """The texts and numbers among the attributes of a file itself. Errors: FormatError for damage."""
    with path.open("rb") as file:
        base = superblock(FileBytes(file.fileno()))
        objects = Objects(path, FileBytes(file.fileno(), base), base)
        return objects.attributes(objects.root)


class FileBytes:
    """The bytes of an open file from ``start`` on. They are read and not mapped: where another process cuts a file
    short, a map kills its reader."""

    def __init__(self, file: int, start: int = 0) -> None:
        self._file, self._start = file, start
        self._size = max(os.fstat(file).st_size - start, 0)

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, part: slice, /) -> bytes:
        start, stop, _ = part.indices(self._size)
        return os.pread(self._file, max(stop - start, 0), self._start + start)


class Hdf5:
    """An open HDF5 file, or one in a ``.gz``.

    Args:
        path: the file.
        content: all of its bytes, if they are at hand.
    """

    def __init__(self, path: Path, content: bytes | None = None) -> None:
        self.path = path
        self._unpacked = gunzip(path) if path.suffix == ".gz" else None
        self._file = -1
        content = content if self._unpacked is None else self._unpacked
        if content is None:
            self._file = os.open(path, os.O_RDONLY)
            base = superblock(FileBytes(self._file))
            self._content: Stored = FileBytes(self._file, base)
        else:
            base = superblock(content)
            self._content = memoryview(content)[base:]
        self._heap = Heap(path, self._content)
        self._by_library: Library | None = None
        self._sets: dict[str, DataSet] = {}
        self._references: dict[str, np.ndarray] = {}  # of data sets that were found in order
        try:
            self._source = self._opened(base)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the file."""
        self._sets.clear()
        if self._by_library is not None:
            self._by_library.close()
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def __contains__(self, name: str) -> bool:
        return self._asked_of(lambda source: source.exists(name.encode().split(b"/")))

    def names(self) -> frozenset[bytes]:
        """What lies at the top, links to elsewhere left out."""
        found = self._asked_of(lambda source: source.names())
        return frozenset(name for name, address in found.items() if address is not None)

    def array(self, name: str, kinds: str) -> np.ndarray:
        """A data set of plain numbers, read whole."""
        data = self.dataset(name)
        if data.inner is not None or data.dtype.kind not in kinds or data.dtype.itemsize > 8:
            raise FormatError(self.path, None, f"{name} wants {_words(kinds)}, received {data.kind}")
        return _native(data.values())

    def strings(self, name: str, rows: slice = slice(None)) -> list[str]:
        """Rows of a data set of text ``[N]``, of fixed or of any length."""
        data = self.dataset(name)
        if not data.text or len(data.shape) != 1:
            raise FormatError(self.path, None, f"{name} wants a list of names, received {data.kind} {data.shape}")
        if data.inner is None:
            items = data.values()[rows].tolist()
        else:
            parts = self._heap.arrays(self._referred(name)[rows], data.inner)
            items = [part.tobytes().rstrip(b"\0") for part in parts]
        return [item.decode("utf-8") for item in items]

    def count(self, name: str) -> int:
        """The length of a data set with one dimension."""
        data = self.dataset(name)
        if len(data.shape) != 1:
            raise FormatError(self.path, None, f"{name} wants one dimension, received shape {data.shape}")
        return data.shape[0]

    def ragged(self, name: str, kinds: str, rows: slice) -> list[np.ndarray]:
        """Rows of a data set that holds an array of its own length in each."""
        data = self.dataset(name)
        inner = data.inner
        if inner is None or data.text or inner.kind not in kinds or inner.itemsize > 8:
            raise FormatError(self.path, None, f"{name} wants arrays of {_words(kinds)}, received {data.kind}")
        return [_native(part) for part in self._heap.arrays(self._referred(name)[rows], inner)]

    def dataset(self, name: str) -> DataSet:
        """A data set of this file, of a size that the file may claim, stored where it says."""
        if name not in self._sets:
            found = self._asked_of(lambda source: source.find(name, name.encode().split(b"/")))
            if found is None:
                held = sorted(link.decode("utf-8", "replace") for link in self.names())
                raise FormatError(self.path, None, f"lacks the data set {name} in the file itself; it holds {held}")
            self._sets[name] = found
        return self._sets[name]

    def _referred(self, name: str) -> np.ndarray:
        """Where each array of a data set lies in the heap, `REFERENCE` ``[N]``."""
        if name not in self._references:
            data = self.dataset(name)
            if prod(data.shape) > len(self._content):
                raise FormatError(
                    self.path, None, f"{name} claims {data.shape} arrays in a file of {len(self._content)} bytes"
                )
            self.count(name)
            self._references[name] = joined(self.path, self._content, data, REFERENCE)
        return self._references[name]

    def _opened(self, base: int) -> Plain | Library:
        try:
            return Plain(self.path, self._content, base)
        except Unusual:
            return self.library()

    def _asked_of(self, ask: Callable[[Plain | Library], Answer]) -> Answer:
        """What the file's own parser says, and where that does not know, the library."""
        try:
            return ask(self._source)
        except Unusual:
            return ask(self.library())

    def library(self) -> Library:
        """The library's view of the file, for what is stored in a way that only it knows."""
        if self._by_library is None:
            self._by_library = Library(self.path, self._content, self._unpacked)
        return self._by_library


def _native(array: np.ndarray) -> np.ndarray:
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def _words(kinds: str) -> str:
    return "floats" if kinds == "f" else "integers" if kinds == "iu" else "numbers"
