"""The attributes of an object that has many: a fractal heap, and a B-tree of version 2 that lists what lies in it
(HDF5 File Format Specification, III.A.2 and III.G). Each node of the tree and each entry is looked at once.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from spikenet.events.files.hdf5_heap import Stored

LARGEST = 65536  # bytes of an attribute in such a heap, at most
_RECORD = 17  # bytes: where in the heap 8, flags 1, order 4, hash 4
_NODE_HEAD = 6  # signature, version, type
_OF_ATTRIBUTES = 8  # the type of a tree that lists them by name
_SHARED = 2


def dense(content: Stored, heap: int, tree: int, most: int) -> Iterator[tuple[int, memoryview]]:
    """Place and bytes of the first ``most`` attributes, of which none is longer than `LARGEST`.

    Args:
        content: the file, from where addresses count.
        heap: the address of the heap.
        tree: the address of the tree.
        most: how many, at most.

    Errors: struct.error, ValueError, IndexError or OverflowError where something leads out of the file or is not what
    it should be.
    """
    blocks, width = _blocks(content, heap)
    listed = 0
    for place in _records(content, tree):
        record = _exactly(content, place, _RECORD)
        kind, where, flags = record[0], bytes(record[1:8]), record[8]
        if listed == most:
            return
        listed += 1
        if kind or flags & _SHARED:  # stored in yet another way
            continue
        offset, length = (int.from_bytes(part, "little") for part in (where[:width], where[width:]))
        for first, size, address in blocks:
            if first <= offset and offset + length <= first + size and length <= LARGEST:
                at = address + offset - first
                yield at, memoryview(content[at : at + length])
                break
        else:
            raise ValueError(f"an attribute of {length} bytes at {offset} of a heap lies outside its blocks")


def _blocks(content: Stored, heap: int) -> tuple[list[tuple[int, int, int]], int]:
    """Offset in the heap, size and address of each block, and the bytes that an offset takes."""
    if bytes(content[heap : heap + 5]) != b"FRHP\0":
        raise ValueError("no heap is where one is announced")
    (filters,) = struct.unpack("<H", _exactly(content, heap + 7, 2))
    columns, size, largest, bits, _, root, rows = struct.unpack("<HQQHHQH", _exactly(content, heap + 110, 32))
    width = -(-bits // 8)
    if filters or not 1 <= width <= 6 or not size or columns > 64 or rows > 64:
        raise ValueError("a heap is packed or of an unusual form")
    if not rows:
        return [(0, size, root)], width
    if bytes(content[root : root + 5]) != b"FHIB\0":
        raise ValueError("no list of a heap's blocks is where one is announced")
    found, place, offset = [], root + 13 + width, 0
    for row in range(rows):
        each = size << max(row - 1, 0)
        if each > largest:
            break  # further blocks are lists themselves, half a megabyte of attributes away
        for address in struct.unpack(f"<{columns}Q", _exactly(content, place, 8 * columns)):
            found.append((offset, each, address))
            offset += each
        place += 8 * columns
    return found, width


def _records(content: Stored, tree: int) -> Iterator[int]:
    """Where each record of a tree is, as far as trees of one level below the root go."""
    if bytes(content[tree : tree + 6]) != b"BTHD\0" + bytes([_OF_ATTRIBUTES]):
        raise ValueError("no list of attributes is where one is announced")
    _, size, depth, _, root, count = struct.unpack("<IHHHQH", _exactly(content, tree + 6, 20))
    if depth > 1 or size != _RECORD:
        raise ValueError(f"a list of attributes of depth {depth} with records of {size} bytes")
    leaves = [(root, count)] if not depth else list(_children(content, root, count))
    if depth:
        yield from range(root + _NODE_HEAD, root + _NODE_HEAD + count * _RECORD, _RECORD)
    for address, held in leaves:
        if bytes(content[address : address + 4]) != b"BTLF" or address + _NODE_HEAD + held * _RECORD > len(content):
            raise ValueError("no leaf of a tree is where one is announced")
        yield from range(address + _NODE_HEAD, address + _NODE_HEAD + held * _RECORD, _RECORD)


def _children(content: Stored, root: int, count: int) -> Iterator[tuple[int, int]]:
    """Address of each leaf and the number of records in it, which takes one byte in nodes of the usual size."""
    if bytes(content[root : root + 4]) != b"BTIN":
        raise ValueError("no node of a tree is where one is announced")
    yield from struct.iter_unpack("<QB", _exactly(content, root + _NODE_HEAD + count * _RECORD, (count + 1) * 9))


def _exactly(content: Stored, place: int, length: int) -> bytes | memoryview:
    part = content[place : place + length]
    if len(part) < length:
        raise ValueError(f"{length} bytes are announced and {len(part)} found")
    return part
