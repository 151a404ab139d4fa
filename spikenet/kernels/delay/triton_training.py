"""Delayed synapses in training, from weights and delays to outputs and back, in few launches of Triton kernels.

Taps are made in half precision at once, for some outputs at a time; a part of their gradient becomes that of weights
and delays before the next is made. For the gradient of the input they are made again, unless they take little beside
the sequence: then they are kept. Long sequences and many taps go by their spectra (see `triton_spectral`). What is
worked out for tensors of one kind is worked out once. Importing this module imports triton.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from spikenet.kernels.delay.conv import exactly
from spikenet.kernels.delay.training import some
from spikenet.kernels.delay.triton_construct import preparer, reducer, tapper, told
from spikenet.kernels.delay.triton_conv import parts_of, product, summer, widened
from spikenet.kernels.delay.triton_halves import halver, width_of
from spikenet.kernels.delay.triton_spectral import Spectra
from spikenet.kernels.launch import Launch, Plans, on_its_device

PAYS = 26  # taps steps / (taps + steps) above which spectra are faster, measured on an H100 at up to 256 x 256 synapses
WIDE = 0.7  # of it for more: at 512 x 512 and 1024 x 1024 it is 17
LITTLE = 0.25  # of the sequence's size, up to which taps are kept

Kept = Sequence[Tensor]  # the taps, or nothing


def bind(x: Tensor, weight: Tensor, kernel: str, taps: int, first: int, steps: int) -> Bumps | None:
    """Both directions, for sequences and synapses like these."""
    return None if widened(x) else _plan(x, weight, kernel, taps, first, len(x), steps)


def forward(
    x: Tensor, weight: Tensor, delay: Tensor, sigma: Tensor, kernel: str, taps: int, first: int, steps: int, most: float
) -> Tensor:
    """See `training.delay_bumps`."""
    if widened(x):
        return forward(x.float(), weight, delay, sigma, kernel, taps, first, steps, most).to(x.dtype)
    return _plan(x, weight, kernel, taps, first, len(x), steps).forward(x, weight, delay, sigma, False)[0]


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
    plan = _plan(grad, weight, kernel, taps, first, steps, len(grad))
    return plan.gradients(x, weight, delay, sigma, grad, (), *wants)


class Bumps:
    """Both directions for sequences and synapses of one kind.

    Args:
        like: has the batch, dtype and device of the sequences.
        weight: `[N, M, elements]`, in float32, as are delays and sigma.
        kernel, taps, first: as `training.delay_bumps` takes them.
        steps_in, steps: of x and of the output.
        by_spectra: whether to go by them where it can be done.
    """

    def __init__(
        self,
        like: Tensor,
        weight: Tensor,
        kernel: str,
        taps: int,
        first: int,
        steps_in: int,
        steps: int,
        by_spectra: bool,
    ) -> None:
        shape = steps_in, like.shape[1], weight.shape[1]
        self._taps = _Taps(like, weight, kernel, taps, first, steps_in, steps)
        self._spectra = Spectra(shape, like.device, weight.shape, kernel, taps, first, steps) if by_spectra else None

    def forward(self, x: Tensor, weight: Tensor, delay: Tensor, sigma: Tensor, keep: bool) -> tuple[Tensor, Kept]:
        """The output, and what is to be kept for the gradient of the input, if `keep`."""
        given = x.contiguous(), weight.contiguous(), delay.contiguous(), sigma
        if self._spectra is None:
            return on_its_device(self._taps.forward, x, *given, keep)
        self._rely(x)
        with exactly(x):
            return on_its_device(self._spectra.forward, x, *given), ()

    def gradients(
        self,
        x: Tensor,
        weight: Tensor,
        delay: Tensor,
        sigma: Tensor,
        grad: Tensor,
        kept: Kept,
        wants_x: bool,
        wants_synapses: bool,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Those of x, weight and delay that are wanted; x may be anything where those of synapses are not."""
        given = x.contiguous(), weight.contiguous(), delay.contiguous(), sigma, grad.contiguous()
        if self._spectra is None:
            return on_its_device(self._taps.gradients, grad, *given, kept, wants_x, wants_synapses)
        gx = gw = gd = grad.new_empty(0)
        if wants_synapses:
            self._rely(x)
            with exactly(x):
                gw, gd = on_its_device(self._spectra.gradients, x, *given)
        if wants_x:
            gx, *_ = on_its_device(self._taps.gradients, grad, *given, kept, True, False)
        return gx, gw, gd

    def _rely(self, x: Tensor) -> None:
        """A CUDA graph reads the waves for as long as it lives."""
        if x.is_cuda and torch.cuda.is_current_stream_capturing():
            _relied_on.add(self)


