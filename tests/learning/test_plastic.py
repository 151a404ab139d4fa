"""Layers that learn while they run, in streams too."""

from __future__ import annotations

import copy
import itertools

import pytest
import torch
from torch import Tensor, nn

from spikenet.errors import ArgumentError
from spikenet.layers import Conv2d, Stream
from spikenet.learning import STDP, Plastic, RewardSTDP, ThreeFactor
from spikenet.neurons import LIF

RULE = STDP(a_plus=0.05, a_minus=0.03, w_min=-1.0)


def made(*sizes: int) -> nn.Sequential:
    torch.manual_seed(1)
    layers = []
    for ins, outs in itertools.pairwise(sizes):
        layer = nn.Linear(ins, outs, bias=False).double()
        nn.init.uniform_(layer.weight, 0.0, 0.8)
        layers.append(Plastic(layer, LIF(tau=4.0, decay_input=False), RULE))
    return nn.Sequential(*layers)


def spikes(*shape: int) -> Tensor:
    return (torch.rand(*shape) < 0.2).double()


def weights(net: nn.Module) -> list[Tensor]:
    return [v.detach().clone() for v in net.parameters()]


def test_a_step_runs_with_what_the_step_before_left() -> None:
    """Against neuron and rule called by hand."""
    net = made(6, 4)
    layer, x = net[0], spikes(30, 1, 6)
    weight, cells, held, expected = layer.connection.weight.detach().clone(), None, None, []
    for now in x:
        z, cells = layer.neuron.step(now @ weight.T, cells)
        held = RULE.step(now, z, weight, held)
        expected.append(z)
    assert torch.equal(net(x), torch.stack(expected))
    assert torch.equal(layer.connection.weight.detach(), weight)
    assert torch.stack(expected).sum() > 10


def test_streams_parts_and_steps_learn_what_the_whole_learns() -> None:
    x = spikes(30, 2, 6)
    whole, streamed, stepped = (made(6, 5, 3) for _ in range(3))
    before = weights(whole)
    expected = whole(x)
    stream, stepping = Stream(streamed), Stream(stepped)
    assert torch.equal(torch.cat([stream(x[:7]), stream(x[7:7]), stream(x[7:])]), expected)
    assert torch.equal(torch.stack([stepping.step(now) for now in x]), expected)
    for a, b, c, old in zip(weights(whole), weights(streamed), weights(stepped), before, strict=True):
        assert torch.equal(a, b)
        assert torch.equal(a, c)
        assert not torch.equal(a, old)


def test_nothing_changes_after_eval() -> None:
    net, x = made(6, 5).eval(), spikes(20, 2, 6)
    before = weights(net)
    assert torch.equal(net(x), net[0].neuron(net[0].connection(x)))
    assert torch.equal(net(x), torch.cat([*map(Stream(net), x.split(6))]))
    assert torch.equal(weights(net)[0], before[0])


def test_a_modulator_reaches_the_rule() -> None:
    layer = made(6, 5)[0]
    layer.rule = ThreeFactor(rule=RULE, tau_eligibility=10.0)
    x, m = spikes(20, 2, 6), torch.zeros(20, 2)
    before = weights(layer)[0]
    layer.run(x, None, m)
    assert torch.equal(weights(layer)[0], before)
    m[10:] = 1.0
    once = copy.deepcopy(layer)
    _, state = layer.run(x[:12], None, m[:12])
    layer.step(x[12], state, m[12])
    _, state = once.run(x[:13], None, m[:13])
    assert torch.equal(weights(layer)[0], weights(once)[0])
    assert not torch.equal(weights(layer)[0], before)


def test_convolutions_learn() -> None:
    layer = Plastic(Conv2d(1, 2, 3, padding=1, bias=False), LIF(tau=4.0, decay_input=False), RULE)
    nn.init.uniform_(layer.connection.weight, 0.0, 0.8)
    before = weights(layer)[0]
    out = layer(spikes(10, 2, 1, 5, 5).float())
    assert out.shape == (10, 2, 2, 5, 5)
    assert not torch.equal(weights(layer)[0], before)


def test_refusals() -> None:
    with pytest.raises(ArgumentError, match="SpikeRule or a ThreeFactor"):
        Plastic(nn.Linear(2, 3), LIF(), nn.ReLU())  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="Conv2d"):
        Plastic(nn.ReLU(), LIF(), RULE)
    with pytest.raises(ArgumentError, match="takes no modulator"):
        Plastic(nn.Linear(2, 3), LIF(), RULE).run(torch.zeros(4, 1, 2), None, torch.zeros(4, 1))
    with pytest.raises(ArgumentError, match="needs a modulator"):
        Plastic(nn.Linear(2, 3), LIF(), RewardSTDP())(torch.zeros(4, 1, 2))
