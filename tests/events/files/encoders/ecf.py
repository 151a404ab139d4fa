"""Metavision HDF5 with chunks of the ECF codec, from the codec's published layout, without plugin or filter."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable, Iterator, Sequence

import h5py
import numpy as np

Event = tuple[int, int, int, int]  # t, x, y, p

FILTER = 36559
RECORD = np.dtype(
    {"names": list("xypt"), "formats": ["<u2", "<u2", "<i2", "<i8"], "offsets": [0, 2, 4, 8], "itemsize": 16}
)
MODES = ("rows", "pairs", "triples")  # y runs with masked x and p runs; y runs with x and p packed; all three packed


def runs(values: Sequence[int], longest: int = 0xFFFF) -> Iterator[tuple[int, int]]:
    """Pairs of value and count."""
    start = 0
    for end in range(1, len(values) + 1):
        if end == len(values) or values[end] != values[start] or end - start == longest:
            yield values[start], end - start
            start = end


def times(t: Sequence[int]) -> bytes:
    """The first time, then a byte a run: 4 bits step, 4 bits count. A count of 15 or more follows in two bytes; a step
    of 15 or more comes before, 4 bits a byte, low ones first, each behind 15."""
    out = [struct.pack("<Q", t[0])]
    now = t[0]
    for value, count in runs(t):
        step, now = value - now, value
        if step >= 15:
            while step:
                out.append(bytes([0xF0 | step & 15]))
                step >>= 4
        out.append(bytes([step << 4 | min(count, 15)]) + (struct.pack("<H", count) if count >= 15 else b""))
    return b"".join(out)


def rows(y: Sequence[int]) -> bytes:
    """Two bytes a run: 11 bits row, 5 bits count, from 31 in the next two bytes."""
    parts = [
        struct.pack("<H", row << 5 | min(count, 31)) + struct.pack("<H", count) * (count >= 31)
        for row, count in runs(y)
    ]
    return b"".join(parts)


def masked_columns(x: Sequence[int], beyond: int = 0) -> bytes:
    """Two bytes for a column and those of the five to its right that follow it, nearest in the highest bit.

    The codec's own encoder may leave bits in the last mask that stand for no event: ``beyond``.
    """
    words: list[int] = []
    at = 0
    while at < len(x):
        base, word = x[at], x[at] << 5
        at += 1
        for right in range(1, 6):
            if at < len(x) and x[at] == base + right:
                word |= 1 << 5 - right
                at += 1
        words.append(word)
    words[-1] |= beyond
    return struct.pack(f"<{len(words)}H", *words)


def polarities(p: Sequence[int]) -> bytes:
    """A byte a run: 1 bit polarity, 7 bits count, from 127 in the next two bytes."""
    parts = [
        bytes([value << 7 | min(count, 127)]) + struct.pack("<H", count) * (count >= 127) for value, count in runs(p)
    ]
    return b"".join(parts)


def pairs(x: Sequence[int], p: Sequence[int], padding: int = 0) -> bytes:
    """Four times 12 bits (column, polarity) in three words of 16 bits; ``padding`` fills the last group."""
    out = []
    for a, b, c, d in _fours([column << 1 | polarity for column, polarity in zip(x, p, strict=True)], padding):
        out.append(struct.pack("<3H", a << 4 | b & 15, b >> 4 << 8 | c & 0xFF, c >> 8 << 12 | d))
    return b"".join(out)


def triples(x: Sequence[int], y: Sequence[int], p: Sequence[int], padding: int = 0) -> bytes:
    """Four times 24 bits (row, column, polarity) in three words of 32 bits."""
    out = []
    packed = [row << 12 | column << 1 | polarity for column, row, polarity in zip(x, y, p, strict=True)]
    for a, b, c, d in _fours(packed, padding):
        out.append(struct.pack("<3I", a << 8 | b & 0xFF, b >> 8 << 16 | c & 0xFFFF, c >> 16 << 24 | d))
    return b"".join(out)


def _fours(values: list[int], padding: int) -> Iterator[list[int]]:
    values = values + [padding] * (-len(values) % 4)
    for start in range(0, len(values), 4):
        yield values[start : start + 4]


def chunk(events: Sequence[Event], mode: str = "rows", padding: int = 0, beyond: int = 0) -> bytes:
    """At most 65535 events in one of `MODES`; times may not step back."""
    t, x, y, p = zip(*events, strict=True)
    head = struct.pack("<I", len(events) << 2 | (mode == "triples") << 1 | (mode == "pairs")) + times(t)
    if mode == "triples":
        return head + triples(x, y, p, padding)
    if mode == "pairs":
        return head + rows(y) + pairs(x, p, padding)
    return head + rows(y) + masked_columns(x, beyond) + polarities(p)


def metavision(
    events: Sequence[Event],
    *,
    chunk_size: int = 16384,
    encode: Callable[[Sequence[Event]], bytes] = chunk,
    geometry: str | None = "1280x720",
    claim: int | None = None,
    triggers: int = 0,
) -> bytes:
    """A file as the recorder lays it out; ``claim`` is the count of events that it says, if not the true one."""
    said = len(events) if claim is None else claim
    memory = io.BytesIO()
    with h5py.File(memory, "w") as file:
        file.attrs["version"], file.attrs["format"] = "1.0", "ECF"
        if geometry is not None:
            file.attrs["geometry"] = geometry
        group = file.create_group("CD")
        place = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        place.set_chunk((chunk_size,))
        place.set_filter(FILTER, h5py.h5z.FLAG_OPTIONAL, ())
        space = h5py.h5s.create_simple((said,), (h5py.h5s.UNLIMITED,))
        h5py.h5d.create(group.id, b"events", h5py.h5t.py_create(RECORD), space, place)
        for start in range(0, len(events), chunk_size):
            group["events"].id.write_direct_chunk((start,), encode(events[start : start + chunk_size]))
        _indexes(group, events)
        edge = np.dtype(
            {"names": ["p", "t", "id"], "formats": ["<i2", "<i8", "<i2"], "offsets": [0, 8, 16], "itemsize": 24}
        )
        file["EXT_TRIGGER/events"] = np.zeros(triggers, edge)
    return memory.getvalue()


def _indexes(group: h5py.Group, events: Sequence[Event]) -> None:
    """A row for every 2000 us (of the first 20 s): the first event at or behind it, and its time from the first's."""
    first = events[0][0] if events else 0
    t = np.array([event[0] - first for event in events], np.int64)
    marks = np.arange(0, min(t[-1] + 1, 20_000_000) if events else 0, 2000)
    table = np.zeros(len(marks), np.dtype([("id", "<u8"), ("ts", "<i8")]))
    table["id"] = np.searchsorted(t, marks)
    table["ts"] = t[table["id"].astype(int)]
    group["indexes"] = table
    group["indexes"].attrs["offset"] = str(-first)
