from __future__ import annotations

import pytest
import torch
from torch import nn

from spikenet import layers
from spikenet.errors import ShapeError

PAIRS = [
    (layers.Conv2d(3, 5, 3, stride=2, padding=1), nn.Conv2d),
    (layers.MaxPool2d(2), nn.MaxPool2d),
    (layers.AvgPool2d(3, 1), nn.AvgPool2d),
    (layers.AdaptiveAvgPool2d(2), nn.AdaptiveAvgPool2d),
    (layers.BatchNorm2d(3).eval(), nn.BatchNorm2d),
]


@pytest.mark.parametrize(("ours", "theirs"), PAIRS, ids=lambda p: getattr(p, "__name__", ""))
def test_each_step_is_torchs_own_layer(ours: nn.Module, theirs: type[nn.Module]) -> None:
    assert isinstance(ours, theirs)
    x = torch.randn(4, 2, 3, 7, 8, dtype=torch.float64)
    ours.double()
    assert torch.equal(ours(x), torch.stack([theirs.forward(ours, x_t) for x_t in x]))
    with pytest.raises(ShapeError, match=r"takes \[T, B, C, H, W\], got \(2, 3, 7, 8\)"):
        ours(x[0])


def test_rows_of_features_have_a_batch_norm_too() -> None:
    norm, x = layers.BatchNorm1d(3), torch.randn(6, 4, 3) * 3 + 1
    y = norm(x)
    torch.testing.assert_close(y, (x - x.mean((0, 1))) / (x.var((0, 1), correction=0) + 1e-5).sqrt())
    torch.testing.assert_close(norm.running_mean, 0.1 * x.mean((0, 1)))
    with pytest.raises(ShapeError, match=r"takes \[T, B, N\], got \(4, 3\)"):
        norm(x[0])


def test_batch_norm_takes_statistics_over_time_and_batch() -> None:
    norm, x = layers.BatchNorm2d(3, affine=False), torch.randn(6, 4, 3, 5, 5) * 3 + 1
    y = norm(x)
    torch.testing.assert_close(y.mean((0, 1, 3, 4)), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(norm.running_mean, 0.1 * x.mean((0, 1, 3, 4)))


def test_threshold_norm_begins_with_the_spread_that_the_threshold_asks_for() -> None:
    norm = layers.ThresholdNorm2d(3, v_threshold=0.5, alpha=2**-0.5)
    y = norm(5 + 3 * torch.randn(4, 8, 3, 16, 16))
    assert y.std().item() == pytest.approx(0.5 * 2**-0.5, rel=1e-2)
    assert y.mean().item() == pytest.approx(0.0, abs=1e-6)
