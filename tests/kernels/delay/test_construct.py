"""The taps of delayed synapses: against what the equation says, written as a loop, and float64 autograd through it."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from spikenet.errors import BackendError, UnknownNameError
from spikenet.kernels import use_backend
from spikenet.kernels.delay import BUMPS, Bump, bump, delay_kernel

TAPS = 9


def case(elements: int = 2) -> tuple[Tensor, Tensor, Tensor]:
    """Weights `[4, 3, elements]`, delays (some at the ends), and a gradient for K."""
    weight = torch.randn(4, 3, elements).double()
    delay = torch.rand(4, 3, elements).double() * (TAPS - 1)
    delay[0, 0], delay[0, 1] = 0.0, TAPS - 1.0
    return weight.requires_grad_(), delay.requires_grad_(), torch.randn(4, 3, TAPS).double()


def value(name: str, u: Tensor, sigma: float) -> Tensor:
    """The bump's height at a distance `u`, as published."""
    if name == "gauss":
        return torch.exp(-0.5 * (u / (sigma + 0.27)) ** 2)
    width = sigma + 1.0 if name == "max" else 1.0
    return torch.clamp(width - abs(u), min=0.0)


def loop(name: str, weight: Tensor, delay: Tensor, sigma: float) -> Tensor:
    rows = []
    for w, centres in zip(weight.flatten(0, 1), delay.flatten(0, 1), strict=True):
        total = torch.zeros(TAPS).double()
        for k in range(len(w)):
            v = torch.stack([value(name, d - centres[k], sigma) for d in range(TAPS)])
            total = total + w[k] * (v if name == "v0" else v / (v.sum() + 1e-7))
        rows.append(total)
    return torch.stack(rows).view(*weight.shape[:2], TAPS)


