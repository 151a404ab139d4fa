"""The words that neuron equations are written in, besides arithmetic and comparisons."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from spikenet.kernels.dynamics.trace import Symbol, record, refuse

__all__ = [
    "atan",
    "blend",
    "cos",
    "detach",
    "erf",
    "exp",
    "floor",
    "log",
    "maximum",
    "minimum",
    "sin",
    "sqrt",
    "tanh",
    "where",
]


def _unary(word: str, constant: Callable[[float], float]) -> Callable[[Any], Any]:
    def apply(a: Any) -> Any:
        return record(word, a) if not isinstance(a, int | float) else constant(a)

    apply.__name__ = apply.__qualname__ = word
    apply.__doc__ = f"{word}(a) of a scalar."
    return apply


exp = _unary("exp", math.exp)
log = _unary("log", math.log)
sqrt = _unary("sqrt", math.sqrt)
tanh = _unary("tanh", math.tanh)
sin = _unary("sin", math.sin)
cos = _unary("cos", math.cos)
atan = _unary("atan", math.atan)
erf = _unary("erf", math.erf)
floor = _unary("floor", lambda a: float(math.floor(a)))  # its derivative is zero


def minimum(a: Any, b: Any) -> Any:
    """The smaller of two scalars (`b` if one is NaN); the derivative goes to the one taken."""
    return where(a <= b, a, b)


def maximum(a: Any, b: Any) -> Any:
    """The larger of two scalars (`b` if one is NaN); the derivative goes to the one taken."""
    return where(a >= b, a, b)


def where(condition: Any, a: Any, b: Any) -> Any:
    """`a` where the comparison holds, else `b`; the derivative goes to the one taken."""
    if not (isinstance(condition, Symbol) and condition.kind == "condition"):
        raise refuse("where without a comparison such as `a > b` as its first argument")
    return record("where", condition, a, b)


def blend(z: Any, a: Any, b: Any) -> Any:
    """`a` without a spike, `b` with one: `a + z (b - a)`.

    For binary `z` the forward direction selects, so that an infinite `a` does not turn into NaN; the derivative
    to `z` is `b - a` all the same.
    """
    if isinstance(z, Symbol) and z.kind == "graded":
        return a + z * (b - a)
    return record("blend", z, a, b)


def detach(a: Any) -> Any:
    """`a` without a derivative, for this use alone."""
    return record("detach", a) if isinstance(a, Symbol) else a
