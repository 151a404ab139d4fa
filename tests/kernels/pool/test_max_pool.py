"""Maxima over 3x3 pixels: torch's, with its gradients, ties and NaN included."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from spikenet.errors import BackendError, ShapeError
from spikenet.kernels import use_backend
from spikenet.kernels.pool import max_pool

SIZES = [(2, 8, 8, 5), (3, 7, 5, 70), (1, 1, 1, 1), (2, 1, 6, 3), (40, 2, 3, 4)]
gpu = pytest.mark.gpu
interpreted = pytest.mark.skipif(torch.cuda.is_available(), reason="Triton does not interpret here")


def compare(x: Tensor, device: str = "cpu") -> None:
    x = x.to(device)
    leaves = [x.detach().clone().requires_grad_() for _ in range(2)]
    truth = functional.max_pool2d(leaves[0].movedim(-1, 1), 3, 2, 1).movedim(1, -1)
    with use_backend("triton"):
        found = max_pool(leaves[1])
    torch.testing.assert_close(found, truth, rtol=0, atol=0, equal_nan=True)
    g = torch.randint(-8, 9, truth.shape, device=device).to(x)  # whole numbers: sums are exact
    for y in (truth, found):
        y.backward(g)
    assert torch.equal(leaves[1].grad, leaves[0].grad)


@interpreted
@pytest.mark.parametrize("sizes", SIZES)
def test_maxima_and_gradients_are_torchs(sizes: tuple[int, ...]) -> None:
    compare(torch.randn(sizes))
    compare((torch.rand(sizes) < 0.3).float())  # spikes: nearly all maxima are ties
    compare(-torch.rand(sizes).transpose(1, 2).contiguous().transpose(1, 2))


@interpreted
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_in_half_precision(dtype: torch.dtype) -> None:
    compare(torch.randn(2, 9, 6, 20).to(dtype))


@interpreted
@pytest.mark.parametrize("odd", [math.nan, math.inf, -math.inf])
def test_numbers_that_are_none(odd: float) -> None:
    x = torch.randn(2, 6, 6, 3)
    x[0, 2, 3] = odd
    compare(x)
    compare(torch.full((1, 5, 5, 2), odd))


@pytest.mark.parametrize("backend", [None, "numba", "reference"])
def test_elsewhere_it_is_torchs_own(backend: str | None) -> None:
    x = torch.randn(2, 7, 6, 3).double()
    with use_backend(backend):
        assert torch.equal(max_pool(x), functional.max_pool2d(x.movedim(-1, 1), 3, 2, 1).movedim(1, -1))


def test_what_is_refused() -> None:
    with pytest.raises(ShapeError, match=r"\[N, H, W, C\]"):
        max_pool(torch.zeros(3, 4, 5))
    for x, reason in ((torch.zeros(1, 2, 2, 1).double(), "float64"), (torch.zeros(0, 2, 2, 1), "numbers, got 0")):
        with use_backend("triton"), pytest.raises(BackendError, match=reason):
            max_pool(x)


@gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("sizes", [*SIZES, (64, 32, 32, 192)])
def test_on_the_gpu(sizes: tuple[int, ...], dtype: torch.dtype) -> None:
    compare(torch.randn(sizes).to(dtype), "cuda")
    compare((torch.rand(sizes) < 0.3).to(dtype), "cuda")
