"""Surrogates as functions: each slope against its primitive, its integral and its paper's closed form."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from spikenet.errors import ArgumentError, EquationError, UnknownNameError
from spikenet.kernels.dynamics import evaluate
from spikenet.neurons import LIF, exp
from spikenet.neurons import surrogate as sg
from spikenet.neurons.emission import escape
from tests.neurons import transcription as ts

RISES = {  # by how much the primitive rises in all: 1 where nothing is said
    "fast_sigmoid": (sg.fast_sigmoid(5.0), 2 / 5),
    "multi_gaussian": (sg.multi_gaussian(3.0, h=0.2, s=4.0, gamma=0.7), 0.7 * 0.8),
    "slayer": (sg.slayer(3.0, c=0.6), 0.6),
    "escape": (escape(2.0, rate=0.3), 1.0),
    **{f.__name__: (f(1.7), 1.0) for f in (sg.atan, sg.gaussian, sg.rectangle, sg.sigmoid, sg.triangle)},
}
CLOSED_FORMS: dict[str, tuple[sg.Surrogate, ts.Slope]] = {
    "atan": (sg.atan(1.3), ts.atan_slope(1.3)),
    "fast_sigmoid": (sg.fast_sigmoid(9.0), ts.fast_sigmoid_slope(9.0)),
    "gaussian": (sg.gaussian(1.3), ts.gaussian_slope(1.3)),
    "multi_gaussian": (sg.multi_gaussian(), ts.multi_gaussian_slope()),
    "multi_gaussian_other": (sg.multi_gaussian(4.0, 0.3, 2.0, 1.0), ts.multi_gaussian_slope(0.25, 0.3, 2.0, 1.0)),
    "rectangle": (sg.rectangle(1.3), ts.rectangle_slope(1.3)),
    "sigmoid": (sg.sigmoid(1.3), ts.sigmoid_slope(1.3)),
    "slayer": (sg.slayer(), ts.slayer_slope()),
    "straight_through": (sg.straight_through(), torch.ones_like),
    "triangle": (sg.triangle(1.3), ts.triangle_slope(1.3)),
}


def at(function: Callable[[Any, Any], Any], u: Tensor, alpha: float) -> Tensor:
    """A surrogate's function on float64 numbers."""
    return evaluate(function, u=u, alpha=torch.tensor(alpha, dtype=torch.float64)).expand(u.shape)


def grid(reach: float, count: int) -> Tensor:
    """Midpoints, so that no kink is hit."""
    return (torch.arange(count, dtype=torch.float64) + 0.5) / count * 2 * reach - reach


@pytest.mark.parametrize("name", [*RISES, "straight_through"])
def test_the_slope_is_the_derivative_of_the_primitive(name: str) -> None:
    surrogate = RISES[name][0] if name in RISES else sg.straight_through()
    u = grid(4.0, 4001).requires_grad_()
    (truth,) = torch.autograd.grad(at(surrogate.primitive, u, surrogate.alpha).sum(), u)
    torch.testing.assert_close(at(surrogate.slope, u.detach(), surrogate.alpha), truth, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", RISES)
def test_the_slope_integrates_to_the_rise(name: str) -> None:
    surrogate, rise = RISES[name]
    reach = 1e5 if name in ("atan", "fast_sigmoid") else 60.0  # heavy tails
    u = torch.sinh(grid(torch.asinh(torch.tensor(reach)).item(), 1_000_000))  # fine about the threshold
    integral = torch.trapezoid(at(surrogate.slope, u, surrogate.alpha), u)
    assert float(integral) == pytest.approx(rise, abs=2e-5)
    ends = at(surrogate.primitive, torch.tensor([-reach, reach], dtype=torch.float64), surrogate.alpha)
    assert float(ends[1] - ends[0]) == pytest.approx(rise, abs=2e-5)


@pytest.mark.parametrize("name", CLOSED_FORMS)
def test_the_slope_is_the_papers(name: str) -> None:
    surrogate, truth = CLOSED_FORMS[name]
    u = grid(5.0, 999)
    torch.testing.assert_close(at(surrogate.slope, u, surrogate.alpha), truth(u), rtol=1e-12, atol=1e-15)


def test_every_named_surrogate_is_held_against_a_closed_form() -> None:
    assert set(sg.SURROGATES) <= set(CLOSED_FORMS)
    assert all(sg.surrogate(name).name == name for name in sg.SURROGATES)


def bump(u: Any, alpha: Any) -> Any:
    return alpha * exp(-(alpha * u) * (alpha * u))


def test_a_custom_slope_trains_and_pickles() -> None:
    surrogate = sg.custom(bump, 1.5)
    assert repr(surrogate) == "bump(alpha=1.5)"
    assert surrogate.primitive is None
    lif = pickle.loads(pickle.dumps(LIF(surrogate=surrogate)))
    x = torch.randn(1, 1, 50, generator=torch.Generator().manual_seed(1)).requires_grad_()
    (grad,) = torch.autograd.grad(lif(x).sum(), x)
    u = 0.5 * x.detach() - 1
    torch.testing.assert_close(grad, 0.5 * 1.5 * torch.exp(-((1.5 * u) ** 2)))


def test_a_custom_expression_is_checked_at_once() -> None:
    with pytest.raises(EquationError, match="Words allowed"):
        sg.custom(lambda u, alpha: torch.exp(u), 1.0)
    with pytest.raises(EquationError, match="use where"):
        sg.custom(bump, 1.0, primitive=lambda u, alpha: 1.0 if u > 0 else 0.0)
    with pytest.raises(ArgumentError, match="alpha must be a finite number above 0"):
        sg.custom(bump, 0.0)


def test_names_and_constants_are_shown_and_kept() -> None:
    for surrogate in (sg.multi_gaussian(), sg.slayer(), escape()):
        twin = pickle.loads(pickle.dumps(surrogate))
        u = grid(2.0, 7)
        assert torch.equal(at(twin.slope, u, twin.alpha), at(surrogate.slope, u, surrogate.alpha))
    assert repr(sg.multi_gaussian()) == "multi_gaussian(alpha=2, h=0.15, s=6, gamma=0.5)"
    assert repr(sg.slayer(c=1.0)) == "slayer(alpha=5, c=1)"
    with pytest.raises(UnknownNameError, match="Did you mean 'gaussian'"):
        sg.surrogate("gausian")
    with pytest.raises(ArgumentError, match="ratio of widths"):
        sg.multi_gaussian(s=0.0)
