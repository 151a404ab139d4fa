"""Gradients by finite differences in float64, with the step replaced by the surrogate's primitive."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn

from spikenet.kernels import use_backend
from spikenet.neurons import IF, LIF, LeakyReadout
from spikenet.neurons.surrogate import SURROGATES, Surrogate


@dataclass(frozen=True)
class Smooth:
    """The primitive itself as the output."""

    surrogate: Surrogate
    binary: bool = False
    draws: ClassVar[Mapping[str, str]] = {}

    @property
    def alpha(self) -> float:
        return self.surrogate.alpha

    def value(self, u: Any, d: Any, alpha: Any) -> Any:
        return self.surrogate.primitive(u, alpha)

    def slope(self, u: Any, d: Any, alpha: Any) -> Any:
        return self.surrogate.slope(u, alpha)


def smooth(neuron: nn.Module, name: str) -> nn.Module:
    neuron.emit = Smooth(SURROGATES[name]())
    return neuron


def check(neuron: nn.Module, names: list[str], backend: str, traced: bool = False) -> bool:
    torch.manual_seed(3)
    x = (torch.randn(19, 2, 3, dtype=torch.float64) + 0.4).requires_grad_()  # more than one chunk
    v0 = torch.randn(2, 3, dtype=torch.float64).requires_grad_()
    values = [getattr(neuron, n).detach().double().requires_grad_() for n in names]

    def run(x: Tensor, v0: Tensor, *values: Tensor) -> Any:
        for n, v in zip(names, values, strict=True):
            del neuron._parameters[n]
            neuron._parameters[n] = v
        z, state = (neuron.trace if traced else neuron.run)(x, neuron.State(v0))
        return z, state.v  # the last potential, or all of them

    with use_backend(backend):
        return torch.autograd.gradcheck(run, (x, v0, *values), eps=1e-6, atol=1e-6)


def learned(value: float) -> nn.Parameter:
    return nn.Parameter(torch.tensor(value))


@pytest.mark.parametrize("backend", ["numba", "reference"])
@pytest.mark.parametrize("traced", [False, True])
@pytest.mark.parametrize("soft", [False, True])
def test_lif(soft: bool, traced: bool, backend: str) -> None:
    reset = None if soft else learned(-0.1)
    neuron = LIF(
        nn.Parameter(torch.tensor([2.0, 3.0, 4.0])), learned(0.9), reset, surrogate="atan", v_rest=learned(0.05)
    )
    names = ["tau", "v_threshold", "v_rest", *([] if soft else ["v_reset"])]
    assert check(smooth(neuron, "atan"), names, backend, traced)


@pytest.mark.parametrize("name", ["sigmoid", "fast_sigmoid", "triangle", "rectangle"])
def test_every_surrogates_slope_is_the_derivative_of_its_primitive(name: str) -> None:
    assert check(smooth(IF(learned(0.95), None), name), ["v_threshold"], "numba")


def test_readout() -> None:
    assert check(LeakyReadout(learned(3.0)), ["tau"], "numba")
