"""Events: raw streams, the batched tensor on a time grid, and what turns one into the other.

What changes a stream or a tensor is a function that takes it first and returns a new one; what is drawn at random for
training is an object with its amounts, called with the events and a generator.
"""

from __future__ import annotations

from spikenet.events.augment import (
    AreaDrop,
    Augmentation,
    EventDrop,
    FlipPolarity,
    FlipX,
    FlipY,
    OneOf,
    RandomCrop,
    RandomShift,
    ReverseTime,
    ScaleTime,
    TimeDrop,
    TimeJitter,
)
from spikenet.events.binning import bin_by_count, bin_by_time
from spikenet.events.camera import CameraState, EventCamera
from spikenet.events.cochlea import BasilarMembrane, BushyCell, Cochlea, HairCell
from spikenet.events.counts import binarize, clamp, drop
from spikenet.events.encode import delta, expand, latency, poisson, population, rank_order
from spikenet.events.files import FORMATS, open_recording, read, write
from spikenet.events.files.own import read_tensor, write_tensor
from spikenet.events.filters import background_activity_filter, hot_pixel_filter, refractory_filter
from spikenet.events.geometry import crop, flip, merge_polarities, pad, pool, select_polarity, shift
from spikenet.events.mixing import BatchAugmentation, CutMix, EventMix
from spikenet.events.stream import EventStream, Sensor
from spikenet.events.surface import time_surface, voxel_grid
from spikenet.events.tensor import EventTensor
from spikenet.events.textures import motion_cloud, moving_window
from spikenet.events.timeline import concat, rebin, reverse
from spikenet.events.v2e import V2ECamera
from spikenet.events.video import open_video

__all__ = [
    "FORMATS",
    "AreaDrop",
    "Augmentation",
    "BasilarMembrane",
    "BatchAugmentation",
    "BushyCell",
    "CameraState",
    "Cochlea",
    "CutMix",
    "EventCamera",
    "EventDrop",
    "EventMix",
    "EventStream",
    "EventTensor",
    "FlipPolarity",
    "FlipX",
    "FlipY",
    "HairCell",
    "OneOf",
    "RandomCrop",
    "RandomShift",
    "ReverseTime",
    "ScaleTime",
    "Sensor",
    "TimeDrop",
    "TimeJitter",
    "V2ECamera",
    "background_activity_filter",
    "bin_by_count",
    "bin_by_time",
    "binarize",
    "clamp",
    "concat",
    "crop",
    "delta",
    "drop",
    "expand",
    "flip",
    "hot_pixel_filter",
    "latency",
    "merge_polarities",
    "motion_cloud",
    "moving_window",
    "open_recording",
    "open_video",
    "pad",
    "poisson",
    "pool",
    "population",
    "rank_order",
    "read",
    "read_tensor",
    "rebin",
    "refractory_filter",
    "reverse",
    "select_polarity",
    "shift",
    "time_surface",
    "voxel_grid",
    "write",
    "write_tensor",
]
