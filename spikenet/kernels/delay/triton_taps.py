"""Synapses of one tap each as products over all taps, in Triton. Importing this module imports triton."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from spikenet.kernels.delay.triton_construct import ROUNDED, preparer, told
from spikenet.kernels.delay.triton_conv import parts_of, product, widened
from spikenet.kernels.launch import Plans, on_its_device


def forward(x: Tensor, weight: Tensor, delay: Tensor, taps: int, first: int, steps: int) -> Tensor:
    """See `taps.delay_taps`; weights and delays of one shape in float32."""
    if widened(x):
        return forward(x.float(), weight, delay, taps, first, steps).to(x.dtype)
    key = x.shape, x.dtype, x.device, weight.shape, taps, first, steps, parts_of(x)
    run = _plans.at(key, lambda: _plan(x, weight, taps, first, steps))
    return on_its_device(run, x, x.contiguous(), weight.contiguous(), delay.contiguous())


def _plan(x: Tensor, weight: Tensor, taps: int, first: int, steps: int) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    (steps_in, batch, inputs), parts, dtype = x.shape, parts_of(x), x.dtype
    shape = steps, batch, len(weight)
    make = preparer(weight.shape, told(ROUNDED), taps, dtype, parts, steps_in * batch)
    multiply = product(x.shape, shape, inputs, taps, first, parts)

    def run(x: Tensor, weight: Tensor, delay: Tensor) -> Tensor:
        y = torch.empty(shape, dtype=dtype, device=x.device)
        k, heard = make(weight, delay, delay, x)
        multiply(heard, k, y)
        return y

    return run


_plans: Plans[Callable[[Tensor, Tensor, Tensor], Tensor]] = Plans()
