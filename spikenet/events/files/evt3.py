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

from types import ModuleType

import numpy as np

from spikenet.events.files.evt import evt_format


def _kernel() -> ModuleType:
    from spikenet.kernels.events import evt3

    return evt3


EVT3 = evt_format("3", np.uint16, _kernel)
