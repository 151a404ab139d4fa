"""Delayed synapses of many taps by their spectra: matrix products at every frequency, in half precision, in Triton.

A sequence is cut into windows of L steps, hop by hop; within one, the convolution with K's taps is a product at each of
the `F = L // 2 + 1` frequencies of a discrete Fourier transform:

    X(f) = sum_u x[u] e^(-i w u)        w = 2 pi f / L
    Y(f) = X(f) K(f)        gK(f) = Y(f) conj(X(f))
    y[u] = (2 / L) sum_f h_f (cos(w u) Re Y(f) - sin(w u) Im Y(f))        h_f = 1, or 1 / 2 where f is 0 or L / 2

Transforms, too, are matrix products, so that any L will do. They and the products at the frequencies take a few per
cent of the multiplications of the taps' own products; rounding errors, of the size of a direct product's, are spread
over a window. What goes through float16 is brought to where no sum can be past its range. Features are filled up to
multiples of 16, which products in half precision want, and kernels are given the multiples of 8 in eights, so that they
are known to be that. Some outputs have their spectra made at a time. Importing this
module imports triton.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from spikenet.kernels.delay.triton_construct import gradients_of_spectrum, spectrum, told
from spikenet.kernels.delay.triton_scale import nothing_found, peak, power, shift_of
from spikenet.kernels.launch import Launch

HOP = 1.4  # steps of a window's output, in taps, about
TOGETHER = 96  # outputs whose spectra are made at a time, at most
ABOVE = 32768.0  # no sum is larger; half of float16's range


class Windows(NamedTuple):
    """Windows of one length: their number W, the steps of a window's output and those before these, the step of the
    sequence at the first window's beginning, L, and the cosines and negative sines `[2, F, L]` in float16."""

    number: int
    hop: int
    lead: int
    shift: int
    length: int
    waves: Tensor


