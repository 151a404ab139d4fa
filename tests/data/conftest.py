"""Files written by hand, from the formats' descriptions and with nothing of the library's."""

from __future__ import annotations

import gzip
import random
import struct
from pathlib import Path

import h5py
import numpy as np
import pytest

SHARED = Path(__file__).resolve().parents[3] / "shared"


@pytest.fixture
def shared():
    """Finds real files that lie beside the repository; a test that asks for one that is absent is skipped."""

    def find(name: str) -> Path:
        path = SHARED / name
        if not path.exists():
            pytest.skip(f"the real file {name} is not here")
        return path

    return find


@pytest.fixture
def record():
    """One 5-byte record: byte 0 column, byte 1 row, then 1 bit polarity and 23 bits of time, big-endian."""
    return lambda t, x, y, p: struct.pack(">BBBH", x, y, p << 7 | t >> 16, t & 0xFFFF)


@pytest.fixture
def nmnist_files(record):
    """``count`` recordings of the N-MNIST layout: path inside the data set -> bytes, classes taken in turn."""

    def make(part: str, count: int, first: int = 1) -> dict[str, bytes]:
        draw = random.Random(first)
        files = {}
        for number in range(first, first + count):
            times = sorted(draw.sample(range(300_000), draw.randint(3, 30)))
            events = [record(t, draw.randrange(34), draw.randrange(34), draw.randrange(2)) for t in times]
            files[f"{part}/{number % 10}/{number:05d}.bin"] = b"".join(events)
        return files

    return make


@pytest.fixture
def write_spikes(tmp_path):
    """Writes an HDF5 file in the SHD layout; keyword arguments replace parts of it or (None) leave them out."""

    def write(name: str = "toy_train.h5", count: int = 20, **changes) -> Path:
        generator = np.random.default_rng(count)
        sizes = generator.integers(1, 25, count)
        parts = {
            "times": [np.sort(generator.uniform(0, 0.9, size)).astype(np.float16) for size in sizes],
            "units": [generator.integers(0, 700, size).astype(np.uint16) for size in sizes],
            "labels": np.arange(count) % 4,
            "keys": np.array([b"null", b"eins", b"one", b"two"]),
            "speaker": np.arange(count) // 4 % 3,
        } | changes
        path = tmp_path / name.removesuffix(".gz")
        with h5py.File(path, "w") as file:
            for key in ("times", "units"):
                if parts[key] is not None:
                    _write_ragged(file, f"spikes/{key}", parts[key])
            for key, place in (("labels", "labels"), ("keys", "extra/keys"), ("speaker", "extra/speaker")):
                if parts[key] is not None:
                    file[place] = parts[key]
        if name.endswith(".gz"):
            packed = tmp_path / name
            packed.write_bytes(gzip.compress(path.read_bytes()))
            path.unlink()
            return packed
        return path

    return write


def _write_ragged(file: h5py.File, name: str, arrays) -> None:
    if isinstance(arrays, np.ndarray):
        file[name] = arrays
        return
    data = file.create_dataset(name, (len(arrays),), h5py.vlen_dtype(arrays[0].dtype))
    for number, array in enumerate(arrays):
        data[number] = array
