"""The short way to a neuron's kernels (nothing learned, from the second call on) gives what the long way gives."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from spikenet.errors import BackendError
from spikenet.kernels import use_backend
from spikenet.neurons import LIF, Neuron
from tests.contract.test_neurons import NEURONS, drive
from tests.contract.test_stochastic import drives

pytest.importorskip("triton")
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def short(neuron: Neuron, xs: list[Tensor], gz: Tensor) -> list[Tensor]:
    """Output and input gradients of a second call."""
    with use_backend("reference"), torch.no_grad():
        neuron(*xs)
    with use_backend("triton"):
        assert neuron._bound(xs) is not None
        return both_ways(neuron, xs, gz)


def both_ways(call: Callable[..., Tensor], xs: list[Tensor], gz: Tensor) -> list[Tensor]:
    leaves = [x.detach().requires_grad_() for x in xs]
    z = call(*leaves)
    return [z.detach(), *torch.autograd.grad(z, leaves, gz)]


def assert_same(ours: list[Tensor], truth: list[Tensor]) -> None:
    for got, expected in zip(ours, truth, strict=True):
        assert torch.equal(got, expected)


@pytest.mark.parametrize("name", ["LIF", "IF_soft", "Izhikevich", "CubaLIF", "AdEx"])
def test_it_equals_the_long_way(name: str) -> None:
    neuron = next(make() for n, make in NEURONS.items() if n.startswith(name)).to(DEVICE).requires_grad_(False)
    for shape in ((5, 3, 7), (43, 2, 8)):
        xs = [x.to(DEVICE) for x in drives(neuron, shape)]
        for gz in (drive(shape, seed=3).to(DEVICE), torch.ones((), device=DEVICE).expand(shape)):
            with use_backend("triton"):
                truth = both_ways(lambda *x, neuron=neuron: neuron.run(*x)[0], xs, gz)
            assert_same(short(neuron, xs, gz), truth)


def test_strided_input() -> None:
    lif, gz = LIF().to(DEVICE), drive((43, 4, 6), seed=1).to(DEVICE)
    whole = drive((43, 6, 4)).to(DEVICE).transpose(1, 2)
    for x in (whole, whole.contiguous(), drive((43, 4, 12)).to(DEVICE)[..., ::2]):
        assert_same(short(lif, [x], gz), short(lif, [x.clone(memory_format=torch.contiguous_format)], gz))


def test_a_change_after_the_forward_pass_shows_in_the_next_one_only() -> None:
    lif, x = LIF(3.0).to(DEVICE), drive((43, 2, 5)).to(DEVICE).requires_grad_()
    z, gx = short(lif, [x], torch.ones_like(x))
    with use_backend("triton"):
        before = lif(x)
        lif.tau.fill_(9.0)
        assert torch.equal(before, z)
        assert torch.equal(torch.autograd.grad(before.sum(), x)[0], gx)
    assert_same(short(lif, [x], torch.ones_like(x)), short(LIF(9.0).to(DEVICE), [x], torch.ones_like(x)))


def test_saved_tensors_may_come_back_in_another_layout() -> None:
    lif, gz = LIF().to(DEVICE), drive((43, 4, 6), seed=1).to(DEVICE)
    x = drive((43, 6, 4)).to(DEVICE).transpose(1, 2)
    truth = short(lif, [x], gz)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: t, lambda t: t.contiguous().clone()):
        assert_same(short(lif, [x], gz), truth)


def test_no_gradient_inference_mode_and_no_second_derivative() -> None:
    lif, x = LIF().to(DEVICE), drive((43, 2, 5)).to(DEVICE)
    truth = short(lif, [x], torch.ones_like(x))[0]
    with use_backend("triton"):
        assert torch.equal(lif(x), truth)
        with torch.inference_mode():
            assert torch.equal(lif(x), truth)
        with pytest.raises(BackendError, match="no second derivative"):
            torch.autograd.grad(lif(x.requires_grad_()).sum(), x, create_graph=True)


def test_whoever_listens_takes_the_long_way() -> None:
    lif, x = LIF().to(DEVICE), drive((43, 2, 5)).to(DEVICE)
    short(lif, [x], torch.ones_like(x))
    with use_backend("triton"):
        with torch.autograd.forward_ad.dual_level():
            assert lif._bound([x]) is None
        assert torch.func.vmap(lambda x: lif._bound([x]) is None and x)(x[None]).shape == x[None].shape
    with use_backend("numba" if DEVICE.type == "cpu" else "reference"):
        assert lif._bound([x]) is None
