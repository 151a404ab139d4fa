"""The density of events from which torch's dense product is faster, forward plus backward.

Measured by `benchmarks/event_layers.py` on two cores of a Xeon with AVX-512 (MKL and oneDNN): going by events does only
what the events ask for, a dense product does everything at several times the speed.

| connection, on the CPU | crossover |
|---|---|
| linear | 0.3 |
| convolution from 1 or 2 channels (a sensor's polarities) | 0.15 |
| convolution from more | 0.04 |

On a CUDA device dense products run at a far higher rate, and events pay below about 0.03 (`benchmarks/events_gpu.py`
prints the sweep). Dense input is not compressed there at all: to know its density is to wait for the device.
"""

from __future__ import annotations

import torch

LINEAR = 0.3
FEW_CHANNELS, MANY_CHANNELS = 0.15, 0.04
CUDA = 0.03


def linear_crossover(device: torch.device) -> float:
    """The density above which a linear layer takes the dense product."""
    return LINEAR if device.type == "cpu" else CUDA


def convolution_crossover(channels: int, device: torch.device) -> float:
    """The density above which a convolution of so many input channels (of a group) takes dense frames."""
    if device.type != "cpu":
        return CUDA
    return FEW_CHANNELS if channels <= 2 else MANY_CHANNELS
