"""Whole networks, one file each."""

from spikenet.models.conv import SpikingConvNet
from spikenet.models.mlp import SpikingMLP
from spikenet.models.spikegpt import SpikeGPT, generate
from spikenet.models.spikformer import Spikformer

__all__ = [
    "SpikeGPT",
    "Spikformer",
    "SpikingConvNet",
    "SpikingMLP",
    "generate",
]
