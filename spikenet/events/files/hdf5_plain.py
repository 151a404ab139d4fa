"""Data sets in files as the library writes them by default: a superblock of version 0, groups that are tables of
symbols, chunks in a B-tree of version 1 (HDF5 File Format Specification, II.A, III.A.1, III.B to III.D, IV.A).
The library would take several times as long to find one. What is newer or rarer is `Unusual` and left to it. Every node
is looked at once, and nothing is taken that the file has not.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np

from spikenet.events.files.hdf5_heap import REFERENCE, Stored
from spikenet.events.files.hdf5_objects import NOWHERE, SHORT, Message, Objects, number_type
from spikenet.events.files.hdf5_sets import DEFLATE, SHUFFLE, DataSet, Piece, check_size, joined

_SPACE, _LINKS, _TYPE, _LINK, _EXTERNAL, _LAYOUT, _FILTERS, _TABLE = 0x01, 0x02, 0x03, 0x06, 0x07, 0x08, 0x0B, 0x11
_WANTED = {_SPACE, _LINKS, _TYPE, _LINK, _EXTERNAL, _LAYOUT, _FILTERS, _TABLE}  # messages that say what an object is
_COMPACT, _CONTIGUOUS, _CHUNKED = 0, 1, 2
_GROUP_NODE, _CHUNK_NODE = 0, 1  # kinds of node
_NODE_HEAD, _ENTRY, _NAME = 24, 40, 8
_STRING, _VARIABLE = 3, 9  # classes of datatype
_SYMBOLIC = 2  # an entry that is a link to a name


class Unusual(Exception):
    """What is stored in a way that only the library knows."""


class Plain:
    """The groups and data sets of a file.

    Args:
        path: the file, for messages.
        content: its bytes, from the superblock on.
        base: where the superblock is.

    Errors: FormatError, with an offset, for damage; Unusual for another kind of file.
    """

    def __init__(self, path: Path, content: Stored, base: int) -> None:
        if bytes(content[8:9]) != b"\0":
            raise Unusual
        self._path, self._content = path, content
        self._objects = Objects(path, content, base)
        if self._objects.number(24, 8) != base:
            raise Unusual
        end = self._objects.number(40, 8)
        if end > base + len(content):
            raise self._objects.broken(40, f"{end} bytes are announced and {base + len(content)} found")
        self._groups: dict[int, dict[bytes, int | None]] = {}
        self._passed = 0  # bytes of nodes: together no more than the file has, since each is read once

    def names(self) -> dict[bytes, int | None]:
        """The address of each object at the top; None for a link to a name."""
        return self._group(self._objects.root)

    def exists(self, steps: list[bytes]) -> bool:
        """Whether there is something at the end of these steps."""
        return self._address(steps) is not None

    def find(self, name: str, steps: list[bytes]) -> DataSet | None:
        """A data set that lies in the file itself; None where there is none of this name."""
        address = self._address(steps)
        if address is None:
            return None
        found = self._messages(address)
        try:
            return None if _LAYOUT not in found else self._dataset(name, found)
        except SHORT as error:
            raise self._objects.broken(address, f"{name} cannot be read: {error}") from error

    def _address(self, steps: list[bytes]) -> int | None:
        address: int | None = self._objects.root
        for step in steps:
            if address is None:
                return None
            address = self._group(address).get(step)
        return address

    def _messages(self, address: int) -> dict[int, Message]:
        """The messages of an object that say what it is."""
        found: dict[int, Message] = {}
        for message in self._objects.messages(address):
            if message.kind not in _WANTED:
                continue
            if message.shared or message.kind in (_LINKS, _LINK, _EXTERNAL):
                raise Unusual
            if message.kind in found:
                raise self._objects.broken(message.place, f"a second message of kind {message.kind}")
            found[message.kind] = message
        return found

    # Groups.

    def _group(self, address: int) -> dict[bytes, int | None]:
        if address not in self._groups:
            table = self._messages(address).get(_TABLE)
            self._groups[address] = {} if table is None else self._entries(table)
        return self._groups[address]

    def _entries(self, table: Message) -> dict[bytes, int | None]:
        """Names and addresses of a table of symbols."""
        if len(table.body) < 16:
            raise self._objects.broken(table.place, "a table of symbols ends early")
        tree, heap = struct.unpack_from("<QQ", table.body)
        names = self._names(heap)
        found: dict[bytes, int | None] = {}
        for child, _ in self._leaves(tree, _GROUP_NODE, _NAME):
            head = self._part(child, 8, b"SNOD\1")
            (count,) = struct.unpack_from("<H", head, 6)
            for where, object_at, kind in struct.iter_unpack("<QQI20x", self._node(child + 8, count * _ENTRY)):
                stop = names.find(b"\0", where)
                if where >= len(names) or stop < 0:
                    raise self._objects.broken(child, f"a name at {where} of {len(names)} bytes of names")
                found[names[where:stop]] = None if kind == _SYMBOLIC else object_at
        return found

    def _names(self, heap: int) -> bytes:
        size, place = struct.unpack("<Q8xQ", self._part(heap, 32, b"HEAP\0")[8:])
        return self._part(place, size)

    # Nodes of trees.

    def _leaves(self, root: int, kind: int, width: int) -> Iterator[tuple[int, bytes]]:
        """The children of a tree's lowest nodes, and the key of ``width`` bytes before each."""
        waiting: list[tuple[int, int | None]] = [(root, None)]
        seen: set[int] = set()
        while waiting:
            address, wanted = waiting.pop()
            if address in seen:
                raise self._objects.broken(address, "a tree leads back to one of its nodes")
            seen.add(address)
            found, level, used = struct.unpack_from("<BBH", self._part(address, _NODE_HEAD, b"TREE"), 4)
            if found != kind or (wanted is not None and level != wanted):
                raise self._objects.broken(address, f"a node of kind {found} and level {level} is out of its place")
            step = width + 8
            pairs = self._node(address + _NODE_HEAD, used * step)
            for start in range(0, used * step, step):
                child = int.from_bytes(pairs[start + width : start + step], "little")
                if level:
                    waiting.append((child, level - 1))
                else:
                    yield child, pairs[start : start + width]

    def _node(self, place: int, size: int) -> bytes:
        """What follows the head of a node."""
        self._passed += size
        if self._passed > len(self._content):
            raise self._objects.broken(place, "nodes of trees overlap")
        return self._part(place, size)

    def _part(self, place: int, size: int, begins: bytes = b"") -> bytes:
        """Bytes of the file, all of them."""
        if place + size > len(self._content):
            raise self._objects.broken(place, f"{size} bytes are announced at {place} of {len(self._content)}")
        part = bytes(self._content[place : place + size])
        if not part.startswith(begins):
            raise self._objects.broken(place, f"{begins!r} is wanted, received {part[: len(begins)]!r}")
        return part

    # Data sets.

    def _dataset(self, name: str, found: dict[int, Message]) -> DataSet:
        if not {_SPACE, _TYPE} <= found.keys():
            raise Unusual
        shape = _shape(found[_SPACE].body)
        dtype, inner, text = _element(found[_TYPE].body)
        layout = found[_LAYOUT]
        chunks = _chunks(layout.body, len(shape), dtype.itemsize)
        check_size(self._path, name, dtype.itemsize, shape, chunks)
        packed = _filters(found[_FILTERS].body) if _FILTERS in found else []
        pieces = self._pieces(layout, shape, chunks, dtype.itemsize, packed)
        data = DataSet(name, shape, chunks, dtype, inner, text, pieces, lambda: values())
        values = partial(joined, self._path, self._content, data, dtype)
        return data

    def _pieces(
        self, layout: Message, shape: tuple[int, ...], chunks: tuple[int, ...] | None, width: int, filters: list[int]
    ) -> list[Piece]:
        """Where all of a data set lies; one of which a part lies nowhere has a value to fill it with: Unusual."""
        kind = layout.body[1]
        if kind == _COMPACT:
            return [Piece(0, layout.place + 4, struct.unpack_from("<H", layout.body, 2)[0], ())]
        (place,) = struct.unpack_from("<Q", layout.body, 3 if kind == _CHUNKED else 2)
        if place == NOWHERE:
            if 0 in shape:
                return []
            raise Unusual
        if chunks is None:
            (size,) = struct.unpack_from("<Q", layout.body, 10)
            return [Piece(0, place, size, ())]
        pieces = list(self._chunk_pieces(place, filters))
        if {piece.row for piece in pieces} != set(range(0, shape[0], chunks[0])) or len(pieces) > shape[0]:
            raise Unusual
        return pieces

    def _chunk_pieces(self, tree: int, filters: list[int]) -> Iterator[Piece]:
        """The chunks of a data set of one dimension."""
        for place, key in self._leaves(tree, _CHUNK_NODE, 24):
            size, skipped, row = struct.unpack_from("<IIQ", key)
            yield Piece(row, place, size, tuple(each for n, each in enumerate(filters) if not skipped >> n & 1))


