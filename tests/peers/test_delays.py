"""Delays against the DCLS package: taps, gradients, what a delay is, and the length of the output."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from spikenet.kernels import use_backend
from spikenet.kernels.delay import BUMPS, delay_kernel
from spikenet.layers import DelayLinear

pytestmark = pytest.mark.peers
dcls = pytest.importorskip("DCLS.construct.modules")
TAPS, INPUTS, OUTPUTS, ELEMENTS = 25, 6, 5, 2


def position() -> Tensor:
    """Positions all over the range, some whole, some at its ends."""
    p = torch.rand(1, OUTPUTS, INPUTS, ELEMENTS).double() * (TAPS - 1) - TAPS // 2
    p[0, 0] = p[0, 0].round()
    p[0, 1, 0], p[0, 1, 1] = TAPS // 2, -(TAPS // 2)
    return p


def module(version: str, sigma: float, padding: int = 0) -> torch.nn.Module:
    layer = dcls.Dcls1d(
        INPUTS, OUTPUTS, ELEMENTS, dilated_kernel_size=TAPS, padding=padding, bias=False, version=version
    ).double()
    layer.P.data.copy_(position())
    if layer.SIG is not None:
        layer.SIG.data.fill_(sigma)
    return layer


def sequence(rate: float = 0.2) -> Tensor:
    return (torch.rand(40, 3, INPUTS) < rate).double()


def theirs(layer: torch.nn.Module, x: Tensor, extend: int) -> Tensor:
    """`[T, B, N]` in and out, with the padding of the published network."""
    return layer(functional.pad(x.permute(1, 2, 0), (TAPS - 1, extend))).permute(2, 0, 1)


@pytest.mark.parametrize("backend", ["reference", "numba"])
@pytest.mark.parametrize("sigma", [0.0, 0.23, 4.0])
@pytest.mark.parametrize("version", BUMPS)
def test_taps_and_their_gradients(version: str, sigma: float, backend: str) -> None:
    reference = module(version, sigma)
    k = reference.DCK(reference.weight, reference.P, reference.SIG)
    grad = torch.randn_like(k)
    expected = [k, *torch.autograd.grad(k, [reference.weight, reference.P], grad)]
    weight = reference.weight.detach().requires_grad_()
    delay = (TAPS // 2 - reference.P[0]).detach().requires_grad_()
    with use_backend(backend):
        ours = delay_kernel(weight, delay, torch.tensor(sigma, dtype=torch.float64), BUMPS[version], TAPS)
        gw, gd = torch.autograd.grad(ours, [weight, delay], grad.flip(-1))
    for got, wanted in zip([ours.flip(-1), gw, -gd[None]], expected, strict=True):
        torch.testing.assert_close(got, wanted, rtol=0.0, atol=1e-6)


@pytest.mark.parametrize("backend", ["reference", "numba"])
@pytest.mark.parametrize("version", BUMPS)
def test_layer_and_its_gradients(version: str, backend: str) -> None:
    reference, x = module(version, 1.5), sequence()
    ours = DelayLinear(INPUTS, OUTPUTS, TAPS, elements=ELEMENTS, kernel=version, extend=(TAPS - 1) // 2).double()
    ours.load_dcls_state(reference.state_dict())
    x.requires_grad_()
    y = theirs(reference, x, (TAPS - 1) // 2)
    grad = torch.randn_like(y)
    expected = [y, *torch.autograd.grad(y, [x, reference.weight, reference.P], grad)]
    with use_backend(backend):
        y = ours(x)
        gx, gw, gd = torch.autograd.grad(y, [x, ours.weight, ours.delay], grad)
    assert len(y) == 40 + 12
    for got, wanted in zip([y, gx, gw, -gd[None]], expected, strict=True):
        torch.testing.assert_close(got, wanted, rtol=0.0, atol=1e-6)


@pytest.mark.parametrize("backend", ["reference", "numba"])
def test_rounded_inference(backend: str) -> None:
    reference, x = module("gauss", 3.0), sequence()
    ours = DelayLinear(INPUTS, OUTPUTS, TAPS, elements=ELEMENTS, extend=(TAPS - 1) // 2).double().eval()
    ours.load_dcls_state(reference.state_dict())
    with torch.no_grad(), use_backend(backend):
        reference.P.round_()  # what the published code does before it evaluates
        reference.clamp_parameters()
        reference.SIG.zero_()
        reference.version = reference.DCK.version = "max"
        expected = theirs(reference, x, (TAPS - 1) // 2)
        torch.testing.assert_close(ours(x), expected, rtol=1e-6, atol=1e-6)


def test_a_position_is_a_delay_from_the_middle_backwards() -> None:
    layer = dcls.Dcls1d(1, 5, 1, dilated_kernel_size=TAPS, bias=False, version="max")
    layer.P.data.copy_(torch.tensor([-12.0, -3.0, 0.0, 5.0, 12.0]).view(1, 5, 1, 1))
    layer.weight.data.fill_(2.0)
    layer.SIG.data.zero_()
    ours = DelayLinear(1, 5, TAPS, extend=12).eval()
    ours.load_dcls_state(layer.state_dict())
    x = torch.zeros(40, 1, 1)
    x[0] = 1.0
    y = ours(x)
    assert y.shape == (52, 1, 5)
    assert y[:, 0].nonzero()[:, 0].sort(descending=True).values.tolist() == [24, 15, 12, 7, 0]
    torch.testing.assert_close(y, layer(functional.pad(x.permute(1, 2, 0), (24, 12))).permute(2, 0, 1))


def test_clamped_like_the_reference() -> None:
    reference = module("gauss", 1.0)
    reference.P.data.mul_(2.0)
    ours = DelayLinear(INPUTS, OUTPUTS, TAPS, elements=ELEMENTS)
    ours.load_dcls_state(reference.state_dict())
    reference.clamp_parameters()
    ours.clamp_()
    torch.testing.assert_close(ours.dcls_state()["P"].double(), reference.P.detach(), rtol=0.0, atol=1e-5)
