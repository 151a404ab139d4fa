"""Whole networks, one file each."""

from spikenet.models.conv import SpikingConvNet
from spikenet.models.delays import DelayNet
from spikenet.models.diehl_cook import DiehlCook, assign_neurons, class_scores
from spikenet.models.hd_snn import HDSNN
from spikenet.models.liquid import LiquidStateMachine
from spikenet.models.max_resnet import MaxResNet
from spikenet.models.maxformer import MaxFormer
from spikenet.models.mlp import SpikingMLP
from spikenet.models.place_modules import PlaceModules, patch_normalize, recall_at
from spikenet.models.qkformer import QKFormer
from spikenet.models.spike_driven import SpikeDrivenTransformer
from spikenet.models.spikegpt import SpikeGPT, generate
from spikenet.models.spikformer import Spikformer
from spikenet.models.spikformer_v2 import MaskedPretraining, SpikformerV2
from spikenet.models.spikmamba import SpikMamba
from spikenet.models.stand_in import STAND_INS, with_neuron

__all__ = [
    "HDSNN",
    "STAND_INS",
    "DelayNet",
    "DiehlCook",
    "LiquidStateMachine",
    "MaskedPretraining",
    "MaxFormer",
    "MaxResNet",
    "PlaceModules",
    "QKFormer",
    "SpikMamba",
    "SpikeDrivenTransformer",
    "SpikeGPT",
    "Spikformer",
    "SpikformerV2",
    "SpikingConvNet",
    "SpikingMLP",
    "assign_neurons",
    "class_scores",
    "generate",
    "patch_normalize",
    "recall_at",
    "with_neuron",
]
