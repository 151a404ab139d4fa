"""Batch norm with its neuron in one pass: the spikes of the two in turn, running statistics, and all gradients."""

from __future__ import annotations

import copy
import functools
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from spikenet.errors import BackendError, ShapeError
from spikenet.kernels import use_backend
from spikenet.kernels.norm import norm_scan
from spikenet.kernels.norm.fused import FUSED, Norm
from spikenet.neurons import IF, LIF, Neuron

SIZES = [(4, 2, 35, 70), (3, 5, 1), (1, 3, 7, 3, 5), (2, 4, 16)]  # T, B, *space, C
LARGE = [(4, 4, 7, 7, 384), (8, 4, 100, 48), (10, 2, 100, 64), (16, 3, 31, 40), (4, 8, 16, 16, 48)]
NEURONS = [
    lambda: LIF(2.0, 1.0, detach_reset=True, surrogate="sigmoid"),
    lambda: LIF(3.0, 0.7, None, decay_input=False),
    lambda: IF(2.0, surrogate="triangle"),
]
gpu = pytest.mark.gpu
interpreted = pytest.mark.skipif(torch.cuda.is_available(), reason="Triton does not interpret here")


def case(sizes: tuple[int, ...], dtype: torch.dtype = torch.float32) -> tuple[Tensor, nn.BatchNorm1d, Tensor]:
    """Potentials far from zero in every channel, a norm with weights and a past, and the gradient of the output."""
    channels = sizes[-1]
    norm = nn.BatchNorm1d(channels, momentum=0.3)
    for each, low in ((norm.weight, -0.5), (norm.bias, 0.3), (norm.running_mean, -1.0), (norm.running_var, 0.5)):
        nn.init.uniform_(each, low, low + 2.0)
    y = (2.0 * torch.randn(sizes) + 20.0 * torch.randn(channels)).to(dtype)
    return y, norm, torch.randn(sizes).to(dtype)


def options(norm: nn.BatchNorm1d) -> Norm:
    return Norm(norm.weight, norm.bias, norm.running_mean, norm.running_var, norm.momentum, norm.eps)  # type: ignore[arg-type]


def fused(neuron: Neuron, norm: nn.BatchNorm1d, y: Tensor, **wanted: bool) -> Any:
    return neuron._scan([y], None, by=functools.partial(norm_scan, options(norm)), **wanted)


def results(run: Any, norm: nn.BatchNorm1d, y: Tensor, gz: Tensor) -> list[Tensor]:
    """Spikes, gradients of y, weight and bias, and the running statistics."""
    leaves = [y.detach().requires_grad_(), norm.weight, norm.bias]
    z = run(leaves[0])
    return [z.detach(), *torch.autograd.grad(z, leaves, gz.to(z.dtype)), norm.running_mean, norm.running_var]  # type: ignore[list-item]


def compare(neuron: Neuron, given: tuple[Tensor, nn.BatchNorm1d, Tensor], device: str = "cpu") -> None:
    """Against torch's batch norm and the neuron in float64."""
    y, norm, gz = given
    wide = nn.BatchNorm1d(y.shape[-1], momentum=norm.momentum).double()
    wide.load_state_dict(norm.state_dict())
    truth = results(lambda y: neuron(wide(y.flatten(0, -2)).view(y.shape)), wide, y.double(), gz.double())
    neuron.to(device), norm.to(device)
    with use_backend("triton"):
        found = results(lambda y: fused(neuron, norm, y)[0], norm, y.to(device), gz.to(device))
    assert torch.equal(found[0].cpu().double(), truth[0])
    assert 0 < truth[0].mean() < 1
    unit = {torch.float32: 2e-5, torch.float16: 2e-3, torch.bfloat16: 2e-2}[y.dtype]
    for a, b in zip(found[1:], truth[1:], strict=True):
        assert a.dtype == (y.dtype if a.ndim > 1 else torch.float32)
        assert float((a.cpu().double() - b).norm()) <= unit * float(b.norm())


@interpreted
@pytest.mark.parametrize(("make", "sizes"), [*((NEURONS[0], s) for s in SIZES), *((m, SIZES[0]) for m in NEURONS[1:])])
def test_kernels_equal_norm_and_neuron_in_float64(make: Any, sizes: tuple[int, ...]) -> None:
    compare(make(), case(sizes))


@interpreted
def test_strided_input_and_many_tiles_of_a_program(monkeypatch: pytest.MonkeyPatch) -> None:
    from spikenet.kernels.norm import triton_norm

    monkeypatch.setattr(triton_norm, "PROGRAMS", 2)
    y, norm, gz = case((3, 2, 150, 6))
    compare(NEURONS[0](), (y.mT.contiguous().mT, norm, gz.transpose(1, 2).contiguous().transpose(1, 2)))


