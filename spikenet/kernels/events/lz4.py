"""LZ4 frames in and out, on byte arrays (the public frame and block formats, versions 1.6). Importing this module
imports numba."""

from __future__ import annotations

import numba
import numpy as np

from spikenet.kernels.events.words import byte, copy16, word

SLACK = 16  # bytes that the output needs beyond its bound, for copies are made 16 bytes at a time

# What `unpack_frame` found; above 0 is damage.
GOOD, CUT, NO_FRAME, HEADER_SUM, BLOCK_SUM, CONTENT_SUM, CONTENT_SIZE, BAD_BLOCK, TRAILING = range(9)
FAULTS = {
    CUT: "the LZ4 frame is cut short",
    NO_FRAME: "no LZ4 frame of version 1 without a dictionary",
    HEADER_SUM: "the checksum of the LZ4 frame's header differs",
    BLOCK_SUM: "the checksum of an LZ4 block differs",
    CONTENT_SUM: "the checksum of the LZ4 frame's content differs",
    CONTENT_SIZE: "the LZ4 frame holds another number of bytes than it says",
    BAD_BLOCK: "an LZ4 block breaks its format or unpacks to more than it may",
    TRAILING: "bytes follow the LZ4 frame",
}

_MAGIC = 0x184D2204
_P1, _P2, _P3, _P4, _P5 = 0x9E3779B1, 0x85EBCA77, 0xC2B2AE3D, 0x27D4EB2F, 0x165667B1
_LOW = 0xFFFFFFFF
_LAST_LITERALS, _LAST_MATCH = 5, 12  # a block ends with 5 literals, and no match begins in its last 12 bytes
_HASH_BITS = 12


@numba.njit(cache=True)
def _rotated(value: int, bits: int) -> int:
    return ((value << bits) | (value >> (32 - bits))) & _LOW


@numba.njit(cache=True)
def _round(lane: int, value: int) -> int:
    mixed = (lane + value * _P2) & _LOW
    return (_rotated(mixed, 13) * _P1) & _LOW


@numba.njit(cache=True)
def xxh32(data: np.ndarray, start: int, stop: int) -> int:
    """The 32-bit xxHash, seed 0, of ``data[start:stop]`` (uint8)."""
    low = _LOW
    place = start
    if stop - start >= 16:
        a, b = ((_P1 + _P2) & _LOW), _P2
        c, d = 0, ((-_P1) & _LOW)
        while place + 16 <= stop:
            a = _round(a, word(data, place))
            b = _round(b, word(data, place + 4))
            c = _round(c, word(data, place + 8))
            d = _round(d, word(data, place + 12))
            place += 16
        total = _rotated(a, 1) + _rotated(b, 7) + _rotated(c, 12) + _rotated(d, 18)
    else:
        total = _P5
    total = (total + (stop - start)) & low
    while place + 4 <= stop:
        total = (total + word(data, place) * _P3) & low
        total = (_rotated(total, 17) * _P4) & low
        place += 4
    while place < stop:
        total = (total + data[place] * _P5) & low
        total = (_rotated(total, 11) * _P1) & low
        place += 1
    total = ((total ^ (total >> 15)) * _P2) & low
    total = ((total ^ (total >> 13)) * _P3) & low
    return total ^ (total >> 16)


@numba.njit(cache=True)
def _header(frame: np.ndarray) -> tuple[int, int, int, int, int]:
    """Fault, flags, largest block, content size (-1: not said) and where the first block begins."""
    size = len(frame)
    if size < 7:
        return CUT, 0, 0, 0, 0
    flags, limits = byte(frame, 4), byte(frame, 5)
    block = limits >> 4
    if word(frame, 0) != _MAGIC or flags >> 6 != 1 or flags & 3 or limits & 0x8F or block < 4:
        return NO_FRAME, 0, 0, 0, 0
    place, content = 6, -1
    if flags & 8:
        if size < 15:
            return CUT, 0, 0, 0, 0
        content = word(frame, 6) | word(frame, 10) << 32
        place = 14
    if (xxh32(frame, 4, place) >> 8) & 0xFF != frame[place]:
        return HEADER_SUM, 0, 0, 0, 0
    return GOOD, flags, 1 << (2 * block + 8), content, place + 1


