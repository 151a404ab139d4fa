"""Events: raw streams, the batched tensor on a time grid, and what turns one into the other."""

from __future__ import annotations

from spikenet.events.augment import Augmentation, EventDrop, RandomShift, TimeJitter
from spikenet.events.binning import bin_by_count, bin_by_time
from spikenet.events.camera import EventCamera
from spikenet.events.encode import expand, latency, poisson
from spikenet.events.files import FORMATS, open_recording, read, write
from spikenet.events.files.own import read_tensor, write_tensor
from spikenet.events.stream import EventStream, Sensor
from spikenet.events.tensor import EventTensor

__all__ = [
    "FORMATS",
    "Augmentation",
    "EventCamera",
    "EventDrop",
    "EventStream",
    "EventTensor",
    "RandomShift",
    "Sensor",
    "TimeJitter",
    "bin_by_count",
    "bin_by_time",
    "expand",
    "latency",
    "open_recording",
    "poisson",
    "read",
    "read_tensor",
    "write",
    "write_tensor",
]
