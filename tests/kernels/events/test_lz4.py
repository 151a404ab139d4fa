"""LZ4 frames: the published hashes, the library both ways, damage beside the library, and nothing written outside."""

from __future__ import annotations

import random

import numpy as np
import pytest

from spikenet.kernels.events import lz4

frames = pytest.importorskip("lz4.frame")


def events(count: int) -> bytes:
    """What event packets look like: rows of 16 bytes that differ in a few."""
    draw = np.random.default_rng(0)
    made = np.zeros(count, "<i8, <i2, <i2, u1, 3u1")
    made["f0"] = 1_605_537_493_718_345 + np.cumsum(draw.integers(0, 9, count))
    made["f1"], made["f2"], made["f3"] = draw.integers(0, 240, (3, count)) % np.array([[320], [240], [2]])
    return made.tobytes()


CONTENTS = {
    "nothing": b"",
    "a byte": b"a",
    "short": b"abcabcabcabcabcabcd" * 2,
    "zeros": bytes(300_000),
    "noise": np.random.default_rng(1).bytes(150_000),
    "events": events(6000),
    "counting": bytes(range(256)) * 3,
}


def unpacked(frame: bytes) -> tuple[int, bytes]:
    """Fault and content; the bytes behind the room that was asked for must stay untouched."""
    packed = np.frombuffer(frame, np.uint8)
    room = lz4.unpacked_bound(packed) + lz4.SLACK
    assert room <= 255 * len(frame) + lz4.SLACK
    guarded = np.full(room + 64, 0xA5, np.uint8)
    fault, size = lz4.unpack_frame(packed, guarded[:room])
    assert (guarded[room:] == 0xA5).all()
    assert size <= room - lz4.SLACK
    return fault, guarded[:size].tobytes()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"", 0x02CC5D05),
        (b"a", 0x550D7456),
        (b"abc", 0x32D153FF),
        (b"Nobody inspects the spammish repetition", 0xE2293B2F),
    ],
)
def test_published_hashes(text, expected):
    assert lz4.xxh32(np.frombuffer(b"##" + text + b"#", np.uint8), 2, 2 + len(text)) == expected


@pytest.mark.parametrize("name", CONTENTS)
def test_frames_of_the_library(name):
    content = CONTENTS[name]
    for block_size in (4, 5, 7):
        for flags in range(16):
            linked, block, whole, size = (bool(flags & bit) for bit in (1, 2, 4, 8))
            frame = frames.compress(
                content,
                block_size=block_size,
                block_linked=linked,
                block_checksum=block,
                content_checksum=whole,
                store_size=size,
                compression_level=9 * (flags % 3 == 0),
            )
            assert unpacked(frame) == (lz4.GOOD, content)


@pytest.mark.parametrize("name", CONTENTS)
def test_frames_for_the_library(name):
    content = CONTENTS[name]
    out = np.empty(lz4.packed_bound(len(content)), np.uint8)
    frame = out[: lz4.pack_frame(np.frombuffer(content, np.uint8), out)].tobytes()
    assert frames.decompress(frame) == content
    assert unpacked(frame) == (lz4.GOOD, content)
    assert len(frame) <= 1.01 * len(frames.compress(content)) + 40


FRAME = frames.compress(CONTENTS["counting"], content_checksum=True, block_checksum=True, store_size=True)


@pytest.mark.parametrize(
    ("place", "change", "fault"),
    [
        (0, 1, lz4.NO_FRAME),
        (4, 0x80, lz4.NO_FRAME),  # another version
        (4, 0x01, lz4.NO_FRAME),  # a dictionary
        (5, 0x60, lz4.NO_FRAME),  # a block size below 4
        (6, 1, lz4.HEADER_SUM),  # the content's size is under the header's checksum
        (30, 1, lz4.BLOCK_SUM),
        (-1, 1, lz4.CONTENT_SUM),
        (-9, 1, lz4.BLOCK_SUM),
    ],
)
def test_each_fault_is_named(place, change, fault):
    damaged = bytearray(FRAME)
    damaged[place] ^= change
    assert unpacked(bytes(damaged))[0] == fault
    assert fault in lz4.FAULTS


def test_a_frame_must_end_where_it_ends():
    assert unpacked(FRAME + b"\0")[0] == lz4.TRAILING
    for size in range(len(FRAME)):
        assert unpacked(FRAME[:size])[0] == lz4.CUT


def test_a_size_that_the_content_has_not():
    """The size 768 and its header's checksum replaced by those of a frame of other content."""
    other = frames.compress(CONTENTS["counting"] + b"x", content_checksum=True, block_checksum=True, store_size=True)
    assert unpacked(other[:15] + FRAME[15:])[0] == lz4.CONTENT_SIZE


def test_blocks_by_hand():
    """A block of one token: 1 literal, then a match of 4 + 15 + 255 + 1 bytes one back, then 5 literals."""
    begin = FRAME[:4] + bytes([0x60, 0x40])
    begin += bytes([(lz4.xxh32(np.frombuffer(begin, np.uint8), 4, 6) >> 8) & 0xFF])

    def block(*values: int) -> bytes:
        return begin + len(values).to_bytes(4, "little") + bytes(values) + bytes(4)

    assert unpacked(block(0x1F, 7, 1, 0, 255, 1, 0x50, 1, 2, 3, 4, 5)) == (lz4.GOOD, bytes([7] * 276 + [1, 2, 3, 4, 5]))
    assert unpacked(block(0x10, 7, 0, 0, 0x50, 1, 2, 3, 4, 5))[0] == lz4.BAD_BLOCK  # back by 0
    assert unpacked(block(0x10, 7, 2, 0, 0x50, 1, 2, 3, 4, 5))[0] == lz4.BAD_BLOCK  # back before the beginning
    assert unpacked(block(0x1F, 7, 1, 0, 255))[0] == lz4.BAD_BLOCK  # a length without end
    assert unpacked(block(0xF0, 200, 7))[0] == lz4.BAD_BLOCK  # literals that are not there
    assert unpacked(block(0x10, 7, 1))[0] == lz4.BAD_BLOCK  # half a distance


@pytest.mark.parametrize("linked", [True, False])
def test_damaged_blocks_beside_the_library(linked):
    """Without checksums damage may go unseen, but what is taken is what the library takes it for. (The library also
    takes a distance of 0, which the block format forbids.)"""
    frame = frames.compress(CONTENTS["events"][:70_000], block_linked=linked)
    draw, agreed = random.Random(0), 0
    for _ in range(1500):
        damaged = bytearray(frame)
        for _ in range(draw.choice((1, 1, 2, 8))):
            damaged[draw.randrange(11, len(damaged))] = draw.choice((0, 255, 15, 240, draw.randrange(256)))
        fault, content = unpacked(bytes(damaged))
        if fault == lz4.GOOD:
            assert content == frames.decompress(bytes(damaged))
            agreed += 1
    assert 100 < agreed < 1400
