"""Spoken words of an HDF5 file in the SHD layout: joined in memory, or left in the file until they are asked for."""

from __future__ import annotations

import numpy as np
import torch

from spikenet.data.recordings import Recordings
from spikenet.events import EventStream, EventTensor, Sensor
from spikenet.events.binning import TimeGrid
from spikenet.events.files.arrays import microseconds
from spikenet.events.files.shd import SpikeFile, StoredSpikeFile


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
        return _stream(self.content.times[part], self.content.units[part], self.pool, self.sensor)

    def batch(self, indices: np.ndarray, grid: TimeGrid) -> EventTensor:
        begins, ends = self.content.starts[indices], self.content.starts[indices + 1]
        if not len(indices):
            return super().batch(indices, grid)
        times, units = (
            np.concatenate([column[begin:end] for begin, end in zip(begins, ends, strict=True)])
            for column in (self.content.times, self.content.units)
        )
        return grid.batch_joined(_stream(times, units, self.pool, self.sensor), np.cumsum(ends - begins))


class StoredSpikes(Spoken):
    """The recordings of a ``.h5`` file that stay there; every process opens the file for itself.

    Args:
        content: the file.
        pool: neighbouring channels joined to one.
    """

    def __init__(self, content: StoredSpikeFile, pool: int) -> None:
        self.content, self.pool = content, pool
        self.labels, self.classes, self.speakers = content.labels, content.classes, content.speakers
        self.sensor = Sensor(-(-content.channels // pool))

    def stream(self, index: int) -> EventStream:
        return _stream(*self.content.read(index), self.pool, self.sensor)


def _stream(times: np.ndarray, units: np.ndarray, pool: int, sensor: Sensor) -> EventStream:
    """Spikes that were checked as a stream."""
    t, x = microseconds(times), units.astype(np.int32)
    columns = (t, x // pool if pool > 1 else x, np.zeros_like(x), np.zeros(len(x), np.int8))
    return EventStream._trusted(map(torch.from_numpy, columns), sensor)
