"""Prophesee DAT, version 2: records of 8 bytes behind a text header and two bytes of type and size.

A record is, little-endian, 32 bits of time in microseconds, then a word of column (bits 0 to 13), row (14 to 27) and
polarity (28). Types 0 (Event2D) and 12 (CD) are read. A header without ``Width`` and ``Height`` asks for a sensor.
Times stay the 32 bits that are stored, as in Prophesee's own reader: in a recording of more than 71 minutes they begin
again at 0, and no wrap is invented. Source: Prophesee, DAT file format (docs.prophesee.ai); OpenEB, dat_tools.py.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from spikenet.errors import FormatError
from spikenet.events.files import text_header
from spikenet.events.files.recording import Columns, Format, Opening, blank
from spikenet.events.files.words import WordSource, check_writable, columns_of, measured, write_words
from spikenet.events.stream import EventStream

_RECORD = 8
_KINDS = {0, 12}


def _recognises(path: Path, head: bytes) -> bool:
    return re.match(rb"%[\x20-\x7e\t]*\r?\n", head) is not None and not text_header.encoding(head)


def _open(opening: Opening) -> WordSource:
    fields, start = text_header.parse(opening)
    found = tuple(opening.head[start : start + 2])
    if len(found) < 2 or found[0] not in _KINDS or found[1] != _RECORD:
        reason = f"type 0 or 12 and size {_RECORD} are wanted behind the header, found {found}"
        raise FormatError(opening.path, start, reason)
    sensor = text_header.sensor(opening, fields, fields.get("Width"), fields.get("Height"))
    start = min(start + 2, opening.size)
    return WordSource(opening, fields, start, sensor, np.uint32, _RECORD, lambda: _decode)


def _decode(words: np.ndarray) -> Columns:
    from spikenet.kernels.events.dat import decode

    columns = blank(len(words) // 2)
    return measured(columns, len(columns.t), decode(words, *columns))


def _write(stream: EventStream, path: Path) -> None:
    check_writable(stream, "DAT", 1 << 14, 1 << 32)
    t, x, y, p = columns_of(stream)
    words = np.empty((len(t), 2), np.uint32)
    words[:, 0] = t
    words[:, 1] = x | y << 14 | p.astype(np.int32) << 28
    width, height, _ = stream.sensor
    header = f"% Data file containing CD events\n% Version 2\n% Width {width}\n% Height {height}\n".encode()
    write_words(path, header + bytes([12, _RECORD]), words)


DAT = Format("dat", (".dat",), _recognises, _open, _write, begins=b"%")