@pytest.fixture(params=["reference", "numba"])
def backend(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.mark.parametrize("sigma", [0.0, 0.23, 3.0])
@pytest.mark.parametrize("name", BUMPS)
def test_equals_the_equation_and_autograd_through_it(name: str, sigma: float, backend: str) -> None:
    weight, delay, grad = case()
    delay.data[0, :2] += torch.tensor([0.125, -0.125]).double()[:, None]  # off the kinks, where slopes are a convention
    expected = loop(name, weight, delay, sigma)
    truth = [expected, *torch.autograd.grad(expected, [weight, delay], grad)]
    with use_backend(backend):
        k = delay_kernel(weight, delay, torch.tensor(sigma, dtype=torch.float64), BUMPS[name], TAPS)
        ours = [k, *torch.autograd.grad(k, [weight, delay], grad)]
    for got, wanted in zip(ours, truth, strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("name", ["max", "v1", "v0"])
def test_a_whole_delay_without_width_is_one_tap(name: str, backend: str) -> None:
    weight, delay = torch.tensor([[[2.0]]]), torch.tensor([[[3.0]]])
    with use_backend(backend):
        k = delay_kernel(weight, delay, torch.tensor(0.0), BUMPS[name], TAPS)[0, 0]
    assert k.nonzero().flatten().tolist() == [3]
    assert k[3] == pytest.approx(2.0, rel=2e-7)


def test_a_gaussian_sums_to_the_weight(backend: str) -> None:
    weight, delay, _ = case(1)
    with use_backend(backend):
        k = delay_kernel(weight, delay, torch.tensor(2.0).double(), BUMPS["gauss"], TAPS)
    torch.testing.assert_close(k.sum(-1), weight[..., 0], rtol=1e-6, atol=0.0)


def test_the_slope_of_a_gaussian_is_antisymmetric_and_falls_with_its_width(backend: str) -> None:
    taps, highest = 41, []
    for sigma in (0.73, 2.73, 4.73):
        weight, delay = torch.ones(1, 1, 1).double(), torch.full((1, 1, 1), 20.0).double().requires_grad_()
        with use_backend(backend):
            k = delay_kernel(weight, delay, torch.tensor(sigma, dtype=torch.float64), BUMPS["gauss"], taps)[0, 0]
            slope = torch.stack(
                [torch.autograd.grad(k[d], delay, retain_graph=True)[0].flatten()[0] for d in range(41)]
            )
        torch.testing.assert_close(slope, -slope.flip(0), rtol=1e-9, atol=1e-12)
        highest.append(float(slope.abs().max()))
    assert highest == sorted(highest, reverse=True)


def test_what_is_dropped_of_a_gaussian_is_below_half_a_unit_in_the_last_place(backend: str) -> None:
    weight, delay = torch.ones(1, 1, 1), torch.full((1, 1, 1), 12.0)
    with use_backend(backend):
        k = delay_kernel(weight, delay, torch.tensor(0.23), BUMPS["gauss"], 25)[0, 0]
    reach = math.floor(0.5 * math.sqrt(2 * 24 * math.log(2)))
    assert k.nonzero().flatten().tolist() == list(range(12 - reach, 12 + reach + 1))


@pytest.mark.parametrize("name", BUMPS)
def test_delays_far_outside_are_silent(name: str, backend: str) -> None:
    weight, delay = torch.ones(1, 2, 1), torch.tensor([[[-1e9], [1e9]]]).requires_grad_()
    with use_backend(backend):
        k = delay_kernel(weight, delay, torch.tensor(0.0), BUMPS[name], TAPS)
        (gd,) = torch.autograd.grad(k.sum(), delay)
    assert k.count_nonzero() == 0
    assert gd.count_nonzero() == 0


@pytest.mark.parametrize("name", BUMPS)
@pytest.mark.parametrize("backend", ["reference", "numba", "triton"])
def test_a_delay_that_is_no_number_is_not_silence(name: str, backend: str) -> None:
    if backend == "triton" and torch.cuda.is_available():
        pytest.skip("Triton does not interpret here")
    weight, delay = torch.ones(1, 2, 1), torch.tensor([[[math.nan], [3.0]]])
    with use_backend(backend):
        k = delay_kernel(weight, delay, torch.tensor(0.0), BUMPS[name], TAPS)
    assert bool(k[0, 0].isnan().all())
    assert bool(k[0, 1].isfinite().all())


@pytest.mark.parametrize("name", BUMPS)
@pytest.mark.parametrize("backend", ["reference", "numba", "triton"])
def test_gradients_of_any_strides(name: str, backend: str) -> None:
    """Expanded, transposed and sliced, as losses send them."""
    if backend == "triton" and torch.cuda.is_available():
        pytest.skip("Triton does not interpret here")
    weight, delay, grad = (v.detach() for v in case())
    delay[0, :2] += torch.tensor([0.125, -0.125]).double()[:, None]  # off the kinks, where slopes are a convention
    losses: list[Callable[[Tensor], Tensor]] = [
        lambda k: k.sum(),
        lambda k: k.mean(0).sum(),
        lambda k: (k.transpose(0, 2) * grad.to(k.dtype).transpose(0, 2)).sum(),
        lambda k: (k[..., ::2] * grad.to(k.dtype)[..., ::2]).sum(),
    ]
    for loss in losses:
        wide = weight.clone().requires_grad_(), delay.clone().requires_grad_()
        truth = torch.autograd.grad(loss(loop(name, *wide, 0.6)), wide)
        leaves = weight.float().requires_grad_(), delay.float().requires_grad_()
        with use_backend(backend):
            ours = torch.autograd.grad(loss(delay_kernel(*leaves, torch.tensor(0.6), BUMPS[name], TAPS)), leaves)
        for got, wanted in zip(ours, truth, strict=True):
            torch.testing.assert_close(got.double(), wanted.double(), rtol=1e-4, atol=1e-5)


def test_delays_and_sigma_broadcast(backend: str) -> None:
    weight, _, grad = case()
    delay = (torch.rand(1, 3, 1).double() * 8).requires_grad_()
    with use_backend(backend):
        k = delay_kernel(weight, delay, torch.tensor(1.0).double(), BUMPS["gauss"], TAPS)
        (ours,) = torch.autograd.grad(k, delay, grad)
    expected = loop("gauss", weight, delay.expand(4, 3, 2), 1.0)
    torch.testing.assert_close(k, expected, rtol=1e-11, atol=1e-11)
    torch.testing.assert_close(ours, torch.autograd.grad(expected, delay, grad)[0], rtol=1e-11, atol=1e-11)


def test_a_bump_of_ones_own_runs_by_autograd() -> None:
    box = Bump("box", lambda u, s: torch.exp(-((u / s) ** 4)), lambda u, s: u, 1.0)
    weight, delay, grad = case()
    k = delay_kernel(weight, delay, torch.tensor(1.0).double(), box, TAPS)
    v = torch.exp(-(((torch.arange(TAPS) - delay[..., None]) / 2.0) ** 4))
    expected = (weight[..., None] * v / (v.sum(-1, keepdim=True) + 1e-7)).sum(-2)
    torch.testing.assert_close(k, expected)
    torch.testing.assert_close(torch.autograd.grad(k, delay, grad), torch.autograd.grad(expected, delay, grad))


def test_half_precision_is_computed_in_float32(backend: str) -> None:
    weight, delay, _ = (v.detach().bfloat16() for v in case())
    with use_backend(backend):
        k = delay_kernel(weight, delay, torch.tensor(1.0), BUMPS["gauss"], TAPS)
        wide = delay_kernel(weight.float(), delay.float(), torch.tensor(1.0), BUMPS["gauss"], TAPS)
    assert torch.equal(k, wide.bfloat16())


def triton_equals_the_reference(name: str, device: str) -> None:
    weight, delay, grad = (v.detach().float().to(device) for v in case())
    found = []
    for backend in ("triton", "reference"):
        w, d = weight.clone().requires_grad_(), delay.clone().requires_grad_()
        with use_backend(backend):
            k = delay_kernel(w, d, torch.tensor(0.6, device=device), BUMPS[name], TAPS)
            found.append([k, *torch.autograd.grad(k, [w, d], grad)])
    for got, wanted in zip(*found, strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.skipif(torch.cuda.is_available(), reason="Triton does not interpret here")
@pytest.mark.parametrize("name", BUMPS)
def test_triton_equals_the_reference(name: str) -> None:
    triton_equals_the_reference(name, "cpu")


@pytest.mark.gpu
@pytest.mark.parametrize("name", BUMPS)
def test_triton_on_a_cuda_device(name: str) -> None:
    triton_equals_the_reference(name, "cuda")


def test_refusals() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'gauss'"):
        bump("gaus")
    weight, delay, _ = case()
    k = delay_kernel(weight, delay, torch.tensor(1.0).double(), bump("gauss"), TAPS)
    with pytest.raises(BackendError, match="no second derivative"):
        torch.autograd.grad(k.sum(), delay, create_graph=True)
