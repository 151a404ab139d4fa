"""Prophesee DAT, EVT2, EVT2.1 and EVT3, word by word from the vendor's descriptions of the formats."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence

Event = tuple[int, int, int, int]  # t, x, y, p

LATEST = (1 << 28) - 1  # the last TIME_HIGH of EVT2 and EVT2.1 before it starts again at 0


def header(*lines: str, end: bool = True) -> bytes:
    """The text before the data of a RAW or DAT file, one ``% key value`` a line; older files have no ``% end``."""
    return "".join(f"% {line}\n" for line in (*lines, *["end"] * end)).encode()


# DAT version 2.


def dat(events: Iterable[Event], *lines: str, kind: int = 12, size: int = 8) -> bytes:
    """``kind`` is 0 for 2-d events, 12 for contrast changes, 14 for triggers. Time starts again at 2^32 us."""
    records = [struct.pack("<II", t & 0xFFFFFFFF, p << 28 | y << 14 | x) for t, x, y, p in events]
    return header("Data file containing CD events.", "Version 2", *lines, end=False) + bytes(
        [kind, size, *b"".join(records)]
    )


# EVT2: 32-bit words.


def evt2_time_high(high: int) -> bytes:
    return struct.pack("<I", 0x8 << 28 | high)


def evt2_word(kind: int, low: int, x: int, y: int) -> bytes:
    return struct.pack("<I", kind << 28 | low << 22 | x << 11 | y)


def evt2_trigger(low: int, edge: int = 1, channel: int = 0) -> bytes:
    return struct.pack("<I", 0xA << 28 | low << 22 | channel << 8 | edge)


def evt2_body(events: Iterable[Event]) -> bytes:
    """A TIME_HIGH before the first event and wherever bits 6 and up of the time change; 34 bits, then from 0."""
    parts: list[bytes] = []
    high = None
    for t, x, y, p in events:
        if t >> 6 != high:
            high = t >> 6
            parts.append(evt2_time_high(high & LATEST))
        parts.append(evt2_word(p, t & 63, x, y))
    return b"".join(parts)


def evt2(body: bytes, *lines: str, end: bool = True) -> bytes:
    return header("evt 2.0", *lines, end=end) + body


# EVT2.1: 64-bit words, up to 32 neighbouring pixels in one.


def evt21_word(kind: int, low: int, x: int, y: int, mask: int) -> int:
    return kind << 60 | low << 54 | x << 43 | y << 32 | mask


def evt21_time_high(high: int) -> int:
    return 0x8 << 60 | high << 32


def evt21_trigger(low: int, edge: int = 1, channel: int = 0) -> int:
    return 0xA << 60 | low << 54 | channel << 40 | edge << 32


def evt21_words(events: Sequence[Event]) -> list[int]:
    """Ascending pixels of one row, time and polarity share a word whose base is the first of them."""
    words: list[int] = []
    high = None
    group: tuple[int, int, int] | None = None
    last = -1
    for t, x, y, p in events:
        if t >> 6 != high:
            high, group = t >> 6, None
            words.append(evt21_time_high(high & LATEST))
        base = words[-1] >> 43 & 0x7FF
        if group == (t, y, p) and last < x < base + 32:
            words[-1] |= 1 << x - base
        else:
            words.append(evt21_word(p, t & 63, x, y, 1))
            group = (t, y, p)
        last = x
    return words


def evt21(words: Iterable[int], *lines: str, legacy: bool = False) -> bytes:
    """Legacy order (IMX636) sends the upper half of a word first, each half little-endian."""
    order = "legacy" if legacy else "little"
    halves = [(word >> 32, word & 0xFFFFFFFF) if legacy else (word & 0xFFFFFFFF, word >> 32) for word in words]
    body = b"".join(struct.pack("<II", *pair) for pair in halves)
    lines = lines or (f"format EVT21;height=720;width=1280;endianness={order}",)
    return header("evt 2.1", *lines) + body


# EVT3: 16-bit words that change a state.


def addr_y(y: int, origin: int = 0) -> int:
    return 0x0 << 12 | origin << 11 | y


def addr_x(x: int, p: int) -> int:
    return 0x2 << 12 | p << 11 | x


def vect_base_x(x: int, p: int) -> int:
    return 0x3 << 12 | p << 11 | x


def vect_12(mask: int) -> int:
    return 0x4 << 12 | mask


def vect_8(mask: int) -> int:
    return 0x5 << 12 | mask


def time_low(low: int) -> int:
    return 0x6 << 12 | low


def continued_4(data: int) -> int:
    return 0x7 << 12 | data


def time_high(high: int) -> int:
    return 0x8 << 12 | high


def trigger(edge: int, channel: int = 0) -> int:
    return 0xA << 12 | channel << 8 | edge


def others(subtype: int) -> int:
    return 0xE << 12 | subtype


def continued_12(data: int) -> int:
    return 0xF << 12 | data


def evt3_words(events: Iterable[Event]) -> list[int]:
    """One ADDR_X an event, the rest of the state only where it changes. Time may step back within a TIME_HIGH.

    TIME_LOW follows every TIME_HIGH: decoders disagree on what TIME_LOW is without it.
    """
    words: list[int] = []
    high = low = row = None
    for t, x, y, p in events:
        if t >> 12 != high:
            high, low = t >> 12, None
            words.append(time_high(high & 0xFFF))
        if t & 0xFFF != low:
            low = t & 0xFFF
            words.append(time_low(low))
        if y != row:
            row = y
            words.append(addr_y(y))
        words.append(addr_x(x, p))
    return words


def evt3(words: Sequence[int], *lines: str, end: bool = True) -> bytes:
    lines = lines or ("format EVT3;height=720;width=1280",)
    return header("evt 3.0", *lines, end=end) + struct.pack(f"<{len(words)}H", *words)
