"""float32 as float16 parts: what the parts add up to, in Triton's interpreter."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

pytest.importorskip("triton")
pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="Triton does not interpret here")


def restored(x: Tensor, parts: int) -> tuple[Tensor, bool]:
    """The sum of the parts over the scale; whether a low part is said to be other than 0."""
    from spikenet.kernels.delay.triton_halves import founds, halver

    values, found = halver(*x.shape, x.dtype, parts)(x, *founds(x, 1))
    assert values.dtype == torch.float16
    width = values.shape[1] // parts
    assert width % 64 == 0
    assert found is not None
    peak, low, *_ = found.tolist()
    assert peak == x.abs().max().view(torch.int32)
    columns = values.double().unflatten(1, (parts, width))
    assert columns[..., x.shape[1] :].count_nonzero() == 0
    high = columns[:, 0, : x.shape[1]]
    scale = (high.abs().max() / x.double().abs().max()).log2().round().exp2()
    return columns.sum(1)[:, : x.shape[1]] / scale, bool(low)


@pytest.mark.parametrize("size", [1.0, 1e-30, 1e-9, 3e4, 1e20])
@pytest.mark.parametrize("columns", [64, 70])
def test_parts_hold_eleven_bits_each(size: float, columns: int) -> None:
    x = torch.randn(40, columns) * size
    for parts, bits in ((1, 11), (2, 22)):
        found, low = restored(x, parts)
        error = (found - x).abs()
        least = 2.0 ** (-23 if parts == 1 else -38)
        assert bool((error <= x.double().abs() * 2.0**-bits + x.abs().max().double() * least).all())
        assert low == (parts == 2)


def test_spikes_are_exact_in_one_part() -> None:
    x = (torch.rand(40, 64) < 0.1).float()
    for parts in (1, 2):
        found, low = restored(x, parts)
        assert torch.equal(found, x.double())
        assert not low


def test_silence() -> None:
    from spikenet.kernels.delay.triton_halves import founds, halver

    x = torch.zeros(3, 5)
    assert halver(3, 5, x.dtype, 2)(x, *founds(x, 1)).values.count_nonzero() == 0
