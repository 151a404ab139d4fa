"""Metavision HDF5 that is broken: chunks, claims, links, filters, cuts."""

from __future__ import annotations

import struct
import zlib

import h5py
import numpy as np
import pytest

from spikenet.errors import FormatError
from spikenet.events import read, write
from tests.events.files.ecf_bytes import GOOD, LAYOUT, PACKED_XP, PACKED_YXP, RUNS, VGA, head, u16
from tests.events.files.prophesee_bytes import assert_same, random_stream, rows

BROKEN = {
    "cut head": GOOD[:11],
    "cut times": GOOD[:12],
    "cut rows": GOOD[:14],
    "cut columns": GOOD[:16],
    "cut polarities": GOOD[:-1],
    "too many times": head(3, RUNS, 5) + bytes([0x04]) + GOOD[13:],
    "too many rows": GOOD[:13] + u16(1 << 5 | 4) + GOOD[15:],
    "too many polarities": GOOD[:-1] + bytes([0x84]),
    "count without end": head(3, RUNS, 5) + bytes([0x0F, 3]),
    "step without end": head(3, RUNS, 5) + bytes([0xF1] * 40),
    "a billion events": head((1 << 30) - 1, RUNS, 5) + GOOD[12:],
    "fewer events": head(2, RUNS, 5) + bytes([0x02]) + u16(1 << 5 | 2) + u16(2 << 5 | 0b10000) + bytes([0x82]),
    "cut pack of columns": head(3, PACKED_XP, 5) + bytes([0x03]) + u16(1 << 5 | 3) + u16(1, 2),
    "cut pack": head(3, PACKED_YXP, 5) + bytes([0x03]) + bytes(11),
    "runs of none": head(3, RUNS, 5) + bytes(40),
}


@pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN)
def test_broken_chunk(metavision, broken):
    path = metavision(GOOD, broken, GOOD, total=9, rows=3)
    with pytest.raises(FormatError, match="offset"):
        read(path)
    with pytest.warns(UserWarning, match="1 x chunk that (does not hold|asks for more)"):
        stream = read(path, strict=False)
    assert rows(stream) == [(5, 2, 1, 1), (5, 3, 1, 1), (5, 4, 1, 1)] * 2


def test_missing_chunk(metavision):
    path = metavision(GOOD, None, GOOD, total=9, rows=3)
    with pytest.raises(FormatError, match="not in the file"):
        read(path)
    with pytest.warns(UserWarning, match="not in the file"):
        assert len(read(path, strict=False)) == 6


def test_missing_chunk_and_one_too_many(metavision):
    """Damage to the extent: the third chunk is behind its end, the second absent; neither stands for the other."""
    path = metavision(GOOD, None, GOOD, total=9, rows=3)
    content = path.read_bytes()
    extent = struct.pack("<QQ", 9, (1 << 64) - 1)
    assert content.count(extent) == 1
    path.write_bytes(content.replace(extent, struct.pack("<QQ", 6, (1 << 64) - 1)))
    with pytest.raises(FormatError, match="not in the file"):
        read(path)
    path.write_bytes(content.replace(extent, struct.pack("<QQ", 3, (1 << 64) - 1)))
    assert len(read(path)) == 3


def test_a_claim_of_many_events_allocates_nothing(metavision):
    with pytest.raises(FormatError, match="not in the file"):
        read(metavision(GOOD, total=1 << 40, rows=3))


@pytest.mark.parametrize("options", [{"chunks": (7,), "compression": "gzip"}, {}])
def test_a_claim_of_many_plain_events(tmp_path, options):
    """HDF5 would read what was never written as zeros."""
    with h5py.File(tmp_path / "a.hdf5", "w") as file:
        file.attrs["geometry"] = "640x480"
        file.create_dataset("CD/events", (1 << 40,), LAYOUT, **options)
    with pytest.raises(FormatError, match=r"claims \d+ bytes"):
        read(tmp_path / "a.hdf5")


def test_outside_the_sensor(metavision):
    chunk = head(3, RUNS, 5) + bytes([0x03]) + u16(1 << 5 | 3) + u16(638 << 5 | 0b11000) + bytes([0x83])
    with pytest.raises(FormatError, match="column 640"):
        read(metavision(chunk, total=3))
    with pytest.warns(UserWarning, match="left out 1"):
        assert rows(read(metavision(chunk, total=3), strict=False)) == [(5, 638, 1, 1), (5, 639, 1, 1)]


@pytest.mark.parametrize(
    "layout", [np.dtype("<i8"), np.dtype([("x", "<u2"), ("t", "<i8")]), np.dtype([(n, "<f4") for n in "xypt"])]
)
def test_other_rows_are_refused(tmp_path, layout):
    with h5py.File(tmp_path / "a.hdf5", "w") as file:
        file["CD/events"] = np.zeros(3, layout)
    with pytest.raises(FormatError, match="whole numbers"):
        read(tmp_path / "a.hdf5")


