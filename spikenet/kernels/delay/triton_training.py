"""Delayed synapses in training, from weights and delays to outputs and back, in few launches of Triton kernels.

Taps are made in half precision at once, for some outputs at a time, and are made again for the gradient of the input
rather than kept; a part of their gradient becomes that of weights and delays before the next is made. Long
sequences and many taps go by their spectra (see `spectral`). Importing this module imports triton.
"""

from __future__ import annotations

import torch
from torch import Tensor

from spikenet.kernels.delay import spectral
from spikenet.kernels.delay.training import some
from spikenet.kernels.delay.triton_construct import gradients_from, halved, spread
from spikenet.kernels.delay.triton_conv import halved as sequence
from spikenet.kernels.delay.triton_conv import in_parts, products, sums, widened

PAYS = 24  # times as many products as the steps of both sequences, from which on spectra are faster


def forward(
    x: Tensor, weight: Tensor, delay: Tensor, sigma: Tensor, kernel: str, taps: int, first: int, steps: int, most: float
) -> Tensor:
    """See `training.delay_bumps`."""
    if widened(x):
        return forward(x.float(), weight, delay, sigma, kernel, taps, first, steps, most).to(x.dtype)
    if taps * steps > PAYS * (steps + taps):
        wide = _ranging(x)
        made = _taps(weight, delay, sigma, kernel, taps, wide.dtype)
        return spectral.forward(wide, made, len(weight), taps, first, steps).to(x.dtype)
    heard, y = sequence(x), torch.empty(steps, x.shape[1], len(weight), dtype=x.dtype, device=x.device)
    for n in some(len(weight), 4 * taps * weight.shape[1]):
        k = halved(weight[n], delay[n], sigma, kernel, taps, x.dtype, in_parts(x))
        products(heard, len(x), x.shape[2], k, taps, first, y[..., n])
    return y


def gradients(
    x: Tensor,
    weight: Tensor,
    delay: Tensor,
    sigma: Tensor,
    grad: Tensor,
    kernel: str,
    taps: int,
    first: int,
    steps: int,
    most: float,
    wants: tuple[bool, bool],
) -> tuple[Tensor, Tensor, Tensor]:
    """See `training.delay_bumps`: the gradients of x, weight and delay, those that are wanted."""
    if widened(grad):
        rest = kernel, taps, first, steps, most, wants
        gx, gw, gd = gradients(x.float(), weight, delay, sigma, grad.float(), *rest)
        return gx.to(grad.dtype), gw, gd
    gw, gd = (torch.empty_like(weight, memory_format=torch.contiguous_format) for _ in range(2))
    if taps * len(grad) > PAYS * (len(grad) + taps):
        wide, gx = _ranging(grad), grad.new_empty(0)
        if wants[0]:
            made = _taps(weight, delay, sigma, kernel, taps, wide.dtype)
            gx = spectral.gradient_of_input(wide, made, weight.shape[1], taps, first, steps).to(grad.dtype)
        if wants[1]:
            for n, gk in spectral.gradient_of_taps(_ranging(x), wide, taps, first):
                gradients_from(weight[n], delay[n], sigma, kernel, gk.unsqueeze(0), gw[n], gd[n])
        return gx, gw, gd
    told, heard = sequence(grad), sequence(x) if wants[1] else None
    gx = grad.new_empty(0)
    for n in some(len(weight), 4 * taps * weight.shape[1]):
        own = weight[n], delay[n], sigma, kernel
        if wants[0]:
            k = halved(*own, taps, grad.dtype, in_parts(grad))
            part = torch.empty(steps, grad.shape[1], weight.shape[1], dtype=grad.dtype, device=grad.device)
            products(told.of(n), len(grad), n.stop - n.start, k, taps, first, part, of_input=True)
            gx = gx.add_(part) if n.start else part
        if heard is not None:
            gradients_from(*own, sums(told.of(n), grad[..., n], heard, x, first, taps), gw[n], gd[n])
    return gx, gw, gd


def _ranging(x: Tensor) -> Tensor:
    """Spectra may be past the range of float16."""
    return x.float() if x.dtype == torch.float16 else x


def _taps(weight: Tensor, delay: Tensor, sigma: Tensor, kernel: str, taps: int, dtype: torch.dtype) -> spectral.Taps:
    return lambda start, stop: spread(weight[start:stop], delay[start:stop], sigma, kernel, taps, dtype)
