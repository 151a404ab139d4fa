"""Delayed synapses as they are trained: each spread over the taps by its bump, and the sequence through them."""

from __future__ import annotations

import torch
from torch import Tensor

from spikenet.kernels.delay.bump import Bump
from spikenet.kernels.delay.construct import delay_kernel
from spikenet.kernels.delay.conv import CROSSOVER, delay_conv

LARGEST = 40_000_000  # bytes of taps that are made at a time
TOGETHER = 128  # outputs, of which that is a multiple


def delay_bumps(
    x: Tensor,
    weight: Tensor,
    delay: Tensor,
    sigma: Tensor,
    shape: Bump,
    taps: int,
    first: int,
    steps: int,
    most: float = CROSSOVER,
) -> Tensor:
    """`delay_conv` of x `[T, B, M]` with the taps of `delay_kernel`, with gradients for x, `weight` and `delay`.

    Args:
        weight: `[N, M, elements]`; `delay` broadcasts against it.
        x, first, steps, most: as for `delay_conv`.
        sigma, shape, taps: as for `delay_kernel`.

    Taps are made for some outputs at a time, and are not kept unless x has a gradient.
    """
    real = torch.float64 if x.dtype == torch.float64 else torch.float32

    def through(w: Tensor, d: Tensor) -> Tensor:
        return delay_conv(x, delay_kernel(w, d, sigma, shape, taps).to(real), first, steps, most)

    at_once = max(1, LARGEST // max(1, real.itemsize * taps * weight.shape[1])) // TOGETHER * TOGETHER
    if len(weight) <= max(TOGETHER, at_once):
        return through(weight, delay)
    size = max(TOGETHER, at_once)
    delays = delay.split(size) if len(delay) > 1 else [delay] * -(-len(weight) // size)
    return torch.cat([through(w, d) for w, d in zip(weight.split(size), delays, strict=True)], -1)
