"""Data sets of events: the embedded default and readers for published ones, each a LightningDataModule."""

from __future__ import annotations

from spikenet.data.base import EpochSampler, EventDataModule, EventDataset
from spikenet.data.digits_dvs import DigitsDVS
from spikenet.data.nmnist import NMNIST
from spikenet.data.recordings import EventData, Recordings
from spikenet.data.shd import SHD
from spikenet.data.spikes_h5 import read_spikes, write_spikes

SETS: dict[str, type[EventDataModule]] = {"digits-dvs": DigitsDVS, "nmnist": NMNIST, "shd": SHD}

__all__ = [
    "NMNIST",
    "SETS",
    "SHD",
    "DigitsDVS",
    "EpochSampler",
    "EventData",
    "EventDataModule",
    "EventDataset",
    "Recordings",
    "read_spikes",
    "write_spikes",
]
