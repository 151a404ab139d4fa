"""AEDAT 2.0 and 1.0, the files of jAER (iniVation, "AEDAT file formats"; jAER's DVS128 and DavisChip).

Header lines begin with ``#`` and share one line end; ``#!AER-DAT2.0`` is the first of them, or else the version is 1.0.
Nothing but the first byte tells a header from a body, so a line counts as header only if all of it is printable, and
the line ``#End Of ASCII Header``, which newer files have, ends it. Records are big-endian: in 2.0 an address (4 bytes)
and a signed time in microseconds, in 1.0 an address of 2 bytes and an unsigned time.

The header's AEChip says how addresses are laid out; without one the caller's sensor does:

- DVS128 (128 x 128, CIFAR10-DVS too): polarity bit 0, column bits 1-7, row bits 8-14; bits 15 and 31 mark other things.
- DAVIS: polarity bit 11, column bits 12-21, row bits 22-30; bit 31 marks frames and IMU, bit 10 external events.

**Polarity is the bit as it is stored.** Sources contradict each other: jAER takes 0 for ON on a DVS128 and mirrors its
columns, iniVation's page takes 1 for ON; ``flip_p`` and ``flip_x`` change what they say. Row 0 is the lowest.
"""

from __future__ import annotations

import os
import re
from functools import partial
from pathlib import Path

import numpy as np

from spikenet.errors import ArgumentError, FormatError
from spikenet.events.files._chips import CHIPS, chip, chip_of_size, sizes
from spikenet.events.files.recording import Format, Opening
from spikenet.events.files.words import RecordDecoder, WordSource
from spikenet.events.stream import EventStream

_SPECIAL = "special event, frame or IMU sample"
_MARK = b"#!AER-DAT"
_VERSIONS = {b"#!AER-DAT1.0": 1, b"#!AER-DAT2.0": 2}
_END = b"#End Of ASCII Header"
_LINES = re.compile(rb"#[\t -~\x80-\xff]*(\r?\n)(?:#[\t -~\x80-\xff]*\1)*")
_LONGEST_HEADER = 1 << 24


def _recognises(path: Path, head: bytes) -> bool:
    if head.startswith(_MARK):
        return head.startswith(tuple(_VERSIONS))
    return os.fspath(path).endswith(".aedat")


def _open(opening: Opening) -> WordSource:
    from spikenet.kernels.events import records

    version, header, start = _header(opening)
    name = _chip(opening, header)
    if version == 1:
        kernel, record = records.decode_aedat1, 6
    else:
        kernel, record = records.decode_dvs128 if name == "DVS128" else records.decode_davis, 8
    decoder = partial(RecordDecoder, opening.losses, kernel, record, _SPECIAL)
    return WordSource(opening, header, start, CHIPS[name], np.uint8, record, decoder)


def _header(opening: Opening) -> tuple[int, dict[str, str], int]:
    """Version, values, and where the records begin."""
    version, start = 1, 0
    header: dict[str, str] = {}
    found = _found(opening)
    if found is None:
        return version, header, start
    for line in found[0].split(found[1])[:-1]:
        start += len(line) + len(found[1])
        if line.startswith(_MARK):
            version = _VERSIONS.get(line, 0)
            if not version:
                reason = f"AEDAT 1.0 and 2.0 can be read, this is {line.decode('latin-1')}"
                raise FormatError(opening.path, 0, reason)
            continue
        if line == _END:
            break
        key, colon, value = line.decode("latin-1").lstrip("#! ").partition(": ")
        if colon:
            header.setdefault(key, value.strip())
    return version, header, start


def _found(opening: Opening) -> re.Match[bytes] | None:
    """The header's lines and, as group 1, the bytes that end each."""
    found = _LINES.match(opening.head)
    if opening.size > len(opening.head) and _goes_on(opening.head, found):
        with opening.path.open("rb") as file:
            found = _LINES.match(file.read(_LONGEST_HEADER))
    return found


def _goes_on(head: bytes, found: re.Match[bytes] | None) -> bool:
    """Whether a header may be longer than what was read of it."""
    stop = found.end() if found else 0
    return head.startswith(b"#") and _END not in head[:stop] and b"\n" not in head[stop:]


def _chip(opening: Opening, header: dict[str, str]) -> str:
    named = header.get("AEChip", "")
    found = chip(named) or (chip_of_size(opening.sensor) if opening.sensor else None)
    if found is None:
        choices = ", ".join(f"Sensor({size.width}, {size.height}, 2) ({name})" for name, size in CHIPS.items())
        raise ArgumentError(
            f"{opening.path} names the chip {named!r}, whose addresses are not known; received sensor="
            f"{opening.sensor}, but one of these would say how to read them: {choices}"
        )
    return found


def _write(stream: EventStream, path: Path) -> None:
    t, x, y, p = (column.numpy().astype(np.int64) for column in (stream.t, stream.x, stream.y, stream.p))
    name = chip_of_size(stream.sensor)
    if name is None or (t != t.astype(np.int32)).any():
        raise ArgumentError(f"AEDAT 2.0 holds events of {sizes()} and times of 32 bits with sign, received {stream}")
    address = y << 8 | x << 1 | p if name == "DVS128" else y << 22 | x << 12 | p << 11
    header = f"#!AER-DAT2.0\r\n# AEChip: {name}\r\n".encode() + _END + b"\r\n"
    path.write_bytes(header + np.stack([address, t], axis=1).astype(">i4").tobytes())


AEDAT2 = Format("aedat2", (".aedat", ".aedat2"), _recognises, _open, _write)
