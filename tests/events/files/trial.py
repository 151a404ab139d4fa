"""What a reader may do with any bytes at all: refuse them with a FormatError, or give a valid stream; nothing else."""

from __future__ import annotations

import os
import re
import signal
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from spikenet.errors import ArgumentError, FormatError
from spikenet.events import EventStream, Sensor, open_recording

ROOM, PER_BYTE = 64 << 20, 100  # memory that a reader may take: this much, and so many times the size of the file


class Finding(AssertionError):
    """A reader did what it must not do; ``kind`` is a word for it."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(f"{kind}: {message}")
        self.kind = kind


@dataclass(frozen=True)
class Case:
    """A file, and how it is asked for."""

    path: Path
    format: str | None
    sensor: Sensor | None
    index: int | None = None


@dataclass(frozen=True)
class Outcome:
    """What a read gave: columns ``[4, E]``, what was left out and whether the reader warned of it; or a refusal."""

    columns: np.ndarray | None
    dropped: dict[str, int]
    warned: bool
    refusal: Exception | None = None

    @property
    def words(self) -> str:
        if self.columns is None:
            return f"refused with {self.refusal}"
        return f"{self.columns.shape[1]} events, left out {self.dropped}"


def outcome(case: Case, *, strict: bool, size: int | None = None) -> Outcome:
    """One read, whole or in chunks of about ``size`` bytes."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            recording = open_recording(
                case.path, format=case.format, sensor=case.sensor, index=case.index, strict=strict
            )
            streams = [recording.read()] if size is None else list(recording.chunks(size))
        except FormatError as error:
            _judge(error, case.path)
            return Outcome(None, {}, False, error)
        except ArgumentError as error:  # damage may take the recording asked for, or the name of the chip
            if not re.search("index|chip|layout", str(error)):
                raise
            return Outcome(None, {}, False, error)
    warned = any(str(case.path) in str(warning.message) for warning in caught)
    for stream in streams:
        stream.check()
    return Outcome(_columns(streams), recording.dropped, warned)


def _columns(streams: list[EventStream]) -> np.ndarray:
    parts = [np.stack([c.numpy().astype(np.int64) for c in (s.t, s.x, s.y, s.p)]) for s in streams]
    return np.concatenate([np.empty((4, 0), np.int64), *parts], axis=1)


def _judge(error: FormatError, path: Path) -> None:
    if error.path != path or str(path) not in str(error):
        raise Finding("path", f"the refusal does not name the file: {error}")
    if error.offset is not None and not (isinstance(error.offset, int) and error.offset >= 0):
        raise Finding("offset", f"no offset: {error.offset!r} in {error}")


def _same(one: Outcome, other: Outcome, what: str) -> None:
    if (one.columns is None) != (other.columns is None):
        raise Finding("differs", f"{what}: {one.words} | {other.words}")
    if one.columns is not None and not np.array_equal(one.columns, other.columns):
        raise Finding("differs", f"{what}: {one.words} | {other.words}")
    if sum(one.dropped.values()) != sum(other.dropped.values()):
        raise Finding("differs", f"{what} in what is left out: {one.words} | {other.words}")


def trial(case: Case, size: int = 64) -> Outcome:
    """Read strictly and tolerantly, whole and in chunks, and hold the results together. Errors: Finding, or whatever
    a reader raised that it must not raise. Returns the strict reader's outcome."""
    strict, tolerant = outcome(case, strict=True), outcome(case, strict=False)
    _same(strict, outcome(case, strict=True, size=size), f"strict, whole | in chunks of {size}")
    _same(tolerant, outcome(case, strict=False, size=size), f"tolerant, whole | in chunks of {size}")
    if strict.columns is not None:
        _same(strict, tolerant, "strict | tolerant")
    if strict.warned or (strict.columns is not None and tolerant.warned):
        raise Finding("warning", f"of a file that a strict reader takes: {tolerant.words}")
    if strict.columns is None and tolerant.columns is not None and not (tolerant.warned and tolerant.dropped):
        raise Finding("silence", f"{strict.words}, but tolerantly {tolerant.words} without a warning")
    return strict


# Memory: what the process really holds, as Linux counts it.

_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def _held(name: str) -> int:
    return int(re.search(rf"{name}:\s+(\d+) kB", _STATUS.read_text())[1]) << 10


@contextmanager
def bounded(size: int) -> Iterator[None]:
    """Errors: Finding where what runs inside took more memory than a file of ``size`` bytes may take."""
    _RESET.write_text("5")  # the high-water mark starts anew
    before = _held("VmRSS")
    yield
    taken = _held("VmHWM") - before
    if taken > ROOM + PER_BYTE * size:
        raise Finding("memory", f"{taken >> 20} MB for a file of {size} bytes")


# A reader that leans on a library in C may take the whole process with it.


def apart(work: Callable[[], None], seconds: int = 100) -> None:
    """Do ``work`` in a copy of this process. Errors: Finding where that fails, crashes or takes too long."""
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # other threads are idle
        child = os.fork()
    if not child:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(seconds)
        try:
            work()
        except BaseException:  # noqa: BLE001 - the parent raises it again, as words
            os.write(writing, traceback.format_exc()[-8000:].encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as words:
        failure = words.read()
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        raise Finding("crash", f"the reader died of {signal.Signals(os.WTERMSIG(status)).name}")
    if failure:
        raise Finding("error", failure)
