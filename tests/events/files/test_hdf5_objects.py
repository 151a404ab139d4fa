"""Attributes of HDF5 objects: as h5py reads them, from headers made by hand, and from damaged files."""

from __future__ import annotations

import struct
from pathlib import Path

import h5py
import numpy as np
import pytest

from spikenet.errors import FormatError
from spikenet.events.files.hdf5_objects import MAGIC, Objects, superblock
from tests.events.files.prophesee_bytes import sample
from tests.events.files.trial import apart, bounded

VALUES = {
    "text": "a text",
    "umlaut": "grüße",
    "empty": "",
    "fixed": np.bytes_(b"a fixed one"),
    "whole": 5,
    "small": np.int8(-3),
    "unsigned": np.uint64((1 << 64) - 1),
    "swapped": np.array(7, ">u2")[()],
    "real": 1.5,
    "half": np.float16(0.1),
    "single": np.float32(0.1),
}
OTHERS = {"list": [1, 2, 3], "pair": np.array((1, 2.0), "i4,f8"), "nothing": h5py.Empty("f4"), "truth": True}
PATH = Path("a.hdf5")


def attributes(content: bytes) -> dict[str, str]:
    base = superblock(content)
    objects = Objects(PATH, content[base:], base)
    return objects.attributes(objects.root)


def written(path, values, **options) -> bytes:
    with h5py.File(path, "w", **options) as file:
        for name, value in values.items():
            file.attrs[name] = value
    return path.read_bytes()


@pytest.mark.parametrize("libver", ["earliest", ("v108", "v108"), "latest"])
@pytest.mark.parametrize("userblock_size", [0, 2048])
def test_values_as_h5py_reads_them(tmp_path, libver, userblock_size):
    for values in (VALUES, dict(list(VALUES.items())[:4])):  # many lie in a heap of their own, few in the header
        content = written(tmp_path / "a.h5", values | OTHERS, libver=libver, userblock_size=userblock_size)
        with h5py.File(tmp_path / "a.h5") as file:
            theirs = {name: file.attrs[name] for name in values}
        theirs = {name: v.decode() if isinstance(v, bytes) else str(v) for name, v in theirs.items()}
        assert attributes(content) == theirs


@pytest.mark.parametrize("libver", ["earliest", "latest"])
@pytest.mark.parametrize("track_order", [False, True])
@pytest.mark.parametrize("count", [0, 1, 8, 9, 29, 30, 256])
def test_any_number_of_attributes(tmp_path, libver, track_order, count):
    values = {f"name {n}": f"value {n} " * (n % 40) for n in range(count)}
    content = written(tmp_path / "a.h5", values, libver=libver, track_order=track_order)
    assert attributes(content) == values


@pytest.mark.parametrize("libver", ["earliest", "latest"])
def test_more_than_are_read(tmp_path, libver):
    content = written(tmp_path / "a.h5", {f"name {n}": n for n in range(300)}, libver=libver)
    found = attributes(content)
    assert len(found) == 256
    assert all(name == f"name {value}" for name, value in found.items())


@pytest.mark.parametrize("length", [65535, 65536])
def test_long_texts(tmp_path, length):
    """A longer one is not read; the next is."""
    content = written(tmp_path / "a.h5", {"long": "x" * length, "short": "y"})
    assert attributes(content) == {"short": "y"} | ({"long": "x" * length} if length == 65535 else {})


@pytest.mark.parametrize("version", [2, 3])
def test_real_files(version):
    path = sample(f"prophesee_hdf5_ecf/evt{version}_slice_60000.hdf5")
    with h5py.File(path) as file:
        assert attributes(path.read_bytes()) == dict(file.attrs)


# Headers made by hand: a superblock of version 0, whose root entry names the header at 96.

INT = bytes([0x10, 8, 0, 0]) + struct.pack("<IHH", 4, 0, 32)
SCALAR = bytes([1, 0, 0, 0]) + bytes(4)
CONTINUATION, ATTRIBUTE, NIL = 0x10, 0x0C, 0


def file_of(*blocks: bytes) -> bytes:
    head = MAGIC + bytes([0, 0, 0, 0, 0, 8, 8, 0]) + struct.pack("<HHI4Q", 4, 16, 0, 0, 1 << 63, 4096, (1 << 64) - 1)
    return head + struct.pack("<QQI20x", 0, 96, 0) + b"".join(blocks)


def header(*messages: bytes) -> bytes:
    body = b"".join(messages)
    return struct.pack("<BxHIIxxxx", 1, len(messages), 1, len(body)) + body