def windows(device: torch.device, steps: int, taps: int, first: int) -> Windows:
    """The windows of `y[s] = sum_d K[d] x[s + first - d]`."""
    count, lead = max(1, round(steps / (HOP * taps))), filled(taps - 1, 8)
    hop = filled(-(-steps // count), 8)
    length = hop + lead
    f, u = (torch.arange(n, dtype=torch.float64) for n in (length // 2 + 1, length))
    angle = (f[:, None] * u % length) * (2 * math.pi / length)
    waves = torch.stack([angle.cos(), -angle.sin()]).half().to(device)
    return Windows(-(-steps // hop), hop, lead, first - lead, length, waves)


def filled(size: int, to: int) -> int:
    """Up to a multiple."""
    return -(-size // to) * to


class _Group(NamedTuple):
    """The launches of some outputs: their number, and K's spectrum, from spectra to a sequence, back, from the spectrum
    of K's gradient."""

    size: int
    spectrum: Launch
    back: Launch
    of_grad: Launch
    gradients: Launch


class Spectra:
    """Both directions for sequences and synapses of one kind.

    Args:
        shape: T, B and M.
        device: where they are.
        synapses: N, M and elements.
        kernel, taps, first, steps: as `training.delay_bumps` takes them.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        device: torch.device,
        synapses: tuple[int, ...],
        kernel: str,
        taps: int,
        first: int,
        steps: int,
    ) -> None:
        (length, batch, inputs), (outputs, _, elements) = shape, synapses
        cut = windows(device, steps, taps, first)
        self.waves, self.frequencies = cut.waves, cut.waves.shape[1]
        self.rows, self.width = cut.number * batch, filled(inputs, 16)
        self.outputs, self.steps = outputs, steps
        self.peak_of_x, self.peak_of_weight = peak(length * batch * inputs, 1), peak(outputs * inputs, elements)
        self.peak_of_grad = peak(steps * batch * outputs, 1)
        of_x, of_k = _bounds(cut.length, 1024.0), _bounds(inputs, ABOVE / 1024)
        of_x_again, of_grad = _bounds(cut.length, 64.0), _bounds(cut.hop, ABOVE / 64 / self.rows)
        self.of_x, self.of_x_again = (
            _transform_of(cut, (length, batch, inputs), self.width, 0, True, most) for most in (of_x, of_x_again)
        )
        bump, sizes, waves = told(kernel), (inputs, elements), (self.frequencies, cut.length // 8)
        self.groups = [
            _Group(
                n.stop - n.start,
                spectrum(bump, n, sizes, taps, waves, of_k, self.width),
                _back_of(cut, (steps, batch, outputs), n, (of_x, of_k)),
                _transform_of(cut, (steps, batch, outputs), n.stop - n.start, n.start, False, of_grad),
                gradients_of_spectrum(bump, n, (*sizes, self.width), taps, waves, (of_x_again, of_grad)),
            )
            for n in together(outputs)
        ]

    def forward(self, x: Tensor, weight: Tensor, delay: Tensor, sigma: Tensor) -> Tensor:
        found = nothing_found(x, 2)
        self.peak_of_x(x, found)
        self.peak_of_weight(weight, found[1:])
        heard = self._heard(self.of_x, x, found)
        y = torch.empty(self.steps, x.shape[1], self.outputs, dtype=x.dtype, device=x.device)
        k = heard.new_empty(0)
        for group in self.groups:
            if k.shape[1:2] != (2 * group.size,):
                k = heard.new_empty(self.frequencies, 2 * group.size, self.width)
                products = heard.new_empty(self.frequencies, 2 * self.rows, 2 * group.size)
            group.spectrum(weight, delay, sigma, self.waves, found[1:], k)
            torch.bmm(heard, k.mT, out=products)
            group.back(products, self.waves, found, y)
        return y

    def gradients(self, x: Tensor, weight: Tensor, delay: Tensor, sigma: Tensor, grad: Tensor) -> tuple[Tensor, Tensor]:
        """Those of weight and delay."""
        gw, gd = torch.empty_like(weight), torch.empty_like(weight)
        found = nothing_found(x, 2)
        self.peak_of_x(x, found)
        self.peak_of_grad(grad, found[1:])
        heard, gk = self._heard(self.of_x_again, x, found), x.new_empty(0)
        for group in self.groups:
            if gk.shape[1:2] != (2 * group.size,):
                gk = heard.new_empty(self.frequencies, 2 * group.size, self.width)
                of_grad = heard.new_empty(self.frequencies, 2 * self.rows, 2 * group.size)
            group.of_grad(grad, found[1:], self.waves, of_grad)
            torch.bmm(of_grad.mT, heard, out=gk)
            group.gradients(weight, delay, sigma, self.waves, found, gk, gw, gd)
        return gw, gd

    def _heard(self, transform: Launch, x: Tensor, found: Tensor) -> Tensor:
        """The spectra of x, `[F, 2 W B, width]`: real parts, then imaginary ones."""
        heard = torch.empty(self.frequencies, 2 * self.rows, self.width, dtype=torch.float16, device=x.device)
        transform(x, found, self.waves, heard)
        return heard


def together(outputs: int) -> list[slice]:
    """Outputs whose spectra are made together: groups of about one size, of whole 16s."""
    size = filled(-(-outputs // -(-outputs // TOGETHER)), 16)
    return [slice(start, min(start + size, outputs)) for start in range(0, outputs, size)]


def _bounds(length: int, most: float) -> int:
    """Below which power of two numbers are to lie so that sums of `length` of them are not above `most`."""
    return math.floor(math.log2(most / length))


def _transform_of(cut: Windows, shape: tuple[int, int, int], width: int, first: int, whole: bool, most: int) -> Launch:
    """For `x, found, waves, spectra`: the spectra of some features of x `[T, B, M]`, from `first` on, of whole windows,
    `[F, 2, W B, width]`; or those of a window's output alone, with -i times the same, `[F, 2, W B, 2, width]`."""
    (steps, batch, columns), align = shape, math.gcd(shape[2], 8)
    start, count, lead = (cut.shift, cut.length, 0) if whole else (0, cut.hop, cut.lead)
    numbers = steps, batch, columns // align, width, first, cut.number, cut.hop // 8, start, count // 8, lead // 8
    frequencies = cut.waves.shape[1]
    grid = -(-frequencies // 64) * -(-batch * width // 128), cut.number
    rest = frequencies, cut.length // 8, most
    return Launch(_transform, grid, (*numbers, *rest), (align, not whole, 64, 128, 32), num_warps=4)


def _back_of(cut: Windows, shape: tuple[int, int, int], outputs: slice, most: tuple[int, int]) -> Launch:
    """For `products, waves, found, y`: some outputs of y `[steps, B, N]` from their spectra."""
    size, batch = outputs.stop - outputs.start, shape[1]
    numbers = *shape, outputs.start, size, cut.number, cut.hop // 8, cut.lead // 8, cut.waves.shape[1]
    grid = -(-cut.hop // 64) * -(-cut.number * batch * size // 128)
    return Launch(_back, (grid,), (*numbers, cut.length // 8, *most), (64, 128, 32), num_warps=8)


@triton.jit
def _transform(  # type: ignore[no-untyped-def]
    x, found, waves, out, steps, B, aligned, width, first, W, hop, start, count, lead, F, L, most,
    ALIGN: tl.constexpr, TURNED: tl.constexpr, FREQUENCIES: tl.constexpr, COLUMNS: tl.constexpr, DEPTH: tl.constexpr,
):  # fmt: skip
    count, lead, L, M = count * 8, lead * 8, L * 8, aligned * ALIGN
    tiles, w = tl.cdiv(F, FREQUENCIES), tl.program_id(1)
    f = tl.program_id(0) % tiles * FREQUENCIES + tl.arange(0, FREQUENCIES)
    c = tl.program_id(0) // tiles * COLUMNS + tl.arange(0, COLUMNS)
    m, known = first + c % width, c < B * width
    of_x, begin = x + (c // width * M + m)[None, :], w * hop * 8 + start
    scale = power(shift_of(found, most))
    real = tl.zeros((FREQUENCIES, COLUMNS), tl.float32)
    imaginary = tl.zeros((FREQUENCIES, COLUMNS), tl.float32)
    low, high = tl.maximum(0, -begin) // DEPTH * DEPTH, tl.minimum(count, steps - begin)
    for u0 in range(low, high, DEPTH):
        u = u0 + tl.arange(0, DEPTH)
        t, there = (begin + u).to(tl.int64), (u < count) & (begin + u >= 0) & (begin + u < steps)
        v = tl.load(of_x + (t * B * M)[:, None], mask=there[:, None] & (known & (m < M))[None, :], other=0.0)
        v = (v.to(tl.float32) * scale).to(tl.float16)
        wave, inside = waves + f[:, None] * L + (lead + u)[None, :], (f < F)[:, None] & (u < count)[None, :]
        real = tl.dot(tl.load(wave, mask=inside, other=0.0), v, real)
        imaginary = tl.dot(tl.load(wave + F * L, mask=inside, other=0.0), v, imaginary)
    kept, row, rest = (f < F)[:, None] & known[None, :], f.to(tl.int64)[:, None] * 2, W * B * width
    a, b = real.to(tl.float16), imaginary.to(tl.float16)
    if TURNED:
        to = out + (w * B * 2 * width + c // width * 2 * width + c % width)[None, :]
        tl.store(to + row * 2 * rest, a, mask=kept)
        tl.store(to + row * 2 * rest + width, b, mask=kept)
        tl.store(to + (row + 1) * 2 * rest, b, mask=kept)
        tl.store(to + (row + 1) * 2 * rest + width, -a, mask=kept)
    else:
        to = out + (w * B * width + c)[None, :]
        tl.store(to + row * rest, a, mask=kept)
        tl.store(to + (row + 1) * rest, b, mask=kept)


@triton.jit
def _back(  # type: ignore[no-untyped-def]
    products, waves, found, y, steps, B, N, first, size, W, hop, lead, F, L, most_of_x, most_of_k,
    STEPS: tl.constexpr, COLUMNS: tl.constexpr, DEPTH: tl.constexpr,
):  # fmt: skip
    """The products' real and imaginary parts are rows of x's and, side by side, columns of K's."""
    hop, lead, L = hop * 8, lead * 8, L * 8
    tiles = tl.cdiv(hop, STEPS)
    u = tl.program_id(0) % tiles * STEPS + tl.arange(0, STEPS)
    c = tl.program_id(0) // tiles * COLUMNS + tl.arange(0, COLUMNS)
    row, n, known = c // size, c % size, c < W * B * size
    own, rest = products + (row * 2 * size + n)[None, :], W * B * 2 * size
    total = tl.zeros((STEPS, COLUMNS), tl.float32)
    for f0 in range(0, F, DEPTH):
        f = f0 + tl.arange(0, DEPTH)
        at = f.to(tl.int64)[:, None] * 2
        at, next_, inside = own + at * rest, own + (at + 1) * rest, (f < F)[:, None] & known[None, :]
        real = tl.load(at, mask=inside, other=0.0).to(tl.float32)
        real -= tl.load(next_ + size, mask=inside, other=0.0).to(tl.float32)
        imaginary = tl.load(at + size, mask=inside, other=0.0).to(tl.float32)
        imaginary += tl.load(next_, mask=inside, other=0.0).to(tl.float32)
        half = tl.where((f == 0) | (2 * f == L), 0.5, 1.0)[:, None]
        wave, there = waves + f[None, :] * L + (lead + u)[:, None], (f < F)[None, :] & (u < hop)[:, None]
        total = tl.dot(tl.load(wave, mask=there, other=0.0), (real * half).to(tl.float16), total)
        total = tl.dot(tl.load(wave + F * L, mask=there, other=0.0), (imaginary * half).to(tl.float16), total)
    total *= power(-shift_of(found, most_of_x)) * (2.0 / L)
    total *= power(-shift_of(found + 1, most_of_k))
    step = row // B * hop
    kept = (u < hop)[:, None] & (known[None, :] & (u[:, None] + step[None, :] < steps))
    to = y + (u[:, None] + step[None, :]).to(tl.int64) * B * N + (row % B * N + first + n)[None, :]
    tl.store(to, total.to(y.dtype.element_ty), mask=kept)
