"""The reservoir against a loop of its equations, and a closed form where nothing comes back."""

from __future__ import annotations

import math

import pytest
import torch

from spikenet.errors import ShapeError
from spikenet.events import EventTensor
from spikenet.models import LiquidStateMachine


def test_counts_are_those_of_the_equations():
    net = LiquidStateMachine((6,), neurons=20, decay=0.75, scale=0.5, seed=3).double()
    x = (torch.rand(30, 4, 6) < 0.3).double()
    v, s, counts = (torch.zeros(4, 20, dtype=torch.float64) for _ in range(3))
    for now in x:
        v = 0.75 * v * (1 - s) + now @ net.weight.T + s @ net.reservoir.weight.T
        s = (v >= 1.0).double()
        counts += s
    assert counts.sum() > 100
    assert torch.equal(net(x), counts)


def test_constant_drive_fires_as_the_closed_form_says():
    decay, threshold, drive, steps = 0.9, 5.0, 0.8, 200
    net = LiquidStateMachine((1,), neurons=3, decay=decay, scale=0.0, v_threshold=threshold).double()
    net.weight.fill_(drive)
    between = math.ceil(math.log(1 - threshold * (1 - decay) / drive) / math.log(decay))
    assert net(torch.ones(steps, 1, 1, dtype=torch.float64)).eq(steps // between).all()


def test_it_is_fixed_and_follows_from_its_seed():
    nets = [LiquidStateMachine((2, 3), neurons=10, seed=seed) for seed in (1, 1, 2)]
    assert not any(p.requires_grad for net in nets for p in net.parameters())
    x = (torch.rand(20, 5, 2, 3) < 0.5).float() * 4
    first, same, other = (net(x) for net in nets)
    assert torch.equal(first, same)
    assert not torch.equal(first, other)
    assert torch.equal(nets[0](EventTensor.from_dense(x)), first)


def test_other_features_are_refused():
    with pytest.raises(ShapeError, match=r"takes \[T, B, 4\]"):
        LiquidStateMachine((4,))(torch.zeros(2, 3, 5))