def message(kind: int, body: bytes, flags: int = 0) -> bytes:
    body += bytes(-len(body) % 8)
    return struct.pack("<HHBxxx", kind, len(body), flags) + body


def attribute(version: int, name: bytes, value: int) -> bytes:
    parts = [name + b"\0", INT, SCALAR]
    head = struct.pack("<BBHHH", version, 0, *map(len, parts)) + b"\0" * (version == 3)
    return (
        head
        + b"".join(part + bytes(-len(part) % 8) if version == 1 else part for part in parts)
        + struct.pack("<i", value)
    )


def test_headers_by_hand():
    """Attributes of every version, what is free between them, and a block that goes on elsewhere."""
    further = message(ATTRIBUTE, attribute(3, b"three", 3))
    first = [
        message(ATTRIBUTE, attribute(1, b"first", -1)),
        message(NIL, bytes(16)),
        message(ATTRIBUTE, attribute(2, b"two", 2)),
    ]
    length = len(header(*first)) + 24
    content = file_of(header(*first, message(CONTINUATION, struct.pack("<QQ", 96 + length, len(further)))), further)
    assert attributes(content) == {"first": "-1", "two": "2", "three": "3"}


def test_shared_messages_are_left_out():
    assert attributes(file_of(header(message(ATTRIBUTE, attribute(3, b"a", 1), flags=2)))) == {}


LOOPS = {
    "itself": header(message(CONTINUATION, struct.pack("<QQ", 112, 24))),
    "in turn": header(*[message(CONTINUATION, struct.pack("<QQ", 112, 48))] * 2),
    "overlapping": header(*[message(CONTINUATION, struct.pack("<QQ", 112 + 24 * n, 24 * (40 - n))) for n in range(40)]),
}


@pytest.mark.parametrize("loop", LOOPS)
def test_continuations_in_a_circle(loop):
    with pytest.raises(FormatError, match="more than the header of an object takes"):
        attributes(file_of(LOOPS[loop]))


BROKEN = {
    "no header": (bytes(40), "no header of an object"),
    "block behind the end": (header(message(CONTINUATION, struct.pack("<QQ", 112, 1 << 40))), "more than the header"),
    "address behind the end": (header(message(CONTINUATION, struct.pack("<QQ", 1 << 63, 24))), "more than the header"),
    "message behind its block": (struct.pack("<BxHIIxxxxHHI8x", 1, 1, 1, 8, 12, 8, 0), "leaves its block"),
    "cut attribute": (header(message(ATTRIBUTE, attribute(3, b"a", 1)[:30])), "cannot be read"),
    "version": (header(message(ATTRIBUTE, attribute(4, b"a", 1))), "version 4"),
    "nothing": (b"", "behind the end"),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_broken_headers(name):
    content, words = BROKEN[name]
    with pytest.raises(FormatError, match=words) as caught:
        attributes(file_of(content))
    assert caught.value.offset >= 96


@pytest.mark.parametrize("place", [0, 8, 13, 14])
def test_superblocks_of_other_kinds(place):
    content = bytearray(file_of(header()))
    assert attributes(bytes(content)) == {}
    content[place] = 77
    with pytest.raises(FormatError):
        attributes(bytes(content))


# Damage at every byte.

FORMS = {
    "header": ("earliest", 9),
    "newer header": ("latest", 4),
    "heap": ("latest", 11),
    "tree": ("latest", 33),
}


@pytest.mark.parametrize("form", FORMS)
def test_damage(tmp_path, form):
    """Whatever is changed, the attributes are read or refused; nothing is followed out of the file or for ever."""
    libver, count = FORMS[form]
    values = (list(VALUES.items()) + [(f"name {n}", n) for n in range(40)])[:count]
    content = written(tmp_path / "a.h5", dict(values), libver=libver)
    used = [place for place in range(len(content)) if content[place]]
    flipped = [(place, content[place] ^ mask) for place in used for mask in (1 << place % 8, 0xFF)]
    refused = 0

    def damages():
        yield from (content[:length] for length in range(0, len(content), 7))
        yield from (content[:place] + bytes([value]) + content[place + 1 :] for place, value in flipped)
        for width in (2, 4, 8):
            for value in (-1, 1 << 8 * width - 1, len(content), 0):
                number = (value & (1 << 8 * width) - 1).to_bytes(width, "little")
                yield from (content[:place] + number + content[place + width :] for place in used[::3])

    def read_all():
        nonlocal refused
        with bounded(len(content)):
            for damaged in damages():
                try:
                    found = attributes(damaged)
                except FormatError:
                    refused += 1
                else:
                    assert all(isinstance(text, str) for pair in found.items() for text in pair)
        assert refused

    apart(read_all)