def _shape(body: memoryview) -> tuple[int, ...]:
    version, rank, _, kind = struct.unpack_from("<BBBB", body)
    if version not in (1, 2) or (version == 2 and kind == 2):  # 2: no elements at all
        raise Unusual
    return struct.unpack_from(f"<{rank}Q", body, 8 if version == 1 else 4)


def _element(body: memoryview) -> tuple[np.dtype, np.dtype | None, bool]:
    """What is stored for an element, what it refers to, and whether it is a text."""
    about, low, _, _, size = struct.unpack_from("<BBBBI", body)
    kind = about & 15
    if kind == _VARIABLE and size == REFERENCE.itemsize:
        if low & 15 == 1:
            return REFERENCE, np.dtype("u1"), True
        inner, deeper, text = _element(body[8:])
        if low & 15 == 0 and deeper is None and not text:
            return REFERENCE, inner, False
    if kind == _STRING and size:
        return np.dtype(f"S{size}"), None, True
    dtype = number_type(kind, low, size, body[8:])
    if dtype is None:
        raise Unusual
    return dtype, None, False


def _chunks(body: memoryview, rank: int, width: int) -> tuple[int, ...] | None:
    """The shape of a chunk; None for what lies in one piece."""
    version, kind = struct.unpack_from("<BB", body)
    if version != 3 or kind not in (_COMPACT, _CONTIGUOUS, _CHUNKED):
        raise Unusual
    if kind != _CHUNKED:
        return None
    sizes = struct.unpack_from(f"<{body[2]}I", body, 11)
    if rank != 1 or len(sizes) != 2 or sizes[1] != width or not sizes[0]:
        raise Unusual
    return sizes[:1]


def _filters(body: memoryview) -> list[int]:
    version, count = struct.unpack_from("<BB", body)
    if version != 1:
        raise Unusual
    found, place = [], 8
    for _ in range(count):
        each, name, _, values = struct.unpack_from("<HHHH", body, place)
        if each not in (DEFLATE, SHUFFLE):
            raise Unusual
        found.append(each)
        place += 8 + -(-name // 8) * 8 + 4 * (values + values % 2)
    return found
