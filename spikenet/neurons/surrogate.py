"""Surrogate gradients, as data: a smooth step and its slope, which stands in for the derivative of the spike.

Neftci, Mostafa and Zenke, "Surrogate gradient learning in spiking neural networks", IEEE SPM 36(6), 2019.
`u` is the distance to the threshold and `alpha` the sharpness; functions are written in the words of
`spikenet.neurons`, and every backend understands them.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from spikenet.errors import ArgumentError, UnknownNameError
from spikenet.kernels.dynamics import words as w

__all__ = ["SURROGATES", "Surrogate", "atan", "fast_sigmoid", "rectangle", "sigmoid", "surrogate", "triangle"]


@dataclass(frozen=True)
class Surrogate:
    """A smooth step `primitive(u, alpha)` and its derivative `slope(u, alpha)`.

    Args:
        name: how it is called in messages and files.
        primitive: rises by 1 through the threshold (`fast_sigmoid`: see there).
        slope: d primitive / du.
        alpha: sharpness, above 0. A run-time number: changing it compiles nothing.

    Raises:
        ArgumentError: if `alpha` is not a finite number above 0.
    """

    name: str
    primitive: Callable[[Any, Any], Any]
    slope: Callable[[Any, Any], Any]
    alpha: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.alpha) and self.alpha > 0):
            raise ArgumentError(f"surrogate {self.name!r}: alpha must be a finite number above 0, got {self.alpha}")

    def __repr__(self) -> str:
        return f"{self.name}(alpha={self.alpha:g})"


def _atan(u: Any, alpha: Any) -> Any:
    return w.atan((math.pi / 2) * alpha * u) / math.pi + 0.5


def _atan_slope(u: Any, alpha: Any) -> Any:
    y = (math.pi / 2) * alpha * u
    return 0.5 * alpha / (1.0 + y * y)


def atan(alpha: float = 2.0) -> Surrogate:
    """`1/2 + atan(pi/2 alpha u) / pi`, slope `(alpha/2) / (1 + (pi/2 alpha u)^2)`. Fang et al., ICCV 2021."""
    return Surrogate("atan", _atan, _atan_slope, alpha)


def _logistic(u: Any, alpha: Any) -> Any:
    return 1.0 / (1.0 + w.exp(-(alpha * u)))


def _logistic_slope(u: Any, alpha: Any) -> Any:
    y = _logistic(u, alpha)
    return alpha * y * (1.0 - y)


def sigmoid(alpha: float = 4.0) -> Surrogate:
    """`y = 1 / (1 + exp(-alpha u))`, slope `alpha y (1 - y)`. Zenke and Ganguli, Neural Computation 30, 2018."""
    return Surrogate("sigmoid", _logistic, _logistic_slope, alpha)


def _fast_sigmoid(u: Any, alpha: Any) -> Any:
    return u / (1.0 + alpha * abs(u)) + 0.5


def _fast_sigmoid_slope(u: Any, alpha: Any) -> Any:
    y = 1.0 + alpha * abs(u)
    return 1.0 / (y * y)


def fast_sigmoid(alpha: float = 25.0) -> Surrogate:
    """`1/2 + u / (1 + alpha |u|)`, slope `1 / (1 + alpha |u|)^2`: 1 at the threshold, however sharp.

    The SuperSpike slope of Zenke and Ganguli, Neural Computation 30, 2018. The primitive rises by `2 / alpha`.
    """
    return Surrogate("fast_sigmoid", _fast_sigmoid, _fast_sigmoid_slope, alpha)


def _triangle(u: Any, alpha: Any) -> Any:
    y = w.maximum(w.minimum(alpha * u, 1.0), -1.0)
    return 0.5 + y - 0.5 * y * abs(y)


def _triangle_slope(u: Any, alpha: Any) -> Any:
    return alpha * w.maximum(1.0 - alpha * abs(u), 0.0)


def triangle(alpha: float = 1.0) -> Surrogate:
    """Slope `alpha max(0, 1 - alpha |u|)`, kinks at 0 and `+-1 / alpha`. Esser et al., PNAS 113, 2016."""
    return Surrogate("triangle", _triangle, _triangle_slope, alpha)


def _rectangle(u: Any, alpha: Any) -> Any:
    return w.maximum(w.minimum(alpha * u + 0.5, 1.0), 0.0)


def _rectangle_slope(u: Any, alpha: Any) -> Any:
    return w.where(alpha * abs(u) < 0.5, alpha * 1.0, 0.0)


def rectangle(alpha: float = 1.0) -> Surrogate:
    """Slope `alpha` where `|u| < 1 / (2 alpha)`, else 0. Wu et al., Frontiers in Neuroscience 12, 2018."""
    return Surrogate("rectangle", _rectangle, _rectangle_slope, alpha)


SURROGATES: dict[str, Callable[[], Surrogate]] = {
    f.__name__: f for f in (atan, fast_sigmoid, rectangle, sigmoid, triangle)
}


def surrogate(choice: Surrogate | str) -> Surrogate:
    """The surrogate itself, or the one of that name with its default sharpness.

    Raises:
        UnknownNameError: if no surrogate has that name.
    """
    if isinstance(choice, Surrogate):
        return choice
    if choice not in SURROGATES:
        raise UnknownNameError("surrogate", choice, SURROGATES)
    return SURROGATES[choice]()


@dataclass(frozen=True)
class Spike:
    """Output 1 where `u >= 0`, else 0; the surrogate's slope in the backward pass."""

    surrogate: Surrogate
    binary: bool = dataclasses.field(default=True, init=False)
    draws: ClassVar[Mapping[str, str]] = {}

    @property
    def alpha(self) -> float:
        return self.surrogate.alpha

    def value(self, u: Any, d: Any, alpha: Any) -> Any:
        return w.where(u >= 0.0, 1.0, 0.0)

    def slope(self, u: Any, d: Any, alpha: Any) -> Any:
        return self.surrogate.slope(u, alpha)


@dataclass(frozen=True)
class Identity:
    """Output `u` itself: a readout."""

    binary: bool = dataclasses.field(default=False, init=False)
    alpha: float = dataclasses.field(default=1.0, init=False)
    draws: ClassVar[Mapping[str, str]] = {}

    def value(self, u: Any, d: Any, alpha: Any) -> Any:
        return u

    def slope(self, u: Any, d: Any, alpha: Any) -> Any:
        return 1.0
