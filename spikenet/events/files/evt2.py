"""Prophesee EVT2 in RAW files: 32-bit words, one an event.

``t = high << 6 | low`` in microseconds: TIME_HIGH words bring the 28 high bits, every event its 6 low ones. The high
part wraps after 4 hours 46 minutes; a step back that misses the whole range by 10 ms or less is that wrap, any other is
kept. Events before the first TIME_HIGH have no time: they are skipped and counted, as are triggers and other words.
Source: Prophesee, EVT 2.0 format (docs.prophesee.ai); wraps as in OpenEB's evt2_decoder.h.
"""

from __future__ import annotations

from types import ModuleType

import numpy as np

from spikenet.events.files.evt import evt_format


def _kernel() -> ModuleType:
    from spikenet.kernels.events import evt2

    return evt2


EVT2 = evt_format("2", np.uint32, _kernel)
