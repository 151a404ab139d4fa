"""AEDAT 3.1, the files of cAER, DVS128 Gesture among them (iniVation, "AEDAT file formats"; libcaer's packets).

After the header's lines, the last of which is ``#!END-HEADER``, come little-endian packets: 28 bytes of header (kind
i16, source i16, then i32: bytes an event, place of the time in it, overflows of the time, capacity, number, valid ones)
and the events. Of these the reader takes the polarity events of one source, 8 bytes each: valid bit 0, polarity bit 1,
row bits 2-16, column bits 17-31, then 31 bits of time: ``t = overflows << 31 | time`` in microseconds.

Events that are marked invalid are left out and counted, and so are those of other kinds and of further sources.
A packet with room for more events than it has is damage: readers do not agree on what follows it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

import numpy as np

from spikenet.errors import ArgumentError, FormatError
from spikenet.events.files._chips import CHIPS, chip, chip_of_size, sizes
from spikenet.events.files.recording import Columns, Format, Opening, blank
from spikenet.events.files.words import measured
from spikenet.events.stream import EventStream, Sensor

_MARK = b"#!AER-DAT3."
_END = "#!END-HEADER"
_SOURCE = re.compile(r"#-?\s*Source\s+-?\d+:\s*(\S+)")
_LONGEST_LINE, _LONGEST_HEADER = 1 << 16, 1 << 20
_PACKET = 4096  # events that the writer puts in one


class _Source:
    def __init__(self, opening: Opening) -> None:
        self._opening, self._losses = opening, opening.losses
        with opening.path.open("rb") as file:
            lines = _header(opening.path, file)
            self._start = file.tell()
        parts = [line.lstrip("#!-").partition(": ") for line in lines]
        self.header: Mapping[str, str] = {key.strip(): value.strip() for key, colon, value in parts if colon}
        names = [chip(match[1]) for line in lines if (match := _SOURCE.match(line))]
        self.sensor: Sensor | None = next((CHIPS[name] for name in names if name), None)

    def pieces(self, size: int) -> Iterator[Columns]:
        """See `Source`."""
        from spikenet.kernels.events import aedat3 as kernel

        state = np.zeros(kernel.PLACES, np.int64)
        state[kernel.SOURCE] = -1
        end = self._opening.size
        place, rest = self._start, np.empty(0, np.uint8)
        for block in self._opening.blocks(place, end, size):
            data = np.concatenate([rest, block]) if len(rest) else block
            columns = blank(len(data) // kernel.EVENT)
            known = state[kernel.FAULT]
            used, count = kernel.decode_packets(data, end - place - len(data), state, *columns)
            self._tally(state, place)
            if state[kernel.FAULT] != known:
                self._refuse(state, place, end)
            place, rest = place + used, data[used:].copy()
            x, y, p = state[-3:].tolist()
            yield measured(columns, count, (x, y, p))
            if state[kernel.FAULT] and not state[kernel.LEFT]:
                return
        if len(rest) and not state[kernel.FAULT]:
            self._losses.refuse("byte left after the last packet", place, len(rest))

    def _tally(self, state: np.ndarray, place: int) -> None:
        """Count what a piece that begins at byte ``place`` left out."""
        from spikenet.kernels.events import aedat3 as kernel

        self._losses.skip("event marked invalid", int(state[kernel.INVALID]))
        self._losses.skip("event of another kind or source", int(state[kernel.OTHER]))
        if backward := int(state[kernel.NEGATIVE_TIME]):
            self._losses.refuse("event with a negative time", place + int(state[kernel.NEGATIVE_AT]), backward)
        state[[kernel.INVALID, kernel.OTHER, kernel.NEGATIVE_TIME]] = 0

    def _refuse(self, state: np.ndarray, place: int, end: int) -> None:
        """A packet header that cannot be: nothing behind it can be found."""
        from spikenet.kernels.events import aedat3 as kernel

        at = place + int(state[kernel.FAULT_AT])
        if state[kernel.FAULT] == kernel.PAST_END:
            reason = "event missing: its packet reaches past the end of the file"
            self._losses.refuse(reason, at, int(state[kernel.MISSING]))
        else:
            reason = kernel.FAULTS[int(state[kernel.FAULT])]
            self._losses.refuse(f"byte from a packet header with {reason} on", at, end - at)


def _header(path: Path, file: BinaryIO) -> list[str]:
    """The lines; the file is left where the packets begin."""
    lines: list[str] = []
    while (place := file.tell()) < _LONGEST_HEADER:
        line = file.readline(_LONGEST_LINE)
        if not line.startswith(b"#") or not line.endswith(b"\n"):
            raise FormatError(path, place, f"an AEDAT 3 header ends with {_END}, but there is {line[:32]!r}")
        lines.append(line.decode("latin-1").strip())
        if lines[-1] == _END:
            return _checked(path, lines)
    raise FormatError(path, _LONGEST_HEADER, f"no {_END} in the first {_LONGEST_HEADER} bytes")


def _checked(path: Path, lines: list[str]) -> list[str]:
    if lines[0] != "#!AER-DAT3.1":
        raise FormatError(path, 0, f"AEDAT 3.1 can be read, this is {lines[0]}")
    forms = [line for line in lines if re.match(r"#\s*Format:", line)]
    if any(form.partition(":")[2].strip() != "RAW" for form in forms):
        raise FormatError(path, 0, f"the format RAW can be read, this is {forms[0]}")
    return lines


def _write(stream: EventStream, path: Path) -> None:
    from spikenet.kernels.events import aedat3 as kernel

    t, x, y, p = (column.numpy() for column in (stream.t, stream.x, stream.y, stream.p))
    name = chip_of_size(stream.sensor)
    if name is None or (t >> 62).any():
        raise ArgumentError(
            f"AEDAT 3.1 holds events of {sizes()} and times of 0 or more below 2^62 us, received {stream}"
        )
    packets = len(t) // _PACKET + 1 + int(np.count_nonzero(np.diff(t >> 31)))
    out = np.empty(packets * kernel.HEADER // 4 + 2 * len(t), np.int32)
    filled = kernel.encode_packets(t, x, y, p, _PACKET, out)
    header = f"#!AER-DAT3.1\r\n#Format: RAW\r\n#Source 1: {name}\r\n{_END}\r\n"
    path.write_bytes(header.encode() + out[:filled].astype("<i4").tobytes())


AEDAT3 = Format(
    "aedat3", (".aedat", ".aedat3"), lambda path, head: head.startswith(_MARK), _Source, _write, begins=b"#"
)
