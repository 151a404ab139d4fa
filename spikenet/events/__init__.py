"""Events: raw streams, the batched tensor on a time grid, and what turns one into the other."""

from __future__ import annotations

from spikenet.events.augment import Augmentation, EventDrop, RandomShift, TimeJitter
from spikenet.events.binning import bin_by_count, bin_by_time
from spikenet.events.camera import CameraState, EventCamera
from spikenet.events.cochlea import BasilarMembrane, BushyCell, Cochlea, HairCell
from spikenet.events.encode import expand, latency, poisson
from spikenet.events.files import FORMATS, open_recording, read, write
from spikenet.events.stream import EventStream, Sensor
from spikenet.events.tensor import EventTensor
from spikenet.events.v2e import V2ECamera
from spikenet.events.video import open_video

__all__ = [
    "FORMATS",
    "Augmentation",
    "BasilarMembrane",
    "BushyCell",
    "CameraState",
    "Cochlea",
    "EventCamera",
    "EventDrop",
    "EventStream",
    "EventTensor",
    "HairCell",
    "RandomShift",
    "Sensor",
    "TimeJitter",
    "V2ECamera",
    "bin_by_count",
    "bin_by_time",
    "expand",
    "latency",
    "open_recording",
    "open_video",
    "poisson",
    "read",
    "write",
]
