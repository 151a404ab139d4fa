"""Recordings of a file in the SHD layout, joined in memory and cut apart when they are asked for."""

from __future__ import annotations

import numpy as np
import torch

from spikenet.data.recordings import Recordings
from spikenet.events import EventStream, Sensor
from spikenet.events.files.arrays import microseconds
from spikenet.events.files.shd import SpikeFile, read_spikes, write_spikes

__all__ = ["SpikeFile", "SpikeRecordings", "read_spikes", "write_spikes"]


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
        t = torch.from_numpy(microseconds(content.times[part]))
        x = torch.from_numpy((content.units[part] // self.pool).astype(np.int32))
        # Every spike was checked when the file was read.
        return EventStream._trusted((t, x, torch.zeros_like(x), torch.zeros_like(x, dtype=torch.int8)), self.sensor)
