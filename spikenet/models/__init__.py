"""Whole networks, one file each."""

from spikenet.models.conv import SpikingConvNet
from spikenet.models.hd_snn import HDSNN
from spikenet.models.mlp import SpikingMLP

__all__ = ["HDSNN", "SpikingConvNet", "SpikingMLP"]
