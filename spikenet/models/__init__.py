"""Whole networks, one file each."""

from spikenet.models.conv import SpikingConvNet
from spikenet.models.mlp import SpikingMLP
from spikenet.models.spikformer import Spikformer

__all__ = ["Spikformer", "SpikingConvNet", "SpikingMLP"]
