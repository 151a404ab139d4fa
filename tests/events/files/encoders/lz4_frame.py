"""LZ4 frames by hand: every byte from the descriptions of the frame format (1.6) and of the block format."""

from __future__ import annotations

import struct

MAGIC = 0x184D2204
_PRIMES = 2654435761, 2246822519, 3266489917, 668265263, 374761393
_WORD = 0xFFFFFFFF


def _rotated(value: int, by: int) -> int:
    value &= _WORD
    return (value << by | value >> 32 - by) & _WORD


def xxh32(data: bytes, seed: int = 0) -> int:
    """The checksum of frame headers, blocks and content."""
    one, two, three, four, five = _PRIMES
    whole = len(data) // 16 * 16
    lanes = [seed + one + two, seed + two, seed, seed - one]
    for start in range(0, whole, 16):
        words = struct.unpack_from("<4I", data, start)
        lanes = [_rotated(lane + word * two, 13) * one & _WORD for lane, word in zip(lanes, words, strict=True)]
    if whole:
        total = sum(_rotated(lane, by) for lane, by in zip(lanes, (1, 7, 12, 18), strict=True))
    else:
        total = seed + five
    total += len(data)
    words_end = len(data) // 4 * 4
    for start in range(whole, words_end, 4):
        total = _rotated(total + struct.unpack_from("<I", data, start)[0] * three, 17) * four
    for byte in data[words_end:]:
        total = _rotated(total + byte * five, 11) * one
    total &= _WORD
    total = (total ^ total >> 15) * two & _WORD
    total = (total ^ total >> 13) * three & _WORD
    return total ^ total >> 16


def _longer(length: int) -> bytes:
    """What follows a token whose nibble is 15: bytes of 255, then the rest."""
    return b"\xff" * (length // 255) + bytes([length % 255])


def sequence(literals: bytes, offset: int = 0, match: int = 0) -> bytes:
    """Literals, then a copy of ``match`` (4 or more) bytes from ``offset`` back; the last sequence has no copy."""
    copied = match - 4 if match else 0
    token = min(len(literals), 15) << 4 | min(copied, 15)
    out = bytes([token]) + (_longer(len(literals) - 15) if len(literals) >= 15 else b"") + literals
    if match:
        out += struct.pack("<H", offset) + (_longer(copied - 15) if copied >= 15 else b"")
    return out


def literal_block(data: bytes) -> bytes:
    """A block that copies nothing."""
    return sequence(data)


def matched_block(data: bytes) -> bytes:
    """A block with a copy wherever four bytes were seen before; copies may overlap what they write.

    The format wants the last five bytes as literals and no copy that starts in the last twelve.
    """
    seen: dict[bytes, int] = {}
    parts: list[bytes] = []
    start = at = 0
    while at < len(data) - 12:
        found = seen.get(data[at : at + 4])
        seen[data[at : at + 4]] = at
        if found is None or at - found > 0xFFFF:
            at += 1
            continue
        length = 4
        while at + length < len(data) - 5 and data[found + length] == data[at + length]:
            length += 1
        parts.append(sequence(data[start:at], at - found, length))
        at += length
        start = at
    return b"".join(parts) + sequence(data[start:])


def frame(
    data: bytes,
    *,
    matches: bool = True,
    stored: bool = False,
    block_size: int = 1 << 16,
    block_checksum: bool = False,
    content_checksum: bool = False,
    content_size: bool = False,
) -> bytes:
    """Independent blocks under the limit of 4 MB; ``stored`` ones are not compressed."""
    flags = 1 << 6 | 1 << 5 | block_checksum << 4 | content_size << 3 | content_checksum << 2
    descriptor = bytes([flags, 7 << 4]) + (struct.pack("<Q", len(data)) if content_size else b"")
    out = [struct.pack("<I", MAGIC), descriptor, bytes([xxh32(descriptor) >> 8 & 0xFF])]
    for start in range(0, len(data), block_size):
        piece = data[start : start + block_size]
        block = piece if stored else (matched_block if matches else literal_block)(piece)
        out += [struct.pack("<I", len(block) | stored << 31), block]
        out += [struct.pack("<I", xxh32(block))] * block_checksum
    out.append(struct.pack("<I", 0))
    out += [struct.pack("<I", xxh32(data))] * content_checksum
    return b"".join(out)
