"""Delays that learn: clamps, the published schedule, settling, parameter groups, published networks."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import nn

from spikenet.layers import DelayLinear, SigmaSchedule, delay_groups
from tests.layers.delay_layers import linear, spikes


def test_delays_are_clamped_before_they_are_used_and_not_by_the_gradient() -> None:
    layer, x = linear(), spikes(15, 3, 6)
    layer.delay.data[0, 0, 0], layer.delay.data[1, 0, 0] = -3.0, 11.0
    clamped = linear()
    clamped.load_state_dict(layer.state_dict())
    clamped.clamp_()
    assert clamped.delay[:2, 0, 0].tolist() == [0.0, 6.0]
    first, second = layer(x), layer(x)  # one graph with two calls
    (first + second).square().sum().backward()
    assert torch.equal(layer.delay, clamped.delay)
    (2 * clamped(x)).square().sum().backward()
    torch.testing.assert_close(layer.delay.grad, clamped.delay.grad)
    assert layer.delay.grad[0, 0, 0] != 0


def test_training_finds_a_delay() -> None:
    torch.manual_seed(1)
    x = spikes(200, 8, 1)
    target = torch.zeros_like(x)
    target[9:] = x[:-9]
    layer = DelayLinear(1, 1, 15, sigma=7.0).double()
    layer.weight.data.fill_(1.0)
    layer.delay.data.fill_(2.0)
    optimiser = torch.optim.Adam(delay_groups(layer, 1e-3, 0.1))
    schedule = SigmaSchedule(layer, 100)
    for _ in range(150):
        optimiser.zero_grad()
        (layer(x) - target).square().sum().backward()
        optimiser.step()
        schedule.step()
    assert layer.rounded().item() == 9


@pytest.mark.parametrize(("first", "epochs", "factor"), [(12, 37, 0.898633), (15, 15, 0.756907), (15, 25, 0.846107)])
def test_sigma_falls_as_published(first: int, epochs: int, factor: float) -> None:
    net = nn.Sequential(DelayLinear(3, 4, 2 * first + 1, sigma=first), nn.ReLU(), DelayLinear(4, 2, 5, sigma=first))
    schedule = SigmaSchedule(net, epochs)
    schedule.step()
    assert float(net[0].sigma) == pytest.approx(first * factor, rel=1e-6)
    for _ in range(epochs - 1):
        assert net[0].sigma > 0.24
        schedule.step()
    assert float(net[2].sigma) == pytest.approx(0.23, rel=1e-4)
    last = float(net[0].sigma)
    schedule.step()
    assert float(net[0].sigma) == last


def test_a_schedule_goes_on_where_it_was() -> None:
    nets = [nn.Sequential(DelayLinear(3, 4, 9, sigma=4.0)) for _ in range(2)]
    whole, before = (SigmaSchedule(net, 6) for net in nets)
    for _ in range(6):
        whole.step()
    for _ in range(2):
        before.step()
    after = SigmaSchedule(nets[1], 6)
    after.load_state_dict(before.state_dict())
    for _ in range(4):
        after.step()
    assert torch.equal(nets[0][0].sigma, nets[1][0].sigma)


def test_no_epochs_leave_sigma_as_it_is() -> None:
    layer = DelayLinear(3, 4, 9)
    SigmaSchedule(layer, 0).step()
    assert float(layer.sigma) == pytest.approx(0.23)


@pytest.mark.parametrize("kernel", ["gauss", "max", "v1", "v0"])
def test_settled_delays_are_heard_in_training_as_in_evaluation(kernel: str) -> None:
    layer = DelayLinear(5, 4, 9, kernel=kernel, sigma=4.0).double()
    schedule, first = SigmaSchedule(layer, 4, settle=2), layer.delay.detach().clone()
    schedule.step()
    assert torch.equal(layer.delay, first)
    schedule.step()
    schedule.step()
    assert torch.equal(layer.delay, first.round())
    assert float(layer.sigma) == 0.0
    k, largest = layer.synapses(), layer.weight.abs().max().item()
    expected = torch.zeros_like(k).scatter_(2, layer.rounded(), layer.weight.detach())
    torch.testing.assert_close(k, expected, rtol=0.0, atol=0.0022 * largest)


def test_groups_hold_every_parameter_once() -> None:
    net = nn.Sequential(DelayLinear(3, 4, 9, bias=True), nn.BatchNorm1d(4), DelayLinear(4, 2, 5))
    rest, delays = delay_groups(net, 1e-3, weight_decay=1e-5)
    assert delays["params"] == [net[0].delay, net[2].delay]
    assert {id(p) for p in rest["params"]} | {id(p) for p in delays["params"]} == {id(p) for p in net.parameters()}
    assert len(rest["params"]) == len(list(net.parameters())) - 2
    assert (rest["lr"], rest["weight_decay"], delays["weight_decay"]) == (1e-3, 1e-5, 0.0)
    assert delays["lr"] == pytest.approx(0.1)


def published(features: list[int], elements: int) -> nn.Module:
    """Delays, then batch norm after each hidden layer."""
    parts: list[nn.Module] = []
    for k, (a, b) in enumerate(itertools.pairwise(features)):
        parts.append(DelayLinear(a, b, 25, elements=elements))
        parts += [nn.BatchNorm1d(b)] if k < len(features) - 2 else []
    return nn.Sequential(*parts)


@pytest.mark.parametrize(
    ("features", "elements", "count"),
    [
        ([140, 256, 256, 20], 1, 214_016),
        ([140, 512, 512, 35], 1, 705_536),
        ([140, 512, 512, 35], 2, 1_409_024),
        ([140, 512, 512, 512, 35], 1, 1_230_848),
        ([140, 512, 512, 512, 35], 2, 2_458_624),
    ],
)
def test_published_networks_have_their_number_of_parameters(features: list[int], elements: int, count: int) -> None:
    assert sum(p.numel() for p in published(features, elements).parameters()) == count


def test_starts_as_published() -> None:
    layer = DelayLinear(300, 200, 25, elements=2)
    bound = math.sqrt(6 / 600)
    assert 0.99 * bound < layer.weight.abs().max().item() <= bound * (1 + 1e-6)
    assert 0.0 <= layer.delay.min().item() < 0.1
    assert 23.9 < layer.delay.max().item() <= 24.0
