"""Delayed synapses in training, from weights and delays to outputs and back, in few launches of Triton kernels.

Taps are made in half precision at once, for some outputs at a time, and are made again for the gradient of the input
rather than kept; a part of their gradient becomes that of weights and delays before the next is made. Long
sequences and many taps go by their spectra (see `triton_spectral`). Importing this module imports triton.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from spikenet.kernels.delay.conv import exactly
from spikenet.kernels.delay.training import some
from spikenet.kernels.delay.triton_construct import gradients_from, halved
from spikenet.kernels.delay.triton_conv import halved as sequence
from spikenet.kernels.delay.triton_conv import in_parts, products, sums, widened
from spikenet.kernels.delay.triton_spectral import spectra
from spikenet.kernels.launch import on_its_device

PAYS = 24  # taps steps / (taps + steps) above which spectra are faster; on an H100 they are not at 21, and are at 85


def forward(
    x: Tensor, weight: Tensor, delay: Tensor, sigma: Tensor, kernel: str, taps: int, first: int, steps: int, most: float
) -> Tensor:
    """See `training.delay_bumps`."""
    if widened(x):
        return forward(x.float(), weight, delay, sigma, kernel, taps, first, steps, most).to(x.dtype)
    if _by_spectra(x, steps, taps):
        plan = spectra(x, weight, kernel, taps, first, steps)
        with exactly(x):
            return on_its_device(plan.forward, x, x.contiguous(), weight.contiguous(), delay.contiguous(), sigma)
    heard, y = sequence(x), torch.empty(steps, x.shape[1], len(weight), dtype=x.dtype, device=x.device)
    for n, w, d in _some(weight, delay, taps):
        k = halved(w, d, sigma, kernel, taps, x.dtype, in_parts(x))
        products(heard, x.shape[0], x.shape[2], k, taps, first, y if w is weight else y[..., n])
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
    if wants[1] and _by_spectra(x, len(grad), taps):
        plan = spectra(x, weight, kernel, taps, first, len(grad))
        given = x.contiguous(), weight.contiguous(), delay.contiguous(), sigma, grad.contiguous(), gw, gd
        with exactly(x):
            on_its_device(plan.gradients, x, *given)
        if not wants[0]:
            return grad.new_empty(0), gw, gd
        wants = True, False
    told, heard = sequence(grad), sequence(x) if wants[1] else None
    gx = grad.new_empty(0)
    for n, w, d in _some(weight, delay, taps):
        if wants[0]:
            k = halved(w, d, sigma, kernel, taps, grad.dtype, in_parts(grad))
            part = torch.empty(steps, grad.shape[1], weight.shape[1], dtype=grad.dtype, device=grad.device)
            products(told.of(n), grad.shape[0], n.stop - n.start, k, taps, first, part, of_input=True)
            gx = gx.add_(part) if n.start else part
        if heard is not None:
            parts = sums(told.of(n), grad.shape[0], n.stop - n.start, heard, x, first, taps)
            gradients_from(w, d, sigma, kernel, parts, *((gw, gd) if w is weight else (gw[n], gd[n])))
    return gx, gw, gd


def _some(weight: Tensor, delay: Tensor, taps: int) -> Iterator[tuple[slice, Tensor, Tensor]]:
    """Some outputs after the other, with their weights and delays."""
    for n in some(weight.shape[0], 4 * taps * weight.shape[1]):
        whole = n.stop - n.start == weight.shape[0]
        yield n, weight if whole else weight[n], delay if whole else delay[n]


def _by_spectra(x: Tensor, steps: int, taps: int) -> bool:
    """Whether spectra, which have half precision, are faster and will do."""
    return taps * steps > PAYS * (steps + taps) and not in_parts(x)
