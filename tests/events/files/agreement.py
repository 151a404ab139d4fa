"""What a reader must make of a file, held against the file in every way of reading."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import pytest

from spikenet.errors import FormatError
from spikenet.events import EventStream, open_recording, read
from tests.events.files.samples import Event

SIZES = (1, 7, 64, 1000, 1 << 20)  # bytes decoded at a time


def rows(streams: EventStream | Iterable[EventStream]) -> list[Event]:
    streams = [streams] if isinstance(streams, EventStream) else streams
    return [row for s in streams for row in zip(*(c.tolist() for c in (s.t, s.x, s.y, s.p)), strict=True)]


def agree(path: Path, format: str, expected: Sequence[Event], skipped: int | None = 0, **options) -> None:
    """Whole, in chunks and by slices the file holds these events in this order."""
    recording = open_recording(path, format=format, **options)
    for size in (None, *SIZES):
        found = rows(recording.read() if size is None else recording.chunks(size))
        assert found == list(expected), size
        if skipped is not None:
            assert sum(recording.dropped.values()) == skipped, recording.dropped
    times = sorted(row[0] for row in expected) or [0]
    start, stop = times[len(times) // 3], times[len(times) // 2] + 1
    assert rows(recording.slice(start, stop)) == [row for row in expected if start <= row[0] < stop]


def checked(folder: Path) -> Callable[..., None]:
    """What puts bytes into a file of the folder and reads them in all ways."""

    def check(format: str, content: bytes, expected: Sequence[Event], skipped: int | None = 0, **options) -> None:
        path = folder / "file"
        path.write_bytes(content)
        agree(path, format, expected, skipped, **options)

    return check


def refused(path: Path, content: bytes, format: str, **options) -> FormatError:
    path.write_bytes(content)
    with pytest.raises(FormatError) as caught:
        read(path, format=format, **options)
    assert caught.value.path == path
    assert str(path) in str(caught.value)
    return caught.value


def tolerated(path: Path, format: str, **options) -> tuple[list[Event], dict[str, int]]:
    """What a tolerant reader makes of the file, in one way or in chunks, and what it left out; it warns of that."""
    recording = open_recording(path, format=format, strict=False, **options)
    with pytest.warns(UserWarning, match=re.escape(str(path))):
        found = rows(recording.read())
    dropped = recording.dropped
    assert rows(recording.chunks(7)) == found
    assert sum(recording.dropped.values()) == sum(dropped.values())
    return found, dropped
