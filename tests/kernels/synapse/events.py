"""Compressed rows for the tests of event-driven kernels, and what is compared."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

TRITON = pytest.param(
    "triton", marks=pytest.mark.skipif(torch.cuda.is_available(), reason="Triton does not interpret here")
)
BACKENDS = ["numba", "reference", TRITON]


class Rows(NamedTuple):
    """Compressed rows and the same as a matrix."""

    indptr: Tensor
    indices: Tensor
    values: Tensor
    dense: Tensor


def rows(count: int, inputs: int, density: float, graded: bool = True, seed: int = 0) -> Rows:
    """Random rows in float64 whose values have few bits; every third is empty."""
    generator = torch.Generator().manual_seed(seed)
    here = torch.rand(count, inputs, generator=generator) < density
    here[::3] = False
    values = torch.randint(1, 8, here.shape, generator=generator) / 2 if graded else torch.ones(here.shape)
    dense = torch.where(here, values, 0.0).double()
    indptr = torch.cat([torch.zeros(1, dtype=torch.int64), here.sum(1).cumsum(0)])
    return Rows(indptr, here.nonzero()[:, 1].int(), dense[here], dense)


Run = Callable[[Tensor, Tensor, Tensor | None], Tensor]


def with_gradients(run: Run, gy: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None) -> list[Tensor]:
    """The output of `run(x, weight, bias)` and the gradients of all three, detached."""
    leaves = [t.detach().clone().requires_grad_() for t in (x, weight, bias) if t is not None]
    y = run(*leaves) if bias is not None else run(*leaves, None)
    return [y.detach(), *torch.autograd.grad(y, leaves, gy.to(y.dtype))]


def assert_near(got: Tensor, exact: Tensor, tolerance: float) -> None:
    """Within `tolerance` of the largest exact number."""
    assert got.shape == exact.shape
    assert got.isfinite().all()
    if exact.numel():
        error = float((got.double() - exact.double()).abs().max())
        assert error <= tolerance * max(1.0, float(exact.abs().max())), error