@interpreted
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_kernels_in_half_precision(dtype: torch.dtype) -> None:
    compare(NEURONS[0](), case((4, 2, 35, 20), dtype))


def compare_with_offset(device: str, backend: str | None) -> None:
    """A bias that was left out of y against one that is in it, in float64."""
    neuron, (y, norm, gz) = NEURONS[0](), case((4, 2, 35, 20))
    wide, offset = copy.deepcopy(norm).double(), nn.Parameter(3.0 * torch.randn(20))
    truth = results(lambda y: neuron(wide((y + offset).flatten(0, -2)).view(y.shape)), wide, y.double(), gz.double())
    neuron.to(device), norm.to(device)
    there = nn.Parameter(offset.detach().to(device))
    by = functools.partial(norm_scan, options(norm)._replace(offset=there))
    leaves = [y.to(device).requires_grad_(), norm.weight, norm.bias, there]
    with use_backend(backend):
        z = neuron._scan([leaves[0]], None, by=by)[0]
        *gradients, zero = torch.autograd.grad(z, leaves, gz.to(device))
    for a, b in zip([z.detach(), *gradients, norm.running_mean, norm.running_var], truth, strict=True):
        torch.testing.assert_close(a.cpu().double(), b, atol=1e-4, rtol=1e-4)
    assert zero.abs().max() < 1e-4


@interpreted
@pytest.mark.parametrize("backend", ["triton", "numba"])
def test_a_bias_that_was_left_out(backend: str) -> None:
    compare_with_offset("cpu", backend)


@pytest.mark.parametrize("backend", [None, "numba", "reference"])
def test_elsewhere_it_is_the_two_in_turn(backend: str | None) -> None:
    neuron, (y, norm, gz) = NEURONS[0](), case((18, 2, 9, 5))
    same = nn.BatchNorm1d(5, momentum=0.3)
    same.load_state_dict(norm.state_dict())
    with use_backend(backend):
        found = results(lambda y: fused(neuron, norm, y)[0], norm, y, gz)
        truth = results(lambda y: neuron(same(y.flatten(0, -2)).view(y.shape)), same, y, gz)
    for a, b in zip(found, truth, strict=True):
        assert torch.equal(a, b)


def test_learned_parameters_get_their_gradients() -> None:
    neuron, (y, norm, gz) = LIF(nn.Parameter(torch.tensor(2.5))), case((4, 2, 9, 5))
    ours = torch.autograd.grad(fused(neuron, norm, y)[0], neuron.tau, gz)
    theirs = torch.autograd.grad(neuron(norm(y.flatten(0, -2)).view(y.shape)), neuron.tau, gz)
    torch.testing.assert_close(ours, theirs)
    with use_backend("triton"), pytest.raises(BackendError, match="no gradients for states and parameters"):
        fused(neuron, norm, y)


def test_what_the_kernels_refuse() -> None:
    neuron, (y, norm, _) = NEURONS[0](), case((2, 3, 5))
    refused = [
        (neuron, y.double(), {}, "float64"),
        (neuron, y.repeat(9, 1, 1), {}, "up to 16 steps, got 18"),
        (neuron, y, {"final": True}, "keep no states"),
        (LIF(torch.linspace(2, 3, 5)), y, {}, "one value"),
    ]
    for who, given, wanted, reason in refused:
        with use_backend("triton"), pytest.raises(BackendError, match=reason):
            fused(who, norm, given, **wanted)
    for wrong in (y[..., :4], y[:1, :1]):
        with pytest.raises(ShapeError, match="two numbers or more of each channel"):
            fused(neuron, norm, wrong)
    assert FUSED.name == "norm_scan"


@gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("sizes", [*SIZES, *LARGE])
def test_on_the_gpu(sizes: tuple[int, ...], dtype: torch.dtype) -> None:
    """Twice: the second time past Triton's own way to launch. Of many more numbers some would lie at the threshold."""
    for _ in range(2):
        compare(NEURONS[0](), case(sizes, dtype), "cuda")


@gpu
def test_a_bias_that_was_left_out_on_the_gpu() -> None:
    for _ in range(2):
        compare_with_offset("cuda", None)


@gpu
def test_many_tiles_of_a_program_on_the_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    from spikenet.kernels.norm import triton_norm

    monkeypatch.setattr(triton_norm, "PROGRAMS", 8)
    compare(NEURONS[0](), case((4, 2, 555, 70)), "cuda")
    for make in NEURONS[1:]:
        compare(make(), case((3, 2, 111, 20)), "cuda")
