"""AEDAT 4.0 (DV): flatbuffers written byte by byte, in packets that may be compressed."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Sequence

from tests.events.files.encoders import lz4_frame

Event = tuple[int, int, int, int]  # t, x, y, p

MAGIC = b"#!AER-DAT4.0\r\n"
NONE, LZ4, LZ4_HIGH, ZSTD, ZSTD_HIGH = range(5)
EVENTS, IMUS, TRIGGERS = 0, 2, 3  # stream numbers


def flatbuffer(
    name: bytes, scalars: Sequence[tuple[str, int]] = (), vector: bytes | None = None, count: int = 0
) -> bytes:
    """A size-prefixed buffer whose root table has the scalars as its first fields and then, if given, one vector.

    Root offset, name, table of fields, table, vector; positions count from behind the size prefix, alignment from
    before it.
    """
    fields = len(scalars) + (vector is not None)
    vtable_at, vtable_size = 8, 4 + 2 * fields
    table_at = _up(vtable_at + vtable_size + 4, 8) - 4
    offsets, inline = [], b""
    for kind, value in scalars:
        size = struct.calcsize("<" + kind)
        inline += bytes(-(4 + len(inline)) % size)
        offsets.append(4 + len(inline))
        inline += struct.pack("<" + kind, value)
    if vector is not None:
        offsets.append(4 + len(inline))
        reference_at = table_at + offsets[-1]
        vector_at = _up(reference_at + 4, 8)  # the length; size prefix and length come before the elements
        inline += struct.pack("<I", vector_at - reference_at)
    table = struct.pack("<i", table_at - vtable_at) + inline
    vtable = struct.pack(f"<{2 + fields}H", vtable_size, len(table), *offsets)
    buffer = struct.pack("<I", table_at) + name + vtable
    buffer += bytes(table_at - len(buffer)) + table
    if vector is not None:
        buffer += bytes(vector_at - len(buffer)) + struct.pack("<I", count) + vector
    return struct.pack("<I", len(buffer)) + buffer


def _up(value: int, to: int) -> int:
    return -(-value // to) * to


def events(rows: Iterable[Event]) -> bytes:
    structs = [struct.pack("<qhhB3x", t, x, y, p) for t, x, y, p in rows]
    return flatbuffer(b"EVTS", vector=b"".join(structs), count=len(structs))


def imus() -> bytes:
    """One sample that says nothing: a vector with an offset to an empty table."""
    empty = struct.pack("<IHHi", 8, 4, 4, 4)  # offset to the table behind its two-word table of fields
    return flatbuffer(b"IMUS", vector=empty, count=1)


def triggers() -> bytes:
    empty = struct.pack("<IHHi", 8, 4, 4, 4)
    return flatbuffer(b"TRIG", vector=empty, count=1)


def xml(width: int, height: int, compression: str = "NONE") -> bytes:
    """What the recorder says of its streams; events are stream 0."""
    return f"""<dv version="2.0">
    <node name="outInfo" path="/mainloop/Recorder/outInfo/">
        <node name="0" path="/mainloop/Recorder/outInfo/0/">
            <attr key="compression" type="string">{compression}</attr>
            <attr key="originalOutputName" type="string">events</attr>
            <attr key="typeIdentifier" type="string">EVTS</attr>
            <node name="info" path="/mainloop/Recorder/outInfo/0/info/">
                <attr key="sizeX" type="int">{width}</attr>
                <attr key="sizeY" type="int">{height}</attr>
                <attr key="source" type="string">DVXplorer_X</attr>
            </node>
        </node>
        <node name="2" path="/mainloop/Recorder/outInfo/2/">
            <attr key="typeIdentifier" type="string">IMUS</attr>
        </node>
        <node name="3" path="/mainloop/Recorder/outInfo/3/">
            <attr key="typeIdentifier" type="string">TRIG</attr>
        </node>
    </node>
</dv>
""".encode()


def packet(stream: int, payload: bytes) -> bytes:
    return struct.pack("<ii", stream, len(payload)) + payload


def aedat4(
    packets: Iterable[tuple[int, bytes]],
    *,
    width: int = 346,
    height: int = 260,
    compression: int = NONE,
    compress: Callable[[bytes], bytes] | None = None,
    table: bool = False,
    said: bytes | None = None,
) -> bytes:
    """Packets of a stream number and a flatbuffer. ``table``: the file ends in a table of packets, which is none."""
    compress = compress or {NONE: bytes, LZ4: lz4_frame.frame, LZ4_HIGH: lz4_frame.frame}[compression]
    text = xml(width, height, ("NONE", "LZ4", "LZ4_HIGH", "ZSTD", "ZSTD_HIGH")[compression]) if said is None else said
    body = b"".join(packet(stream, compress(buffer)) for stream, buffer in packets)

    def io_header(position: int) -> bytes:
        return flatbuffer(b"IOHE", (("i", compression), ("q", position)), vector=text + b"\0", count=len(text))

    head = io_header(-1)
    if not table:
        return MAGIC + head + body
    return MAGIC + io_header(len(MAGIC) + len(head) + len(body)) + body + compress(flatbuffer(b"FTAB"))
