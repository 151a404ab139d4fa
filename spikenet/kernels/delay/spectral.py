"""Delayed synapses of many taps by their spectra, in plain torch: matrix products at every frequency.

A sequence is cut into windows of L steps, hop by hop; within one, the convolution with K's taps is a product at each of
the `L // 2 + 1` frequencies of a discrete Fourier transform:

    X(f) = sum_u x[u] e^(-i w u),    w = 2 pi f / L
    Y(f) = X(f) K(f),    gK(f) = conj(X(f)) Y(f),    gX(f) = Y(f) conj(K(f))
    y[u] = sum_f a_f (cos(w u) Re Y(f) - sin(w u) Im Y(f)),    a_f = 2 / L, or 1 / L where f is 0 or L / 2

Transforms, too, are matrix products, of L rows at most, so that any L will do and nothing but torch's own products is
needed, which run in the precision that torch is told to (TF32, if `allow_tf32`). They take some `4 F (L + taps)`
multiplications where the taps' own take `taps` at every step. Rounding errors, of the size of a direct product's, are
spread over a whole window.

Complex numbers are pairs of rows: [frequency, part], with the parts real and imaginary.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

HOP = 1.5  # steps of a window's output, in taps, about
LARGEST = 40_000_000  # bytes of a spectrum, or of taps, that are made at a time
TOGETHER = 128  # outputs, of which that is a multiple

Taps = Callable[[int, int], Tensor]  # K of some outputs, `[taps, n, M]`


class Windows(NamedTuple):
    """Windows of one length.

    Args:
        length: L.
        pieces: for each, what is transformed of the sequence and where it begins in the window, and which outputs come
            of it.
        at: where these begin in the window.
    """

    length: int
    pieces: list[tuple[slice, int, slice]]
    at: int


def windows(steps_in: int, steps_out: int, taps: int, shift: int, forward: bool) -> Windows:
    """The windows of `out[s] = sum_d K[d] x[s + shift - d]`, or of `out[s] = sum_d K[d] x[s - shift + d]`."""
    count = max(1, round(steps_out / (HOP * taps)))
    hop = -(-steps_out // count)
    first = shift - taps + 1 if forward else -shift
    pieces = []
    for a in range(0, steps_out, hop):
        b = min(a + hop, steps_out)
        start = min(max(a + first, 0), steps_in)
        stop = min(max(b + first + taps - 1, start), steps_in)
        pieces.append((slice(start, stop), start - a - first, slice(a, b)))
    return Windows(hop + taps - 1, pieces, taps - 1 if forward else 0)


def forward(x: Tensor, made: Taps, outputs: int, taps: int, first: int, steps: int) -> Tensor:
    """y `[steps, B, N]` of x `[T, B, M]`; see `conv.delay_conv`."""
    cut = windows(len(x), steps, taps, first, True)
    y = x.new_empty(steps, x.shape[1], outputs)
    for n in _some(outputs, taps * x.shape[2] * x.itemsize):
        k, part = made(n.start, n.stop), x.new_zeros(steps, x.shape[1], n.stop - n.start)
        for wave in _waves(cut, x):
            heard, through = _spectra(x, cut, wave), _spectrum(k, wave)
            products = [heard @ through[:, c].mT for c in (0, 1)]
            _back(part, cut, wave, products, 1.0)
        y[..., n] = part
    return y


def gradient_of_input(grad: Tensor, made: Taps, inputs: int, taps: int, first: int, steps: int) -> Tensor:
    """gx `[steps, B, M]` of the gradient of y."""
    cut = windows(len(grad), steps, taps, first, False)
    gx = grad.new_zeros(steps, grad.shape[1], inputs)
    for wave in _waves(cut, gx):
        products: list[Tensor] = []
        for n in _some(grad.shape[2], taps * inputs * grad.itemsize):
            told, through = _spectra(grad[..., n].contiguous(), cut, wave), _spectrum(made(n.start, n.stop), wave)
            more = [told @ through[:, c] for c in (0, 1)]
            products = [a.add_(b) for a, b in zip(products, more, strict=True)] if products else more
        _back(gx, cut, wave, products, -1.0)
    return gx


def gradient_of_taps(x: Tensor, grad: Tensor, taps: int, first: int) -> Iterator[tuple[slice, Tensor]]:
    """gK `[taps, n, M]` in float32 (float64), of some outputs after the other."""
    heard = windows(len(x), len(grad), taps, first, True)
    real = torch.float64 if x.dtype == torch.float64 else torch.float32
    told = Windows(heard.length, [(out, heard.at, out) for _, _, out in heard.pieces], 0)
    for n in _some(grad.shape[2], taps * x.shape[2] * real.itemsize):
        own, gk = grad[..., n].contiguous(), x.new_zeros(taps, (n.stop - n.start) * x.shape[2], dtype=real)
        for wave in _waves(heard, x):
            xs = _spectra(x, heard, wave)
            spectrum = [_spectra(own, told, w).mT @ xs for w in (wave, wave.turned())]  # [F, n, M]
            for part, rows in zip(spectrum, wave.inverse(taps), strict=True):
                gk += (rows @ part.flatten(1)).to(real)
        yield n, gk.view(taps, n.stop - n.start, x.shape[2])


class Wave(NamedTuple):
    """Cosines and negative sines of some frequencies, `[F, 2, L]`, and the factors of the way back, `[F]`."""

    rows: Tensor
    factor: Tensor

    def turned(self) -> Wave:
        """Those of the spectrum times -i."""
        return Wave(torch.stack([self.rows[:, 1], -self.rows[:, 0]], 1), self.factor)

    def inverse(self, steps: int) -> Tensor:
        """`[2, steps, F]`: what the real parts bring to the first steps, and what the imaginary parts do."""
        return (self.rows[..., :steps] * self.factor[:, None, None]).permute(1, 2, 0)


def _waves(cut: Windows, x: Tensor) -> Iterator[Wave]:
    """All frequencies, some at a time, so that a spectrum of x is not too large."""
    length, device = cut.length, x.device
    count = length // 2 + 1
    of_one = 2 * len(cut.pieces) * x[0].numel() * x.itemsize
    parts = max(1, min(count, -(-count * of_one // LARGEST)))
    size = -(-count // parts)
    for start in range(0, count, size):
        f = torch.arange(start, min(start + size, count), device=device)
        angle = (f[:, None] * torch.arange(length, device=device) % length).double() * (2 * math.pi / length)
        rows = torch.stack([angle.cos(), -angle.sin()], 1)
        single = (f == 0) | (2 * f == length)
        factor = torch.where(single, 1.0, 2.0).double() / length
        yield Wave(rows.to(x.dtype), factor.to(x.dtype))


def _spectra(x: Tensor, cut: Windows, wave: Wave) -> Tensor:
    """The windows' spectra, `[F, 2 W B, M]`."""
    rows = wave.rows.flatten(0, 1)
    out = x.new_empty(len(rows), len(cut.pieces), x[0].numel())
    flat = x.reshape(len(x), -1)
    for w, (heard, at, _) in enumerate(cut.pieces):
        torch.mm(rows[:, at : at + heard.stop - heard.start], flat[heard], out=out[:, w])
    return out.view(len(wave.rows), -1, x.shape[2])


