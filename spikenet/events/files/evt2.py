"""Prophesee EVT2 in RAW files: 32-bit words, one an event.

``t = high << 6 | low`` in microseconds: TIME_HIGH words bring the 28 high bits, every event its 6 low ones. The high
part wraps after 4 hours 46 minutes; a step back that misses the whole range by 10 ms or less is that wrap, any other is
kept. Events before the first TIME_HIGH have no time: they are skipped and counted, as are triggers and other words.
Source: Prophesee, EVT 2.0 format (docs.prophesee.ai); wraps as in OpenEB's evt2_decoder.h.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from spikenet.events.files import text_header
from spikenet.events.files.recording import Format, Opening
from spikenet.events.files.words import EvtDecoder, WordSource, encoded, open_raw, raw_header, write_words
from spikenet.events.stream import EventStream


def _recognises(path: Path, head: bytes) -> bool:
    return text_header.encoding(head) == "2"


def _open(opening: Opening) -> WordSource:
    return open_raw(opening, "2", np.uint32, lambda: _decoder(opening))


def _decoder(opening: Opening) -> EvtDecoder:
    from spikenet.kernels.events import evt2

    return EvtDecoder(opening.losses, evt2)


def _write(stream: EventStream, path: Path) -> None:
    from spikenet.kernels.events import evt2

    words = encoded(stream, "EVT2", evt2, np.uint32)
    write_words(path, raw_header("2.0", "EVT2", stream.sensor), words)


EVT2 = Format("evt2", (".raw",), _recognises, _open, _write, begins=b"%")
