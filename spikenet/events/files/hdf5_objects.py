"""The objects of an HDF5 file: their headers, and the attributes that these hold (HDF5 File Format Specification,
II.A to II.C, IV.A).

The library follows what a broken header says, for ever or out of the file. This reader takes nothing that the file has
not, and passes over every byte once.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np

from spikenet.errors import FormatError
from spikenet.events.files.hdf5_dense import dense
from spikenet.events.files.hdf5_heap import REFERENCE, Heap, Stored

MAGIC = b"\x89HDF\r\n\x1a\n"
_LARGEST = 1 << 22  # bytes in the header of an object; a thousandth is usual
_ATTRIBUTE, _CONTINUATION, _ATTRIBUTES = 0x0C, 0x10, 0x15  # kinds of message
NOWHERE = (1 << 64) - 1
_SHARED = 2  # the flag of a message that lies elsewhere
_INTEGER, _FLOAT, _STRING, _VARIABLE = 0, 1, 3, 9  # classes of datatype
_FLOATS = {(5, 10): "f2", (8, 23): "f4", (11, 52): "f8"}  # bits of exponent and mantissa
SHORT = (struct.error, ValueError, IndexError, OverflowError)  # what too few bytes raise
_MOST, _LONGEST = 256, 65535  # attributes that are read of an object, bytes in one


class Message(NamedTuple):
    """A message of a header, and where in the file its body begins."""

    kind: int
    shared: bool
    place: int
    body: memoryview


class Objects:
    """The objects of a file.

    Args:
        path: the file, for messages.
        content: its bytes, from the superblock on.
        base: where the superblock is.

    Attributes:
        version: of the superblock.
        root: the address of the root group.

    Errors: FormatError, with an offset, for whatever leads nowhere.
    """

    def __init__(self, path: Path, content: Stored, base: int = 0) -> None:
        self._path, self._base, self._content = path, base, content
        self._heap = Heap(path, content)
        self.version = version = self.number(8, 1)
        if version > 3:
            raise FormatError(path, base + 8, f"version {version} of a superblock is not known")
        if {self.number(place, 1) for place in ((13, 14) if version < 2 else (9, 10))} != {8}:
            raise FormatError(path, base + 9, "addresses and lengths of 8 bytes are wanted")
        self.root = self.number((64, 68, 36, 36)[version], 8)

    def messages(self, address: int) -> Iterator[Message]:
        """The messages in the header of an object."""
        newer = bytes(self._content[address : address + 4]) == b"OHDR"
        head, blocks = self._newer(address) if newer else self._older(address)
        passed = 0
        for start, stop in blocks:
            passed += stop - start
            if stop > len(self._content) or passed > min(_LARGEST, len(self._content)):
                raise self.broken(start, f"a block of {stop - start} bytes is more than the header of an object takes")
            block, place = memoryview(self._content[start:stop]), start
            while place + head <= stop:
                kind, size, flags = struct.unpack_from("<BHB" if newer else "<HHB", block, place - start)
                place += head + size
                if place > stop:
                    raise self.broken(place - size, f"a message of {size} bytes leaves its block")
                if kind == _CONTINUATION:
                    blocks.append(self._continuation(place - size, newer))
                else:
                    body = block[place - size - start : place - start]
                    yield Message(kind, bool(flags & _SHARED), place - size, body)

    def attributes(self, address: int) -> dict[str, str]:
        """The texts and numbers among the first 256 attributes of an object, but for long ones."""
        found: dict[str, str] = {}
        place = address
        try:
            for at, body in islice(self._attributes(address), _MOST):
                place = at
                name, text = self._attribute(body)
                if text is not None:
                    found[name] = text
        except FormatError:
            raise
        except SHORT as error:
            raise self.broken(place, f"an attribute cannot be read: {error}") from error
        return found

    def _attributes(self, address: int) -> Iterator[tuple[int, memoryview]]:
        """Place and bytes of each attribute."""
        for kind, shared, place, body in self.messages(address):
            if kind == _ATTRIBUTE and not shared:
                yield place, body
            elif kind == _ATTRIBUTES:
                numbered = 2 if body[1] & 1 else 0
                heap, tree = struct.unpack_from("<QQ", body, 2 + numbered)
                if heap != NOWHERE:
                    yield from dense(self._content, heap, tree, _MOST)

    def _older(self, address: int) -> tuple[int, list[tuple[int, int]]]:
        """The bytes before each message and the first block of a header of version 1."""
        if self.number(address, 1) != 1:
            raise self.broken(address, "no header of an object is where one is announced")
        return 8, [(address + 16, address + 16 + self.number(address + 8, 4))]

    def _newer(self, address: int) -> tuple[int, list[tuple[int, int]]]:
        """The same of version 2."""
        flags = self.number(address + 5, 1)
        width, start = 1 << (flags & 3), address + 6 + (16 if flags & 0x20 else 0) + (4 if flags & 0x10 else 0)
        start += width
        return 6 if flags & 4 else 4, [(start, start + self.number(start - width, width))]

    def _continuation(self, place: int, newer: bool) -> tuple[int, int]:
        """Where a block begins and ends that goes on with a header; one of version 2 has a signature and a checksum."""
        start, length = self.number(place, 8), self.number(place + 8, 8)
        if newer and bytes(self._content[start : start + 4]) != b"OCHK":
            raise self.broken(place, "no block of a header is where one is announced")
        return (start + 4, start + max(length - 4, 4)) if newer else (start, start + length)

    def _attribute(self, body: memoryview) -> tuple[str, str | None]:
        """Name and value. Errors: struct.error or ValueError where the body is too short."""
        version, shared, *sizes = struct.unpack_from("<BBHHH", body)
        if not 1 <= version <= 3:
            raise ValueError(f"version {version} is not known")
        place, parts = 9 if version == 3 else 8, []
        for size in sizes:
            parts.append(body[place : place + size])
            place += -(-size // 8) * 8 if version == 1 else size
        name, datatype, space = parts
        single = not shared and _is_scalar(space)
        text = self._text(datatype, body[place:]) if single else None
        return _until_zero(bytes(name)).decode("utf-8", "replace"), text

    def _text(self, datatype: memoryview, data: memoryview) -> str | None:
        """A value of a datatype as text, None for one that is neither text nor number."""
        about, low, high, _, size = struct.unpack_from("<BBBBI", datatype)
        kind = about & 15
        if kind == _VARIABLE and low & 15 == 1:
            reference = np.frombuffer(data, REFERENCE, 1)
            if reference["count"][0] > _LONGEST:
                return None
            (text,) = self._heap.arrays(reference, np.dtype("u1"))
            return _until_zero(text.tobytes()).decode("utf-8" if high & 15 else "latin-1", "replace")
        if size > _LONGEST:
            return None
        if len(data) < size:
            raise ValueError(f"{size} bytes are announced and {len(data)} found")
        if kind == _STRING:
            return _unpadded(bytes(data[:size]), low & 15).decode("utf-8" if low >> 4 else "latin-1", "replace")
        dtype = number_type(kind, low, size, datatype[8:])
        return None if dtype is None else str(np.frombuffer(data, dtype, 1)[0])

    def number(self, place: int, width: int) -> int:
        """A whole number in the file."""
        if place + width > len(self._content):
            raise self.broken(place, f"a number is announced behind the end, at {len(self._content)}")
        return int.from_bytes(self._content[place : place + width], "little")

    def broken(self, place: int, reason: str) -> FormatError:
        """What to raise for damage at an address."""
        return FormatError(self._path, self._base + place, f"HDF5: {reason}")


def superblock(content: Stored) -> int:
    """Where the superblock is: at 0, 512 or twice as far each time, behind what users put before it."""
    place = 0
    while place < len(content) and bytes(content[place : place + 8]) != MAGIC:
        place = place * 2 or 512
    return place


def _is_scalar(space: memoryview) -> bool:
    version, rank, _, kind = struct.unpack_from("<BBBB", space)
    return rank == 0 and (version == 1 or (version == 2 and kind == 0))


def number_type(kind: int, flags: int, size: int, properties: memoryview) -> np.dtype | None:
    """The dtype of a whole or a real number that fills its bytes in a usual way."""
    order = ">" if flags & 1 else "<"
    offset, bits = struct.unpack_from("<HH", properties) if kind in (_INTEGER, _FLOAT) else (0, 0)
    if offset or bits != 8 * size:
        return None
    if kind == _INTEGER:
        return np.dtype(f"{order}{'i' if flags & 8 else 'u'}{size}") if size in (1, 2, 4, 8) else None
    _, exponent, _, mantissa = struct.unpack_from("<BBBB", properties, 4)
    form = _FLOATS.get((exponent, mantissa))
    return np.dtype(order + form) if form == f"f{size}" and not flags & 0x40 else None


def _unpadded(text: bytes, padding: int) -> bytes:
    """A text of fixed length: ended by a zero (0), filled up with zeros (1) or with spaces (2)."""
    return _until_zero(text) if padding == 0 else text.rstrip(b" " if padding == 2 else b"\0")


def _until_zero(text: bytes) -> bytes:
    return text.split(b"\0", 1)[0]
