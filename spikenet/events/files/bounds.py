"""What a file may claim: memory in proportion to its own size, whatever its headers say."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Iterable
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

from spikenet.errors import FormatError

if TYPE_CHECKING:
    from typing_extensions import Buffer

_ROOM = 1 << 26
_RATIO = 64  # recorded events pack ten to one at best
_STEP = 1 << 20


def allowance(path: Path) -> int:
    """The most bytes that a file may hold when it is unpacked: 64 MiB, and 64 times its own size beyond."""
    return _ROOM + _RATIO * path.stat().st_size


def check_claim(path: Path, offset: int | None, what: str, claimed: int) -> None:
    """Raise FormatError where something wants more memory than its file may ask for; called before any is taken."""
    if claimed > _ROOM and claimed > (most := allowance(path)):
        raise FormatError(path, offset, f"{what} claims {claimed} bytes; a file of this size may hold {most} unpacked")


def gunzip(path: Path) -> bytes:
    """The content of a gzip file. Errors: FormatError for a broken file and for one that unpacks past its allowance."""
    content, most = io.BytesIO(), allowance(path)
    try:
        with gzip.open(path) as file:
            while piece := file.read(_STEP):
                content.write(piece)
                if content.tell() > most:
                    raise FormatError(path, None, f"unpacks to more than {most} bytes, 64 times its size")
    except (OSError, EOFError, zlib.error) as error:
        raise FormatError(path, None, f"not a readable gzip file: {error}") from error
    return content.getvalue()


def inflate(packed: Buffer, most: int) -> bytes:
    """Up to ``most`` bytes (1 or more) of a zlib stream. Errors: zlib.error where it is broken or cut off."""
    stream = zlib.decompressobj()
    content = stream.decompress(packed, most)
    if len(content) < most and not stream.eof:
        raise zlib.error("incomplete stream")
    return content


def length_of(path: Path, name: str, shape: Iterable[int]) -> int:
    """The number of values in an array that is to be one column, one row or empty. Errors: FormatError otherwise."""
    shape = tuple(shape)
    if (sum(size != 1 for size in shape) > 1 and 0 not in shape) or min(shape, default=1) < 0:
        raise FormatError(path, None, f"{name} wants one dimension, received shape {shape}")
    return prod(shape)
