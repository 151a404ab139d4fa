"""Metavision HDF5 files with given chunks, and chunks packed by hand."""

from __future__ import annotations

import struct

import h5py
import numpy as np

from spikenet.events import Sensor

VGA = Sensor(640, 480, 2)
ECF = 36559
LAYOUT = np.dtype({"names": ["x", "y", "p", "t"], "formats": ["<u2", "<u2", "<i2", "<i8"], "offsets": [0, 2, 4, 8]})
RUNS, PACKED_XP, PACKED_YXP = 0, 1, 2


def head(count, style, t0):
    return struct.pack("<IQ", count << 2 | style, t0)


def u16(*words):
    return struct.pack(f"<{len(words)}H", *words)


GOOD = head(3, RUNS, 5) + bytes([0x03]) + u16(1 << 5 | 3) + u16(2 << 5 | 0b11000) + bytes([0x83])


def metavision(path, *chunks, total, rows=16384, codec=ECF, mask=0, geometry="640x480"):
    """Write a file with the given chunks, of ``rows`` events each; the last may be smaller."""
    with h5py.File(path, "w") as file:
        if geometry:
            file.attrs["geometry"] = geometry
        plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plan.set_chunk((rows,))
        plan.set_filter(codec, h5py.h5z.FLAG_OPTIONAL, ())
        space = h5py.h5s.create_simple((total,), (h5py.h5s.UNLIMITED,))
        group = file.create_group("CD").id
        events = h5py.h5d.create(group, b"events", h5py.h5t.py_create(LAYOUT), space, plan)
        for number, chunk in enumerate(chunks):
            if chunk is not None:
                events.write_direct_chunk((number * rows,), chunk, mask)
    return path
