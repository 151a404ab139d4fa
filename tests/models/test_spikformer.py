"""Spikformer: parameters and operations of the published sizes."""

import pytest
import torch
from torch import nn

from spikenet.energy import count
from spikenet.errors import ShapeError
from spikenet.models import Spikformer
from tests.models.sizes import dense_macs, on_meta, parameters


@pytest.mark.parametrize(
    ("make", "options", "published"),
    [
        ("cifar", {"dim": 256}, 4_155_178),
        ("cifar", {"depth": 2}, 5_765_050),
        ("cifar", {}, 9_324_730),
        ("cifar", {"classes": 100}, 9_359_380),
        ("imagenet", {"dim": 384}, 16_816_024),
        ("imagenet", {"depth": 6}, 23_373_352),
        ("imagenet", {}, 29_689_384),
        ("imagenet", {"depth": 10}, 36_005_416),
        ("imagenet", {"dim": 768}, 66_338_632),
        ("dvs", {}, 2_566_666),
    ],
)
def test_published_parameters(make: str, options: dict[str, int], published: int) -> None:
    with on_meta():
        assert parameters(getattr(Spikformer, make)(**options)) == published


@pytest.mark.parametrize(("dim", "published"), [(384, 4.66073e9), (512, 8.25667e9)])
def test_published_operations(dim: int, published: float) -> None:
    """Dense MACs of a step without the attention products."""
    with on_meta():
        model = Spikformer.imagenet(dim)
    assert dense_macs(model, 1, 1, 3, 224, 224) == pytest.approx(published, rel=2e-6)


def test_the_counter_sees_every_product() -> None:
    """Dense MACs of a tiny network by hand, the two attention products of each head included."""
    model = Spikformer((2, 16, 16), 3, dim=16, depth=1, heads=2, pool=(True, True, False, False)).eval()
    with torch.no_grad(), count(model, strict=True) as work:
        model((torch.rand(3, 2, 2, 16, 16) < 0.3).float())
    convolutions = 9 * (2 * 2 * 256 + 2 * 4 * 64 + 4 * 8 * 16 + 8 * 16 * 16 + 16 * 16 * 16)
    linear = 12 * 16 * 16 * 16 + 16 * 3
    attention = 2 * 2 * 16 * 8 * 8
    assert sum(layer.dense_macs_frame for layer in work.layers) / work.samples == convolutions + linear + attention


def test_a_picture_is_repeated_and_gradients_reach_every_weight() -> None:
    model = Spikformer((3, 32, 32), 5, dim=16, depth=1, heads=2)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.constant_(module.bias, 2.0)  # so that every layer has spikes
    picture = torch.rand(2, 3, 32, 32)
    model(picture.expand(4, *picture.shape)).square().sum().backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum()] == []


def test_wrong_shapes_are_refused() -> None:
    with pytest.raises(ShapeError, match=r"\(C, H, W\).*\(700,\)"):
        Spikformer((700,), 20)
