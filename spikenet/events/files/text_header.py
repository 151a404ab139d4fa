"""The text that Prophesee files begin with: lines of a percent sign, a key and a value.

Newer files close it with the line ``% end``. Where that is missing, the header ends before the first line that does not
begin with a percent sign or is not printable, so a body whose first byte is a percent sign is not taken for text.
Source: Prophesee, RAW and DAT file formats (docs.prophesee.ai).
"""

from __future__ import annotations

import re
from typing import NamedTuple

from spikenet.errors import FormatError
from spikenet.events.files.recording import Opening
from spikenet.events.stream import Sensor

_CLOSED = re.compile(rb"(?:%[^\n]*\n)*?% ?end\r?\n")
_OPEN = re.compile(rb"(?:%[\t -~]*\r?\n)*")
_ENCODING = re.compile(rb"(?:%[^\n]*\n)*?% ?(?:format +EVT|evt +)(\d)(?:\.?([1-9]))?")


class TextHeader(NamedTuple):
    """Keys and values, and the byte at which the body begins."""

    fields: dict[str, str]
    size: int


def encoding(head: bytes) -> str:
    """The digits of the word format that a file claims (``"2"``, ``"21"``, ``"3"``), empty where it claims none."""
    found = _ENCODING.match(head) if head[:1] == b"%" else None
    return (found[1] + (found[2] or b"")).decode() if found else ""


def parse(opening: Opening) -> TextHeader:
    """Read the header of a file. Errors: FormatError where there is none or it has no end."""
    head = opening.head
    found = _CLOSED.match(head) or _OPEN.match(head)
    assert found is not None  # the second pattern matches nothing, too
    size = found.end()
    if not size:
        raise FormatError(opening.path, 0, f"a header of lines that begin with % is wanted, found {head[:16]!r}")
    cut = size == len(head) or (head[size] == ord("%") and b"\n" not in head[size:])
    if cut and len(head) < opening.size:
        raise FormatError(opening.path, size, f"the header does not end within {len(head)} bytes")
    fields = {}
    for line in head[:size].decode("latin-1").splitlines():
        key, _, value = line[1:].strip().partition(" ")
        fields[key] = value.strip()
    fields.pop("end", None)
    return TextHeader(fields, size)


def options(fields: dict[str, str]) -> dict[str, str]:
    """What follows the name in the field ``format`` (``EVT3;height=720;width=1280``)."""
    return dict(part.partition("=")[::2] for part in fields.get("format", "").split(";")[1:])


def sensor(opening: Opening, fields: dict[str, str], width: str | None, height: str | None) -> Sensor | None:
    """A sensor of two polarities from two numbers in words. Errors: FormatError for a size that cannot be."""
    if width is None or height is None:
        return None
    if not (width.isdecimal() and height.isdecimal() and 0 < int(width) < 1 << 16 and 0 < int(height) < 1 << 16):
        raise FormatError(opening.path, 0, f"a sensor size of whole numbers is wanted, the header says {fields}")
    return Sensor(int(width), int(height), 2)
