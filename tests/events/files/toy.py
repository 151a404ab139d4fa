"""A format for the fuzz program to break: its reader crashes, hangs, hoards and lies on purpose."""

from __future__ import annotations

import os
import signal

import numpy as np

from spikenet.errors import FormatError
from spikenet.events import Sensor
from spikenet.events.files import FORMATS
from spikenet.events.files.recording import Columns, Format, Opening
from tests.events.files import samples

MAGIC = b"TOY1"
SENSOR = Sensor(256, 256, 2)


class ToySource:
    """Three bytes an event (t, x, y); the byte behind the magic says what goes wrong."""

    header: dict[str, str] = {}
    sensor = SENSOR

    def __init__(self, opening: Opening) -> None:
        content = opening.path.read_bytes()
        if content[:4] != MAGIC or len(content) < 5:
            raise FormatError(opening.path, 0, "not a toy")
        self.losses, self.trouble, self.body = opening.losses, content[4], content[5:]

    def pieces(self, size):
        if self.trouble & 1:
            os.kill(os.getpid(), signal.SIGSEGV)
        while self.trouble & 2:
            pass
        if self.trouble & 4:
            np.ones(100 << 20, np.uint8)  # more than a small file may take
        if self.trouble & 8:
            np.ones(1 << 40, np.uint8)  # more than there is
        if self.trouble & 16:
            raise IndexError("toy")
        body = self.body[: len(self.body) // 3 * 3]
        if len(body) < len(self.body) and (self.losses.strict or not self.trouble & 32):
            self.losses.refuse("torn record", 5 + len(body))  # 32: a tolerant reader says nothing of it
        t, x, y = np.frombuffer(body, np.uint8).reshape(-1, 3).T
        p = np.full(len(t), self.trouble >> 6 & 1)  # 64: which depends on the way of reading
        if self.trouble & 64 and size != 5 + len(self.body):
            p = 1 - p
        yield Columns(t.astype(np.int64), x.astype(np.int32), y.astype(np.int32), p.astype(np.int8))


SAMPLE = samples.Sample("toy", ".toy", MAGIC + b"\0" + bytes([1, 2, 3, 4, 5, 6]), SENSOR, [(1, 2, 3, 0), (4, 5, 6, 0)])


def register() -> None:
    FORMATS["toy"] = Format("toy", (".toy",), lambda path, head: head.startswith(MAGIC), ToySource)
    samples.MAKERS["toy"] = lambda: [SAMPLE]
