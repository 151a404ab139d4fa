"""Delayed synapses in training, from weights and delays to outputs and back, in few launches of Triton kernels.

Taps are made in half precision at once, for some outputs at a time, and are made again for the gradient of the input
rather than kept; a part of their gradient becomes that of weights and delays before the next is made. Long
sequences and many taps go by their spectra (see `triton_spectral`). Importing this module imports triton.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from spikenet.kernels.delay.conv import exactly
from spikenet.kernels.delay.training import some
from spikenet.kernels.delay.triton_construct import reducer, tapper, told
from spikenet.kernels.delay.triton_conv import in_parts, matrix, product, summer, widened
from spikenet.kernels.delay.triton_halves import Halves, founds, halver, width_of
from spikenet.kernels.delay.triton_spectral import spectra
from spikenet.kernels.launch import Launch, Plans, on_its_device

PAYS = 24  # taps steps / (taps + steps) above which spectra are faster; on an H100 they are not at 21, and are at 85


def forward(
    x: Tensor, weight: Tensor, delay: Tensor, sigma: Tensor, kernel: str, taps: int, first: int, steps: int, most: float
) -> Tensor:
    """See `training.delay_bumps`."""
    if widened(x):
        return forward(x.float(), weight, delay, sigma, kernel, taps, first, steps, most).to(x.dtype)
    if _by_spectra(x, steps, taps):
        spectral = spectra(x, weight, kernel, taps, first, steps)
        with exactly(x):
            return on_its_device(spectral.forward, x, x.contiguous(), weight.contiguous(), delay.contiguous(), sigma)
    plan = _plan(x, weight, kernel, taps, first, len(x), steps)
    return on_its_device(plan.forward, x, x, weight.contiguous(), delay.contiguous(), sigma)


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
    given = weight.contiguous(), delay.contiguous(), sigma
    gw, gd = (torch.empty(weight.shape, dtype=torch.float32, device=grad.device) for _ in range(2))
    if wants[1] and _by_spectra(x, len(grad), taps):
        spectral = spectra(x, weight, kernel, taps, first, len(grad))
        with exactly(x):
            on_its_device(spectral.gradients, x, x.contiguous(), *given, grad.contiguous(), gw, gd)
        if not wants[0]:
            return grad.new_empty(0), gw, gd
        wants = True, False
    plan = _plan(grad, weight, kernel, taps, first, steps, len(grad))
    return on_its_device(plan.gradients, grad, x, *given, grad, gw, gd, *wants), gw, gd


def _by_spectra(x: Tensor, steps: int, taps: int) -> bool:
    """Whether spectra, which have half precision, are faster and will do."""
    return taps * steps > PAYS * (steps + taps) and not in_parts(x)


class _Part(NamedTuple):
    """What is prepared for some outputs: their taps, the products of these with the sequence and with the gradient, and
    the taps' gradient, first in parts, then as that of weights and delays."""

    outputs: slice
    taps: Callable[[Tensor, Tensor, Tensor, Tensor | None], Halves]
    through: Callable[[Halves, Halves, Tensor], None]
    back: Callable[[Halves, Halves, Tensor], None]
    sums: Callable[[Halves, Halves], Tensor]
    reduce: Launch


class _Taps:
    """Both directions by taps, for sequences and synapses of one kind; some outputs after the other."""

    def __init__(
        self, like: Tensor, weight: Tensor, kernel: str, taps: int, first: int, steps_in: int, steps: int
    ) -> None:
        (outputs, inputs, elements), batch, dtype, both = weight.shape, like.shape[1], like.dtype, in_parts(like)
        self.shape, self.result = (steps_in, batch, inputs), (steps, batch, outputs)
        self.halve = halver(steps_in * batch, inputs, dtype, 2 if both else 1)
        self.halve_grad = halver(steps * batch, outputs, dtype, 2 if both else 1)
        bump, (of_x, of_y) = told(kernel), (width_of(size, dtype) for size in (inputs, outputs))
        self.parts = []
        for n in some(outputs, 4 * taps * inputs):
            size = n.stop - n.start
            y, rest = (steps, batch, size), (taps, first, both)
            number, sums = summer(self.shape, y, (of_y, of_x), *rest, like.device)
            self.parts.append(
                _Part(
                    n,
                    tapper((size, inputs, elements), bump, taps, dtype, both),
                    product((steps_in, inputs), y, outputs, (of_x, of_x), *rest),
                    product((steps, size), self.shape, inputs, (of_y, of_x), *rest, of_input=True),
                    sums,
                    reducer(size * inputs, elements, bump, number, taps),
                )
            )

    def forward(self, x: Tensor, weight: Tensor, delay: Tensor, sigma: Tensor) -> Tensor:
        found, found_of_k = founds(x, 2)
        heard, y = self.halve(matrix(x), found), torch.empty(self.result, dtype=x.dtype, device=x.device)
        for part in self.parts:
            w, d = self._own(part, weight, delay)
            part.through(heard, part.taps(w, d, sigma, found_of_k), y if w is weight else y[..., part.outputs])
        return y

    def gradients(
        self,
        x: Tensor,
        weight: Tensor,
        delay: Tensor,
        sigma: Tensor,
        grad: Tensor,
        gw: Tensor,
        gd: Tensor,
        wants_x: bool,
        wants_synapses: bool,
    ) -> Tensor:
        """The gradient of x, if it is wanted; those of the synapses are written, if they are."""
        gx, (found, found_of_grad, found_of_k) = grad.new_empty(0), founds(grad, 3)
        sent, heard = self.halve_grad(matrix(grad), found_of_grad), None
        if wants_synapses:
            heard = self.halve(matrix(x), found)
        for part in self.parts:
            w, d = self._own(part, weight, delay)
            of_grad = sent.of(part.outputs)
            if wants_x:
                own = torch.empty(self.shape, dtype=grad.dtype, device=grad.device)
                part.back(of_grad, part.taps(w, d, sigma, found_of_k), own)
                gx = gx.add_(own) if part.outputs.start else own
            if heard is not None:
                part.reduce(w, d, sigma, part.sums(of_grad, heard), *self._own(part, gw, gd))
        return gx

    def _own(self, part: _Part, *tensors: Tensor) -> tuple[Tensor, ...]:
        """That part of tensors of all outputs."""
        return tensors if len(self.parts) == 1 else tuple(t[part.outputs] for t in tensors)


_plans: Plans[_Taps] = Plans()


def _plan(like: Tensor, weight: Tensor, kernel: str, taps: int, first: int, steps_in: int, steps: int) -> _Taps:
    """`like` has the batch, dtype and device of the sequences."""
    key = like.shape[1], like.dtype, like.device, weight.shape, kernel, taps, first, steps_in, steps, in_parts(like)
    return _plans.at(key, lambda: _Taps(like, weight, kernel, taps, first, steps_in, steps))
