"""Bumps: how a synapse spreads over taps while its delay is learned.

A bump is a function of the distance `u = d - delay` from the tap to the delay, in steps, and of its width `s`. It is
data: a name, a function, its slope, and what the width is made of. All but "v0" are normalised over the taps:

    g(d) = value(u, s) / (sum over taps of value + 1e-7)

Khalfaoui-Hassani, Pellegrini and Masquelier, "Dilated convolution with learnable spacings", ICLR 2023 ("v1"), and the
follow-up with other interpolations, arXiv 2306.00817 ("max", "gauss"); names and constants are the DCLS package's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from spikenet.errors import UnknownNameError

TINY = 1e-7  # added to the sum over taps


@dataclass(frozen=True)
class Bump:
    """One shape of a bump.

    Args:
        name: how it is called in messages and files.
        value: `value(u, s)`, at least 0.
        slope: its derivative with respect to `u`.
        spread: what is added to `|sigma|` to give the width `s`.
        uses_sigma: whether the width depends on sigma; if not, it is `spread`.
        normalised: divide by the sum over the taps.
    """

    name: str
    value: Callable[[Tensor, Tensor], Tensor]
    slope: Callable[[Tensor, Tensor], Tensor]
    spread: float
    uses_sigma: bool = True
    normalised: bool = True

    def __repr__(self) -> str:
        return self.name

    def width(self, sigma: Tensor) -> Tensor:
        """The width `s`, in steps."""
        return sigma.abs() + self.spread if self.uses_sigma else torch.full_like(sigma, self.spread)


def least(dtype: torch.dtype) -> float:
    """What of a Gaussian is dropped: less than half a unit in the last place of its height."""
    return torch.finfo(dtype).eps / 2


def _gauss(u: Tensor, s: Tensor) -> Tensor:
    g = torch.exp(-0.5 * (u / s) ** 2)
    return torch.where(g < least(g.dtype), 0.0, g)


def _gauss_slope(u: Tensor, s: Tensor) -> Tensor:
    return -_gauss(u, s) * u / (s * s)


def _triangle(u: Tensor, s: Tensor) -> Tensor:
    return (s - u.abs()).relu()


def _triangle_slope(u: Tensor, s: Tensor) -> Tensor:
    return torch.where(u.abs() < s, -u.sign(), 0.0)


def _between(u: Tensor, s: Tensor) -> Tensor:
    """The taps on either side of the delay, in proportion to their nearness."""
    return (1 - u.abs()).relu()


def _between_slope(u: Tensor, s: Tensor) -> Tensor:
    """On a tap the delay is taken to lie just before it, as in the reference."""
    return torch.where((u >= 0) & (u < 1), -1.0, torch.where((u >= -1) & (u < 0), 1.0, 0.0))


BUMPS = {
    bump.name: bump
    for bump in (
        Bump("gauss", _gauss, _gauss_slope, 0.27),
        Bump("max", _triangle, _triangle_slope, 1.0),
        Bump("v1", _triangle, _triangle_slope, 1.0, uses_sigma=False),
        Bump("v0", _between, _between_slope, 1.0, uses_sigma=False, normalised=False),
    )
}


def bump(kernel: Bump | str) -> Bump:
    """The bump of that name; a bump passes through.

    Raises:
        UnknownNameError: for a name that is not known.
    """
    if isinstance(kernel, Bump):
        return kernel
    if kernel not in BUMPS:
        raise UnknownNameError("delay kernel", kernel, BUMPS)
    return BUMPS[kernel]
