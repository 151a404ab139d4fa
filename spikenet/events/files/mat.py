"""MATLAB level 5 files (MathWorks, "MAT-File Format"): numeric arrays by name, every length checked before it is used.

After a header of 128 bytes come elements: a tag (type and length, 4 bytes each; or both in 4 bytes, with up to 4 bytes
of data after them) and the data, filled up to 8 bytes. A matrix is an element of elements: flags, dimensions, name,
numbers, column after column. A packed element holds one matrix as a zlib stream.
"""

from __future__ import annotations

import mmap
import struct
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from spikenet.errors import DataError, FormatError
from spikenet.events.files.bounds import check_claim, inflate

MAGIC = b"MATLAB 5.0 MAT-file"
_HEADER = 128
_MATRIX, _PACKED = 14, 15
_NAMED = 1 << 12  # enough of a matrix for its flags, dimensions and name
_NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_NUMERIC = range(6, 16)  # classes of arrays: double, single, eight kinds of integers
_COMPLEX = 0x800


class _Broken(Exception):
    """An element that does not hold what it says."""


def read_mat(path: Path, wanted: Iterable[str]) -> dict[str, np.ndarray]:
    """The arrays of these names, in the dtype they are stored in and the shape they have in MATLAB (2 dimensions).

    Errors: FormatError for a broken file, a missing name, and what is no array of real numbers.
    """
    content = _content(path)
    found = {}
    for offset, name, matrix in _matrices(path, content):
        if name in wanted:
            try:
                found[name] = _numbers(path, offset, matrix)
            except _BROKEN as error:
                raise FormatError(path, offset, f"{name}: {error}") from error
    if missing := [name for name in wanted if name not in found]:
        raise FormatError(path, None, f"lacks the arrays {missing}")
    return found


def names(path: Path, head: bytes) -> set[str]:
    """The names in a MATLAB file; none for any other file and for a broken one."""
    if not head.startswith(MAGIC):
        return set()
    try:
        return {name for _, name, _ in _matrices(path, _content(path))}
    except DataError:
        return set()


_BROKEN = (_Broken, zlib.error, struct.error, ValueError)


class _Matrix:
    """A matrix element, packed or not, of which as much is unpacked as is asked for."""

    def __init__(self, content: memoryview, order: str) -> None:
        self.order = order
        kind, length = _tag(content, order)
        self._packed = content[8 : 8 + length] if kind == _PACKED else None
        head = content[:8] if self._packed is None else inflate(self._packed, 8)
        self.kind, self.length = _tag(memoryview(head), order)
        self._content = content

    def first(self, size: int) -> memoryview:
        """Up to ``size`` bytes after the matrix's own tag."""
        size = min(size, self.length)
        if self._packed is None:
            return self._content[8 : 8 + size]
        # One byte more than wanted: a stream that ends here is read to its end, where its checksum stands.
        return memoryview(inflate(self._packed, 9 + size))[8 : 8 + size]


def _content(path: Path) -> memoryview:
    try:
        with path.open("rb") as file:
            content = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    except (OSError, ValueError) as error:
        raise FormatError(path, None, f"not a readable MATLAB file: {error}") from error
    if len(content) < _HEADER or bytes(content[126:128]) not in (b"IM", b"MI"):
        raise FormatError(path, 126, "a MATLAB level 5 header of 128 bytes wants to end in IM or MI")
    return content


def _matrices(path: Path, content: memoryview) -> Iterator[tuple[int, str, _Matrix]]:
    """Offset, name and content of every matrix."""
    order = "<" if bytes(content[126:128]) == b"IM" else ">"
    offset = _HEADER
    while offset < len(content):
        try:
            kind, length = _tag(content[offset:], order)
            if 8 + length > len(content) - offset:
                raise _Broken(f"an element of {length} bytes, {len(content) - offset - 8} are left")
            matrix = _Matrix(content[offset:], order)
            if matrix.kind == _MATRIX:
                yield offset, _name(matrix), matrix
        except _BROKEN as error:
            raise FormatError(path, offset, f"broken element: {error}") from error
        offset += 8 + (length if kind == _PACKED else _filled(length))


def _name(matrix: _Matrix) -> str:
    rest = matrix.first(_NAMED)
    for _ in range(2):  # flags and dimensions
        _, _, rest = _element(rest, matrix.order)
    _, name, _ = _element(rest, matrix.order)
    return bytes(name).decode("latin-1")


def _numbers(path: Path, offset: int, matrix: _Matrix) -> np.ndarray:
    """The array of real numbers that a matrix holds."""
    check_claim(path, offset, "a matrix", matrix.length)
    content = matrix.first(matrix.length)
    if len(content) < matrix.length:
        raise _Broken(f"{matrix.length} bytes are announced, {len(content)} are there")
    _, flags, rest = _element(content, matrix.order)
    _, sizes, rest = _element(rest, matrix.order)
    _, _, rest = _element(rest, matrix.order)
    flag, shape = struct.unpack(f"{matrix.order}I", flags[:4])[0], np.frombuffer(sizes, f"{matrix.order}i4").tolist()
    if flag & 0xFF not in _NUMERIC or flag & _COMPLEX or len(shape) != 2 or min(shape) < 0:
        raise _Broken(f"a real array of 2 dimensions is wanted, received class {flag & 0xFF}, shape {shape}")
    kind, data, _ = _element(rest, matrix.order)
    if kind not in _NUMBERS:
        raise _Broken(f"numbers are wanted, received data of type {kind}")
    dtype = np.dtype(_NUMBERS[kind])
    stored = np.dtype(matrix.order + _NUMBERS[kind])
    if len(data) != shape[0] * shape[1] * dtype.itemsize:
        raise _Broken(f"shape {shape} wants {shape[0] * shape[1]} numbers of {dtype.itemsize} bytes in {len(data)}")
    values = np.frombuffer(data, stored).astype(dtype, copy=False)
    return values.reshape(shape, order="F")


def _tag(content: memoryview, order: str) -> tuple[int, int]:
    if len(content) < 8:
        raise _Broken("its tag is cut off")
    kind, length = struct.unpack(f"{order}II", content[:8])
    return kind, length


def _element(content: memoryview, order: str) -> tuple[int, memoryview, memoryview]:
    """Type and data of the element that comes first, and what comes after it."""
    kind, length = _tag(content, order)
    if kind >> 16:  # the small form
        kind, length = kind & 0xFFFF, kind >> 16
        if length > 4:
            raise _Broken(f"a small element of {length} bytes")
        return kind, content[4 : 4 + length], content[8:]
    if length > len(content) - 8:
        raise _Broken(f"an element of {length} bytes, {len(content) - 8} are left")
    return kind, content[8 : 8 + length], content[8 + _filled(length) :]


def _filled(length: int) -> int:
    """A length filled up to 8 bytes."""
    return -(-length // 8) * 8