def _spectrum(k: Tensor, wave: Wave) -> Tensor:
    """K's, `[F, 2, n, M]`."""
    spectrum = wave.rows[..., : len(k)].flatten(0, 1) @ k.flatten(1)
    return spectrum.view(len(wave.rows), 2, *k.shape[1:])


def _back(out: Tensor, cut: Windows, wave: Wave, products: list[Tensor], sign: float) -> None:
    """Add to `out` `[S, B, N]` what the windows' products with K's real and imaginary parts make of these frequencies;
    `sign` is that of the imaginary part."""
    turned = wave.turned()
    for q, rows in ((products[0], wave.rows), (products[1], sign * turned.rows)):
        weights, flat = (rows * wave.factor[:, None, None]).flatten(0, 1), q.view(2 * len(rows), len(cut.pieces), -1)
        for w, (_, _, to) in enumerate(cut.pieces):
            own = out[to].view(to.stop - to.start, -1)
            own.addmm_(weights[:, cut.at : cut.at + len(own)].T, flat[:, w])


def _some(outputs: int, size: int) -> Iterator[slice]:
    """Outputs of that many bytes each, as many at a time as are not too large."""
    at_once = max(TOGETHER, LARGEST // max(1, size) // TOGETHER * TOGETHER)
    for start in range(0, outputs, at_once):
        yield slice(start, min(start + at_once, outputs))
