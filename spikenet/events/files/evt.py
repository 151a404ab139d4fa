"""What Prophesee's three word formats in RAW files share: header, decoding in passes, writing.

Each format has a kernel of its own, a module with ``fresh_state``, ``begin``, ``decode`` and ``encode``, which is
loaded with the first file.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from spikenet.errors import ArgumentError, FormatError
from spikenet.events.files import text_header
from spikenet.events.files.recording import Columns, Format, Losses, Opening, blank
from spikenet.events.files.words import Decoder, WordSource, check_writable, columns_of, measured, write_words
from spikenet.events.stream import EventStream, Sensor

MOST_TIME = 1 << 44  # microseconds, 203 days: what a writer reaches by letting a format's clock wrap
_SKIPPED = {
    7: "continued word",
    10: "trigger",
    14: "other word",
    15: "continued word",
    16: "event before the first time stamp",
    17: "word of events before the first row or column",
}


def evt_format(
    version: str,
    word: type[np.unsignedinteger],
    kernel: Callable[[], Any],
    order: str = "",
    decoder: Callable[[Opening], Decoder] | None = None,
) -> Format:
    """A word format.

    Args:
        version: as in the header, ``"2"``, ``"21"`` or ``"3"``.
        word: the type of a word.
        kernel: loads the kernel.
        order: what the header of a written file adds to the format's name.
        decoder: what decodes one pass, where that is more than an `EvtDecoder`.
    """
    name, number = f"EVT{version}", f"{version[0]}.{version[1:] or 0}"

    def decode(opening: Opening) -> Decoder:
        return EvtDecoder(opening.losses, kernel())

    def recognises(path: Path, head: bytes) -> bool:
        return text_header.encoding(head) == version

    def open_file(opening: Opening) -> WordSource:
        return _open(opening, version, word, decoder or decode)

    def write(stream: EventStream, path: Path) -> None:
        words = _encoded(stream, f"EVT{number.removesuffix('.0')}", kernel(), word)
        write_words(path, _header(number, name + order, stream.sensor), words)

    return Format(name.lower(), (".raw",), recognises, open_file, write, begins=b"%")


class EvtDecoder:
    """Decodes the EVT words of one pass, piece by piece.

    Args:
        losses: where skipped words are counted.
        kernel: the module of the word format.
    """

    def __init__(self, losses: Losses, kernel: Any) -> None:
        self.losses, self.kernel = losses, kernel
        self.state, self.skipped = kernel.fresh_state()

    def __call__(self, words: np.ndarray) -> Columns:
        first, most = self.kernel.begin(words, self.state, self.skipped)
        columns = blank(most)
        count = self.kernel.decode(words[first:], self.state, self.skipped, *columns)
        skipped = self.skipped.tolist()
        if any(skipped):
            self._count(skipped)
        *_, x, y, p = self.state.tolist()
        return measured(columns, count, (x, y, p))

    def _count(self, skipped: list[int]) -> None:
        for kind, count in enumerate(skipped):
            self.losses.skip(_SKIPPED.get(kind, f"word of the unknown kind {kind}"), count)
        self.skipped[:] = 0


def _open(
    opening: Opening, version: str, word: type[np.unsignedinteger], decoder: Callable[[Opening], Decoder]
) -> WordSource:
    """Open a RAW file of the word format ``version``. Errors: FormatError for one of another format or none."""
    fields, start = text_header.parse(opening)
    found = text_header.encoding(opening.head)
    if found not in (version, ""):
        raise FormatError(opening.path, 0, f"words of EVT{version} are wanted, the header says EVT{found}")
    width, _, height = fields.get("geometry", "").partition("x")
    said = text_header.options(fields)
    sensor = text_header.sensor(opening, fields, width or said.get("width"), height or said.get("height"))
    return WordSource(opening, fields, start, sensor, word, word().itemsize, lambda: decoder(opening))


def _header(number: str, name: str, sensor: Sensor) -> bytes:
    """The header of a RAW file."""
    size = f"height={sensor.height};width={sensor.width}"
    return f"% evt {number}\n% format {name};{size}\n% geometry {sensor.width}x{sensor.height}\n% end\n".encode()


def _encoded(stream: EventStream, name: str, kernel: Any, word: type[np.unsignedinteger]) -> np.ndarray:
    """A stream as EVT words: the first pass counts them, the second writes them. Errors: ArgumentError."""
    check_writable(stream, name, 1 << 11, MOST_TIME)
    columns = columns_of(stream)
    words = np.empty(0, word)
    while (count := kernel.encode(*columns, words)) > len(words):
        words = np.empty(count, word)
    if count < 0:
        raise ArgumentError(
            f"{name} files cannot go back behind a wrap of their clock, event {-1 - count} does; "
            "stream.sorted() would work"
        )
    return words