@numba.njit(cache=True)
def unpacked_bound(frame: np.ndarray) -> int:
    """The most bytes that a frame can unpack to, from the sizes of its blocks: at most 255 times its own size."""
    fault, flags, largest, _, place = _header(frame)
    bound = 0
    while fault == GOOD and place + 4 <= len(frame):
        size = word(frame, place)
        packed = size & 0x7FFFFFFF
        place += 4 + packed + (4 if flags & 16 else 0)
        if not size or place > len(frame):
            break
        bound += min(largest, packed if size >> 31 else 255 * packed)
    return bound


@numba.njit(cache=True)
def unpack_frame(frame: np.ndarray, out: np.ndarray) -> tuple[int, int]:
    """Unpack one frame.

    Args:
        frame: uint8, the whole frame and nothing else.
        out: uint8 with room for the content and `SLACK` bytes.

    Returns:
        Fault and size of the content.
    """
    fault, flags, largest, content, place = _header(frame)
    if fault:
        return fault, 0
    room, filled = len(out) - SLACK, 0
    while True:
        if place + 4 > len(frame):
            return CUT, filled
        size = word(frame, place)
        place += 4
        if not size:
            break
        stored, size = size >> 31, size & 0x7FFFFFFF
        if place + size + (4 if flags & 16 else 0) > len(frame):
            return CUT, filled
        if flags & 16 and xxh32(frame, place, place + size) != word(frame, place + size):
            return BLOCK_SUM, filled
        stop = min(filled + largest, room)
        if stored:
            after = _literals(frame, place, size, out, filled) if filled + size <= stop else -1
        else:
            after = _unpack_block(frame, place, place + size, out, filled, stop, filled if flags & 32 else 0)
        if after < 0:
            return BAD_BLOCK, filled
        filled = after
        place += size + (4 if flags & 16 else 0)
    if flags & 4:
        if place + 4 > len(frame):
            return CUT, filled
        if xxh32(out, 0, filled) != word(frame, place):
            return CONTENT_SUM, filled
        place += 4
    if content >= 0 and content != filled:
        return CONTENT_SIZE, filled
    return GOOD if place == len(frame) else TRAILING, filled


@numba.njit(cache=True)
def _literals(source: np.ndarray, place: int, size: int, out: np.ndarray, to: int) -> int:
    """Copy bytes that both sides have, and return where the next one goes."""
    done = 0
    while done < size and place + done + 16 <= len(source):
        copy16(out, to + done, source, place + done)  # may write up to 15 bytes too many: into the slack
        done += 16
    for k in range(done, size):
        out[to + k] = source[place + k]
    return to + size


@numba.njit(cache=True)
def _longer(block: np.ndarray, place: int, end: int) -> tuple[int, int]:
    """The rest of a length that began with 15, and where it ends; -1 where the block ends first."""
    length = 15
    while place < end:
        more = byte(block, place)
        place += 1
        length += more
        if more != 255:
            return length, place
    return -1, place


