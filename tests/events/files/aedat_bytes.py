"""Event files packed by hand from the formats' descriptions, and what the tests of several formats share."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from spikenet.errors import FormatError
from spikenet.events import EventStream, Sensor, open_recording, read

SHARED = Path(__file__).resolve().parents[4] / "shared" / "samples"
DVS128 = Sensor(128, 128, 2)


def sample(name: str) -> Path:
    """A real file that lies beside the repository; a test that asks for one that is absent is skipped."""
    path = SHARED / name
    if not path.exists():
        pytest.skip(f"the real file {name} is not here")
    return path


def rows(stream: EventStream) -> list[tuple[int, ...]]:
    """Events as tuples t, x, y, p."""
    return list(zip(*(column.tolist() for column in (stream.t, stream.x, stream.y, stream.p)), strict=True))


def stored(path: Path, *parts: bytes) -> Path:
    path.write_bytes(b"".join(parts))
    return path


def random_stream(sensor: Sensor, count: int, until: int, seed: int = 0) -> EventStream:
    draw = np.random.default_rng(seed)
    t = np.sort(draw.integers(0, until, count))
    x, y, p = (draw.integers(0, size, count) for size in sensor)
    return EventStream.from_numpy(t, x, y, p, sensor=sensor)


def assert_pieces_agree(path: Path, sizes: tuple[int, ...], **options: object) -> None:
    """Chunks of every size hold what the whole holds, and count what it counts; a recording can be read again."""
    recording = open_recording(path, **options)
    whole = rows(recording.read())
    dropped = recording.dropped
    for size in sizes:
        assert [row for chunk in recording.chunks(size) for row in rows(chunk)] == whole, size
        assert recording.dropped == dropped, size


def refusal(path: Path, **options: object) -> FormatError:
    """The error of a strict reader."""
    with pytest.raises(FormatError) as caught:
        read(path, **options)
    assert caught.value.path == path
    return caught.value


def tolerated(path: Path, **options: object) -> tuple[list[tuple[int, ...]], dict[str, int]]:
    """What a reader that is not strict gives, and what it left out; it must warn."""
    recording = open_recording(path, strict=False, **options)
    with pytest.warns(UserWarning, match="left out"):
        stream = recording.read()
    stream.check()
    return rows(stream), recording.dropped


def bin_record(t: int, x: int, y: int, p: int) -> bytes:
    """5 bytes: column, row, then 1 bit polarity and 23 bits of time, big-endian."""
    return struct.pack(">BBBH", x, y, p << 7 | t >> 16, t & 0xFFFF)


def packet3(body: bytes, kind: int = 1, source: int = 1, size: int = 8, epoch: int = 0, **changes: int) -> bytes:
    """An AEDAT 3.1 packet: header of 28 bytes, little-endian, and body."""
    number = changes.get("number", len(body) // size if size else 0)
    capacity, valid = changes.get("capacity", number), number
    return struct.pack("<hhiiiiii", kind, source, size, 4, epoch, capacity, number, valid) + body


def polarity3(t: int, x: int, y: int, p: int, valid: int = 1) -> bytes:
    """An AEDAT 3.1 polarity event."""
    return struct.pack("<Ii", x << 17 | y << 2 | p << 1 | valid, t)


def header3(*lines: str, version: str = "3.1") -> bytes:
    given = lines or ("#Format: RAW", "#Source 1: DVS128", "#Start-Time: 2016-01-01 00:00:00 (TZ+0100)")
    return "".join(f"{line}\r\n" for line in (f"#!AER-DAT{version}", *given, "#!END-HEADER")).encode()


def evts(events: list[tuple[int, ...]], name: bytes = b"EVTS") -> bytes:
    """A size-prefixed flatbuffer with one vector of 16-byte events, laid out by the flatbuffers rules: the vtable comes
    last here, after the table, which a writer is free to choose."""
    vector = struct.pack("<I", len(events)) + b"".join(struct.pack("<qhhB3x", t, x, y, p) for t, x, y, p in events)
    # 0 root, 4 name, 8 table (vtable behind it: negative), 12 field: distance to the vector, 16 vtable, 24 vector
    table = struct.pack("<I4siI", 8, name, -8, 12) + struct.pack("<HHHxx", 6, 8, 4) + vector
    return struct.pack("<I", len(table)) + table


def stream_xml(number: int, kind: str, sensor: Sensor | None) -> str:
    size = f'<attr key="sizeX">{sensor.width}</attr><attr key="sizeY">{sensor.height}</attr>' if sensor else ""
    info = f'<node name="info">{size}<attr key="source">camera{number}</attr></node>'
    return f'<node name="{number}"><attr key="typeIdentifier">{kind}</attr>{info}</node>'


def header4(compression: int | None, *streams: str, table: int | None = None, xml: str | None = None) -> bytes:
    """The first line and the ``IOHE`` flatbuffer; None leaves a field out, which means its default."""
    text = (xml if xml is not None else f'<dv><node name="outInfo">{"".join(streams)}</node></dv>').encode()
    # 0 root, 4 name, 8 vtable (10 bytes, 2 of padding), 20 table: vtable, 24 compression, 28 table of packets, 36 text
    places = (0 if compression is None else 4, 0 if table is None else 8, 16)
    vtable = struct.pack("<HHHHHxx", 10, 20, *places)
    fields = struct.pack("<iiqI", 12, compression or 0, table or 0, 4)
    content = struct.pack("<I4s", 20, b"IOHE") + vtable + fields + struct.pack("<I", len(text)) + text + b"\0"
    return b"#!AER-DAT4.0\r\n" + struct.pack("<I", len(content)) + content


def packet4(content: bytes, stream: int = 0) -> bytes:
    return struct.pack("<ii", stream, len(content)) + content
