"""Files read by compiled code: the bytes that Python reads, and a plain no where something is wrong."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from spikenet.kernels.events.numba_files import HERE, paths, read_file

pytestmark = pytest.mark.skipif(not HERE, reason="these functions have other names here")
SIZES = [0, 5, 1, 4096, 100_000, 17, 0, 33_333, 5]


@pytest.fixture
def folder(tmp_path: Path) -> tuple[bytes, np.ndarray]:
    draw = np.random.default_rng(0)
    names = []
    for number, size in enumerate(SIZES):
        name = f"{'sub/' * (number % 3)}ä {number}"
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(draw.bytes(size))
        names.append(os.fsencode(name))
    return os.fsencode(f"{tmp_path}/"), np.array(names, np.bytes_)


def room(size: int) -> np.ndarray:
    return np.full(size, 77, np.uint8)


def test_what_python_reads(folder: tuple[bytes, np.ndarray]) -> None:
    prefix, names = folder
    for name, place, size in zip(names.tolist(), paths(prefix, names), SIZES, strict=True):
        content = room(size + 1)
        assert read_file(place, content) == size
        assert content.tobytes() == Path(os.fsdecode(prefix + name)).read_bytes() + bytes([77])


def test_names_in_steps(folder: tuple[bytes, np.ndarray]) -> None:
    prefix, names = folder
    assert [read_file(place, room(1 << 20)) for place in paths(prefix, names[::-2])] == SIZES[::-2]
    assert len(paths(prefix, names[:0])) == 0


def test_what_cannot_be_read(folder: tuple[bytes, np.ndarray]) -> None:
    prefix, names = folder
    missing, directory = paths(prefix, np.array([b"none", b"sub"]))
    assert read_file(missing, room(1 << 20)) == -1
    assert read_file(directory, room(1 << 20)) == -1
    assert {read_file(place, room(1 << 20)) for place in paths(b"", names)} == {-1}


def test_room_that_is_too_small(folder: tuple[bytes, np.ndarray]) -> None:
    """Nothing is written behind it."""
    place, content = paths(*folder)[4], room(100_000)
    assert read_file(place, content[:50_000]) == -1
    assert (content[50_000:] == 77).all()
    assert read_file(place, content) == -1
    assert read_file(place, room(100_001)) == 100_000
    assert read_file(place, room(0)) == -1


def test_no_file_stays_open(folder: tuple[bytes, np.ndarray]) -> None:
    places = paths(*folder)
    for _ in range(2000):
        assert (read_file(places[1], room(6)), read_file(places[3], room(6))) == (5, -1)