@numba.njit(cache=True)
def _unpack_block(block: np.ndarray, place: int, end: int, out: np.ndarray, to: int, stop: int, first: int) -> int:
    """Unpack ``block[place:end]`` to ``out[to:stop]``; matches reach back to ``out[first]``. Returns where the output
    ends, -1 for a block that breaks the format."""
    while place < end:
        token = byte(block, place)
        place += 1
        length = token >> 4
        if length == 15:
            length, place = _longer(block, place, end)
        if length < 0 or place + length > end or to + length > stop:
            return -1
        if length <= 16 and place + 16 <= len(block):
            copy16(out, to, block, place)
        else:
            _literals(block, place, length, out, to)
        place += length
        to += length
        if place == end:
            return to
        if place + 2 > end:
            return -1
        back = byte(block, place) | byte(block, place + 1) << 8
        place += 2
        length = token & 15
        if length == 15:
            length, place = _longer(block, place, end)
            if length < 0:
                return -1
        length += 4
        if back == 0 or to - back < first or to + length > stop:
            return -1
        if back >= 16:
            copy16(out, to, out, to - back)
            for k in range(16, length, 16):
                copy16(out, to + k, out, to + k - back)
        else:
            for k in range(length):
                out[to + k] = out[to + k - back]
        to += length
    return -1


@numba.njit(cache=True)
def pack_frame(data: np.ndarray, out: np.ndarray) -> int:
    """Pack bytes into one frame: independent blocks of at most 64 KiB and a checksum of the content.

    Args:
        data: uint8.
        out: uint8 with room for ``packed_bound(len(data))`` bytes.

    Returns:
        The size of the frame.
    """
    _store(out, 0, _MAGIC)
    out[4], out[5] = 0x64, 0x40
    out[6] = (xxh32(out, 4, 6) >> 8) & 0xFF
    to = 7
    seen = np.empty(1 << _HASH_BITS, np.int64)
    for start in range(0, len(data), 1 << 16):
        stop = min(start + (1 << 16), len(data))
        end = _pack_block(data, start, stop, out, to + 4, seen)
        packed = end - to - 4
        if packed < stop - start:
            _store(out, to, packed)
        else:
            packed = stop - start
            _store(out, to, packed | 1 << 31)
            out[to + 4 : to + 4 + packed] = data[start:stop]
        to += 4 + packed
    _store(out, to, 0)
    _store(out, to + 4, xxh32(data, 0, len(data)))
    return to + 8


def packed_bound(size: int) -> int:
    """The most bytes that `pack_frame` writes, unfinished blocks included."""
    return size + size // 255 + 32 * (size // (1 << 16) + 2)


@numba.njit(cache=True)
def _store(out: np.ndarray, place: int, value: int) -> None:
    for k in range(4):
        out[place + k] = (value >> (8 * k)) & 0xFF


@numba.njit(cache=True)
def _pack_block(data: np.ndarray, start: int, stop: int, out: np.ndarray, to: int, seen: np.ndarray) -> int:
    """Greedy: at every byte the last place with the same 4 bytes, as far as a table of hashes remembers it."""
    seen[:] = -1
    anchor = place = start
    while place + _LAST_MATCH < stop:
        four = word(data, place)
        key = (four * _P1 & _LOW) >> (32 - _HASH_BITS)
        found = seen[key]
        seen[key] = place
        if found < 0 or place - found > 0xFFFF or word(data, found) != four:
            place += 1
            continue
        length = 4
        while place + length < stop - _LAST_LITERALS and data[found + length] == data[place + length]:
            length += 1
        to = _sequence(data, anchor, place, out, to, length - 4)
        out[to], out[to + 1] = (place - found) & 0xFF, (place - found) >> 8
        to = _extend(out, to + 2, length - 4)
        place += length
        anchor = place
    return _sequence(data, anchor, stop, out, to, 0)


@numba.njit(cache=True)
def _sequence(data: np.ndarray, anchor: int, place: int, out: np.ndarray, to: int, match: int) -> int:
    """Token and literals."""
    out[to] = min(place - anchor, 15) << 4 | min(match, 15)
    to = _extend(out, to + 1, place - anchor)
    out[to : to + place - anchor] = data[anchor:place]
    return to + place - anchor


@numba.njit(cache=True)
def _extend(out: np.ndarray, to: int, length: int) -> int:
    """The bytes of a length that does not fit its 4 bits."""
    if length < 15:
        return to
    length -= 15
    while length >= 255:
        out[to] = 255
        to += 1
        length -= 255
    out[to] = length
    return to + 1
