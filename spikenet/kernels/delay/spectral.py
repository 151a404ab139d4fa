"""Delayed synapses of many taps by their spectra, in plain torch: matrix products at every frequency.

A sequence is cut into windows of L steps, hop by hop; within one, the convolution with K's taps is a product at each of
the `L // 2 + 1` frequencies of a discrete Fourier transform:

    X(f) = sum_u x[u] e^(-i w u)        w = 2 pi f / L
    Y(f) = X(f) K(f)        gK(f) = Y(f) conj(X(f))
    y[u] = (2 / L) sum_f h_f (cos(w u) Re Y(f) - sin(w u) Im Y(f))        h_f = 1, or 1 / 2 where f is 0 or L / 2

Transforms, too, are matrix products, so that any L will do. They and the products at the frequencies take a few per
cent of the multiplications of the taps' own products; rounding errors, of the size of a direct product's, are spread
over a window. Complex numbers are pairs of rows, `[F, 2, ..]`, real and imaginary. Sizes are filled up to multiples of
8, which products in half precision want.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

HOP = 1.4  # steps of a window's output, in taps, about
TOGETHER = 64  # outputs whose spectra are made at a time


class Windows(NamedTuple):
    """Windows of one length, and their waves.

    Args:
        number: W.
        hop: steps of a window's output.
        lead: steps before these in a window.
        shift: the step of the sequence at the first window's beginning.
        steps: of the output.
        rows: cosines and negative sines, `[F, 2, L]`, in float32 (float64).
        half: h, `[F, 1, 1]`.
        told: those of a window's output, and of -i times it, `[2 F 2, hop]`.
        back: from the spectrum of an output, and from -i times it, to the output, `[hop, 2 F 2]`.
    """

    number: int
    hop: int
    lead: int
    shift: int
    steps: int
    rows: Tensor
    half: Tensor
    told: Tensor
    back: Tensor

    @property
    def length(self) -> int:
        return self.rows.shape[2]


def windows(x: Tensor, steps: int, taps: int, first: int) -> Windows:
    """The windows of `y[s] = sum_d K[d] x[s + first - d]`."""
    wide = torch.float64 if x.dtype == torch.float64 else torch.float32
    captured = x.is_cuda and torch.cuda.is_current_stream_capturing()  # what is kept is not a graph's to rely on
    return (_windows.__wrapped__ if captured else _windows)(x.device, wide, steps, taps, first)


@functools.lru_cache(8)
def _windows(device: torch.device, wide: torch.dtype, steps: int, taps: int, first: int) -> Windows:
    count, lead = max(1, round(steps / (HOP * taps))), filled(taps - 1)
    hop = filled(-(-steps // count))
    length = hop + lead
    f, u = (torch.arange(n, device=device) for n in (length // 2 + 1, length))
    angle = (f[:, None] * u % length).double() * (2 * math.pi / length)
    single = (f == 0) | (2 * f == length)
    rows, half = torch.stack([angle.cos(), -angle.sin()], 1).to(wide), torch.where(single, 0.5, 1.0).to(wide)
    turned = torch.stack([rows[:, 1], -rows[:, 0]], 1)
    told = torch.stack([rows, turned])[..., lead:]
    back = (told * half[:, None, None]).flatten(0, 2).T
    return Windows(
        -(-steps // hop), hop, lead, first - lead, steps, rows, half[:, None, None], told.flatten(0, 2), back
    )


def filled(size: int) -> int:
    """Up to a multiple of 8."""
    return -(-size // 8) * 8


def spectra(x: Tensor, cut: Windows) -> Tensor:
    """The windows' spectra `[F, 2 W B, M]` of x `[T, B, M]`, in its dtype; M is a multiple of 8, or not in half
    precision."""
    waves, flat = cut.rows.flatten(0, 1).to(x.dtype), x.reshape(x.shape[0], -1)
    out = x.new_empty(waves.shape[0], cut.number, flat.shape[1])
    for w in range(cut.number):
        begin = w * cut.hop + cut.shift
        start, stop = max(begin, 0), min(begin + cut.length, x.shape[0])
        if start < stop:
            torch.mm(waves[:, start - begin : stop - begin], flat[start:stop], out=out[:, w])
        else:
            out[:, w] = 0
    return out.view(cut.rows.shape[0], -1, x.shape[2])


def forward(
    heard: Tensor, scale: Tensor, spectrum: Callable[[slice], Tensor], cut: Windows, batch: int, y: Tensor
) -> None:
    """Write y `[steps, B, N]`.

    Args:
        heard: the spectra of x.
        scale: by what the sums are to be multiplied: 2 / L, for spectra as they are.
        spectrum: K's `[F, 2, n, M]` of some outputs.
        cut: the windows.
        batch: B.
        y: written.
    """
    waves = cut.back.to(heard.dtype)
    for n in some(y.shape[2]):
        sums = _heard(heard, spectrum(n), waves).view(cut.hop, cut.number, batch, -1)
        for to, own in _pieces(y[..., n], sums.transpose(0, 1), cut):
            torch.mul(own, scale, out=to)
        del sums, to, own  # before the next are made


def _heard(heard: Tensor, k: Tensor, waves: Tensor) -> Tensor:
    """`[hop, W B n]`, with K's spectrum `[F, 2, n, M]`."""
    products = heard.new_empty(2, *heard.shape[:2], k.shape[2])
    for part in (0, 1):
        torch.bmm(heard, k[:, part].mT, out=products[part])
    return _product(waves, products.view(waves.shape[1], -1))


