"""The PSN family beside SpikingJelly's on copied weights: the same spikes, gradients equal up to rounding."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from spikenet.neurons import PSN, MaskedPSN, SlidingPSN
from spikenet.neurons import surrogate as sg

pytestmark = pytest.mark.peers
T = 16


def peer(make: str, **arguments: Any) -> Any:
    pytest.importorskip("spikingjelly.activation_based.neuron")
    from spikingjelly.activation_based import neuron, surrogate

    return getattr(neuron, make)(**arguments, surrogate_function=surrogate.ATan(2.0))


def compare(ours: nn.Module, theirs: Any) -> None:
    with torch.no_grad():
        ours.weight.copy_(theirs.weight)
        theirs.bias.uniform_(-1.0, -0.2)
        ours.v_threshold.copy_(-theirs.bias.view(ours.v_threshold.shape))
    x = torch.randn(T, 4, 33, generator=torch.Generator().manual_seed(5)) * 1.5 + 0.3
    gz = torch.randn(T, 4, 33, generator=torch.Generator().manual_seed(6))
    results: list[list[Tensor]] = []
    for module, threshold in ((ours, "v_threshold"), (theirs, "bias")):
        xi = x.clone().requires_grad_()
        z = module(xi)
        z.backward(gz)
        sign = 1 if threshold == "bias" else -1
        results.append([z, xi.grad, module.weight.grad, sign * getattr(module, threshold).grad.flatten()])
    (z, *grads), (z_theirs, *grads_theirs) = results
    assert torch.equal(z, z_theirs)
    assert 0.02 < z.mean() < 0.9
    for got, expected in zip(grads, grads_theirs, strict=True):
        assert float((got - expected).norm() / expected.norm()) < 1e-5


def test_psn() -> None:
    compare(PSN(T, surrogate=sg.atan(2.0)), peer("PSN", T=T))


@pytest.mark.parametrize("lambda_", [0.0, 0.3, 1.0])
def test_masked_psn(lambda_: float) -> None:
    ours = MaskedPSN(T, 5, lambda_=lambda_, surrogate=sg.atan(2.0))
    compare(ours, peer("MaskedPSN", k=5, T=T, lambda_init=lambda_, step_mode="m"))


@pytest.mark.parametrize("order", [1, 4, 20])
def test_sliding_psn(order: int) -> None:
    theirs = peer("SlidingPSN", k=order, step_mode="m")
    assert torch.equal(SlidingPSN(order).weight, theirs.weight)
    compare(SlidingPSN(order, surrogate=sg.atan(2.0)), theirs)
