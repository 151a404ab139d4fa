"""Files read by compiled code: the bytes that Python reads, and a plain no where something is wrong."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from spikenet.kernels.events.numba_files import HERE, read_files

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


@pytest.mark.parametrize("share", [1, 2, 4, 100])
@pytest.mark.parametrize("threads", [1, 3])
def test_what_python_reads(folder: tuple[bytes, np.ndarray], share: int, threads: int) -> None:
    prefix, names = folder
    content, before = room(1 << 20), torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        found = read_files(prefix, names, content, share)
    finally:
        torch.set_num_threads(before)
    assert found is not None
    for name, begin, stop in zip(names.tolist(), *found, strict=True):
        assert content[begin:stop].tobytes() == Path(os.fsdecode(prefix + name)).read_bytes()


def test_names_in_steps(folder: tuple[bytes, np.ndarray]) -> None:
    prefix, names = folder
    content = room(1 << 20)
    found = read_files(prefix, names[::-2], content, 2)
    assert found is not None
    assert [stop - begin for begin, stop in zip(*found, strict=True)] == SIZES[::-2]


def test_no_files(folder: tuple[bytes, np.ndarray]) -> None:
    prefix, names = folder
    found = read_files(prefix, names[:0], room(10), 4)
    assert found is not None
    assert [len(each) for each in found] == [0, 0]


def test_what_cannot_be_read(folder: tuple[bytes, np.ndarray]) -> None:
    prefix, names = folder
    assert read_files(prefix, np.array([names[1], b"none"]), room(1 << 20), 4) is None
    assert read_files(prefix, np.array([names[1], b"sub"]), room(1 << 20), 4) is None  # a folder
    assert read_files(b"", names, room(1 << 20), 4) is None


def test_room_that_is_too_small(folder: tuple[bytes, np.ndarray]) -> None:
    """Nothing is written outside a part: the second one keeps what it holds."""
    prefix, names = folder
    content = room(2 * 50_000)
    content[50_000:] = 5
    assert read_files(prefix, names[[4, 0]], content, 1) is None
    assert (content[50_000:] == 5).all()
    assert read_files(prefix, names[[4]], room(100_001), 1) is not None


def test_no_file_stays_open(folder: tuple[bytes, np.ndarray]) -> None:
    prefix, names = folder
    for _ in range(2000):
        assert read_files(prefix, names[[1]], room(6), 1) is not None
        assert read_files(prefix, names[[3]], room(6), 1) is None
