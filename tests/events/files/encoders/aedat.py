"""AEDAT 1.0, 2.0 (jAER) and 3.1 (cAER), from their published descriptions."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence

Event = tuple[int, int, int, int]  # t, x, y, p

DVS128 = "ch.unizh.ini.jaer.chip.retina.DVS128"
DAVIS240C = "eu.seebetter.ini.chips.davis.DAVIS240C"
DAVIS346 = "eu.seebetter.ini.chips.davis.Davis346red"

# Addresses that are no events.
APS_SAMPLE = 1 << 31 | 5 << 22 | 7 << 12
IMU_SAMPLE = 1 << 31 | 3 << 10
EXTERNAL = 1 << 10  # DAVIS
SPECIAL = 1 << 31  # DVS128, 32-bit addresses
SPECIAL_16 = 1 << 15  # DVS128, 16-bit addresses


def lines(*text: str) -> bytes:
    return "".join(f"{line}\r\n" for line in text).encode()


def davis_address(x: int, y: int, p: int) -> int:
    return y << 22 | x << 12 | p << 11


def dvs128_address(x: int, y: int, p: int) -> int:
    return y << 8 | x << 1 | p


def davis(events: Iterable[Event]) -> list[tuple[int, int]]:
    """Pairs of address and time."""
    return [(davis_address(x, y, p), t) for t, x, y, p in events]


def dvs128(events: Iterable[Event]) -> list[tuple[int, int]]:
    """Pairs of address and time."""
    return [(dvs128_address(x, y, p), t) for t, x, y, p in events]


def aedat1(pairs: Iterable[tuple[int, int]], *comments: str) -> bytes:
    """16-bit addresses and 32-bit times, big-endian, with no word on the version."""
    return lines(*(f"# {text}" for text in comments)) + b"".join(struct.pack(">HI", *pair) for pair in pairs)


def aedat2(pairs: Iterable[tuple[int, int]], *comments: str, chip: str | None = None) -> bytes:
    """32-bit addresses and signed 32-bit times, big-endian."""
    said = [f"# {text}" for text in comments] + [f"# AEChip: {chip}"] * (chip is not None)
    return lines("#!AER-DAT2.0", *said) + b"".join(struct.pack(">Ii", *pair) for pair in pairs)


# AEDAT 3.1.

SPECIAL_EVENT, POLARITY, FRAME, IMU6 = range(4)


def packet(
    kind: int,
    body: bytes,
    *,
    size: int = 8,
    overflow: int = 0,
    source: int = 1,
    number: int | None = None,
    capacity: int | None = None,
    valid: int | None = None,
) -> bytes:
    """The 28-byte head that libcaer writes, then ``number`` events of ``size`` bytes."""
    number = len(body) // size if number is None else number
    capacity = number if capacity is None else capacity
    valid = number if valid is None else valid
    return struct.pack("<hhiiiiii", kind, source, size, 4, overflow, capacity, number, valid) + body


def polarity_event(t: int, x: int, y: int, p: int, valid: int = 1) -> bytes:
    return struct.pack("<Ii", x << 17 | y << 2 | p << 1 | valid, t)


def polarities(events: Sequence[Event], *, invalid: Sequence[int] = (), **options: int) -> bytes:
    """A packet of polarity events; those whose numbers are in ``invalid`` have the valid bit unset."""
    body = [polarity_event(t & 0x7FFFFFFF, x, y, p, int(i not in invalid)) for i, (t, x, y, p) in enumerate(events)]
    return packet(POLARITY, b"".join(body), valid=len(events) - len(invalid), **options)


def aedat3(*packets: bytes, source: str = "DVS128") -> bytes:
    text = ["#!AER-DAT3.1", "#Format: RAW", f"#Source 1: {source}", "#Start-Time: 2016-06-22 15:42:43 (TZ+0200)"]
    return lines(*text, "#!END-HEADER") + b"".join(packets)
