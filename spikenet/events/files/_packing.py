"""How the packets of AEDAT 4 are compressed: LZ4 frames by our own decoder, zstd through a library."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib import import_module
from itertools import islice
from typing import Any

import numpy as np

from spikenet.errors import DataError

MOST = 1 << 28  # bytes that a packet may unpack to: 16 million events; writers stay far below
NONE, LZ4, LZ4_HIGH, ZSTD, ZSTD_HIGH = range(5)
_STEP = 1 << 20

Unpacked = tuple[np.ndarray, int, str]
"""The bytes (uint8, read only, good until the next packet), how many of them count, and what is wrong, if anything."""


def unpacker(compression: int) -> Callable[[bytes], Unpacked]:
    """What unpacks the packets of a file, one after the other.

    Errors: DataError for zstd where no library for it is installed.
    """
    if compression == NONE:
        return _stored
    return _Zstd() if compression in (ZSTD, ZSTD_HIGH) else _Lz4()


def packed(content: np.ndarray) -> bytes:
    """An LZ4 frame of some bytes (uint8)."""
    from spikenet.kernels.events import lz4

    out = np.empty(lz4.packed_bound(len(content)), np.uint8)
    return out[: lz4.pack_frame(content, out)].tobytes()


def _stored(content: bytes) -> Unpacked:
    return np.frombuffer(content, np.uint8), len(content), ""


class _Lz4:
    def __init__(self) -> None:
        from spikenet.kernels.events import lz4

        self._kernels = lz4
        self._scratch = np.empty(0, np.uint8)

    def __call__(self, content: bytes) -> Unpacked:
        lz4 = self._kernels
        frame = np.frombuffer(content, np.uint8)
        wanted = min(lz4.unpacked_bound(frame), MOST) + lz4.SLACK
        if wanted > len(self._scratch):
            self._scratch = np.empty(wanted, np.uint8)
        fault, size = lz4.unpack_frame(frame, self._scratch)
        unpacked = self._scratch[:]
        unpacked.flags.writeable = False  # as the bytes of the other ways: one compiled kernel for all
        return unpacked, size, lz4.FAULTS.get(fault, "")


class _Zstd:
    def __init__(self) -> None:
        self._read, self._error = _zstd_library()

    def __call__(self, content: bytes) -> Unpacked:
        try:
            unpacked = self._read(content)
        except self._error:
            return np.empty(0, np.uint8), 0, "the zstd frame is broken"
        return np.frombuffer(unpacked, np.uint8), len(unpacked), ""


def _zstd_library() -> tuple[Callable[[bytes], bytes], type[Exception]]:
    """What unpacks a frame (as far as `MOST` bytes), and the error it raises: from Python 3.14 on, or zstandard."""
    for name, read in (("compression.zstd", _read_by_python), ("zstandard", _read_by_zstandard)):
        try:
            library = import_module(name)
        except ImportError:
            continue
        return partial(read, library), library.ZstdError
    raise DataError("these packets are compressed with zstd: Python 3.14 reads them, or `pip install zstandard`")


def _read_by_python(library: Any, content: bytes) -> bytes:
    unpacked: bytes = library.ZstdDecompressor().decompress(content, MOST)
    return unpacked


def _read_by_zstandard(library: Any, content: bytes) -> bytes:
    reader = library.ZstdDecompressor().stream_reader(content)
    return b"".join(islice(iter(lambda: reader.read(_STEP), b""), MOST // _STEP))
