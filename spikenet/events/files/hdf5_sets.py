"""A data set of an HDF5 file as it lies there, whoever found it, and its pieces unpacked."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from pathlib import Path
from typing import NamedTuple

import numpy as np

from spikenet.errors import FormatError
from spikenet.events.files.bounds import check_claim, inflate
from spikenet.events.files.hdf5_heap import Stored

DEFLATE, SHUFFLE = 1, 2  # filters


class Piece(NamedTuple):
    """Where a part of a data set lies: its first row, offset, bytes, and the filters to undo, the last one first."""

    row: int
    offset: int
    size: int
    filters: tuple[int, ...]


class DataSet(NamedTuple):
    """A data set: how it is stored, and what its elements are.

    ``dtype`` is that of an element as it is stored; ``inner`` is that of the arrays of their own length that the
    elements refer to (bytes for texts), None for plain ones. ``values`` reads all of a plain one.
    """

    name: str
    shape: tuple[int, ...]
    chunks: tuple[int, ...] | None
    dtype: np.dtype
    inner: np.dtype | None
    text: bool
    pieces: list[Piece]
    values: Callable[[], np.ndarray]

    @property
    def kind(self) -> str:
        """In words, for messages."""
        return "texts" if self.text else f"arrays of {self.inner}" if self.inner is not None else str(self.dtype)


def check_size(path: Path, name: str, width: int, *shapes: tuple[int, ...] | None) -> None:
    """Raise FormatError where a data set, or a chunk of it, claims more than its file may hold."""
    for shape in shapes:
        if shape:
            check_claim(path, None, name, prod(shape) * width)


def unpacked(path: Path, content: Stored, name: str, piece: Piece, rows: int, width: int) -> bytes:
    """The ``rows`` elements of ``width`` bytes in a piece. Errors: FormatError for fewer, or more, or other filters."""
    raw, whole = bytes(content[piece.offset : piece.offset + piece.size]), rows * width
    for each in reversed(piece.filters):
        if each == DEFLATE:
            raw = inflate(raw, whole + 1)
        elif each == SHUFFLE and rows:
            raw = np.frombuffer(raw, np.uint8).reshape(-1, rows).T.tobytes()
        else:
            raise FormatError(path, piece.offset, f"{name} is packed by filter {each}; deflate would work")
    if len(raw) < whole:
        raise FormatError(path, piece.offset, f"{name}: {whole} bytes are announced and {len(raw)} found")
    if len(raw) > whole and piece.filters:
        raise FormatError(path, piece.offset, f"{name}: a chunk of {whole} bytes unpacks to more")
    return raw


def joined(path: Path, content: Stored, data: DataSet, dtype: np.dtype) -> np.ndarray:
    """All elements, those that are stored nowhere as zeros, read as ``dtype``."""
    packed = sum(piece.size for piece in data.pieces)
    if packed > len(content):  # pieces do not overlap
        raise FormatError(path, None, f"{data.name} claims {packed} bytes in a file of {len(content)}")
    found = np.zeros(prod(data.shape), dtype)
    length = prod(data.chunks) if data.chunks else len(found)
    for piece in data.pieces:
        raw = unpacked(path, content, data.name, piece, length, dtype.itemsize)
        part = found[piece.row : piece.row + length]
        part[:] = np.frombuffer(raw, dtype, len(part))
    return found.reshape(data.shape)
