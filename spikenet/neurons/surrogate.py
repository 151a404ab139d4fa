"""Surrogate gradients, as data: a smooth step and its slope, which stands in for the derivative of the spike.

Neftci, Mostafa and Zenke, "Surrogate gradient learning in spiking neural networks", IEEE SPM 36(6), 2019.
`u` is the distance to the threshold and `alpha` the sharpness; functions are written in the words of
`spikenet.neurons`, and every backend understands them. Sharpness is a run-time number; other numbers of a surrogate
are constants of its expression.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from spikenet.errors import ArgumentError, UnknownNameError
from spikenet.kernels.dynamics import words as w
from spikenet.kernels.dynamics.trace import recorded

__all__ = [
    "SURROGATES",
    "Surrogate",
    "atan",
    "custom",
    "fast_sigmoid",
    "gaussian",
    "multi_gaussian",
    "rectangle",
    "sigmoid",
    "slayer",
    "straight_through",
    "surrogate",
    "triangle",
]


@dataclass(frozen=True)
class Surrogate:
    """A smooth step `primitive(u, alpha)` and its derivative `slope(u, alpha)`.

    Args:
        name: how it is called in messages and files.
        primitive: rises by 1 through the threshold, or by what the surrogate's own text says. None if nobody gave it.
        slope: d primitive / du.
        alpha: sharpness, above 0. A run-time number: changing it compiles nothing.

    Raises:
        ArgumentError: if `alpha` is not a finite number above 0.
    """

    name: str
    primitive: Callable[[Any, Any], Any] | None
    slope: Callable[[Any, Any], Any]
    alpha: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.alpha) and self.alpha > 0):
            raise ArgumentError(f"surrogate {self.name!r}: alpha must be a finite number above 0, got {self.alpha}")

    def __repr__(self) -> str:
        constants = self.slope.keywords if isinstance(self.slope, functools.partial) else {}
        return f"{self.name}({', '.join(f'{n}={v:g}' for n, v in {'alpha': self.alpha, **constants}.items())})"


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


def _normal_cdf(u: Any, alpha: Any) -> Any:
    return 0.5 + 0.5 * w.erf(math.sqrt(0.5) * alpha * u)


def _normal_density(u: Any, alpha: Any) -> Any:
    y = alpha * u
    return alpha * w.exp(-0.5 * y * y) / math.sqrt(2 * math.pi)


def gaussian(alpha: float = 2.0) -> Surrogate:
    """The normal distribution of standard deviation `1 / alpha`: `Phi(alpha u)`, slope `alpha phi(alpha u)`.

    Yin, Corradi and Bohte, "Accurate and efficient time-domain classification with adaptive spiking recurrent neural
    networks", Nature Machine Intelligence 3, 2021 (width 0.5).
    """
    return Surrogate("gaussian", _normal_cdf, _normal_density, alpha)


def _lobes(bell: Callable[[Any, Any], Any], u: Any, alpha: Any, h: float, s: float, gamma: float) -> Any:
    """`bell` at the threshold, less two of `s` times the width that sit one standard deviation to either side."""
    wide, y = alpha / s, 1.0 / alpha
    return gamma * ((1.0 + h) * bell(u, alpha) - h * bell(u - y, wide) - h * bell(u + y, wide))


def _multi_gaussian(u: Any, alpha: Any, **constants: float) -> Any:
    return _lobes(_normal_cdf, u, alpha, **constants)


def _multi_gaussian_slope(u: Any, alpha: Any, **constants: float) -> Any:
    return _lobes(_normal_density, u, alpha, **constants)


def multi_gaussian(alpha: float = 2.0, h: float = 0.15, s: float = 6.0, gamma: float = 0.5) -> Surrogate:
    """Slope `gamma ((1 + h) N(u; 0, d) - h N(u; d, s d) - h N(u; -d, s d))`, `N` the normal density, `d = 1 / alpha`.

    Negative far from the threshold. The primitive rises by `gamma (1 - h)`. Yin, Corradi and Bohte, Nature Machine
    Intelligence 3, 2021; the defaults are those of the code published with it.

    Raises:
        ArgumentError: if `s` is not above 0.
    """
    if not s > 0:
        raise ArgumentError(f"surrogate 'multi_gaussian': the ratio of widths s must be above 0, got {s}")
    constants = {"h": h, "s": s, "gamma": gamma}
    return Surrogate(
        "multi_gaussian",
        functools.partial(_multi_gaussian, **constants),
        functools.partial(_multi_gaussian_slope, **constants),
        alpha,
    )


def _slayer(u: Any, alpha: Any, c: float) -> Any:
    tail = 0.5 * c * w.exp(-(alpha * abs(u)))
    return w.where(u >= 0.0, c - tail, tail)


def _slayer_slope(u: Any, alpha: Any, c: float) -> Any:
    return 0.5 * c * alpha * w.exp(-(alpha * abs(u)))


def slayer(alpha: float = 5.0, c: float = 0.4) -> Surrogate:
    """Slope `(c alpha / 2) exp(-alpha |u|)`, with a kink at 0; the primitive rises by `c`.

    The exponential of Shrestha and Orchard, "SLAYER", NeurIPS 2018, in the form and with the numbers of the SE-adLIF
    code (Baronig et al., 2024).
    """
    return Surrogate("slayer", functools.partial(_slayer, c=c), functools.partial(_slayer_slope, c=c), alpha)


def _line(u: Any, alpha: Any) -> Any:
    return u + 0.5


def _one(u: Any, alpha: Any) -> Any:
    return 1.0


def straight_through() -> Surrogate:
    """Slope 1 everywhere: the gradient passes as if there were no threshold (the sharpness plays no part).

    Bengio, Leonard and Courville, arXiv 1308.3432, 2013, after Hinton's lectures of 2012.
    """
    return Surrogate("straight_through", _line, _one, 1.0)


def custom(
    slope: Callable[[Any, Any], Any], alpha: float, primitive: Callable[[Any, Any], Any] | None = None
) -> Surrogate:
    """A surrogate of your own, called like its function.

    Args:
        slope: `slope(u, alpha)` in the words of `spikenet.neurons`. A function of a module's top level pickles.
        alpha: sharpness.
        primitive: the function that `slope` is the derivative of, if it is wanted.

    Raises:
        EquationError: if a function uses anything but those words.
    """
    for function in (slope, *([] if primitive is None else [primitive])):
        recorded(function, "u", "alpha")
    return Surrogate(getattr(slope, "__name__", "custom"), primitive, slope, alpha)


SURROGATES: dict[str, Callable[[], Surrogate]] = {
    f.__name__: f
    for f in (
        atan,
        fast_sigmoid,
        gaussian,
        multi_gaussian,
        rectangle,
        sigmoid,
        slayer,
        straight_through,
        triangle,
    )
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