def gradient_of_taps(heard: Tensor, grad: Tensor, scale: Tensor, cut: Windows) -> Iterator[tuple[slice, list[Tensor]]]:
    """The real and the imaginary part of gK's spectrum, `[F, n, M]` each, of some outputs after the other, times
    `scale`, in float32 (float64).

    Args:
        heard: the spectra of x.
        grad: the gradient of y.
        scale: by what it is multiplied before it is brought to the dtype of the spectra.
        cut: the windows.
    """
    waves = cut.told.to(heard.dtype)
    for n in some(grad.shape[2]):
        yield n, _told(heard, grad[..., n], scale, waves, cut)


def _told(heard: Tensor, grad: Tensor, scale: Tensor, waves: Tensor, cut: Windows) -> list[Tensor]:
    """The two parts of gK's spectrum, of these outputs."""
    own = heard.new_zeros(cut.hop, cut.number, *grad.shape[1:])
    for part, to in _pieces(grad, own.transpose(0, 1), cut):
        torch.mul(part.to(scale.dtype), scale, out=to)
    told = (waves @ own.flatten(1)).view(2, *heard.shape[:2], -1)
    return [_product(told[part].mT, heard) for part in (0, 1)]


def some(outputs: int) -> Iterator[slice]:
    """Outputs, as many at a time as have their spectra made together."""
    for start in range(0, outputs, TOGETHER):
        yield slice(start, min(start + TOGETHER, outputs))


def _pieces(steps: Tensor, hops: Tensor, cut: Windows) -> Iterator[tuple[Tensor, Tensor]]:
    """What of `[steps, ..]` and of `[W, hop, ..]` goes together: the whole windows, and the rest."""
    whole = cut.steps // cut.hop
    if whole:
        yield steps[: whole * cut.hop].unflatten(0, (whole, cut.hop)), hops[:whole]
    if whole < cut.number:
        yield steps[whole * cut.hop :], hops[whole, : cut.steps - whole * cut.hop]


def _product(a: Tensor, b: Tensor) -> Tensor:
    """`a @ b`, of half precision in float32."""
    if a.dtype not in (torch.float16, torch.bfloat16):
        return a @ b
    if not a.is_cuda:
        return a.float() @ b.float()
    return (torch.mm if a.ndim == 2 else torch.bmm)(a, b, out_dtype=torch.float32)
