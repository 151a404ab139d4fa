"""Whole networks, one file each."""

from spikenet.models.conv import SpikingConvNet
from spikenet.models.delays import DelayNet
from spikenet.models.mlp import SpikingMLP

__all__ = ["DelayNet", "SpikingConvNet", "SpikingMLP"]
