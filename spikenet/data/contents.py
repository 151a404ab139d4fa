"""The bytes of many small files, read one by one from a folder or from an archive as it was published."""

from __future__ import annotations

import os
import struct
import zipfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from spikenet.data.recordings import packed
from spikenet.errors import DataError, FormatError

_LARGEST = 1 << 24  # bytes of one file
_ROOM = 1 << 16  # bytes to begin with
_READ = os.O_RDONLY | getattr(os, "O_BINARY", 0)
_LOCAL_HEADER = 30  # bytes; name and extra field of the lengths it ends with follow
_BROKEN = (zipfile.BadZipFile, struct.error, EOFError, RuntimeError, OSError, ValueError)


class Contents(Protocol):
    """Files by number."""

    names: np.ndarray

    def where(self, index: int) -> str:
        """The path of a file, for messages."""

    def read(self, index: int) -> bytes:
        """Its bytes. Errors: DataError, FormatError."""

    def into(self, index: int, room: np.ndarray) -> int:
        """Write its bytes to the beginning of an array, uint8, as far as they fit; returns how many there are. Errors:
        those of `read`."""

    def folder(self, indices: np.ndarray) -> tuple[bytes, np.ndarray] | None:
        """What the paths of some files begin with, and what follows, bytes ``[N]``; None where they are no files of
        their own."""


class FolderContents:
    """Files in a folder.

    Args:
        root: the folder.
        names: the path of each below it.
    """

    def __init__(self, root: Path, names: Sequence[str]) -> None:
        self.prefix, self.names = os.fsencode(f"{root}/"), packed(names)

    def where(self, index: int) -> str:
        return os.fsdecode(self.prefix + bytes(self.names[index]))

    def read(self, index: int) -> bytes:
        room = np.empty(_ROOM, np.uint8)
        while (size := self.into(index, room)) > len(room):
            room = np.empty(size, np.uint8)
        return room[:size].tobytes()

    def into(self, index: int, room: np.ndarray) -> int:
        try:
            file = os.open(self.prefix + bytes(self.names[index]), _READ)  # a file object takes longer than the read
            try:
                size = 0
                while count := _read_into(file, room[size:]):
                    size += count
                size = size if size < len(room) else os.fstat(file).st_size
            finally:
                os.close(file)
        except OSError as error:
            raise DataError(f"{self.where(index)} cannot be read: {error.strerror or error}") from error
        if size > _LARGEST:
            raise FormatError(self.where(index), None, f"has {size} bytes; a recording has {_LARGEST} at most")
        return size

    def folder(self, indices: np.ndarray) -> tuple[bytes, np.ndarray] | None:
        return self.prefix, self.names[indices]


class ZipContents:
    """Members of a zip archive, stored or deflated. Nothing stays open, so workers may be forked, and of 60 000 members
    only numbers are kept.

    Args:
        archive: the file.
        wanted: whether a member, by its name, is one of the files.

    Errors: FormatError for a broken archive.
    """

    def __init__(self, archive: Path, wanted: Callable[[str], object]) -> None:
        self.archive = archive
        try:
            with zipfile.ZipFile(archive) as file:
                members = [member for member in file.infolist() if wanted(member.filename)]
        except _BROKEN as error:
            raise FormatError(archive, None, f"not a readable zip archive: {error}") from error
        self.names = packed([member.filename for member in members])
        rows = [(m.header_offset, m.compress_size, m.file_size, m.CRC, m.compress_type) for m in members]
        self.table = np.array(rows, np.int64).reshape(-1, 5)

    def where(self, index: int) -> str:
        return f"{self.archive}/{os.fsdecode(self.names[index])}"

    def read(self, index: int) -> bytes:
        offset, packed_size, size, crc, method = self.table[index].tolist()
        if size > _LARGEST:
            raise self._broken(index, f"claims {size} bytes, at most {_LARGEST} are expected")
        try:
            with self.archive.open("rb") as file:
                file.seek(offset)
                signature, name, extra = struct.unpack("<4s22xHH", file.read(_LOCAL_HEADER))
                if signature != b"PK\3\4" or file.read(name) != self.names[index]:
                    raise ValueError("another member lies in its place")
                file.seek(extra, os.SEEK_CUR)
                content = _inflated(file.read(packed_size), method, size)
        except (OSError, struct.error, zlib.error, ValueError) as error:
            raise self._broken(index, f"cannot be read from the archive: {error}") from error
        if len(content) != size or zlib.crc32(content) != crc:
            raise self._broken(index, "is damaged: length or checksum differ from the archive's list")
        return content

    def into(self, index: int, room: np.ndarray) -> int:
        content = self.read(index)
        room[: len(content)] = np.frombuffer(content, np.uint8)[: len(room)]
        return len(content)

    def folder(self, indices: np.ndarray) -> tuple[bytes, np.ndarray] | None:
        return None

    def _broken(self, index: int, reason: str) -> FormatError:
        return FormatError(self.where(index), int(self.table[index, 0]), reason)


def _read_into(file: int, room: np.ndarray) -> int:
    """Fill an array from a file, as far as one call goes; returns the number of bytes, 0 at the end."""
    if hasattr(os, "readv"):
        return os.readv(file, [room.data])
    content = os.read(file, len(room))
    room[: len(content)] = np.frombuffer(content, np.uint8)
    return len(content)


def _inflated(content: bytes, method: int, size: int) -> bytes:
    if method == zipfile.ZIP_STORED:
        return content
    if method == zipfile.ZIP_DEFLATED:
        return zlib.decompressobj(-zlib.MAX_WBITS).decompress(content, size)
    raise ValueError(f"compression method {method}; stored (0) and deflated (8) members can be read")
