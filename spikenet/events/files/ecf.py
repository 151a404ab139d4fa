"""Metavision HDF5: events at ``/CD/events``, records of x, y, p and t in chunks of Prophesee's ECF codec.

The chunks are decoded here, without the codec's plugin; files whose events are stored plainly or in one of HDF5's own
compressions are read, too. The attribute ``geometry`` names the sensor. Triggers (``/EXT_TRIGGER``) are not read.
The codec holds ascending times only. Source: Prophesee, HDF5 event files (docs.prophesee.ai);
github.com/prophesee-ai/hdf5_ecf for the chunks' layout.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from spikenet.errors import ArgumentError, FormatError
from spikenet.events.files import text_header
from spikenet.events.files.recording import Columns, Format, Losses, Opening, blank
from spikenet.events.files.words import check_writable, columns_of, measured
from spikenet.events.stream import EventStream

FILTER = 0x8ECF
_MAGIC = b"\x89HDF\r\n\x1a\n"
_HEAP = b"GCOL\x01\0\0\0"  # a global heap: signature, version
_EVENTS = "CD/events"
_MOST = 65535  # events in a chunk of the codec, bytes in an attribute
_ATTRIBUTES = 256  # that are read at most
_DENSEST = 1100  # bytes that HDF5's own compression makes of one, at most
_CHUNK = 16384  # events in a chunk that is written
_INDEX_STEP = 2000  # microseconds between rows of the index
_INDEX_MOST = 1 << 22  # rows of an index that is written: 2 h 20 min
_LAYOUT = np.dtype({"names": ["x", "y", "p", "t"], "formats": ["<u2", "<u2", "<i2", "<i8"], "offsets": [0, 2, 4, 8]})
_INDEX_LAYOUT = np.dtype([("id", "<u8"), ("ts", "<i8")])
_BROKEN = (OSError, RuntimeError, KeyError, ValueError, TypeError)  # what h5py raises for damage


def _recognises(path: Path, head: bytes) -> bool:
    if not head.startswith(_MAGIC):
        return False
    try:
        file = _file(path)
        return bool(file.links.exists(b"CD") and file.links.exists(_EVENTS.encode()))
    except _BROKEN:
        return path.suffix == ".hdf5"  # so that opening it says what is broken


def _file(path: Path) -> Any:
    """The open file, closed when the last reference to it goes; `h5py.File` would take twice as long."""
    import h5py

    try:
        return h5py.h5f.open(os.fsencode(path), h5py.h5f.ACC_RDONLY)
    except OSError:  # damaged, or open already, in h5py's own way: nobody may open it in another
        return h5py.File(path).id


@contextmanager
def _sound(path: Path) -> Iterator[None]:
    """Errors: FormatError for what HDF5 cannot make sense of."""
    try:
        yield
    except FormatError:
        raise
    except _BROKEN as error:
        raise FormatError(path, None, f"HDF5 finds it broken: {error}") from error


class _Source:
    """An open Metavision file."""

    def __init__(self, opening: Opening) -> None:
        self._opening = opening
        _check_heaps(opening)
        with _sound(opening.path):
            self._file = _file(opening.path)
            self.header = _attributes(self._file)
            self._events = _dataset(opening, self._file)
        width, _, height = self.header.get("geometry", "").partition("x")
        self.sensor = text_header.sensor(opening, self.header, width or None, height or None)

    def pieces(self, size: int) -> Iterator[Columns]:
        opening = self._opening
        with _sound(opening.path):
            plan = self._events.get_create_plist()
            filters = _filters(plan)
            if filters == [FILTER]:
                yield from _Chunks(opening, self._events, plan.get_chunk()[0]).pieces(size)
            elif FILTER in filters:
                raise FormatError(opening.path, None, f"{_EVENTS} adds other filters to ECF: {filters}")
            else:
                yield from _plain(opening, self._events, size)


def _check_heaps(opening: Opening) -> None:
    """Errors: FormatError for a heap of texts whose entries lead astray: HDF5 would follow them for ever, or crash.

    Looked at are the first and the last 64 KiB of a file, where writers put the texts of its attributes.
    """
    size = len(opening.head)
    tail = max(opening.size - size, size)
    for start, part in ((0, opening.head), *((tail, bytes(b)) for b in opening.blocks(tail, opening.size, size or 1))):
        found = part.find(_HEAP)
        while found >= 0:
            fault = _unsound(part[found:], opening.size - start - found)
            if fault is not None:
                raise FormatError(opening.path, start + found + fault, "the entries of an HDF5 heap do not fill it")
            found = part.find(_HEAP, found + 1)


def _unsound(heap: bytes, room: int) -> int | None:
    """Where the entries of a global heap (HDF5 file format, III.E) do not follow one another to its end.

    ``heap`` begins with it and may be cut short; the file has ``room`` bytes from there.
    """
    place, end = 16, int.from_bytes(heap[8:16], "little")
    if not 16 < end <= room:
        return 8
    numbers = set()
    while place + 16 <= min(end, len(heap)):
        number, size = (int.from_bytes(heap[place + a : place + b], "little") for a, b in ((0, 2), (8, 16)))
        following = place + (size if number == 0 else 16 + (size + 7) // 8 * 8)
        if not place < following <= end or number in numbers or (number == 0 and following + 16 <= end):
            return place
        numbers.add(number)
        place = following
    return None


def _attributes(file: Any) -> dict[str, str]:
    """The attributes that hold one value."""
    from h5py import h5a

    found = {}
    for number in range(min(h5a.get_num_attrs(file), _ATTRIBUTES)):
        attribute = h5a.open(file, index=number)
        if attribute.shape != () or attribute.dtype.itemsize > _MOST:
            continue
        value = np.empty((), attribute.dtype)
        attribute.read(value)
        text: Any = value[()]
        found[attribute.name.decode()] = text.decode("latin-1") if isinstance(text, bytes) else str(text)
    return found


def _dataset(opening: Opening, file: Any) -> Any:
    """The data set of events, its form checked."""
    from h5py import h5d

    try:
        events = h5d.open(file, _EVENTS.encode())
    except KeyError as error:
        raise FormatError(opening.path, None, f"a data set {_EVENTS} is wanted: {error}") from error
    layout, shape = events.dtype, events.shape
    whole = {name for name in layout.names or () if layout[name].kind in "iu"}
    if len(shape) != 1 or not {"x", "y", "p", "t"} <= whole:
        reason = f"{_EVENTS} wants rows of whole numbers x, y, p and t, found {layout} of shape {shape}"
        raise FormatError(opening.path, None, reason)
    return events


def _filters(plan: Any) -> list[int]:
    return [plan.get_filter(number)[0] for number in range(plan.get_nfilters())]


def _plain(opening: Opening, plain: Any, size: int) -> Iterator[Columns]:
    """What HDF5 reads by itself. Rows that a file claims and does not hold would be read as zeros: they are refused."""
    import h5py

    events = h5py.Dataset(plain)
    stored = events.id.get_storage_size()
    held = (_DENSEST if events.chunks else 1) * stored // events.dtype.itemsize
    if events.chunks:
        held = min(held, events.id.get_num_chunks() * events.chunks[0])
    if held < len(events):
        raise FormatError(opening.path, None, f"{_EVENTS} claims {len(events)} events, room for {held} is in the file")
    rows = max(size // events.dtype.itemsize, 1)
    for first in range(0, len(events), rows):
        block = events[first : first + rows]
        columns = blank(len(block))
        for name, column in zip("txyp", columns, strict=True):
            values = block[name]
            limits = np.iinfo(column.dtype)
            if len(values) and (values.min() < limits.min or values.max() > limits.max):
                raise FormatError(
                    opening.path, None, f"{name} wants values that fit {column.dtype}, found {values.max()}"
                )
            column[:] = values
        yield columns


class _Chunks:
    """The ECF chunks of a data set."""

    def __init__(self, opening: Opening, events: Any, rows: int) -> None:
        self.losses: Losses = opening.losses
        self.events, self.layout = events, events.dtype
        self.rows, self.total = rows, events.shape[0]
        found: list[Any] = []
        events.chunk_iter(found.append)
        self.places = sorted((info.chunk_offset[0], info.byte_offset, info.size) for info in found)
        if any(offset is None or offset + size > opening.size for _, offset, size in self.places):
            raise FormatError(opening.path, None, f"{_EVENTS} has chunks behind the end of the file")
        stored = {row for row, _, _ in self.places}
        missing = -(-self.total // self.rows) - len(stored)
        self.losses.refuse(f"chunk of {self.rows} events that is not in the file", None, missing) if missing else None
        self.places = [place for place in self.places if place[0] < self.total]

    def pieces(self, size: int) -> Iterator[Columns]:
        held: list[_Chunk] = []
        length = 0
        for row, offset, stored in self.places:
            mask, data = self.events.read_direct_chunk((row,))
            wanted = min(self.rows, self.total - row)
            chunk = _Chunk(row, offset, data, not mask, wanted, self._count(data, not mask))
            if chunk.count < wanted:
                first = f": {chunk.count} of {wanted}, from event {row} on"
                self.losses.refuse("chunk that does not hold its events", offset, 1, first)
                continue
            held.append(chunk)
            length += stored
            if length >= size:
                yield self._decoded(held)
                held, length = [], 0
        if held:
            yield self._decoded(held)

    def _count(self, data: bytes, packed: bool) -> int:
        """The events in a chunk, 0 for a count that cannot be true: room is made for it before it is decoded."""
        from spikenet.kernels.events.ecf import SMALLEST

        if not packed:
            return len(data) // self.layout.itemsize
        count = int.from_bytes(data[:4], "little") >> 2
        return count if count <= min(_MOST, self.rows, SMALLEST * len(data)) else 0

    def _decoded(self, chunks: list[_Chunk]) -> Columns:
        from spikenet.kernels.events import ecf

        decode: Any = ecf.decode

        columns = blank(sum(chunk.count for chunk in chunks))
        top = np.zeros(3, np.int64)
        at = 0
        for chunk in chunks:
            part = [column[at : at + chunk.count] for column in columns]
            if chunk.packed:
                fault = decode(np.frombuffer(chunk.data, np.uint8), *part, top)
            else:
                fault = self._copy(chunk.data, part, top)
            if fault:
                reason = "chunk that asks for more bytes or events than it has"
                self.losses.refuse(reason, chunk.offset - 1 - fault, 1, f", from event {chunk.row} on")
            else:
                at += chunk.wanted
        top_x, top_y, top_p = top.tolist()
        return measured(columns, at, (top_x, top_y, top_p))

    def _copy(self, data: bytes, part: list[np.ndarray], top: np.ndarray) -> int:
        """Take a chunk that the codec left as it was."""
        rows = np.frombuffer(data, self.layout, len(part[0]))
        for name, column in zip("txyp", part, strict=True):
            column[:] = rows[name]
        top[:] = np.iinfo(np.int64).max  # not looked at here, so that the reader does
        return 0


@dataclass(frozen=True)
class _Chunk:
    """A stored chunk: its first event, its place in the file, its bytes, whether the codec packed them, how many events
    of it the data set has and how many there are in it (the last chunk may be filled up)."""

    row: int
    offset: int
    data: bytes
    packed: bool
    wanted: int
    count: int


def _write(stream: EventStream, path: Path) -> None:
    check_writable(stream, "ECF", 1 << 11, 1 << 62)
    t, x, y, p = columns_of(stream)
    if (t[1:] < t[:-1]).any():
        raise ArgumentError(f"ECF files hold ascending times, received {stream}; stream.sorted() would work")
    import h5py

    with h5py.File(path, "w") as file:
        file.attrs.update({"format": "ECF", "version": "1.0", "geometry": "{}x{}".format(*stream.sensor)})
        events = _create(file.create_group("CD"), "events", _LAYOUT, len(t), FILTER)
        for row in range(0, len(t), _CHUNK):
            part = (column[row : row + _CHUNK] for column in (t, x, y, p))
            events.id.write_direct_chunk((row,), _packed(*part))
        index = _create(file["CD"], "indexes", _INDEX_LAYOUT, 0)
        index.attrs["offset"] = str(-t[0] if len(t) else 0)
        if len(t) and t[-1] - t[0] < _INDEX_STEP * _INDEX_MOST:
            index.resize(((t[-1] - t[0]) // _INDEX_STEP + 1,))
            index["ts"] = np.arange(len(index)) * _INDEX_STEP
            index["id"] = np.searchsorted(t - t[0], index["ts"])


def _create(group: Any, name: str, layout: np.dtype, rows: int, codec: int | None = None) -> Any:
    """A data set that can grow; HDF5 asks for no codec that is optional and writes its chunks as they are given."""
    import h5py

    plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plan.set_chunk((_CHUNK,))
    if codec is None:
        plan.set_deflate(1)
    else:
        plan.set_filter(codec, h5py.h5z.FLAG_OPTIONAL, ())
    space = h5py.h5s.create_simple((rows,), (h5py.h5s.UNLIMITED,))
    return h5py.Dataset(h5py.h5d.create(group.id, name.encode(), h5py.h5t.py_create(layout), space, plan))


def _packed(t: np.ndarray, x: np.ndarray, y: np.ndarray, p: np.ndarray) -> bytes:
    """One chunk in the style that takes the fewest bytes."""
    from spikenet.kernels.events.ecf import HEAD, LARGEST, PACKED_XP, PACKED_YXP, RUNS, encode

    data = np.empty(HEAD + LARGEST * len(t), np.uint8)
    sizes = {style: encode(t, x, y, p, style, data) for style in (RUNS, PACKED_XP, PACKED_YXP)}
    style = min(sizes, key=sizes.__getitem__)
    return data[: encode(t, x, y, p, style, data)].tobytes()


ECF = Format("ecf", (".hdf5",), _recognises, _Source, _write)