def test_not_events(tmp_path):
    with h5py.File(tmp_path / "a.hdf5", "w") as file:
        file["other"] = 1
    with pytest.raises(FormatError, match="CD/events"):
        read(tmp_path / "a.hdf5", format="ecf")


@pytest.mark.parametrize("part", ["CD", "CD/events"])
@pytest.mark.parametrize("link", [lambda path: h5py.ExternalLink("b.hdf5", path), lambda path: h5py.SoftLink(path)])
def test_links_are_not_followed(tmp_path, part, link):
    write(random_stream(0, 300, VGA), tmp_path / "b.hdf5", format="ecf")
    with h5py.File(tmp_path / "a.hdf5", "w") as file:
        file[part] = link(f"/{part}")
    with pytest.raises(FormatError, match="CD/events is wanted"):
        read(tmp_path / "a.hdf5", format="ecf")
    with pytest.raises(FormatError, match="no known format" if part == "CD" else "CD/events is wanted"):
        read(tmp_path / "a.hdf5")


@pytest.mark.parametrize("size", [0, 3840, 4096, 1 << 40])
def test_heap_that_hdf5_would_walk_for_ever(tmp_path, size):
    """The free space at the end of the attributes' texts is entry 0; HDF5 hangs if the entry it leads to is empty."""
    path = tmp_path / "a.hdf5"
    stream = random_stream(0, 300, VGA)
    write(stream, path, format="ecf")
    content = bytearray(path.read_bytes())
    heap = content.index(b"GCOL")
    length = struct.unpack_from("<Q", content, heap + 8)[0]
    entry = heap + 16
    while struct.unpack_from("<H", content, entry)[0]:
        entry += 16 + (struct.unpack_from("<Q", content, entry + 8)[0] + 7) // 8 * 8
    assert struct.unpack_from("<Q", content, entry + 8)[0] == heap + length - entry
    struct.pack_into("<Q", content, entry + 8, size)
    path.write_bytes(content)
    assert_same(read(path), stream)


def packed_plainly(path, **options):
    """30 events in one chunk of HDF5's own; returns where it lies."""
    with h5py.File(path, "w") as file:
        file.attrs["geometry"] = "640x480"
        events = file.create_dataset("CD/events", data=np.zeros(30, LAYOUT), chunks=(30,), **options)
        return events.id.get_chunk_info(0).byte_offset


def test_plain_chunk_that_does_not_unpack(tmp_path):
    place = packed_plainly(tmp_path / "a.hdf5", compression="gzip")
    content = bytearray((tmp_path / "a.hdf5").read_bytes())
    content[place] ^= 0xFF
    (tmp_path / "a.hdf5").write_bytes(content)
    with pytest.raises(FormatError, match="decompressing"):
        read(tmp_path / "a.hdf5")


def test_plain_chunk_that_unpacks_to_more(tmp_path):
    packed_plainly(tmp_path / "a.hdf5", compression="gzip")
    with h5py.File(tmp_path / "a.hdf5", "r+") as file:
        file["CD/events"].id.write_direct_chunk((0,), zlib.compress(bytes(1 << 24)))
    with pytest.raises(FormatError, match="unpacks to more"):
        read(tmp_path / "a.hdf5")


def test_filters_that_are_not_undone(tmp_path):
    """A damaged number may name one that the library trusts in what it finds."""
    with h5py.File(tmp_path / "a.hdf5", "w") as file:
        file.attrs["geometry"] = "640x480"
        plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plan.set_chunk((30,))
        plan.set_filter(h5py.h5z.FILTER_NBIT, h5py.h5z.FLAG_OPTIONAL, (0,) * 8)
        space = h5py.h5s.create_simple((30,))
        group = file.create_group("CD").id
        events = h5py.h5d.create(group, b"events", h5py.h5t.py_create(LAYOUT), space, plan)
        events.write_direct_chunk((0,), bytes(480))
    with pytest.raises(FormatError, match="packed by filters"):
        read(tmp_path / "a.hdf5")


def test_file_written_anew_after_it_was_refused(tmp_path):
    """HDF5 would take it to be the old one, were that open still; the refusal is kept, and what it came through."""
    path = tmp_path / "a.hdf5"
    stream = random_stream(0, 300, VGA)
    write(stream, path, format="ecf")
    content = path.read_bytes()
    assert content.count(b"CD\0") == 1
    path.write_bytes(content.replace(b"CD\0", b"CX\0"))
    with pytest.raises(FormatError) as refused:
        read(path, format="ecf")
    path.write_bytes(content)
    assert_same(read(path), stream)
    assert refused.value.path == path


def test_cut_file(tmp_path):
    path = tmp_path / "a.hdf5"
    write(random_stream(0, 300, VGA), path, format="ecf")
    content = path.read_bytes()
    for size in (*range(0, len(content), len(content) // 40), len(content) - 1):
        path.write_bytes(content[:size])
        with pytest.raises(FormatError):
            read(path, format="ecf")
