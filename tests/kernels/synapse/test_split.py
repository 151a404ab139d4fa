"""A float32 number is the sum of its three bfloat16 parts, and products made of them have float32's error."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from spikenet.errors import DtypeError
from spikenet.kernels import use_backend
from spikenet.kernels.synapse import split_bfloat16
from spikenet.kernels.synapse.split import (
    product_of_both,
    product_of_exact,
    product_with_exact,
    transposed,
)

TRITON = pytest.param(
    "triton", marks=pytest.mark.skipif(torch.cuda.is_available(), reason="Triton does not interpret here")
)
BACKENDS = ["reference", TRITON]


def numbers() -> Tensor:
    """Random bits with exponents in the range in which the split is exact, and its ends."""
    random = np.random.default_rng(0)
    lowest, highest = np.array([2.0**-110, 2.0**128 - 2.0**119 - 2.0**104], np.float32).view(np.uint32)
    bits = random.integers(lowest, highest, 20_000, dtype=np.uint32) | (random.integers(0, 2, 20_000) << 31)
    inside = bits.astype(np.uint32).view(np.float32)
    ends = np.array([0, 2.0**-110 * (2 - 2.0**-23), 2.0**128 - 2.0**119 - 2.0**104, 1 - 2.0**-24], np.float32)
    return torch.from_numpy(np.concatenate([inside, ends, -ends]))


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_parts_add_up_exactly(backend: str) -> None:
    x = numbers()
    with use_backend(backend):
        parts = split_bfloat16(x)
    assert all(part.dtype == torch.bfloat16 for part in parts)
    assert torch.equal(sum(part.double() for part in parts), x.double())
    assert torch.equal(parts.high, x.bfloat16())
    assert (parts.middle.double().abs() <= x.double().abs() * 2.0**-8).all()
    assert (parts.low.double().abs() <= x.double().abs() * 2.0**-16).all()


@pytest.mark.parametrize("backend", BACKENDS)
def test_what_the_exact_range_leaves_out(backend: str) -> None:
    tiny = torch.from_numpy(np.random.default_rng(1).integers(1, 2**27, 5000, dtype=np.uint32).view(np.float32))
    assert tiny.max() < 2.0**-110
    huge = torch.tensor([2.0**128 - 2.0**119, torch.inf, torch.nan, -torch.nan])
    huge = torch.cat([huge, torch.tensor([0x7FFFFFFF, -1], dtype=torch.int32).view(torch.float32)])
    with use_backend(backend), np.errstate(invalid="ignore"):  # the interpreter computes with numpy
        parts = split_bfloat16(tiny)
        assert sum(part.float() for part in split_bfloat16(huge)).isnan().all()
    assert (sum(part.double() for part in parts) - tiny.double()).abs().max() <= 2.0**-134


def test_only_float32_is_split() -> None:
    with pytest.raises(DtypeError, match=r"takes float32, got torch\.float64"):
        split_bfloat16(torch.ones(2, dtype=torch.float64))


def error(got: Tensor, exact: Tensor) -> float:
    assert got.dtype == torch.float32
    return float((got.double() - exact).norm() / exact.norm())


def errors_beside_float32(device: str, rows: int, columns: int, out: int) -> list[tuple[float, float]]:
    """Relative errors against float64 of (ours, float32's own): output, weight gradient, input gradient."""
    random = torch.Generator().manual_seed(3)
    s = (torch.rand(rows, columns, generator=random) < 0.1).float().to(device)
    w = (torch.randn(columns, out, generator=random) / columns**0.5).to(device)
    g = torch.randn(rows, out, generator=random).to(device)
    w_parts, g_parts, bits = split_bfloat16(w), split_bfloat16(g), s.bfloat16()
    triples = [
        (product_of_exact(bits, w_parts), s @ w, s.double() @ w.double()),
        (product_with_exact(transposed(g_parts), bits), g.t() @ s, g.t().double() @ s.double()),
        (product_of_both(g_parts, transposed(w_parts)), g @ w.t(), g.double() @ w.t().double()),
    ]
    return [(error(ours, exact), error(plain, exact)) for ours, plain, exact in triples]


def test_products_of_the_parts_have_the_error_of_float32() -> None:
    """On the CPU the parts' products are summed in float32 by the same library, in pieces of other sizes."""
    for ours, plain in errors_beside_float32("cpu", 300, 2000, 70):
        assert ours < 2 * plain < 1e-6


def test_two_parts_would_not_do() -> None:
    s, w = (torch.rand(64, 512) < 0.1).float(), torch.randn(512, 16)
    parts = split_bfloat16(w)._replace(low=torch.zeros(512, 16, dtype=torch.bfloat16))
    assert error(product_of_exact(s.bfloat16(), parts), s.double() @ w.double()) > 1e-6


@pytest.mark.gpu
def test_products_on_tensor_cores_have_the_error_of_float32() -> None:
    assert not torch.backends.cuda.matmul.allow_tf32
    for rows, columns, out in ((300, 2000, 70), (8000, 4096, 4096)):
        for ours, plain in errors_beside_float32("cuda", rows, columns, out):
            assert ours < 4 * plain < 1e-5


@pytest.mark.gpu
@pytest.mark.parametrize("backend", ["reference", "triton"])
def test_the_parts_add_up_exactly_on_the_gpu(backend: str) -> None:
    x = numbers().cuda()
    with use_backend(backend):
        assert torch.equal(sum(part.double() for part in split_bfloat16(x)), x.double())
