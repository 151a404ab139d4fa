"""float32 as float16 parts: what the parts add up to, in Triton's interpreter."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

pytest.importorskip("triton")
pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="Triton does not interpret here")


def restored(parts: int, *matrices: Tensor) -> list[tuple[Tensor, bool]]:
    """Of each matrix the sum of its parts over the scale; whether a low part is said to be other than 0."""
    from spikenet.kernels.delay.triton_halves import PROGRAMS, halver

    found = []
    for x, halves in zip(matrices, halver([x.shape for x in matrices], parts)(*matrices), strict=True):
        assert halves.dtype == torch.float16
        values, noted = halves[: -4 * PROGRAMS], halves[-4 * PROGRAMS :].view(torch.int32).unflatten(0, (2, -1))
        assert noted[0].max() == x.abs().max().view(torch.int32)
        columns = values.double().unflatten(0, (len(x), parts, -1))
        assert columns.shape[-1] % 64 == 0
        assert columns[..., x.shape[1] :].count_nonzero() == 0
        high = columns[:, 0, : x.shape[1]]
        scale = (high.abs().max() / x.double().abs().max()).log2().round().exp2() if high.any() else 1.0
        found.append((columns.sum(1)[:, : x.shape[1]] / scale, parts == 2 and bool(noted[1].max())))
    return found


@pytest.mark.parametrize("size", [1.0, 1e-30, 1e-9, 3e4, 1e20])
@pytest.mark.parametrize("programs", [1024, 2])  # one tile each, and several
def test_parts_hold_eleven_bits_each(size: float, programs: int, monkeypatch: pytest.MonkeyPatch) -> None:
    from spikenet.kernels.delay import triton_halves

    monkeypatch.setattr(triton_halves, "PROGRAMS", programs)
    matrices = torch.randn(90, 64) * size, torch.randn(41, 70) / size
    for parts, bits in ((1, 11), (2, 22)):
        least = 2.0 ** (-23 if parts == 1 else -38)
        for some in (matrices, matrices[1:]):
            for x, (found, low) in zip(some, restored(parts, *some), strict=True):
                error = (found - x).abs()
                assert bool((error <= x.double().abs() * 2.0**-bits + x.abs().max().double() * least).all())
                assert low == (parts == 2)


def test_spikes_are_exact_in_one_part() -> None:
    x = (torch.rand(40, 64) < 0.1).float()
    for parts in (1, 2):
        ((found, low),) = restored(parts, x)
        assert torch.equal(found, x.double())
        assert not low


def test_silence() -> None:
    ((found, low),) = restored(2, torch.zeros(3, 5))
    assert found.count_nonzero() == 0
    assert not low
