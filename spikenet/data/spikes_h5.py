"""The HDF5 layout of the Spiking Heidelberg Digits and Spiking Speech Commands (Cramer et al., IEEE TNNLS 33, 2022).

``spikes/times`` (seconds, any float) and ``spikes/units`` (channels, any integer) hold one array of their own length
for each recording, ``labels`` its class; ``extra/keys`` may name the classes and ``extra/speaker`` the speakers.
"""

from __future__ import annotations

import gzip
import io
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from spikenet.data.recordings import Recordings
from spikenet.errors import DataError, FormatError
from spikenet.events import EventStream, Sensor

_REQUIRED = ("spikes/times", "spikes/units", "labels")
_LONGEST = 60_000  # seconds; even half a float can hold it
_BROKEN = (OSError, EOFError, zlib.error, KeyError, RuntimeError, TypeError, ValueError, OverflowError)


@dataclass(frozen=True, eq=False)
class SpikeFile:
    """The content of one file, recordings joined.

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


class SpikeRecordings(Recordings):
    """The recordings of a file, with neighbouring channels joined.

    Args:
        content: the file.
        channels: channels of the sensor.
        pool: neighbouring channels joined to one.
    """

    def __init__(self, content: SpikeFile, channels: int, pool: int) -> None:
        self.content, self.pool = content, pool
        self.labels = content.labels
        self.sensor = Sensor(-(-channels // pool))

    def stream(self, index: int) -> EventStream:
        content = self.content
        part = slice(content.starts[index], content.starts[index + 1])
        # In float64: half a float has no room for microseconds.
        t = np.rint(content.times[part].astype(np.float64) * 1e6).astype(np.int64)
        return EventStream.from_numpy(t, content.units[part].astype(np.int32) // self.pool, sensor=self.sensor)


def read_spikes(path: str | Path, channels: int = 700) -> SpikeFile:
    """Read and check a ``.h5`` file, or a ``.h5.gz`` as it was published.

    Errors: DataError where there is no such file; FormatError, with the number of the recording where one can be named,
    for a broken file, a missing data set, arrays of unequal length, a time that is no number or below 0, a channel or
    a label out of range.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path} is no file; expected a .h5 or .h5.gz file in the SHD layout")
    times, units, labels, classes, speakers = _fetch(path)
    _check_sizes(path, times, units, labels, speakers)
    starts = np.concatenate([[0], np.cumsum([len(part) for part in times], dtype=np.int64)])
    classes = classes or tuple(str(label) for label in range(labels.max(initial=-1) + 1))
    content = SpikeFile(_joined(times), _joined(units), starts, labels, classes, speakers)
    _check_values(path, content, channels)
    return content


def _fetch(path: Path) -> tuple[Any, ...]:
    """Everything the file holds, with every way in which it can be broken turned into one error."""
    try:
        source = io.BytesIO(gzip.decompress(path.read_bytes())) if path.suffix == ".gz" else path
        with h5py.File(source, "r") as file:
            _check_layout(path, file)
            times, units, labels = (file[name][:] for name in _REQUIRED)
            speakers = file["extra/speaker"][:].astype(np.int64) if "extra/speaker" in file else None
            return times, units, labels.astype(np.int64), _class_names(file), speakers
    except FormatError:
        raise
    except _BROKEN as error:
        raise FormatError(path, None, f"not a readable HDF5 file: {error}") from error


def _check_layout(path: Path, file: h5py.File) -> None:
    if missing := [name for name in _REQUIRED if not isinstance(file.get(name), h5py.Dataset)]:
        raise FormatError(path, None, f"lacks the data sets {missing} of the SHD layout; it holds {sorted(file)}")
    for name, kinds in (("spikes/times", "f"), ("spikes/units", "iu")):
        inner = h5py.check_vlen_dtype(file[name].dtype)
        if inner is None or inner.kind not in kinds:
            raise FormatError(path, None, f"{name} wants arrays of {'floats' if kinds == 'f' else 'integers'}")
    if file["labels"].dtype.kind not in "iu":
        raise FormatError(path, None, f"labels want integers, received {file['labels'].dtype}")


def _class_names(file: h5py.File) -> tuple[str, ...]:
    if "extra/keys" not in file:
        return ()
    return tuple(key.decode() if isinstance(key, bytes) else str(key) for key in file["extra/keys"][:].tolist())


def _check_sizes(
    path: Path, times: np.ndarray, units: np.ndarray, labels: np.ndarray, speakers: np.ndarray | None
) -> None:
    sizes = {"times": times.shape, "units": units.shape, "labels": labels.shape}
    if speakers is not None:
        sizes["speaker"] = speakers.shape
    if len(set(sizes.values())) != 1 or labels.ndim != 1:
        raise FormatError(path, None, f"times, units, labels and speakers want one length, received {sizes}")
    for number, (time, unit) in enumerate(zip(times, units, strict=True)):
        if len(time) != len(unit):
            raise FormatError(path, number, f"recording {number} has {len(time)} times and {len(unit)} units")


def _check_values(path: Path, content: SpikeFile, channels: int) -> None:
    """Every spike and label in range; the first that is not is named."""
    bad_time = ~((content.times >= 0) & (content.times < _LONGEST))
    _refuse(path, content, bad_time, content.times, "a time wants seconds of 0 or more")
    bad_unit = (content.units < 0) | (content.units >= channels)
    _refuse(path, content, bad_unit, content.units, f"a unit wants 0 to {channels - 1}")
    labels, known = content.labels, len(content.classes)
    bad_label = np.flatnonzero((labels < 0) | (labels >= known))
    if len(bad_label):
        number = int(bad_label[0])
        raise FormatError(path, number, f"label {labels[number]} of recording {number}: there are {known} classes")


def _refuse(path: Path, content: SpikeFile, bad: np.ndarray, values: np.ndarray, wanted: str) -> None:
    if bad.any():
        spike = int(bad.argmax())
        number = int(np.searchsorted(content.starts, spike, side="right")) - 1
        raise FormatError(path, number, f"{wanted}, received {values[spike]} in recording {number}")


def _joined(parts: np.ndarray) -> np.ndarray:
    return np.concatenate(parts) if len(parts) else np.empty(0, np.int64)
