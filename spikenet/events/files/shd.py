"""The HDF5 layout of the Spiking Heidelberg Digits and Spiking Speech Commands (Cramer et al., IEEE TNNLS 33, 2022).

``spikes/times`` (seconds, any float) and ``spikes/units`` (channels, any integer) hold one array of their own length
for each recording, ``labels`` its class; ``extra/keys`` may name the classes and ``extra/speaker`` the speakers.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from spikenet.errors import ArgumentError, DataError, FormatError
from spikenet.events.files.arrays import LONGEST, ArraySource, Raw, check_holds, chosen, in_time
from spikenet.events.files.hdf5 import Hdf5, holds, open_hdf5, readable
from spikenet.events.files.recording import Format, Opening
from spikenet.events.stream import EventStream, Sensor

CHANNELS = 700
_UNNAMED = b"unlabelled"
_MOST_CLASSES = 1 << 16  # where the file does not name them


@dataclass(frozen=True, eq=False)
class SpikeFile:
    """Recordings of one file, joined.

    Attributes:
        times: seconds, in the file's own float type ``[E]``.
        units: channels ``[E]``.
        starts: where each recording begins, and the end, int64 ``[N + 1]``.
        labels: class numbers, int64 ``[N]``.
        classes: class names; ``"0"``, ``"1"``, ... where the file has none.
        speakers: int64 ``[N]``, or none.
    """

    times: np.ndarray
    units: np.ndarray
    starts: np.ndarray
    labels: np.ndarray
    classes: tuple[str, ...]
    speakers: np.ndarray | None


def read_spikes(path: str | Path, channels: int = CHANNELS) -> SpikeFile:
    """Read and check all of a ``.h5`` file, or of a ``.h5.gz`` as it was published.

    Errors: DataError where there is no such file; FormatError, with the number of the recording where one can be named,
    for a broken file, a missing data set, arrays of unequal length, a time that is no number or below 0, a channel or
    a label out of range.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path} is no file; expected a .h5 or .h5.gz file in the SHD layout")
    with open_hdf5(path) as file:
        content = _decode(file, slice(None))
    _check_labels(path, content.labels, content.classes)
    _check_spikes(path, content.times, content.units, content.starts, channels)
    return content


