"""Spoken words of an HDF5 file in the SHD layout: joined in memory, or left in the file until they are asked for."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import torch

from spikenet.data.recordings import Recordings
from spikenet.errors import DataError, FormatError
from spikenet.events import EventStream, Sensor
from spikenet.events.files.arrays import LONGEST, microseconds
from spikenet.events.files.shd import SpikeFile

_BROKEN = (OSError, KeyError, RuntimeError, TypeError, ValueError)
_LAYOUT = ("spikes/times", "spikes/units", "labels")


class Spoken(Recordings):
    """What both have in common.

    Attributes:
        classes: class names.
        speakers: who speaks, int64 ``[N]``, or none.
        sensor: the cochlea, its channels joined.
    """

    classes: tuple[str, ...]
    speakers: np.ndarray | None
    sensor: Sensor


class JoinedSpikes(Spoken):
    """The recordings of a file in memory: 4 bytes an event, one array, which forked workers share.

    Args:
        content: the file.
        channels: channels of the sensor.
        pool: neighbouring channels joined to one.
    """

    def __init__(self, content: SpikeFile, channels: int, pool: int) -> None:
        self.content, self.pool = content, pool
        self.labels, self.classes, self.speakers = content.labels, content.classes, content.speakers
        self.sensor = Sensor(-(-channels // pool))

    def stream(self, index: int) -> EventStream:
        """Made without a second look: the whole file was checked when it was read."""
        part = slice(self.content.starts[index], self.content.starts[index + 1])
        t, x = microseconds(self.content.times[part]), self.content.units[part].astype(np.int32)
        columns = (t, x // self.pool if self.pool > 1 else x, np.zeros_like(x), np.zeros(len(x), np.int8))
        return EventStream._trusted(map(torch.from_numpy, columns), self.sensor)


class StoredSpikes(Spoken):
    """The recordings of a ``.h5`` file that stay there; every process opens the file for itself.

    Args:
        path: the file.
        channels: channels of the sensor.
        pool: neighbouring channels joined to one.

    Errors: DataError where there is no such file, FormatError for a broken one or for another layout.
    """

    def __init__(self, path: Path, channels: int, pool: int) -> None:
        self.path, self.channels, self.pool = path, channels, pool
        self.sensor = Sensor(-(-channels // pool))
        self._process, self._file = 0, None
        try:
            file = self._open()
            if missing := [name for name in _LAYOUT if name not in file]:
                raise FormatError(
                    path, None, f"lacks the data sets {missing} of the SHD layout; it holds {sorted(file)}"
                )
            self.labels = file["labels"][:].astype(np.int64)
            self.speakers = file["extra/speaker"][:].astype(np.int64) if "extra/speaker" in file else None
            keys = file["extra/keys"].asstr()[:] if "extra/keys" in file else range(self.labels.max(initial=-1) + 1)
        except _BROKEN as error:
            raise self._damaged(None, error) from error
        self.classes = tuple(map(str, keys))
        sizes = {name: len(file[name]) for name in _LAYOUT}
        if len(set(sizes.values())) != 1:
            raise FormatError(path, None, f"times, units and labels want one length, received {sizes}")

    def stream(self, index: int) -> EventStream:
        try:
            file = self._open()
            times, units = file["spikes/times"][index], file["spikes/units"][index]
        except _BROKEN as error:
            raise self._damaged(index, error) from error
        seconds = times.astype(np.float64)  # half a float has no room for microseconds
        if (
            len(times) != len(units)
            or not ((seconds >= 0) & (seconds <= LONGEST)).all()
            or ((units < 0) | (units >= self.channels)).any()
        ):
            wanted = f"as many units, from 0 to {self.channels - 1}, as times, in seconds of 0 or more"
            raise FormatError(self.path, index, f"recording {index} wants {wanted}")
        t = microseconds(seconds)
        return EventStream.from_numpy(t, units.astype(np.int32) // self.pool, sensor=self.sensor)

    def _open(self) -> Any:
        import h5py

        if self._process != os.getpid():
            if not self.path.is_file():
                raise DataError(f"{self.path} is no file; expected a .h5 file in the SHD layout")
            self._file, self._process = h5py.File(self.path, "r"), os.getpid()
        return self._file

    def _damaged(self, index: int | None, error: Exception) -> DataError:
        if isinstance(error, DataError):
            return error
        return FormatError(self.path, index, f"not a readable HDF5 file: {error}")

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"_process": 0, "_file": None}
