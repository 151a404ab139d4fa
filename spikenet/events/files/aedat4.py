"""AEDAT 4, the files of DV (iniVation, "AEDAT file formats"; the public formats of flatbuffers, LZ4 frames and zstd).

The line ``#!AER-DAT4.0`` and a size-prefixed flatbuffer ``IOHE``: field 0 the compression (0 none, 1 and 2 LZ4, 3 and 4
zstd), field 1 where a table of the packets begins (-1: there is none), field 2 an XML text that names the streams.
Then packets up to the table or the end of the file: stream i32, size i32 and a flatbuffer, compressed on its own.
``EVTS`` packets hold a vector of 16-byte events: t i64 (Unix time in microseconds), x i16, y i16, ON u8.

The reader takes one event stream, whose sensor the XML names (``sizeX``, ``sizeY``); other streams are counted.
Where a file has several, ``index`` chooses by the order of their numbers.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from operator import attrgetter
from pathlib import Path
from typing import BinaryIO, NamedTuple
from xml.etree import ElementTree

import numpy as np

from spikenet.errors import ArgumentError, FormatError
from spikenet.events.files._packing import LZ4, ZSTD_HIGH, packed, unpacker
from spikenet.events.files.recording import Columns, Format, Losses, Opening, blank
from spikenet.events.files.words import measured
from spikenet.events.stream import EventStream, Sensor

_MARK = b"#!AER-DAT4.0\r\n"
_EVENTS, _NAME = "EVTS", b"EVTS"
_LARGEST_HEADER = 1 << 24  # bytes
_TYPICAL = 4  # bytes of a file that an event takes at least, as a rule: the first guess of the room
_PACKET = 8192  # events that the writer puts in one
_EVENT = np.dtype([("t", "<i8"), ("x", "<i2"), ("y", "<i2"), ("on", "u1"), ("unused", "u1", 3)])


class _Head(NamedTuple):
    """What the ``IOHE`` flatbuffer says: ``start`` and ``stop`` are the bytes between which packets lie."""

    compression: int
    start: int
    stop: int
    xml: bytes


class _Stream(NamedTuple):
    """A stream of the file as the XML has it."""

    number: int
    kind: str
    sensor: Sensor | None
    source: str


class _Source:
    def __init__(self, opening: Opening) -> None:
        from spikenet.kernels.events import aedat4

        self._kernels = aedat4
        self._path, self._losses = opening.path, opening.losses
        with self._path.open("rb") as file:
            self._head = _head(self._losses, file)
        streams = _streams(self._losses, self._head.xml)
        self._kinds = {stream.number: stream.kind for stream in streams}
        chosen = _chosen(self._path, [stream for stream in streams if stream.kind == _EVENTS], opening.index)
        self.header: Mapping[str, str] = {"source": chosen.source, "stream": str(chosen.number)} if chosen else {}
        self.sensor = chosen.sensor if chosen else None
        self._number = chosen.number if chosen else None
        self._unpack = unpacker(self._head.compression)

    def pieces(self, size: int) -> Iterator[Columns]:
        """See `Source`. A packet is never cut, so a piece is as large as a packet at least."""
        number = self._number
        columns, count, begin = blank(0), 0, self._head.start
        top = np.zeros(3, np.int64)
        for place, stream, content in self._packets():
            if place >= begin + size:
                yield measured(columns, count, _three(top))
                columns, count, begin = blank(0), 0, place
            packet, first, events = self._events(place, content)
            if number is None and events:
                number = stream  # the file does not say which streams hold events: the first one that does
            if stream != number:
                self._losses.skip("event of another stream", events)
                continue
            guess = min(size, self._head.stop - begin) // _TYPICAL
            columns = _grown(columns, count, count + events, guess)
            self._kernels.split_events(packet, first, events, *columns, count, top)
            count += events
        yield measured(columns, count, _three(top))

    def _packets(self) -> Iterator[tuple[int, int, bytes]]:
        """Place, stream and content of each packet that may hold events."""
        place, stop = self._head.start, self._head.stop
        with self._path.open("rb") as file:
            file.seek(place)
            while place < stop:
                stream, size = struct.unpack("<ii", file.read(8)) if place + 8 <= stop else (0, -1)
                if not 0 <= size <= stop - place - 8:
                    reason = "byte from a packet on that ends before it begins or reaches past the end"
                    self._losses.refuse(reason, place, stop - place)
                    return
                kind = self._kinds.get(stream, _EVENTS)
                if kind == _EVENTS and self._number in (stream, None):
                    yield place, stream, file.read(size)
                else:
                    self._losses.skip("packet of another event stream" if kind == _EVENTS else f"packet of {kind}")
                    file.seek(size, 1)
                place += 8 + size

    def _events(self, place: int, content: bytes) -> tuple[np.ndarray, int, int]:
        """The unpacked packet, where its events begin and how many there are."""
        packet, size, fault = self._unpack(content)
        name = packet[8 : min(size, 12)].tobytes()
        if name != _NAME and len(name) == 4 and name.isalnum() and not fault:
            self._losses.skip("packet of another kind")
            return packet, 0, 0
        first, events = self._kernels.find_events(packet, size) if name == _NAME and not fault else (-1, 0)
        if first < 0:
            reason = fault or "it is no flatbuffer of events, or an offset or a length in it leads outside"
            self._losses.refuse(f"packet that cannot be read: {reason}", place)
        return packet, first, events


def _three(top: np.ndarray) -> tuple[int, int, int]:
    x, y, p = top.tolist()
    return x, y, p


def _grown(columns: Columns, count: int, wanted: int, guess: int) -> Columns:
    """Room for ``wanted`` events, ``guess`` the first time and at least twice as many as before after that; the first
    ``count`` are kept."""
    if wanted <= len(columns.t):
        return columns
    larger = blank(max(wanted, guess if not count else 2 * len(columns.t)))
    for old, new in zip(columns, larger, strict=True):
        new[:count] = old[:count]
    return larger


def _head(losses: Losses, file: BinaryIO) -> _Head:
    """Read up to the first packet. Errors: FormatError, for a tolerant reader too: without it nothing can be read."""
    mark = file.read(len(_MARK))
    if mark != _MARK:
        raise FormatError(losses.path, 0, f"AEDAT 4.0 begins with {_MARK!r}, this with {mark!r}")
    (size,) = struct.unpack("<I", file.read(4).ljust(4, b"\xff"))
    table = file.read(min(size, _LARGEST_HEADER))
    if len(table) < size or table[4:8] != b"IOHE":
        raise FormatError(losses.path, len(_MARK), "a flatbuffer IOHE is missing, cut or larger than 16 MiB")
    try:
        compression, position, xml = _fields(table)
    except (struct.error, IndexError) as error:
        raise FormatError(
            losses.path, len(_MARK), f"an offset in the flatbuffer IOHE leads outside: {error}"
        ) from error
    if compression not in range(ZSTD_HIGH + 1):
        raise FormatError(losses.path, len(_MARK), f"compression {compression} is not known; 0 to {ZSTD_HIGH} are")
    start, end = file.tell(), file.seek(0, 2)
    if position != -1 and not start <= position <= end:
        losses.refuse(f"table of packets said to be at byte {position}, outside the packets", len(_MARK))
        position = -1
    return _Head(compression, start, end if position == -1 else position, xml)


def _fields(table: bytes) -> tuple[int, int, bytes]:
    """Compression, place of the table of packets and XML text of a flatbuffer ``IOHE``.

    Errors: struct.error or IndexError for an offset that leads outside.
    """
    (root,) = struct.unpack_from("<I", table)
    about = root - _at("<i", table, root)
    places = [_at("<H", table, about + 4 + 2 * k) if _at("<H", table, about) >= 6 + 2 * k else 0 for k in range(3)]
    compression, position, text = (root + place if place else None for place in places)
    xml = b""
    if text is not None:
        text += _at("<I", table, text)
        size = _at("<I", table, text)
        xml = table[text + 4 : text + 4 + size]
        if len(xml) < size:
            raise IndexError(f"a text of {size} bytes")
    return (
        0 if compression is None else _at("<i", table, compression),
        -1 if position is None else _at("<q", table, position),
        xml,
    )


def _at(form: str, table: bytes, place: int) -> int:
    if place < 0:
        raise IndexError(f"place {place}")
    (value,) = struct.unpack_from(form, table, place)
    return int(value)


def _streams(losses: Losses, xml: bytes) -> list[_Stream]:
    """The streams that the XML names, by number."""
    if not xml.strip(b"\0 \t\r\n"):
        return []
    try:
        text = xml.decode()
        root = ElementTree.fromstring("" if "<!DOCTYPE" in text else text)  # entities could grow without bound
        nodes = root.findall("node[@name='outInfo']/node")
        streams = [_stream(int(node.get("name", "")), node) for node in nodes]
    except (ElementTree.ParseError, ValueError) as error:
        losses.refuse(f"XML text that cannot be read ({error})", len(_MARK))
        return []
    return sorted(streams, key=attrgetter("number"))


def _stream(number: int, node: ElementTree.Element) -> _Stream:
    info = {attribute.get("key"): attribute.text or "" for attribute in node.iterfind("node[@name='info']/attr")}
    about = {attribute.get("key"): attribute.text or "" for attribute in node.iterfind("attr")}
    width, height = (int(info.get(key) or 0) for key in ("sizeX", "sizeY"))
    sensor = Sensor(width, height, 2) if min(width, height) > 0 else None
    return _Stream(number, about.get("typeIdentifier", _EVENTS), sensor, info.get("source", ""))


def _chosen(path: Path, streams: list[_Stream], index: int | None) -> _Stream | None:
    if index is None and len(streams) <= 1:
        return streams[0] if streams else None
    if index is None or not 0 <= index < len(streams):
        names = ", ".join(f"{k}: {stream.source or stream.number}" for k, stream in enumerate(streams))
        raise ArgumentError(f"{path} holds {len(streams)} event streams ({names}); index= chooses, received {index}")
    return streams[index]


def write_aedat4(stream: EventStream, path: Path, compression: int = LZ4) -> None:
    """Write a file with one event stream and no table of packets; ``compression`` is 0 (none) or 1 (LZ4).

    Errors: ArgumentError for a stream that the format cannot hold.
    """
    width, height, polarities = stream.sensor
    if max(width, height) > 1 << 15 or polarities != 2:
        raise ArgumentError(f"AEDAT 4 holds events of 32768 x 32768 x 2 addresses at most, received {stream}")
    with path.open("wb") as file:
        file.write(_MARK + _header(stream.sensor, compression))
        for start in range(0, len(stream), _PACKET):
            packet = _packet(stream, slice(start, start + _PACKET))
            content = packed(packet) if compression else packet.tobytes()
            file.write(struct.pack("<ii", 0, len(content)) + content)


def _header(sensor: Sensor, compression: int) -> bytes:
    """The size-prefixed flatbuffer ``IOHE``; numbers lie at multiples of their size, as flatbuffers want it."""
    xml = _XML.format(compression="LZ4" if compression else "NONE", width=sensor.width, height=sensor.height).encode()
    # Prefix, root, name; vtable: its size, the table's, places of the fields; table: vtable, position, compression,
    # XML; the text's length.
    form = "<II4s5H6xiqiII"
    size = struct.calcsize(form) + len(xml) + 1 - 4
    return struct.pack(form, size, 24, b"IOHE", 10, 20, 12, 4, 16, 16, -1, compression, 4, len(xml)) + xml + b"\0"


def _packet(stream: EventStream, part: slice) -> np.ndarray:
    """The size-prefixed flatbuffer ``EVTS`` of some events, uint8."""
    events = np.zeros(len(stream.t[part]), _EVENT)
    for name, column in (("t", stream.t), ("x", stream.x), ("y", stream.y), ("on", stream.p)):
        events[name] = column[part].numpy()
    # Prefix, root, name; vtable: its size, the table's, place of the field; table: vtable, vector; the vector's length.
    form = "<II4s2x3HiII"
    size = struct.calcsize(form) + events.nbytes - 4
    head = struct.pack(form, size, 16, _NAME, 6, 8, 4, 6, 4, len(events))
    return np.frombuffer(head + events.tobytes(), np.uint8)


_XML = """<dv version="2.0">
<node name="outInfo" path="/mainloop/Recorder/outInfo/">
<node name="0" path="/mainloop/Recorder/outInfo/0/">
<attr key="compression" type="string">{compression}</attr>
<attr key="originalModuleName" type="string">spikenet</attr>
<attr key="originalOutputName" type="string">events</attr>
<attr key="typeDescription" type="string">Array of events (polarity ON/OFF).</attr>
<attr key="typeIdentifier" type="string">EVTS</attr>
<node name="info" path="/mainloop/Recorder/outInfo/0/info/">
<attr key="sizeX" type="int">{width}</attr>
<attr key="sizeY" type="int">{height}</attr>
<attr key="source" type="string">spikenet</attr>
<attr key="tsOffset" type="long">0</attr>
</node>
</node>
</node>
</dv>
"""

AEDAT4 = Format(
    "aedat4", (".aedat4",), lambda path, head: head.startswith(_MARK[:10]), _Source, write_aedat4, begins=b"#"
)
