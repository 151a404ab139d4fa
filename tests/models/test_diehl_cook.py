"""Competing neurons: the potential against its differential equation, who inhibits whom, and the readout by hand."""

from __future__ import annotations

import pytest
import torch

from spikenet.errors import ShapeError
from spikenet.models import DiehlCook, assign_neurons, class_scores


def test_a_neuron_alone_follows_its_equation():
    """By a loop over the equations, in float64; with inhibition that nobody sends."""
    net = DiehlCook((5,), neurons=1, theta=10.0, seed=2).double()
    x = (torch.rand(400, 1, 5) < 0.4).double()
    v, g, rest, spikes = -65.0, 0.0, 0, []
    decay, weight, threshold = torch.tensor(-1.0, dtype=torch.float64).exp().item(), net.weight[0], net.theta[0] - 72.0
    for now in x[:, 0]:
        moved = v + (-65.0 - v + g * (0.0 - v)) / 100.0
        v = v if rest > 0 else moved
        spike = rest <= 0 and v >= threshold
        rest = 5 if spike else rest - 1
        v = -65.0 if spike else v
        g = g * decay + float(now @ weight)
        spikes.append(float(spike))
    assert sum(spikes) > 5
    assert net(x)[:, 0, 0].tolist() == spikes


def test_a_spike_silences_all_others():
    net = DiehlCook((3,), neurons=3, theta=20.0)
    net.weight.copy_(torch.diag(torch.tensor([2.0, 0.4, 0.4])))  # the first is faster
    x = torch.ones(150, 1, 3)
    z = net(x)[:, 0].sum(0)
    assert z[0] > 0
    assert z[1:].eq(0).all()
    net.inhibition = 0.0
    assert net(x)[:, 0].sum(0).gt(0).all()


def test_readout_by_hand():
    counts = torch.tensor([[4.0, 0, 1, 0, 0], [2.0, 0, 3, 1, 0], [0.0, 5, 3, 0, 0]])
    labels = torch.tensor([0, 0, 1])
    assigned = assign_neurons(counts, labels, 3)
    assert assigned.tolist() == [0, 1, 1, 0, -1]
    scores = class_scores(counts, assigned, 3)
    assert scores.tolist() == [[2.0, 0.5, 0.0], [1.5, 1.5, 0.0], [0.0, 4.0, 0.0]]


def test_other_features_are_refused():
    with pytest.raises(ShapeError, match=r"takes \[T, B, 8, 8\]"):
        DiehlCook((8, 8))(torch.zeros(2, 1, 64))
