"""An emission that draws its own random numbers, beside a neuron that draws too."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
import torch

from spikenet.errors import EquationError, StateError
from spikenet.kernels import use_backend
from spikenet.kernels.dynamics.philox import draw
from spikenet.neurons import IF, Neuron, blend, where


@dataclass(frozen=True)
class Coin:
    """Fires with a probability of `alpha` wherever u >= 0, with the number drawn as its slope."""

    binary: bool = True
    alpha: float = 0.5
    draws: ClassVar[Mapping[str, str]] = {"coin": "uniform"}

    def value(self, u: Any, d: Any, alpha: Any) -> Any:
        return where(u >= 0.0, where(d.coin < alpha, 1.0, 0.0), 0.0)

    def slope(self, u: Any, d: Any, alpha: Any) -> Any:
        return d.coin


class Jittered(Neuron):
    """Integrates its input and a uniform number of its own."""

    state = {"v": 0.0}
    params = {"v_threshold": 1.0}
    draws = {"jitter": "uniform"}
    emit = Coin()

    def charge(self, s: Any, x: Any, d: Any, p: Any) -> dict[str, Any]:
        return {"v": s.v + x.x + d.jitter}

    def reset(self, h: Any, z: Any, p: Any) -> dict[str, Any]:
        return {"v": blend(z, h.v, 0.0)}


def flipping() -> IF:
    """A neuron without draws whose emission draws."""
    neuron = IF(detach_reset=True)
    neuron.emit = Coin()
    return neuron


def drawn(state: Any, steps: int, lanes: int, index: int) -> torch.Tensor:
    """The uniform numbers that the counter gives from `state` on."""
    seed, start = state.rng
    lane = torch.arange(lanes)
    return torch.stack([draw("uniform", seed, start + t, lane, index, torch.float32) for t in range(steps)])


@pytest.mark.parametrize("backend", ["numba", "reference"])
def test_value_and_slope_see_the_emissions_draws(backend: str) -> None:
    neuron = flipping()
    x = (torch.ones(21, 1, 300)).requires_grad_()  # at the threshold or above in every step
    state = neuron.initial_state(x[0])
    with use_backend(backend):
        z, _ = neuron.run(x, state)
        z[-1].sum().backward()
    coins = drawn(state, 21, 300, 0)
    assert torch.equal(z.detach()[:, 0], (coins < 0.5).float())
    assert torch.equal(x.grad[-1, 0], coins[-1])  # the last input reaches the last output through the slope alone


@pytest.mark.parametrize("make", [flipping, Jittered])
def test_backends_agree_bit_for_bit(make: Any) -> None:
    neuron, results = make(), []
    x = torch.rand(37, 2, 700).requires_grad_()
    gz, state = torch.randn(x.shape), neuron.initial_state(x[0])
    for backend in ("numba", "reference"):
        with use_backend(backend):
            z, last = neuron.run(x, state)
            results.append([z, *last, *torch.autograd.grad(z, x, gz)])
    for ours, truth in zip(*(r[:-1] for r in results), strict=True):
        assert torch.equal(ours, truth)
    torch.testing.assert_close(results[0][-1], results[1][-1], rtol=1e-6, atol=1e-6)
    assert 0.1 < results[0][0].mean() < 0.6


def test_the_emissions_draws_come_after_the_neurons() -> None:
    neuron = Jittered(v_threshold=-1.0)
    x = torch.zeros(5, 1, 200)
    state = neuron.initial_state(x[0])
    z, _ = neuron.run(x, state)
    assert torch.equal(z[:, 0], (drawn(state, 5, 200, 1) < 0.5).float())


def test_the_state_follows_the_emission() -> None:
    neuron = IF()
    assert neuron.State._fields == ("v",)
    neuron.emit = Coin()
    assert neuron.State._fields == ("v", "rng")
    x = torch.ones(4, 2, 3)
    with pytest.raises(StateError, match="'rng'"):
        neuron.run(x, IF().initial_state(x[0]))
    whole, _ = neuron.run(x, state := neuron.initial_state(x[0]))
    kept = pickle.loads(pickle.dumps(state))
    assert type(kept) is neuron.State
    for twin in (copy.deepcopy(neuron), flipping()):
        assert torch.equal(twin.run(x, kept)[0], whole)


def test_names_may_not_clash() -> None:
    @dataclass(frozen=True)
    class Clash(Coin):
        draws: ClassVar[Mapping[str, str]] = {"jitter": "uniform"}

    with pytest.raises(EquationError, match=r"both draw \['jitter'\]; rename one"):
        Jittered().emit = Clash()


def test_a_draw_of_an_unknown_kind_is_refused() -> None:
    class Poisson(Jittered):
        draws = {"jitter": "poisson"}

    with pytest.raises(EquationError, match="a draw is one of uniform, normal, got jitter='poisson'"):
        Poisson()


def test_other_phases_do_not_see_the_emissions_draws() -> None:
    class Peeks(Jittered):
        def charge(self, s: Any, x: Any, d: Any, p: Any) -> dict[str, Any]:
            return {"v": s.v + d.coin}

    with pytest.raises(EquationError, match="asks for 'coin'; declared here: jitter"):
        Peeks()
