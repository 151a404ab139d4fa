"""Neurons that the library does not have, written here in a few lines each, run at Numba's speed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn

from spikenet.errors import EquationError, UnknownNameError
from spikenet.kernels import use_backend
from spikenet.kernels.dynamics.ops import FORWARD
from spikenet.neurons import Neuron, Param, blend, detach, erf, exp, floor, where


class QIF(Neuron):
    """Quadratic integrate-and-fire: tau dv/dt = a (v - v_rest)(v - v_critical) + x."""

    state = {"v": "v_rest"}
    params = {"tau": Param(8.0, above=0.0), "a": 0.8, "v_rest": 0.0, "v_critical": 0.5, "v_threshold": 1.0}

    def charge(self, s: Any, x: Any, d: Any, p: Any) -> dict[str, Any]:
        return {"v": s.v + self.dt / p.tau * (p.a * (s.v - p.v_rest) * (s.v - p.v_critical) + x.x)}

    def reset(self, h: Any, z: Any, p: Any) -> dict[str, Any]:
        return {"v": blend(z, h.v, p.v_rest)}


class Noisy(Neuron):
    """Two inputs, two states, a draw, `exp` and `where`: adaptive escape-noise neuron with shunting inhibition."""

    inputs = ("excitation", "inhibition")
    state = {"v": 0.0, "w": 0.1}
    params = {"tau": Param(4.0, above=0.0), "tau_w": 9.0, "jump": 0.3, "v_threshold": 1.0, "noise": 0.2}
    draws = {"xi": "uniform"}

    def derive(self, p: dict[str, Tensor]) -> dict[str, Tensor]:
        return {**p, "keep": torch.exp(-self.dt / p["tau_w"])}

    def charge(self, s: Any, x: Any, d: Any, p: Any) -> dict[str, Any]:
        drive = x.excitation * exp(-abs(x.inhibition)) + p.noise * (d.xi - 0.5)
        current = where(drive > 0.0, drive, 0.1 * drive) - s.w
        return {"v": s.v + (current - s.v) / p.tau, "w": s.w * p.keep}

    def reset(self, h: Any, z: Any, p: Any) -> dict[str, Any]:
        return {"v": h.v - detach(z) * p.v_threshold, "w": h.w + z * p.jump}


def atan_spike(u: Tensor) -> Tensor:
    class Spike(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, u: Tensor) -> Tensor:
            ctx.save_for_backward(u)
            return (u >= 0).to(u)

        @staticmethod
        def backward(ctx: Any, grad: Tensor) -> Tensor:
            return grad / (1 + (torch.pi * ctx.saved_tensors[0]) ** 2)

    return Spike.apply(u)


def qif_by_hand(neuron: QIF, x: Tensor) -> Tensor:
    v, out = neuron.v_rest.double().expand(x.shape[1:]), []
    tau, a, critical = neuron.tau.double(), neuron.a.double(), neuron.v_critical.double()
    for x_t in x:
        h = v + (a * (v - neuron.v_rest) * (v - critical) + x_t) / tau
        z = atan_spike(h - neuron.v_threshold)
        v = h * (1 - z) + neuron.v_rest.double() * z
        out.append(z)
    return torch.stack(out)


def learned(neuron: Neuron) -> Neuron:
    for name, value in list(neuron._buffers.items()):
        del neuron._buffers[name]
        setattr(neuron, name, nn.Parameter(value))
    return neuron


def test_quadratic_neuron_trains_with_autograds_gradients() -> None:
    neuron = learned(QIF())
    x = (3 * torch.rand(70, 3, 41, generator=torch.Generator().manual_seed(1))).requires_grad_()
    gz = torch.randn(x.shape, generator=torch.Generator().manual_seed(2))
    assert next(b for b, reason in FORWARD.reasons(None, [x]).items() if reason is None) == "numba"
    z = neuron(x)
    z.backward(gz)
    ours = [x.grad, *(p.grad.clone() for p in neuron.parameters())]
    neuron.zero_grad()

    x64 = x.detach().double().requires_grad_()
    truth = qif_by_hand(neuron, x64)
    truth.backward(gz.double())
    assert torch.equal(z.detach().double(), truth.detach())
    assert 0.02 < truth.mean() < 0.5
    for got, expected in zip(ours, [x64.grad, *(p.grad for p in neuron.parameters())], strict=True):
        assert float((got - expected).norm() / expected.norm()) < 2e-5


def test_noisy_neuron_trains_with_autograds_gradients() -> None:
    neuron = learned(Noisy())
    generator = torch.Generator().manual_seed(5)
    e, i = (torch.rand(50, 2, 33, generator=generator) * k for k in (6.0, 1.0))
    e, i, gz = e.requires_grad_(), i.requires_grad_(), torch.randn(50, 2, 33, generator=generator)
    torch.manual_seed(7)
    state = neuron.initial_state(e[0])
    results = {}
    for backend in ("numba", "reference"):  # the reference differentiates by autograd
        neuron.zero_grad()
        e.grad = i.grad = None
        with use_backend(backend):
            z, last = neuron.run(e, i, state)
            (z * gz).sum().backward()
        results[backend] = [z.detach(), last.v.detach(), e.grad, i.grad, *(p.grad.clone() for p in neuron.parameters())]
    assert 0.02 < results["numba"][0].mean() < 0.6
    assert torch.equal(results["numba"][0], results["reference"][0])
    for got, expected in zip(results["numba"], results["reference"], strict=True):
        assert float((got - expected).norm() / expected.norm().clamp(min=1e-9)) < 1e-5


def test_draws_follow_the_seed_and_nothing_else() -> None:
    neuron = Noisy()
    e, i = torch.rand(2, 20, 3, 5).unbind(0)
    state = neuron.initial_state(e[0])
    whole, _ = neuron.run(e * 6, i, state)
    first, middle = neuron.run(e[:7] * 6, i[:7], state)
    rest, _ = neuron.run(e[7:] * 6, i[7:], middle)
    assert torch.equal(torch.cat([first, rest]), whole)
    other, _ = neuron.run(e * 6, i)
    assert not torch.equal(other, whole)


@pytest.mark.parametrize(
    ("charge", "match"),
    [
        (lambda s, x, d, p: {"v": s.v + torch.sin(x.x)}, "Words allowed: arithmetic"),
        (lambda s, x, d, p: {"v": s.v if x.x > 0 else x.x}, "use where"),
        (lambda s, x, d, p: {"v": max(s.v, x.x)}, "use where"),
        (lambda s, x, d, p: {"v": s.v + x.y}, "asks for 'y'; declared here: x"),
        (lambda s, x, d, p: {"v": s.v**1.5}, "the power 1.5"),
        (lambda s, x, d, p: {"v": 2.0**s.v}, "exponent is a variable"),
        (lambda s, x, d, p: {"v": float(s.v)}, "words of spikenet.neurons"),
        (lambda s, x, d, p: s.v, "must return a dict"),
        (lambda s, x, d, p: {"v": "rest"}, "a value of type str"),
        (lambda s, x, d, p: {"v": x.x if s.v == 0.0 else s.v}, "hardly ever equal"),
        (lambda s, x, d, p: {"v": s.v % 2.0}, "Words allowed"),
        (lambda s, x, d, p: {"v": s.v > 0.0}, "a comparison for 'v'"),
    ],
)
def test_a_word_that_is_not_known_is_refused(charge: Any, match: str) -> None:
    class Wrong(QIF):
        pass

    Wrong.charge = staticmethod(charge)
    with pytest.raises(EquationError, match=match):
        Wrong()


def test_reset_must_return_every_state() -> None:
    class Forgets(Noisy):
        def reset(self, h: Any, z: Any, p: Any) -> dict[str, Any]:
            return {"v": h.v}

    with pytest.raises(EquationError, match=r"must return the states \['v', 'w'\], got \['v'\]"):
        Forgets()


def test_a_value_kept_from_another_function_is_refused() -> None:
    class Keeps(QIF):
        def charge(self, s: Any, x: Any, d: Any, p: Any) -> dict[str, Any]:
            self._kept = x.x * 2.0
            return {"v": s.v + x.x}

        def reset(self, h: Any, z: Any, p: Any) -> dict[str, Any]:
            return {"v": h.v + self._kept}

    with pytest.raises(EquationError, match="kept from another"):
        Keeps()


def test_an_initial_value_must_be_known() -> None:
    class Lost(QIF):
        state = {"v": "v_rst"}

    with pytest.raises(UnknownNameError, match="Did you mean 'v_rest'"):
        Lost()


@dataclass(frozen=True)
class Ternary:
    """-1, 0 or 1."""

    binary: bool = False
    alpha: float = 1.0
    draws: ClassVar[Mapping[str, str]] = {}

    def value(self, u: Any, d: Any, alpha: Any) -> Any:
        return where(u >= 0.0, 1.0, where(u <= -2.0, -1.0, 0.0))

    def slope(self, u: Any, d: Any, alpha: Any) -> Any:
        return 1.0 / (1.0 + u * u)


@pytest.mark.parametrize("detached", [False, True])
def test_a_graded_output_blends_by_arithmetic(detached: bool) -> None:
    class Graded(QIF):
        emit = Ternary()

        def charge(self, s: Any, x: Any, d: Any, p: Any) -> dict[str, Any]:
            return {"v": s.v + x.x}

        def reset(self, h: Any, z: Any, p: Any) -> dict[str, Any]:
            return {"v": blend(detach(z) if detached else z, h.v, p.v_rest)}

    x = torch.tensor([-1.5, 0.5, 1.0]).view(3, 1, 1)
    z, state = Graded().trace(x)
    assert z.flatten().tolist() == [-1.0, -1.0, -1.0]
    assert state.v.flatten().tolist() == [-3.0, -5.0, -8.0]  # v - z (0 - v), by hand


def test_a_gate_stops_spike_and_gradient() -> None:
    """Refractory for two steps after a spike: a clock as a second state, by hand in float64."""

    class Refractory(QIF):
        state = {"v": "v_rest", "clock": 0.0}

        def charge(self, s: Any, x: Any, d: Any, p: Any) -> dict[str, Any]:
            return {"v": s.v + (x.x - s.v) / p.tau, "clock": s.clock - 1.0}

        def fire(self, h: Any, p: Any) -> Any:
            return h.v - p.v_threshold, h.clock < 0.0

        def reset(self, h: Any, z: Any, p: Any) -> dict[str, Any]:
            return {"v": blend(z, h.v, p.v_rest), "clock": blend(z, h.clock, 2.0)}

    x = (20 * torch.rand(40, 2, 9, generator=torch.Generator().manual_seed(3))).requires_grad_()
    gz = torch.randn(x.shape, generator=torch.Generator().manual_seed(4))
    neuron = Refractory()
    z = neuron(x)
    z.backward(gz)
    x64 = x.detach().double().requires_grad_()
    v, clock, out = torch.zeros(2, 9).double(), torch.zeros(2, 9).double(), []
    for x_t in x64:
        h = v + (x_t - v) / 8.0
        spike = atan_spike(h - 1.0) * (clock - 1.0 < 0)
        v, clock = h * (1 - spike), torch.where(spike > 0, 2.0, clock - 1.0)
        out.append(spike)
    truth = torch.stack(out)
    truth.backward(gz.double())
    assert torch.equal(z.double(), truth)
    assert 0.05 < truth.mean() < 0.34
    assert float((x.grad - x64.grad).norm() / x64.grad.norm()) < 1e-5


def test_an_unknown_parameter_names_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'v_threshold'"):
        QIF(v_treshold=1.0)


def test_erf_and_floor_and_their_derivatives() -> None:
    class Stairs(QIF):
        """The normal distribution function of the input, plus its whole part."""

        def charge(self, s: Any, x: Any, d: Any, p: Any) -> dict[str, Any]:
            return {"v": 0.5 * erf(x.x * p.a) + floor(x.x) + 0.0 * s.v}

    x = torch.linspace(-3.1, 3.2, 64, dtype=torch.float64).view(1, 1, -1).requires_grad_()
    for backend in ("numba", "reference"):
        with use_backend(backend):
            _, state = Stairs(a=0.5, v_threshold=1e9).run(x)
            (slope,) = torch.autograd.grad(state.v.sum(), x)
        torch.testing.assert_close(state.v, 0.5 * torch.erf(0.5 * x[0]) + x[0].floor(), rtol=1e-14, atol=1e-14)
        density = torch.distributions.Normal(torch.tensor(0.0, dtype=x.dtype), 2.0**0.5).log_prob(x.detach()).exp()
        torch.testing.assert_close(slope, density, rtol=1e-12, atol=0.0)
