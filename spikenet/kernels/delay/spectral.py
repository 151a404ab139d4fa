"""Delayed synapses of many taps by their spectra, in plain torch: matrix products at every frequency.

A sequence is cut into windows of L steps, hop by hop; within one, the convolution with K's taps is a product at each of
the `L // 2 + 1` frequencies of a discrete Fourier transform:

    X(f) = sum_u x[u] e^(-i w u)        w = 2 pi f / L
    Y(f) = X(f) K(f)        gK(f) = Y(f) conj(X(f))
    y[u] = (2 / L) sum_f h_f (cos(w u) Re Y(f) - sin(w u) Im Y(f))        h_f = 1, or 1 / 2 where f is 0 or L / 2

Transforms, too, are matrix products, so that any L will do. They and the products at the frequencies take a few per
cent of the multiplications of the taps' own products; rounding errors, of the size of a direct product's, are spread
over a window. Complex numbers are pairs of rows, `[F, 2, ..]`, real and imaginary.
"""

from __future__ import annotations

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
        pieces: for each, what is transformed of the sequence, where it begins in the window, and the outputs that come
            of it.
        at: where these begin in the window.
        rows: cosines and negative sines, `[F, 2, L]`.
        half: h, `[F, 1, 1]`.
    """

    pieces: list[tuple[slice, int, slice]]
    at: int
    rows: Tensor
    half: Tensor

    @property
    def length(self) -> int:
        return self.rows.shape[2]


def windows(x: Tensor, steps: int, taps: int, first: int) -> Windows:
    """The windows of `y[s] = sum_d K[d] x[s + first - d]`, with waves in float32 (float64)."""
    count = max(1, round(steps / (HOP * taps)))
    hop = -(-steps // count)
    pieces = []
    for a in range(0, steps, hop):
        b, lead = min(a + hop, steps), a + first - taps + 1
        start = min(max(lead, 0), len(x))
        pieces.append((slice(start, min(max(b + first, start), len(x))), start - lead, slice(a, b)))
    length = hop + taps - 1
    f, u = (torch.arange(n, device=x.device) for n in (length // 2 + 1, length))
    angle = (f[:, None] * u % length).double() * (2 * math.pi / length)
    single = (f == 0) | (2 * f == length)
    wide = torch.float64 if x.dtype == torch.float64 else torch.float32
    half = torch.where(single, 0.5, 1.0).to(wide)
    return Windows(pieces, taps - 1, torch.stack([angle.cos(), -angle.sin()], 1).to(wide), half[:, None, None])


def forward(
    heard: Tensor, batch: int, spectrum: Callable[[slice], Tensor], cut: Windows, outputs: int
) -> Iterator[tuple[slice, Tensor]]:
    """`y L / 2` `[steps, B, n]`, of some of all outputs after the other.

    Args:
        heard: the spectra of x.
        batch: B.
        spectrum: K's `[F, 2, n, M]` of some outputs.
        cut: the windows.
        outputs: N.
    """
    waves = torch.stack([cut.rows, _turned(cut.rows)]) * cut.half
    waves, steps = waves.flatten(0, 2)[:, cut.at :].to(heard.dtype), cut.pieces[-1][2].stop  # [2 F 2, hop]
    for n in some(outputs):
        k, width = spectrum(n), batch * (n.stop - n.start)
        products = heard.new_empty(2, *heard.shape[:2], n.stop - n.start)
        for part in (0, 1):
            torch.bmm(heard, k[:, part].mT, out=products[part])
        y, flat = heard.new_empty(steps, width), products.view(len(waves), len(cut.pieces), width)
        for w, (_, _, to) in enumerate(cut.pieces):
            torch.mm(waves[:, : to.stop - to.start].T, flat[:, w], out=y[to])
        yield n, y.view(steps, batch, -1)


def gradient_of_taps(heard: Tensor, grad: Tensor, scale: Tensor, cut: Windows) -> Iterator[tuple[slice, list[Tensor]]]:
    """The real and the imaginary part of gK's spectrum, `[F, n, M]` each, of some outputs after the other, times
    `scale`, in float32 (float64).

    Args:
        heard: the spectra of x.
        grad: the gradient of y.
        scale: by what it is multiplied before it is brought to the dtype of the spectra.
        cut: the windows.
    """
    told = cut._replace(pieces=[(out, cut.at, out) for _, _, out in cut.pieces])
    for n in some(grad.shape[2]):
        own = (grad[..., n].to(scale.dtype) * scale).to(heard.dtype)
        yield n, [_product(spectra(own, told, rows).mT, heard) for rows in (cut.rows, _turned(cut.rows))]


def some(outputs: int) -> Iterator[slice]:
    """Outputs, as many at a time as have their spectra made together."""
    for start in range(0, outputs, TOGETHER):
        yield slice(start, min(start + TOGETHER, outputs))


def _turned(rows: Tensor) -> Tensor:
    """The waves of what is -i times as much."""
    return torch.stack([rows[:, 1], -rows[:, 0]], 1)


def spectra(x: Tensor, cut: Windows, rows: Tensor | None = None) -> Tensor:
    """The windows' spectra, `[F, 2 W B, M]`, in x's dtype."""
    rows = cut.rows if rows is None else rows
    waves, flat = rows.flatten(0, 1).to(x.dtype), x.reshape(len(x), -1)
    out = x.new_empty(len(waves), len(cut.pieces), flat.shape[1])
    for w, (heard, at, _) in enumerate(cut.pieces):
        torch.mm(waves[:, at : at + heard.stop - heard.start], flat[heard], out=out[:, w])
    return out.view(len(rows), -1, x.shape[2])


def _product(a: Tensor, b: Tensor) -> Tensor:
    """`a @ b`, of half precision in float32."""
    if a.dtype not in (torch.float16, torch.bfloat16):
        return torch.bmm(a, b)
    return torch.bmm(a, b, out_dtype=torch.float32) if a.is_cuda else torch.bmm(a.float(), b.float())
