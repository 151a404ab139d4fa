"""Spikformer V2 in style, and masked pre-training: what is hidden cannot be seen, and the loss by hand."""

import pytest
import torch
from torch import nn

from spikenet.energy import count
from spikenet.errors import ArgumentError
from spikenet.models import MaskedPretraining, SpikformerV2
from tests.models.sizes import parameters


def tiny() -> SpikformerV2:
    network = SpikformerV2((2, 8, 8), 3, 16, 1, 2)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.constant_(module.bias, 1.0)
    return network


def test_the_stem_has_the_weights_of_its_layers() -> None:
    widths = (2, 4, 8, 16)
    stages = sum(
        9 * inputs * width + 2 * width + (2 * width * width + 4 * width) + (18 * width * width + 2 * width)
        for inputs, width in zip((2, *widths), widths, strict=False)
    )
    position = 9 * 16 * 16 + 2 * 16
    block = 12 * 16 * 16 + 24 * 16
    assert parameters(SpikformerV2((2, 8, 8), 3, 16, 1, 2)) == stages + position + block + 16 * 3 + 3


def test_hidden_pixels_do_not_reach_the_reconstruction() -> None:
    masked = MaskedPretraining(tiny(), width=8, heads=2).eval()
    x = torch.rand(3, 2, 2, 8, 8)
    hidden = torch.tensor([[1.0, 0, 0, 1], [0, 1, 0, 0]])
    changed = x.clone()
    changed[:, 0, :, :4, :4] = 7.0
    changed[:, 0, :, 4:, 4:] = 7.0
    changed[:, 1, :, :4, 4:] = 7.0
    assert torch.equal(masked.reconstruct(x, hidden), masked.reconstruct(changed, hidden))
    changed[:, 0, :, :4, 4:] = 7.0
    assert not torch.equal(masked.reconstruct(x, hidden)[0], masked.reconstruct(changed, hidden)[0])


def test_targets_are_normalised_patches_of_the_mean_picture() -> None:
    masked = MaskedPretraining(tiny(), width=8, heads=2)
    x = torch.rand(3, 2, 2, 8, 8)
    patch = x.mean(0)[1, :, 4:, :4].flatten()
    expected = (patch - patch.mean()) / (patch.var(correction=0) + 1e-5).sqrt()
    torch.testing.assert_close(masked.target(x)[1, 2], expected)


def test_the_loss_is_the_error_over_hidden_patches(monkeypatch: pytest.MonkeyPatch) -> None:
    """A decoder that says zero everywhere is wrong by the variance of the targets, which is 1."""
    masked = MaskedPretraining(tiny(), width=8, heads=2)
    nn.init.zeros_(masked.pixels.weight)
    nn.init.zeros_(masked.pixels.bias)
    x = torch.rand(3, 2, 2, 8, 8)
    assert masked(x).item() == pytest.approx(1.0, abs=1e-3)
    monkeypatch.setattr(masked, "draw", lambda batch, device: torch.tensor([[1.0, 0, 0, 0], [0, 0, 0, 0]]))
    x[:, 0, :, :4, :4] = 0.5  # nothing to reconstruct in the only hidden patch
    assert masked(x).item() == 0.0


def test_half_of_the_patches_are_hidden_and_gradients_reach_the_encoder() -> None:
    network = tiny()
    masked = MaskedPretraining(network, width=8, heads=2)
    assert masked.draw(5, torch.device("cpu")).sum(1).tolist() == [2.0] * 5
    masked(torch.rand(3, 4, 2, 8, 8)).backward()
    without = [name for name, p in network.named_parameters() if p.grad is None]
    assert without == ["body.out.2.weight", "body.out.2.bias"]


def test_the_counter_sees_every_product() -> None:
    model = SpikformerV2((2, 8, 8), 3, 16, 1, 2)
    with torch.no_grad(), count(model, strict=True) as work:
        model(torch.rand(3, 2, 2, 8, 8))
    stages = [(2, 2, 64), (2, 4, 64), (4, 8, 16), (8, 16, 4)]
    stem = sum(n * (9 * a * b + 2 * b * b + 18 * b * b) for a, b, n in stages) + 4 * 9 * 256
    rest = 12 * 256 * 4 + 16 * 3 + 2 * 2 * 4 * 4 * 8
    assert sum(layer.dense_macs_frame for layer in work.layers) / work.samples == stem + rest


def test_wrong_sizes_are_refused_in_words() -> None:
    with pytest.raises(ArgumentError, match="whole patches of 4"):
        MaskedPretraining(SpikformerV2((2, 10, 10), 3, 16, 1, 2))
    with pytest.raises(ArgumentError, match="two patches or more"):
        MaskedPretraining(SpikformerV2((2, 4, 4), 3, 16, 1, 2))
    with pytest.raises(ArgumentError, match="width=10"):
        MaskedPretraining(tiny(), width=10, heads=2)
    with pytest.raises(ArgumentError, match="heads=3"):
        MaskedPretraining(tiny(), width=16, heads=3)
