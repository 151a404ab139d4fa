"""Text, one event a line: ``t x y p`` with ``t`` in decimal seconds, as in the UZH event-camera data set (Mueggler et
al., IJRR 36:142, 2017). The file names no sensor: the caller does.

Words are parted by blanks or tabs; blank lines are passed over. Times become whole microseconds, rounded half up in
size; digits beyond are lost, so a file with nanoseconds does not come back from a round trip digit by digit.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from spikenet.errors import ArgumentError
from spikenet.events.files.recording import Columns, Format, Opening, blank, cut
from spikenet.events.stream import EventStream, Sensor

_LINE = re.compile(rb"\s*-?\d+(\.\d*)?[ \t]+\d+[ \t]+\d+[ \t]+\d+[^\S\n]*(\n|\Z)")
_MOST, _MOST_TIME = Sensor(10**9, 10**9, 100), 10**18  # us: what the reader surely takes
_BLOCK = 1 << 16  # events that the writer formats at a time


def _recognises(path: Path, head: bytes) -> bool:
    return os.fspath(path).endswith(".txt") or _LINE.match(head) is not None


class _Source:
    sensor: Sensor | None = None

    def __init__(self, opening: Opening) -> None:
        self.header: Mapping[str, str] = {}
        self._path, self._losses = opening.path, opening.losses

    def pieces(self, size: int) -> Iterator[Columns]:
        """See `Source`."""
        from spikenet.kernels.events.text import decode_lines

        for place, lines in self._lines(size):
            columns = blank((len(lines) + 1) // 8)
            count, bad, first = decode_lines(np.frombuffer(lines, np.uint8), *columns)
            if bad:
                self._losses.refuse("line that is not 't x y p'", place + first, bad)
            yield cut(columns, count)

    def _lines(self, size: int) -> Iterator[tuple[int, bytes]]:
        """Whole lines, about ``size`` bytes at a time, and where they begin."""
        from spikenet.kernels.events.text import LONGEST_LINE

        place, rest, lost = 0, b"", 0
        with self._path.open("rb") as file:
            while block := file.read(size):
                rest += block
                if end := rest.rfind(b"\n") + 1:
                    yield place, rest[:end]
                    place, rest, lost = place + end + lost, rest[end:], 0
                if len(rest) > LONGEST_LINE + 1:  # too long by now: its beginning is enough to refuse it
                    lost += len(rest) - LONGEST_LINE - 1
                    rest = rest[: LONGEST_LINE + 1]
        if rest:
            yield place, rest


def _write(stream: EventStream, path: Path) -> None:
    late = (stream.t >= _MOST_TIME) | (stream.t <= -_MOST_TIME)
    if any(size > limit for size, limit in zip(stream.sensor, _MOST, strict=True)) or late.any():
        raise ArgumentError(
            f"text holds events of {_MOST.width} x {_MOST.height} x {_MOST.polarities} addresses and times below "
            f"10^12 s, received {stream}"
        )
    with path.open("w", newline="\n") as file:
        for start in range(0, len(stream), _BLOCK):
            part = slice(start, start + _BLOCK)
            rows = zip(*(column[part].tolist() for column in (stream.t, stream.x, stream.y, stream.p)), strict=True)
            file.writelines(f"{_seconds(t)} {x} {y} {p}\n" for t, x, y, p in rows)


def _seconds(t: int) -> str:
    whole, rest = divmod(abs(t), 1_000_000)
    return f"{'-' if t < 0 else ''}{whole}.{rest:06d}"


TEXT = Format("text", (".txt",), _recognises, _Source, _write)
