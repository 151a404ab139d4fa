"""Published energies, recomputed from published operation counts (rows A to D; sources in each test)."""

import pytest
import torch

from spikenet.energy import FIELD, count, picojoules, price
from spikenet.models import Spikformer


def millijoules(macs: float = 0.0, acs: float = 0.0) -> float:
    return picojoules(macs, acs) * 1e-9


@pytest.mark.parametrize(
    ("sops", "published"), [(6.82e9, 7.734), (11.09e9, 11.577), (13.67e9, 13.899), (22.09e9, 21.477)]
)
def test_spikformer_on_imagenet(sops: float, published: float) -> None:
    """Zhou et al. 2023, table 2: T = 4, a first convolution of 27 * 64 * 224^2 MACs at each step."""
    assert millijoules(27 * 64 * 224**2 * 4, sops) == pytest.approx(published, abs=1e-3)


def test_spikformer_of_full_size() -> None:
    """8-512: dense counts as worked out from the paper's shapes; with its SOPs, the published energy."""
    with torch.inference_mode(), count(net := Spikformer.imagenet(512).eval(), strict=True) as work:
        net(torch.rand(1, 1, 3, 224, 224))
    layers = [layer for layer in work.layers if layer.operation == "connection"]
    assert sum(layer.dense_macs for layer in layers) == pytest.approx(8.25667e9, abs=5e3)
    assert layers[0].macs == work.macs == 27 * 64 * 224**2
    first = price(work).total - FIELD.ac * work.acs
    assert (4 * first + FIELD.ac * 11.09e9) * 1e-9 == pytest.approx(11.577, abs=1e-3)


@pytest.mark.parametrize(
    ("sops", "width", "published"), [(3.88e9, 384, 4.69), (6.52e9, 512, 7.46), (12.54e9, 768, 13.68)]
)
def test_spikingformer_on_imagenet(sops: float, width: int, published: float) -> None:
    """Zhou et al. 2023 (Spikingformer), README: the first convolution has an eighth of the model's width."""
    assert millijoules(27 * (width // 8) * 224**2 * 4, sops) == pytest.approx(published, abs=5e-3)


@pytest.mark.parametrize(
    ("acs", "macs", "published"),
    [(0.10e9, 0.14e9, 0.734), (0.50e9, 2.75e9, 13.10), (1.69e9, 0.20e9, 2.44), (0, 1.82e9, 8.372)],
)
def test_syops_counter_rows(acs: float, macs: float, published: float) -> None:
    """README of syops-counter: spiking ResNet-18, SEW ResNet-18, DSNN-18 and the plain ResNet-18."""
    assert millijoules(macs, acs) == pytest.approx(published, abs=5e-3)


@pytest.mark.parametrize(("macs", "published"), [(55.4e9, 254.84), (17.5e9, 80.50), (15.4e9, 70.84), (47.0e9, 216.2)])
def test_dense_transformers(macs: float, published: float) -> None:
    """ViT-B/16 at 384, DeiT-B, Swin-B at 224 and at 384, as priced in the spiking transformer papers."""
    assert millijoules(macs) == pytest.approx(published, abs=5e-3)
