"""Metavision HDF5: events at ``/CD/events``, records of x, y, p and t in chunks of Prophesee's ECF codec.

The chunks are decoded here, without the codec's plugin; files whose events are stored plainly or in one of HDF5's own
compressions are read, too. The attribute ``geometry`` names the sensor. Triggers (``/EXT_TRIGGER``) are not read.
The codec holds ascending times only. Source: Prophesee, HDF5 event files (docs.prophesee.ai);
github.com/prophesee-ai/hdf5_ecf for the chunks' layout.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from spikenet.errors import ArgumentError, FormatError
from spikenet.events.files import text_header
from spikenet.events.files.hdf5 import BROKEN, attributes, holds, open_hdf5
from spikenet.events.files.hdf5_library import open_id
from spikenet.events.files.hdf5_objects import MAGIC
from spikenet.events.files.recording import Columns, Format, Losses, Opening, blank
from spikenet.events.files.words import check_writable, columns_of, measured
from spikenet.events.stream import EventStream

FILTER = 0x8ECF
_EVENTS = "CD/events"
_MOST = 65535  # events in a chunk of the codec
_DENSEST = 1100  # bytes that HDF5's own compression makes of one, at most
_CHUNK = 16384  # events in a chunk that is written
_INDEX_STEP = 2000  # microseconds between rows of the index
_INDEX_MOST = 1 << 22  # rows of an index that is written: 2 h 20 min
_LAYOUT = np.dtype({"names": ["x", "y", "p", "t"], "formats": ["<u2", "<u2", "<i2", "<i8"], "offsets": [0, 2, 4, 8]})
_INDEX_LAYOUT = np.dtype([("id", "<u8"), ("ts", "<i8")])


def _recognises(path: Path, head: bytes) -> bool:
    # A broken file, so that opening it says what is broken.
    return holds(path, head, {b"CD"}, broken=path.suffix == ".hdf5")


def _holds_events(file: Any) -> bool:
    """Whether there is such a data set, in the file itself: a link to another one is not followed."""
    from h5py import h5l

    links = file.links
    paths = (b"CD", _EVENTS.encode())
    return all(links.exists(path) and links.get_info(path).type == h5l.TYPE_HARD for path in paths)


@contextmanager
def _sound(path: Path) -> Iterator[None]:
    """Errors: FormatError for what HDF5 cannot make sense of."""
    try:
        yield
    except FormatError:
        raise
    except BROKEN as error:
        raise FormatError(path, None, f"HDF5 finds it broken: {error}") from error


class _Table(NamedTuple):
    """The data set of events as it is stored: what its rows are, how many, the filters that packed them, the rows of a
    chunk; of every chunk of the codec its first row, place, size and whether it is packed."""

    layout: np.dtype
    total: int
    filters: list[int]
    rows: int
    chunks: list[tuple[int, int, int, bool]]


class _Source:
    """A Metavision file. It is not kept open: HDF5 would take a file that was written anew to be the old one."""

    def __init__(self, opening: Opening) -> None:
        self._opening = opening
        with _sound(opening.path):
            self.header = attributes(opening.path)
            with closing(open_id(opening.path)) as file:
                self._table = _table(opening, file)
        width, _, height = self.header.get("geometry", "").partition("x")
        self.sensor = text_header.sensor(opening, self.header, width or None, height or None)

    def pieces(self, size: int) -> Iterator[Columns]:
        opening, filters = self._opening, self._table.filters
        if filters == [FILTER]:
            with _sound(opening.path), opening.path.open("rb", buffering=0) as file:
                yield from _Chunks(opening, self._table).pieces(file, size)
        elif FILTER in filters:
            raise FormatError(opening.path, None, f"{_EVENTS} adds other filters to ECF: {filters}")
        else:
            yield from _plain(opening, size)


def _table(opening: Opening, file: Any) -> _Table:
    """What is stored, its form checked."""
    from h5py import h5d

    if not _holds_events(file):
        raise FormatError(opening.path, None, f"a data set {_EVENTS} is wanted, in the file itself")
    try:
        events = h5d.open(file, _EVENTS.encode())
    except KeyError as error:
        raise FormatError(opening.path, None, f"a data set {_EVENTS} is wanted: {error}") from error
    with closing(events):
        layout, shape = events.dtype, events.shape
        whole = {name for name in layout.names or () if layout[name].kind in "iu"}
        if len(shape) != 1 or layout.hasobject or not {"x", "y", "p", "t"} <= whole:
            reason = f"{_EVENTS} wants rows of whole numbers x, y, p and t, found {layout} of shape {shape}"
            raise FormatError(opening.path, None, reason)
        plan = events.get_create_plist()
        filters = [plan.get_filter(number)[0] for number in range(plan.get_nfilters())]
        if filters != [FILTER]:
            return _Table(layout, shape[0], filters, 0, [])
        found: list[Any] = []
        events.chunk_iter(found.append)
        chunks = sorted((info.chunk_offset[0], info.byte_offset, info.size, not info.filter_mask) for info in found)
        return _Table(layout, shape[0], filters, plan.get_chunk()[0], chunks)


def _plain(opening: Opening, size: int) -> Iterator[Columns]:
    """What HDF5 reads by itself. Rows that a file claims and does not hold would be read as zeros: they are refused."""
    with open_hdf5(opening.path) as file:
        events = file.library().table(_EVENTS)
        stored = events.id.get_storage_size()
        held = (_DENSEST if events.chunks else 1) * stored // events.dtype.itemsize
        if events.chunks:
            held = min(held, events.id.get_num_chunks() * events.chunks[0])
        if held < len(events):
            raise FormatError(
                opening.path, None, f"{_EVENTS} claims {len(events)} events, room for {held} is in the file"
            )
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

    def __init__(self, opening: Opening, table: _Table) -> None:
        self.losses: Losses = opening.losses
        self.layout, self.total, self.rows = table.layout, table.total, table.rows
        for row, offset, size, _ in table.chunks:
            if row % self.rows or offset is None or offset + size > opening.size:
                place = None if offset is None else min(offset, opening.size)
                raise FormatError(
                    opening.path, place, f"{_EVENTS} has a chunk behind the end of the file or across two"
                )
        self.places = [place for place in table.chunks if place[0] < self.total]
        missing = -(-self.total // self.rows) - len({row for row, *_ in self.places})
        self.losses.refuse(f"chunk of {self.rows} events that is not in the file", None, missing) if missing else None

    def pieces(self, file: FileIO, size: int) -> Iterator[Columns]:
        held: list[_Chunk] = []
        length = 0
        for row, offset, stored, packed in self.places:
            data = os.pread(file.fileno(), stored, offset)
            wanted = min(self.rows, self.total - row)
            chunk = _Chunk(row, offset, data, packed, wanted, self._count(data, packed))
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
    plan.set_obj_track_times(False)  # the same events make the same file
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


ECF = Format("ecf", (".hdf5",), _recognises, _Source, _write, begins=MAGIC[:1])
