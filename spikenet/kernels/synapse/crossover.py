"""The density of events from which torch's dense product is faster, forward plus backward for the weights.

Measured by the sweeps of `benchmarks/event_layers.py` on a core of a Xeon with AVX-512 (MKL and oneDNN). Going by
events does only what the events ask for; a dense product does everything, at several times the speed, and the more so
the fewer the outputs are, since an event adds one vector of them. Dense input must be compressed first, in a pass over
it forward and another backward.

| on the CPU | events | dense input |
|---|---|---|
| linear, 128 outputs or more | 0.15 | 0.05 |
| linear, fewer outputs | 0.05 | never |
| convolution, 32 outputs or more | 0.03 | 0.03 |
| convolution, fewer outputs | 0.015 | 0.01 |

On a CUDA device (`benchmarks/events_gpu.py` on an H100, eager, float32 with TF32 off):

| on CUDA | events |
|---|---|
| linear | never: launches take longer (1.3 ms; dense 0.92, frames 0.15: 700 -> 512, 25,600 rows) |
| convolution, more than 32 outputs | 0.012 (32 -> 64 channels) |
| convolution, fewer outputs | 0.04 (2 -> 32 channels) |

Dense input is not compressed there: to know its density is to wait for it.

Bit-packed rows are never chosen. On the CPU trial kernels that walked their bits took as long as the events do (700 ->
512, 3200 rows, one core: 3.4 ms beside 3.5 at a density of 0.05, 10.0 beside 11.2 at 0.2), and ones that added sums of
four inputs from tables took the same time at any density, but more than MKL (15.4 ms beside 12.7; 512 -> 128: 2.7
beside 2.5).
"""

from __future__ import annotations

import torch

LINEAR = {False: (0.15, 0.05), True: (0.05, 0.0)}  # dense input: with many outputs, with few
CONVOLUTION = {False: (0.03, 0.015), True: (0.03, 0.01)}
CUDA_CONVOLUTION = (0.012, 0.04)


def linear_crossover(outputs: int, device: torch.device, dense_input: bool) -> float:
    """The density above which a linear layer takes the dense product."""
    if device.type != "cpu":
        return 0.0
    many, few = LINEAR[dense_input]
    return many if outputs >= 128 else few


def convolution_crossover(outputs: int, device: torch.device, dense_input: bool) -> float:
    """The density above which a convolution takes dense frames; outputs of one group."""
    if device.type != "cpu":
        many, few = CUDA_CONVOLUTION
        return many if outputs > 32 else few
    many, few = CONVOLUTION[dense_input]
    return many if outputs >= 32 else few