class _Part(NamedTuple):
    """What is prepared for some outputs: their taps, with the sequence or alone, the products of these with the
    sequence and with the gradient, and the taps' gradient, first in shares, then as that of weights and delays."""

    outputs: slice
    prepare: Callable[[Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
    taps: Callable[[Tensor, Tensor, Tensor], Tensor]
    through: Callable[[Tensor, Tensor, Tensor], None]
    back: Callable[[Tensor, Tensor, Tensor], None]
    sums: Callable[[Tensor, Tensor], Tensor]
    reduce: Launch


class _Taps:
    """Both directions by taps, for sequences and synapses of one kind, all contiguous; some outputs after the other."""

    def __init__(
        self, like: Tensor, weight: Tensor, kernel: str, taps: int, first: int, steps_in: int, steps: int
    ) -> None:
        (outputs, inputs, elements), batch, dtype, parts = weight.shape, like.shape[1], like.dtype, parts_of(like)
        self.shape, self.result = (steps_in, batch, inputs), (steps, batch, outputs)
        self.dtype, self.device = dtype, like.device
        rows = steps_in * batch
        self.halve = halver([(steps * batch, outputs)], parts)
        self.halve_both = halver([(steps * batch, outputs), (rows, inputs)], parts)
        bump, self.parts = told(kernel), []
        for n in some(outputs, 4 * taps * inputs):
            own, rest = (n.stop - n.start, inputs, elements), (taps, first, parts)
            number, sums = summer(self.shape, self.result, *rest, like.device, n)
            self.parts.append(
                _Part(
                    n,
                    preparer(own, bump, taps, dtype, parts, rows),
                    tapper(own, bump, taps, dtype, parts),
                    product(self.shape, self.result, inputs, *rest, n),
                    product(self.result, self.shape, inputs, *rest, n, of_input=True),
                    sums,
                    reducer(own[0] * inputs, elements, bump, number, taps),
                )
            )
        size_of_k = taps * outputs * width_of(inputs, parts) * 2 * max(1, parts)
        self.keeps = len(self.parts) == 1 and size_of_k <= LITTLE * rows * inputs * dtype.itemsize

    def forward(self, x: Tensor, weight: Tensor, delay: Tensor, sigma: Tensor, keep: bool) -> tuple[Tensor, Kept]:
        y = torch.empty(self.result, dtype=self.dtype, device=self.device)
        one, *rest = self.parts
        w, d = self._own(one, weight, delay)
        k, heard = one.prepare(w, d, sigma, x)
        one.through(heard, k, y)
        for part in rest:
            w, d = self._own(part, weight, delay)
            part.through(heard, part.taps(w, d, sigma), y[..., part.outputs])
        return y, (k,) if keep and self.keeps else ()

    def gradients(
        self,
        x: Tensor,
        weight: Tensor,
        delay: Tensor,
        sigma: Tensor,
        grad: Tensor,
        kept: Kept,
        wants_x: bool,
        wants_synapses: bool,
    ) -> tuple[Tensor, Tensor, Tensor]:
        sent, *heard = self.halve_both(grad, x) if wants_synapses else self.halve(grad)
        gx = gw = gd = grad.new_empty(0)
        if wants_synapses:
            gw, gd = torch.empty_like(weight), torch.empty_like(weight)
        for part in self.parts:
            w, d = self._own(part, weight, delay)
            if wants_x:
                k = kept[0] if kept else part.taps(w, d, sigma)
                own = torch.empty(self.shape, dtype=self.dtype, device=self.device)
                part.back(sent, k, own)
                gx = gx.add_(own) if part.outputs.start else own
            if wants_synapses:
                part.reduce(w, d, sigma, part.sums(sent, *heard), *self._own(part, gw, gd))
        return gx, gw, gd

    def _own(self, part: _Part, *tensors: Tensor) -> tuple[Tensor, ...]:
        """That part of tensors of all outputs."""
        return tensors if len(self.parts) == 1 else tuple(t[part.outputs] for t in tensors)


_plans: Plans[Bumps] = Plans()
_relied_on: set[Bumps] = set()  # by CUDA graphs


def _plan(like: Tensor, weight: Tensor, kernel: str, taps: int, first: int, steps_in: int, steps: int) -> Bumps:
    """See `Bumps`."""
    parts = parts_of(like)
    pays = PAYS if weight.shape[0] * weight.shape[1] <= 1 << 16 else WIDE * PAYS
    by_spectra = taps * steps > pays * (steps + taps) and parts < 2  # they have half precision
    given = kernel, taps, first, steps_in, steps, by_spectra
    key = like.shape[1], like.dtype, like.device, weight.shape, parts, *given
    return _plans.at(key, lambda: Bumps(like, weight, *given))
