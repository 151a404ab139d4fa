"""Delayed synapses in training, from weights and delays to outputs and back, in few launches of Triton kernels.

Taps are made in half precision at once, for some outputs at a time, and are made again for the gradient of the input
rather than kept; a part of their gradient becomes that of weights and delays before the next is made. Long
sequences and many taps go by their spectra (see `spectral`). Importing this module imports triton.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from spikenet.kernels.delay import spectral
from spikenet.kernels.delay.conv import exactly
from spikenet.kernels.delay.training import some
from spikenet.kernels.delay.triton_construct import gradients_from, gradients_of_spectrum, halved, largest, spectrum
from spikenet.kernels.delay.triton_conv import halved as sequence
from spikenet.kernels.delay.triton_conv import in_parts, products, sums, widened

PAYS = 24  # taps steps / (taps + steps) above which spectra are faster; on an H100 they are not at 21, and are at 85


def forward(
    x: Tensor, weight: Tensor, delay: Tensor, sigma: Tensor, kernel: str, taps: int, first: int, steps: int, most: float
) -> Tensor:
    """See `training.delay_bumps`."""
    if widened(x):
        return forward(x.float(), weight, delay, sigma, kernel, taps, first, steps, most).to(x.dtype)
    if _by_spectra(x, steps, taps):
        with exactly(x):
            return _forward_by_spectra(x, weight, delay, sigma, kernel, taps, first, steps)
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
        with exactly(x):
            _gradients_by_spectra(x, weight, delay, sigma, grad, kernel, taps, first, gw, gd)
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


def _forward_by_spectra(
    x: Tensor, weight: Tensor, delay: Tensor, sigma: Tensor, kernel: str, taps: int, first: int, steps: int
) -> Tensor:
    cut, width = spectral.windows(x, steps, taps, first), spectral.filled(x.shape[2])
    of_x = _scale(_largest(x), 1024 / cut.length)
    of_k = _scale(largest(weight), 32 / weight.shape[1])  # no sum is past float16's range then
    heard, waves = spectral.spectra(_half(x, of_x), cut), cut.rows[..., :taps].half().contiguous()

    def made(n: slice) -> Tensor:
        return spectrum(weight[n], delay[n], sigma, kernel, taps, waves, of_k, width)

    y = torch.empty(steps, x.shape[1], weight.shape[0], dtype=x.dtype, device=x.device)
    spectral.forward(heard, 2 / (cut.length * of_x * of_k), made, cut, x.shape[1], y)
    return y


def _gradients_by_spectra(
    x: Tensor,
    weight: Tensor,
    delay: Tensor,
    sigma: Tensor,
    grad: Tensor,
    kernel: str,
    taps: int,
    first: int,
    gw: Tensor,
    gd: Tensor,
) -> None:
    cut = spectral.windows(x, grad.shape[0], taps, first)
    of_x, of_grad = _scale(_largest(x), 1024 / cut.length), _scale(_largest(grad), 32768 / cut.length)
    heard = spectral.spectra(_half(x, of_x), cut)
    waves = cut.rows[..., :taps] * cut.half * (2 / (cut.length * of_x * of_grad))
    waves = waves.permute(1, 2, 0).contiguous()
    for n, parts in spectral.gradient_of_taps(heard, grad, of_grad, cut):
        gradients_of_spectrum(weight[n], delay[n], sigma, kernel, parts, waves, gw[n], gd[n])
        del parts  # before the next are made


def _scale(largest: Tensor, most: float) -> Tensor:
    """The power of two that brings a magnitude to between half of `most` and `most`."""
    power = torch.exp2(torch.floor(torch.log2(most / largest.float())).clamp(-100.0, 100.0))
    return torch.where(largest > 0, power, 1.0)


def _largest(x: Tensor) -> Tensor:
    return torch.linalg.vector_norm(x, math.inf)


def _half(x: Tensor, scale: Tensor) -> Tensor:
    """x times `scale` in float16, its features filled up with zeros."""
    x = x.float() if x.dtype == torch.float16 else x  # which might not hold the scale
    width = spectral.filled(x.shape[2])
    made = torch.zeros if width > x.shape[2] else torch.empty
    out = made(*x.shape[:2], width, dtype=torch.float16, device=x.device)
    torch.mul(x, scale, out=out[..., : x.shape[2]])
    return out
