"""Prophesee EVT2.1 in RAW files: 64-bit words, each up to 32 events of one row, time and polarity.

``t = high << 6 | low`` as in EVT2; a step back by the whole range of the high part is a wrap, any other is kept. Bit
``i`` of a word's mask is the event at its column plus ``i``. Sensors of the IMX636 kind send the two 32-bit halves of a
word in turned order, which the header calls ``endianness=legacy``; where it says nothing of the order, the one that has
the first TIME_HIGH word within the file's first 64 KiB is taken. Words are written in the straight order.
Source: Prophesee, EVT 2.1 format (docs.prophesee.ai); time and order as in OpenEB's evt21_decoder.h.
"""

from __future__ import annotations

from types import ModuleType

import numpy as np

from spikenet.events.files import text_header
from spikenet.events.files.evt import EvtDecoder, evt_format
from spikenet.events.files.recording import Columns, Opening
from spikenet.events.files.words import Decoder

_TIME_HIGH = 8


def _kernel() -> ModuleType:
    from spikenet.kernels.events import evt21

    return evt21


def _decoder(opening: Opening) -> Decoder:
    kernel = _kernel()
    decode = EvtDecoder(opening.losses, kernel)
    if not _turned(opening):
        return decode

    def turn_and_decode(words: np.ndarray) -> Columns:
        kernel.swap_halves(words)
        return decode(words)

    return turn_and_decode


def _turned(opening: Opening) -> bool:
    """Whether the halves of the words are exchanged."""
    fields, start = text_header.parse(opening)
    said = text_header.options(fields).get("endianness", fields.get("endianness"))
    if said is not None:
        return said == "legacy"
    body = opening.head[start:]
    halves = np.frombuffer(body[: len(body) // 8 * 8], np.uint32).reshape(-1, 2)
    low, high = (
        np.flatnonzero((this >> 28 == _TIME_HIGH) & (other == 0)) for this, other in (halves.T, halves.T[::-1])
    )
    return bool(len(low)) and (not len(high) or bool(low[0] < high[0]))


EVT21 = evt_format("21", np.uint64, _kernel, ";endianness=little", _decoder)
