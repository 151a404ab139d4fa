"""SpikMamba: weights by hand, the counter, refusals."""

import pytest
import torch

from spikenet.energy import count
from spikenet.errors import ArgumentError, ShapeError
from spikenet.models import SpikMamba
from tests.models.sizes import parameters

D, E, S, RANK = 16, 32, 16, 2


def tiny() -> SpikMamba:
    return SpikMamba((2, 16, 16), 3, steps=4, dim=D, patch=4, depth=1, heads=2, window=2)


def test_the_weights_of_its_layers() -> None:
    stem = 2 * 16 * D + D + 2 * D + 16 * D + 4 * D
    depthwise = 10 * D
    block = 4 * depthwise + 4 * D + 3 * (D * D + D) + (2 * D * D + 2 * D + 4 * D) + (8 * D * D + 5 * D)
    scan = E * 5 + E * (RANK + 2 * S) + (RANK * E + E) + E * S + E
    mamba = D + 2 * D * E + 2 * scan + E * D
    assert parameters(tiny()) == stem + block + mamba + 3 * D + 3


def test_gradients_reach_every_weight_and_the_counter_sees_every_operation() -> None:
    model = tiny()
    with count(model, strict=True) as work:
        logits = model((torch.rand(3, 2, 2, 16, 16) < 0.3).float())
    assert logits.shape == (2, 3)
    logits.square().sum().backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []
    tokens, d = 16, 8
    linear = tokens * (2 * 16 * D + 3 * D * D + 2 * D * D + 8 * D * D) + 3 * D
    depthwise = 4 * tokens * 9 * D
    mamba = tokens * (3 * D * E + 2 * (E * (RANK + 2 * S) + RANK * E))
    over_time = 3 * 2 * tokens * 4 * E  # the scans' convolutions run once for the three steps
    seen = {
        operation: sum(layer.dense_macs_frame for layer in work.layers if layer.operation == operation) / work.samples
        for operation in ("connection", "product")
    }
    assert seen["connection"] == linear + depthwise + mamba + over_time
    assert seen["product"] >= 2 * 2 * tokens * d * d  # gates are products too


def test_what_does_not_fit_is_refused_in_words() -> None:
    with pytest.raises(ArgumentError, match="whole windows of 4 x 4 patches of 4"):
        SpikMamba((2, 24, 24), 3)
    with pytest.raises(ShapeError, match="places for 4 steps"):
        tiny()(torch.zeros(5, 1, 2, 16, 16))
