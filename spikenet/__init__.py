"""spikenet: spiking neural networks from events to energy, on PyTorch.

Neurons are written as equations and run as fused kernels; events stay events until a layer asks for frames;
every claim is checked against something that this project did not write.
"""

from __future__ import annotations

import importlib
from typing import Any

from spikenet import energy, errors, events, layers, learning, models, neurons
from spikenet.errors import SpikenetError
from spikenet.events import EventStream, EventTensor
from spikenet.kernels import use_backend
from spikenet.layers import Stream
from spikenet.neurons import IF, LIF, LeakyReadout, Neuron

__version__ = "0.1.0"

__all__ = [
    "IF",
    "LIF",
    "EventStream",
    "EventTensor",
    "LeakyReadout",
    "Neuron",
    "SpikenetError",
    "Stream",
    "analysis",
    "data",
    "energy",
    "errors",
    "events",
    "interop",
    "layers",
    "learning",
    "models",
    "neurons",
    "simulate",
    "training",
    "use_backend",
]

_ON_FIRST_USE = ("analysis", "data", "interop", "simulate", "training")  # not everybody needs them, and some are heavy


def __getattr__(name: str) -> Any:
    if name in _ON_FIRST_USE:
        return importlib.import_module(f"spikenet.{name}")
    raise AttributeError(f"module 'spikenet' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_ON_FIRST_USE])
