"""Synapses of one tap each as products over all taps, in Triton. Importing this module imports triton."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from spikenet.kernels.delay.triton_construct import ROUNDED, tapper, told
from spikenet.kernels.delay.triton_conv import in_parts, product, widened
from spikenet.kernels.delay.triton_halves import founds, halver, width_of
from spikenet.kernels.launch import Plans, on_its_device


def forward(x: Tensor, weight: Tensor, delay: Tensor, taps: int, first: int, steps: int) -> Tensor:
    """See `taps.delay_taps`; weights and delays of one shape in float32."""
    if widened(x):
        return forward(x.float(), weight, delay, taps, first, steps).to(x.dtype)
    key = x.shape, x.dtype, x.device, weight.shape, taps, first, steps, in_parts(x)
    run = _plans.at(key, lambda: _plan(x, weight, taps, first, steps))
    return on_its_device(run, x, x.contiguous(), weight.contiguous(), delay.contiguous())


def _plan(x: Tensor, weight: Tensor, taps: int, first: int, steps: int) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    (steps_in, batch, inputs), both = x.shape, in_parts(x)
    shape, width = (steps, batch, len(weight)), width_of(inputs, x.dtype)
    halve = halver(steps_in * batch, inputs, x.dtype, 2 if both else 1)
    make = tapper(weight.shape, told(ROUNDED), taps, x.dtype, both)
    multiply = product((steps_in, inputs), shape, len(weight), (width, width), taps, first, both)

    def run(x: Tensor, weight: Tensor, delay: Tensor) -> Tensor:
        found, found_of_k = founds(x, 2)
        y = torch.empty(shape, dtype=x.dtype, device=x.device)
        multiply(halve(x, found), make(weight, delay, delay, found_of_k), y)
        return y

    return run


_plans: Plans[Callable[[Tensor, Tensor, Tensor], Tensor]] = Plans()