class StoredSpikeFile:
    """Recordings that stay in a ``.h5`` file, which every process opens for itself; each is checked when it is read.

    Args:
        path: the file.
        channels: a unit wants to be below.

    Attributes:
        labels: class numbers, int64 ``[N]``.
        classes: class names.
        speakers: int64 ``[N]``, or none.

    Errors: those of `read_spikes`.
    """

    def __init__(self, path: Path, channels: int = CHANNELS) -> None:
        if not path.is_file():
            raise DataError(f"{path} is no file; expected a .h5 file in the SHD layout")
        self.path, self.channels = path, channels
        self._process = 0
        self._file: Hdf5 | None = None
        self._stamp = _stamp(path)
        with readable(path):
            self.labels, self.classes, self.speakers = _about(self._open())
        _check_labels(path, self.labels, self.classes)

    def read(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Seconds and channels of one recording, ``[E]`` each. Errors: those of `read_spikes`, and DataError for a file
        that is no longer the one whose labels were read."""
        if _stamp(self.path) != self._stamp:
            raise DataError(f"{self.path} has changed since it was opened; to open it anew would work")
        with readable(self.path):
            times, units, starts = _spikes(self._open(), slice(number, number + 1))
        _check_spikes(self.path, times, units, starts, self.channels, number)
        return times, units

    def _open(self) -> Hdf5:
        if self._file is None or self._process != os.getpid():
            self._file, self._process = Hdf5(self.path), os.getpid()
            weakref.finalize(self, self._file.close)
        return self._file

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"_process": 0, "_file": None}


def _stamp(path: Path) -> tuple[int, ...]:
    """What changes when a file is written or replaced. Errors: DataError where there is none."""
    try:
        found = path.stat()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def write_spikes(
    path: str | Path,
    streams: Sequence[EventStream],
    labels: Sequence[int],
    classes: Sequence[str] = (),
    speakers: Sequence[int] | None = None,
) -> None:
    """Write recordings in the SHD layout, times as float64 seconds, which keep every microsecond.

    Args:
        path: a ``.h5`` file; an existing one is replaced.
        streams: recordings of 700 channels, times from 0 to 60000 s.
        labels: the class number of each.
        classes: class names; none leaves them out.
        speakers: the speaker of each; none leaves them out.

    Errors: ArgumentError for a stream that the layout does not hold and for lists of unequal length.
    """
    if len(labels) != len(streams) or (speakers is not None and len(speakers) != len(streams)):
        raise ArgumentError(f"write_spikes wants a label (and speaker) for each of {len(streams)} recordings")
    for stream in streams:
        check_holds("shd", stream, Sensor(CHANNELS), LONGEST * 1_000_000)
    path = Path(path)
    unfinished = path.with_name(f".{path.name}.unfinished")
    try:
        _encode(unfinished, streams, np.asarray(labels, np.int64), [name.encode() for name in classes], speakers)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def _encode(
    path: Path,
    streams: Sequence[EventStream],
    labels: np.ndarray,
    classes: Sequence[bytes],
    speakers: Sequence[int] | None,
) -> None:
    import h5py

    with h5py.File(path, "w") as file:
        times = file.create_dataset("spikes/times", (len(streams),), h5py.vlen_dtype(np.float64))
        units = file.create_dataset("spikes/units", (len(streams),), h5py.vlen_dtype(np.uint16))
        for number, stream in enumerate(streams):
            times[number] = stream.t.numpy() / 1e6
            units[number] = stream.x.numpy().astype(np.uint16)
        file["labels"] = labels
        if classes:
            file["extra/keys"] = np.array(classes)
        if speakers is not None:
            file["extra/speaker"] = np.asarray(speakers, np.int64)


def _decode(file: Hdf5, rows: slice) -> SpikeFile:
    """Some recordings, not yet checked number by number."""
    labels, classes, speakers = _about(file)
    times, units, starts = _spikes(file, rows)
    speakers = None if speakers is None else speakers[rows]
    return SpikeFile(times, units, starts, labels[rows], classes, speakers)


def _about(file: Hdf5) -> tuple[np.ndarray, tuple[str, ...], np.ndarray | None]:
    """Labels, classes and speakers of all recordings."""
    labels = file.array("labels", "iu").astype(np.int64)
    speakers = file.array("extra/speaker", "iu").astype(np.int64) if "extra/speaker" in file else None
    _check_sizes(file, labels, speakers)
    if "extra/keys" in file:
        return labels, tuple(file.strings("extra/keys")), speakers
    if (largest := int(labels.max(initial=-1))) >= _MOST_CLASSES:
        reason = f"labels want 0 to {_MOST_CLASSES - 1} where classes have no names, received {largest}"
        raise FormatError(file.path, int(labels.argmax()), reason)
    return labels, tuple(map(str, range(largest + 1))), speakers


def _spikes(file: Hdf5, rows: slice) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Times and units of some recordings, joined, and where each begins."""
    times, units = file.ragged("spikes/times", "f", rows), file.ragged("spikes/units", "iu", rows)
    for number, (time, unit) in enumerate(zip(times, units, strict=True), rows.start or 0):
        if len(time) != len(unit):
            raise FormatError(file.path, number, f"recording {number} has {len(time)} times and {len(unit)} units")
    starts = np.concatenate([[0], np.cumsum([len(part) for part in times], dtype=np.int64)])
    return _joined(times), _joined(units), starts


def _check_sizes(file: Hdf5, labels: np.ndarray, speakers: np.ndarray | None) -> None:
    sizes = {name: (file.count(f"spikes/{name}"),) for name in ("times", "units")} | {"labels": labels.shape}
    if speakers is not None:
        sizes["speaker"] = speakers.shape
    if len(set(sizes.values())) != 1:
        raise FormatError(file.path, None, f"times, units, labels and speakers want one length, received {sizes}")


def _check_labels(path: Path, labels: np.ndarray, classes: Sequence[str]) -> None:
    bad = np.flatnonzero((labels < 0) | (labels >= len(classes)))
    if len(bad):
        number = int(bad[0])
        reason = f"label {labels[number]} of recording {number}: there are {len(classes)} classes"
        raise FormatError(path, number, reason)


def _check_spikes(
    path: Path, times: np.ndarray, units: np.ndarray, starts: np.ndarray, channels: int, first: int = 0
) -> None:
    """Every spike in range; the first that is not is named. The recordings are numbered from ``first`` on."""

    def refuse(bad: np.ndarray, values: np.ndarray, wanted: str) -> None:
        if bad.any():
            spike = int(bad.argmax())
            number = first + int(np.searchsorted(starts, spike, side="right")) - 1
            raise FormatError(path, number, f"{wanted}, received {values[spike]} in recording {number}")

    if not in_time(times):
        refuse(~((times >= 0) & (times <= LONGEST)), times, f"a time wants seconds from 0 to {LONGEST}")
    if len(units) and not (units.min() >= 0 and units.max() < channels):
        refuse((units < 0) | (units >= channels), units, f"a unit wants 0 to {channels - 1}")


def _joined(parts: Sequence[np.ndarray]) -> np.ndarray:
    return np.concatenate(parts) if len(parts) else np.empty(0, np.int64)


def _open(opening: Opening) -> ArraySource:
    with open_hdf5(opening.path, opening.whole()) as file:
        count = file.count("spikes/times")
        number = chosen(opening, count)
        content = _decode(file, slice(number, number + 1))
    label = int(content.labels[0])
    header = {"recordings": str(count), "index": str(number), "label": str(label)}
    if 0 <= label < len(content.classes):
        header["class"] = content.classes[label]
    if content.speakers is not None:
        header["speaker"] = str(content.speakers[0])
    none = np.zeros(len(content.times), np.int8)
    raw = Raw(content.times, content.units, none, none)
    size = opening.path.stat().st_size
    return ArraySource(raw, opening.losses, Sensor(CHANNELS), header, seconds=True, stored=size)


def _write(stream: EventStream, path: Path) -> None:
    check_holds("shd", stream, Sensor(CHANNELS), LONGEST * 1_000_000)
    _encode(path, [stream], np.zeros(1, np.int64), [_UNNAMED], None)


def _recognises(path: Path, head: bytes) -> bool:
    # A broken file, so that opening it says what is broken.
    return os.fspath(path).endswith(".h5.gz") or holds(path, head, {b"spikes"}, broken=path.suffix == ".h5")


SHD = Format("shd", (".h5",), _recognises, _open, _write)
