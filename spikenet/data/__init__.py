"""Data sets of events: the embedded default and readers for published ones, each a LightningDataModule."""

from __future__ import annotations

from spikenet.data.about import About
from spikenet.data.asl_dvs import ASLDVS
from spikenet.data.base import EpochSampler, EventDataModule, EventDataset
from spikenet.data.check import Findings, check
from spikenet.data.cifar10_dvs import CIFAR10DVS
from spikenet.data.digits_dvs import DigitsDVS
from spikenet.data.dvs_gesture import DVSGesture
from spikenet.data.dvs_lip import DVSLip
from spikenet.data.fsdd import FSDD
from spikenet.data.hardvs import HARDVS
from spikenet.data.kjv import KJVText
from spikenet.data.n_caltech101 import NCaltech101
from spikenet.data.nmnist import NMNIST
from spikenet.data.ntidigits import NTIDIGITS
from spikenet.data.recordings import EventData, Recordings
from spikenet.data.shd import SHD, SSC
from spikenet.data.speech_commands import SpeechCommands
from spikenet.data.stored import StoredData
from spikenet.data.tonic_data import TonicData
from spikenet.events.files.shd import read_spikes, write_spikes

SETS: dict[str, type[EventDataModule]] = {
    "asl-dvs": ASLDVS,
    "cifar10-dvs": CIFAR10DVS,
    "digits-dvs": DigitsDVS,
    "dvs-gesture": DVSGesture,
    "dvs-lip": DVSLip,
    "fsdd": FSDD,
    "hardvs": HARDVS,
    "n-caltech101": NCaltech101,
    "nmnist": NMNIST,
    "ntidigits": NTIDIGITS,
    "shd": SHD,
    "speech-commands": SpeechCommands,
    "ssc": SSC,
}
"""Data sets by the name that the command line knows them by."""

TEXTS: dict[str, type[KJVText]] = {"kjv-text": KJVText}
"""Texts by name."""

__all__ = [
    "ASLDVS",
    "CIFAR10DVS",
    "FSDD",
    "HARDVS",
    "NMNIST",
    "NTIDIGITS",
    "SETS",
    "SHD",
    "SSC",
    "TEXTS",
    "About",
    "DVSGesture",
    "DVSLip",
    "DigitsDVS",
    "EpochSampler",
    "EventData",
    "EventDataModule",
    "EventDataset",
    "Findings",
    "KJVText",
    "NCaltech101",
    "Recordings",
    "SpeechCommands",
    "StoredData",
    "TonicData",
    "check",
    "read_spikes",
    "write_spikes",
]
