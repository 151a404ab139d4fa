"""The global heap of an HDF5 file, where arrays of any length lie (HDF5 File Format Specification, section III.E).

The library follows what a broken heap says: it clears gigabytes for a length that cannot be, and a wrong size in the
heap keeps it busy for ever. This reader takes nothing that the file has not, and passes over every byte once.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Protocol

import numpy as np

from spikenet.errors import FormatError

REFERENCE = np.dtype([("count", "<u4"), ("address", "<u8"), ("index", "<u4")])
_HEADER = 16  # of a collection and of an object in it


class Stored(Protocol):
    """The bytes of a file: a memoryview, or read when they are asked for."""

    def __len__(self) -> int: ...

    def __getitem__(self, part: slice, /) -> bytes | memoryview: ...


class Heap:
    """The arrays that references (how many numbers, address of a collection, index of an object in it) lead to.

    Args:
        path: the file, for messages.
        content: its bytes, from where addresses count.
    """

    def __init__(self, path: Path, content: Stored) -> None:
        self._path, self._content = path, content
        self._objects: dict[int, dict[int, tuple[int, int]]] = {}
        self._read = 0
        self._last: tuple[int, bytes | memoryview] = -1, b""  # the collection that was read last, and where it begins

    def arrays(self, references: np.ndarray, dtype: np.dtype) -> list[np.ndarray]:
        """The array of each reference, as a view of the file. Errors: FormatError where a reference leads nowhere."""
        claimed = int(references["count"].sum(dtype=np.int64)) * dtype.itemsize
        if claimed > len(self._content):
            raise FormatError(self._path, None, f"arrays claim {claimed} bytes in a file of {len(self._content)}")
        return [self._array(count, address, index, dtype) for count, address, index in references.tolist()]

    def _array(self, count: int, address: int, index: int, dtype: np.dtype) -> np.ndarray:
        if not count:
            return np.empty(0, dtype)
        offset, size = self._collection(address).get(index, (address, -1))
        if size != count * dtype.itemsize:
            raise FormatError(self._path, offset, f"no array of {count} {dtype} is where one is announced")
        start, last = self._last
        if start != address:
            return np.frombuffer(self._content[offset : offset + size], dtype, count)
        return np.frombuffer(last, dtype, count, offset - address)

    def _collection(self, address: int) -> dict[int, tuple[int, int]]:
        """Offset and size of every object in a collection, by index."""
        if address in self._objects:
            return self._objects[address]
        head = bytes(self._content[address : address + _HEADER])
        size = int.from_bytes(head[8:], "little")
        self._read += size
        # Collections do not overlap, so that all of them together are no longer than the file.
        if len(head) < _HEADER or head[:5] != b"GCOL\1" or self._read > len(self._content):
            raise FormatError(self._path, address, "no collection of the global heap is where one is announced")
        found: dict[int, tuple[int, int]] = {}
        collection = self._content[address : address + size]
        self._last = address, collection
        offset, stop = address + _HEADER, address + len(collection)
        while offset + _HEADER <= stop:
            index, length = struct.unpack_from("<HxxxxxxQ", collection, offset - address)
            if not index:  # what is free; nothing follows it
                break
            if offset + _HEADER + length > stop:
                raise FormatError(self._path, offset, f"an object of {length} bytes leaves its collection")
            found[index] = offset + _HEADER, length
            offset += _HEADER + -(-length // 8) * 8
        self._objects[address] = found
        return found
