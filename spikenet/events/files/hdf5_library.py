"""Data sets of an HDF5 file by way of the library, where nothing is followed out of the file and no packed chunk is
left to it that would unpack to more than a chunk."""

from __future__ import annotations

import io
import os
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from spikenet.errors import FormatError
from spikenet.events.files.bounds import inflate
from spikenet.events.files.hdf5_heap import REFERENCE, Stored
from spikenet.events.files.hdf5_sets import DEFLATE, SHUFFLE, DataSet, Piece, check_size

_CHECKSUM, _LZF = 3, 32000
_UNDONE = {DEFLATE, SHUFFLE, _CHECKSUM, _LZF}  # the filters that the library is left to undo
_CHECKSUM_BYTES = 4


def open_id(path: Path) -> Any:
    """The library's handle of a file, to be closed; `h5py.File` would take twice as long."""
    from h5py import h5f

    return h5f.open(os.fsencode(path), h5f.ACC_RDONLY, _access())


@cache
def _access() -> Any:
    """How h5py opens files: nobody may open one in another way while it is open."""
    from h5py import h5p

    return h5p.create(h5p.FILE_ACCESS)


class Library:
    """The groups and data sets of a file.

    Args:
        path: the file.
        content: its bytes from the superblock on.
        whole: all of its bytes, of one that is no file itself.
    """

    def __init__(self, path: Path, content: Stored, whole: bytes | None) -> None:
        self.path, self._content = path, content
        if whole is None:
            self._id = open_id(path)
        else:
            import h5py

            self._file = h5py.File(io.BytesIO(whole), "r")
            self._id = self._file.id
        plan = self._id.get_create_plist()
        self._sizes, self._base = plan.get_sizes(), plan.get_userblock()

    def close(self) -> None:
        """Close the file, for the library too, which would take one that is written anew for the old one."""
        import h5py

        if h5py.h5f.get_obj_count(self._id, h5py.h5f.OBJ_ALL) > 1:  # an error that is kept may hold on to one
            h5py.File(self._id).close()
        else:
            self._id.close()

    def names(self) -> dict[bytes, int | None]:
        """What lies at the top; None for a link to elsewhere."""
        return {name: 0 if self._is_here(name) else None for name in self._id}

    def exists(self, steps: list[bytes]) -> bool:
        """Whether there is something at the end of these steps."""
        return all(map(self._id.links.exists, _paths(steps)))

    def find(self, name: str, steps: list[bytes]) -> DataSet | None:
        """A data set that lies in the file itself; None where there is none of this name."""
        import h5py
        from h5py import h5d, h5o

        for path in _paths(steps):
            if not self._id.links.exists(path) or not self._is_here(path):
                return None
        found = h5o.open(self._id, name.encode())
        plan = found.get_create_plist() if isinstance(found, h5d.DatasetID) else None
        if plan is None or plan.get_layout() == h5d.VIRTUAL or plan.get_external_count():
            return None
        chunks = plan.get_chunk() if plan.get_layout() == h5d.CHUNKED else None
        dtype, shape = found.dtype, found.shape or ()
        stored = REFERENCE if dtype.hasobject else dtype
        check_size(self.path, name, stored.itemsize, shape, chunks)
        text = h5py.check_string_dtype(dtype) is not None
        inner = np.dtype("u1") if text else h5py.check_vlen_dtype(dtype)
        inner = inner if dtype.hasobject and isinstance(inner, np.dtype) else None
        if dtype.hasobject and (inner is None or self._sizes != (8, 8)):
            raise FormatError(self.path, None, f"{name} holds {dtype}; numbers, or arrays of them, would work")
        if dtype.hasobject and chunks is None and found.get_offset() is None and found.get_storage_size():
            raise FormatError(self.path, None, f"{name}: its storage layout cannot be read; chunks would work")
        pieces = _pieces(found, plan, chunks, self._base)
        whole = int(np.prod(chunks or (), dtype=np.int64)) * stored.itemsize
        self._check_chunks(name, pieces, whole)
        return DataSet(name, shape, chunks, stored, inner, text, pieces, partial(_values, found))

    def table(self, name: str) -> Any:
        """The library's own view of a data set. Errors: FormatError where the file itself holds none of this name."""
        import h5py

        if self.find(name, name.encode().split(b"/")) is None:
            raise FormatError(self.path, None, f"lacks the data set {name} in the file itself")
        return h5py.Dataset(h5py.h5o.open(self._id, name.encode()))

    def _is_here(self, path: bytes) -> bool:
        """Whether a path leads to something in the file itself, and by no other name."""
        from h5py import h5l

        hard: bool = self._id.links.get_info(path).type == h5l.TYPE_HARD
        return hard

    def _check_chunks(self, name: str, pieces: list[Piece], whole: int) -> None:
        """Raise FormatError for a packed chunk that unpacks to more than a chunk: the library would follow it."""
        for piece in pieces:
            if not _UNDONE.issuperset(piece.filters):
                raise FormatError(
                    self.path, piece.offset, f"{name} is packed by filters {piece.filters}; deflate would work"
                )
            if DEFLATE in piece.filters:
                packed = self._content[piece.offset : piece.offset + piece.size]
                if len(inflate(packed, whole + _CHECKSUM_BYTES + 1)) > whole + _CHECKSUM_BYTES:
                    raise FormatError(self.path, piece.offset, f"{name}: a chunk of {whole} bytes unpacks to more")


def _paths(steps: list[bytes]) -> list[bytes]:
    """The paths that lead to a name: ``a``, ``a/b``, ``a/b/c``."""
    return [b"/".join(steps[: count + 1]) for count in range(len(steps))]


def _pieces(found: Any, plan: Any, chunks: tuple[int, ...] | None, base: int) -> list[Piece]:
    """Where the pieces of a data set lie, counted from ``base``."""
    if chunks is None:
        at = found.get_offset()
        return [] if at is None else [Piece(0, at - base, found.get_storage_size(), ())]
    filters = [plan.get_filter(i)[0] for i in range(plan.get_nfilters())]
    listed: list[Any] = []
    found.chunk_iter(listed.append)
    return [
        Piece(
            int(chunk.chunk_offset[0]),
            int(chunk.byte_offset) - base,
            int(chunk.size),
            tuple(each for i, each in enumerate(filters) if not chunk.filter_mask >> i & 1),
        )
        for chunk in listed
    ]


def _values(found: Any) -> np.ndarray:
    """All of a data set of numbers or of texts of one length."""
    from h5py import h5s

    values = np.empty(found.shape or (), found.dtype)
    if values.size:
        found.read(h5s.ALL, h5s.ALL, values)
    return values
