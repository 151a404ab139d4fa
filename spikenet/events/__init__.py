"""Events: raw streams, the batched tensor on a time grid, and what turns one into the other."""

from __future__ import annotations

from spikenet.events.augment import Augmentation, EventDrop, RandomShift, TimeJitter
from spikenet.events.binning import bin_by_count, bin_by_time
from spikenet.events.camera import EventCamera
from spikenet.events.counts import binarize, clamp, drop
from spikenet.events.encode import expand, latency, poisson
from spikenet.events.files import FORMATS, open_recording, read, write
from spikenet.events.geometry import crop, flip, merge_polarities, pad, pool, select_polarity, shift
from spikenet.events.stream import EventStream, Sensor
from spikenet.events.tensor import EventTensor
from spikenet.events.timeline import concat, rebin, reverse

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
    "binarize",
    "clamp",
    "concat",
    "crop",
    "drop",
    "expand",
    "flip",
    "latency",
    "merge_polarities",
    "open_recording",
    "pad",
    "poisson",
    "pool",
    "read",
    "rebin",
    "reverse",
    "select_polarity",
    "shift",
    "write",
]
