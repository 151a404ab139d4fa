"""Prophesee EVT3 in RAW files: 16-bit words that change what is kept: time, row, column.

``t = wraps << 24 | high << 12 | low`` in microseconds. A TIME_HIGH word that steps back by 2048 or more is a wrap; one
that changes the high part sets the low part to 0. TIME_LOW words set the low part, and real sensors let it step back:
that is kept, and no wrap is taken from it. A vector word carries a bit for each of 12 or 8 columns and moves on by as
many, whatever the bits. Skipped and counted are events before the first TIME_HIGH, events before the first row (or, for
vectors, column), triggers and other words. Times are those of the file; OpenEB by default moves them to begin near 0.
Vectors are written as OpenEB reads them, 12, 12 and 8 columns together, where five events or more lie in 32 columns.
Source: Prophesee, EVT 3.0 format (docs.prophesee.ai); time as in OpenEB's evt3_decoder.h.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from spikenet.events.files import text_header
from spikenet.events.files.recording import Format, Opening
from spikenet.events.files.words import EvtDecoder, WordSource, encoded, open_raw, raw_header, write_words
from spikenet.events.stream import EventStream


def _recognises(path: Path, head: bytes) -> bool:
    return text_header.encoding(head) == "3"


def _open(opening: Opening) -> WordSource:
    return open_raw(opening, "3", np.uint16, lambda: _decoder(opening))


def _decoder(opening: Opening) -> EvtDecoder:
    from spikenet.kernels.events import evt3

    return EvtDecoder(opening.losses, evt3)


def _write(stream: EventStream, path: Path) -> None:
    from spikenet.kernels.events import evt3

    words = encoded(stream, "EVT3", evt3, np.uint16)
    write_words(path, raw_header("3.0", "EVT3", stream.sensor), words)


EVT3 = Format("evt3", (".raw",), _recognises, _open, _write, begins=b"%")
