"""Recordings of the ``.bin`` format from files to a batch: each is read and counted while it lies in the processor's
cache, then all are laid side by side. Importing this module imports numba."""

from __future__ import annotations

from collections.abc import Callable

import numba
import numpy as np
import torch
from torch import Tensor

from spikenet.kernels import buffers
from spikenet.kernels.events.numba_binning import Part, flush, laid, marks, table
from spikenet.kernels.events.numba_files import HERE, paths, read_file
from spikenet.kernels.events.words import big, byte, dozen
from spikenet.kernels.threads import over_lanes

_RECORD = 5  # bytes
_DOZEN = 64  # bytes that a look at 12 records takes
_FAR = 1 << 62  # microseconds between any time and one that is long before or after it
_LATEST = (1 << 23) - 1  # microseconds, in a record
_SHARE = 8  # files that a thread takes at once
_EVENTS = 1 << 14  # in a file, on average; with more, files are read by Python

Grid = tuple[int, int, int, int, int, int]  # length of a step, origin, steps, width, height, polarities
Laid = tuple[Tensor, Tensor, Tensor]


def batch_bin(
    read: Callable[[int, np.ndarray], int],
    batch: int,
    folder: tuple[bytes, np.ndarray] | None,
    dt: int,
    origin: int,
    steps: int,
    sensor: tuple[int, int, int],
) -> Laid | None:
    """`count` and `stack` of ``.bin`` files without columns in between; threads share the recordings.

    Args:
        read: writes the bytes of one of the recordings to the beginning of an array, uint8, as far as they fit, and
            returns their number.
        batch: their number ``B``.
        folder: what the paths of the recordings begin with, and what follows, of those that are files of their own.
        dt: length of a step.
        origin: the time at which step 0 begins.
        steps: number of steps ``T``.
        sensor: width, height, polarities.

    Returns:
        What `stack` returns. None where it takes more than a look at each record: for a cut one, an event outside the
        sensor, a marker, or steps that do not ascend.
    """
    # Later steps are empty, and where they begin may be no number of 64 bits.
    reached = max(min(steps, (_LATEST - origin) // dt + 1), 0)
    grid = (dt, origin, reached, *sensor)
    counted = _files(*folder, grid, steps) if folder is not None and HERE else None
    return _contents(*_one_by_one(read, batch), grid, steps) if counted is None else counted


def _files(prefix: bytes, names: np.ndarray, grid: Grid, steps: int) -> Laid | None:
    """From files, read by compiled code. None where one cannot be read, too."""
    places, part = paths(prefix, names), _EVENTS * _RECORD
    room = buffers.empty((len(names) * part,), torch.uint8).numpy()

    def count(first: int, last: int, *found: np.ndarray) -> bool:
        return _count_files(places[first:last], room[first * part : last * part], grid, *found)

    return _counted(count, np.arange(len(names) + 1) * _EVENTS, steps)


def _contents(records: np.ndarray, ends: np.ndarray, grid: Grid, steps: int) -> Laid | None:
    """From bytes that are there, those of a recording after those of the one before."""

    def count(first: int, last: int, *found: np.ndarray) -> bool:
        return _count_contents(records, ends[first : last + 1], grid, *found)

    return _counted(count, ends // _RECORD, steps)


def _counted(count: Callable[..., bool], limits: np.ndarray, steps: int) -> Laid | None:
    """Count the recordings in parts, and lay them side by side.

    Args:
        count: takes a first recording, the one after the last, and what receives their entries in each step, int64
            ``[T, part]``, the addresses and the counts, step by step and recording by recording.
        limits: where the places for the entries of each recording begin, and the last ones end, ``[B + 1]``.
        steps: number of steps ``T``.
    """
    batch, most = len(limits) - 1, int(limits[-1])
    rows = np.zeros((steps, batch), np.int64)
    addresses, counts = (buffers.empty((most,), kind).numpy() for kind in (torch.int32, torch.float32))
    parts: list[Part] = []
    plain: list[bool] = []

    def some(first: int, last: int) -> None:
        place = slice(limits[first], limits[last])
        plain.append(count(first, last, rows[:, first:last], addresses[place], counts[place]))
        parts.append((first, last, addresses[place], counts[place]))

    over_lanes(some, batch, _SHARE, _RECORD * most)
    return laid(parts, rows) if all(plain) else None


def _one_by_one(read: Callable[[int, np.ndarray], int], batch: int) -> tuple[np.ndarray, np.ndarray]:
    """The bytes of all recordings in a buffer that is used again, and where each ends, after a 0."""
    room = buffers.empty((batch * _EVENTS * _RECORD,), torch.uint8).numpy()
    ends = np.zeros(batch + 1, np.int64)
    at = 0
    for number in range(batch):
        while at + (size := read(number, room[at:])) > len(room):
            larger = buffers.empty((2 * (at + size),), torch.uint8).numpy()
            larger[:at] = room[:at]
            room = larger
        at += size
        ends[number + 1] = at
    return room, ends


@numba.njit(cache=True, nogil=True)
def _count_files(
    places: np.ndarray,  # what `paths` returns, of some files
    room: np.ndarray,  # uint8
    grid: Grid,
    rows: np.ndarray,  # int64 [T, files]
    addresses: np.ndarray,  # int32
    values: np.ndarray,  # float32
) -> bool:
    """Whether all files can be read and are plain. Each is read to where the one before was, which is in the cache."""
    tables, found = _tables(grid), 0
    for k in range(len(places)):
        size = read_file(places[k], room)
        if size < 0 or found + size // _RECORD > len(addresses):
            return False
        found = _count_records(room, 0, size, grid, tables, rows[:, k], addresses, values, found)
        if found < 0:
            return False
    return True


@numba.njit(cache=True, nogil=True)
def _count_contents(
    records: np.ndarray,  # uint8
    ends: np.ndarray,  # int64: where each recording ends and the next one begins
    grid: Grid,
    rows: np.ndarray,  # int64 [T, recordings]
    addresses: np.ndarray,  # int32
    values: np.ndarray,  # float32
) -> bool:
    """Whether all recordings are plain."""
    tables, found = _tables(grid), 0
    for k in range(len(ends) - 1):
        found = _count_records(records, ends[k], ends[k + 1], grid, tables, rows[:, k], addresses, values, found)
        if found < 0:
            return False
    return True


@numba.njit(cache=True, nogil=True)
def _tables(grid: Grid) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Counts inside the grid and outside, and the room of `flush`."""
    _, _, _, width, height, polarities = grid
    counts = table(width * height * polarities)
    return counts, table(len(counts)), marks(counts)


@numba.njit(cache=True, nogil=True)
def _count_records(records, start, stop, grid, tables, rows, addresses, values, found):  # type: ignore[no-untyped-def]
    """Count records of 5 bytes: column, row, then polarity and 23 bits of time, most significant byte first.

    Returns where the entries end, that begin at ``found``; -1 where not all records are plain.
    """
    dt, origin, reached, width, height, polarities = grid
    counts, outside, marked = tables
    if (stop - start) % _RECORD:
        return -1
    place = _tally(records, start, stop, origin - _FAR, _FAR, width, height, polarities, outside)
    for step in range(reached):
        to = _tally(records, place, stop, origin + step * dt, dt, width, height, polarities, counts)
        if to > place:
            before, found = found, flush(counts, marked, addresses, values, found)
            rows[step] = found - before
            place = to
    place = _tally(records, place, stop, origin + reached * dt, _FAR, width, height, polarities, outside)
    return found if place == stop else -1


@numba.njit(cache=True, nogil=True)
def _tally(records, place, stop, begin, dt, width, height, polarities, counts):  # type: ignore[no-untyped-def]
    """Count records up to the first that lies outside the step or the sensor. Returns where that is."""
    first = min(max(begin, 0), _LATEST + 1)  # of the times that a record can hold
    span, addresses = max(min(begin + dt, _LATEST + 1) - first, 0), np.empty(16, np.uint32)
    while place <= stop - _DOZEN and dozen(records, place, first, span, width, height, polarities, addresses):
        for k in range(12):
            counts[np.uint64(addresses[k])] += 1
        place += 12 * _RECORD
    for i in range(place, stop, _RECORD):
        x, bits = byte(records, i), big(records, i + 1)
        y, p, t = bits >> 24, bits >> 23 & 1, bits & 0x7FFFFF
        if x >= width or y >= height or p >= polarities or np.uint64(t - begin) >= np.uint64(dt):
            return i
        counts[np.uint64((p * height + y) * width + x)] += 1
    return max(place, stop)
