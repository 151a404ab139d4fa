"""The energy term: equal to the counter on the same pass, and a gradient that points the right way."""

import pytest
import torch
from torch import nn

from spikenet import energy
from spikenet.errors import StateError
from spikenet.events import EventTensor
from spikenet.layers import (
    BatchNorm2d,
    Conv2d,
    DelayConv1d,
    DelayLinear,
    DelayRecurrent,
    Recurrent,
    SpikingSelfAttention,
    ToDense,
)
from spikenet.neurons import IF, LIF


def network(**options: object) -> nn.Sequential:
    conv = Conv2d(3, 4, 3, bias=False, **options)
    return nn.Sequential(
        Conv2d(2, 3, 3, padding=1), LIF(v_threshold=0.2), conv, LIF(v_threshold=0.1), nn.Flatten(2), nn.LazyLinear(5)
    )


def spikes(*shape: int) -> torch.Tensor:
    return (torch.rand(*shape) < 0.4).float()


@pytest.mark.parametrize(
    "options",
    [{}, {"padding": 1}, {"stride": 2, "padding": 1}, {"dilation": 2}, {"padding": 1, "padding_mode": "circular"}],
)
def test_equals_the_counter(options: dict) -> None:
    net, x = network(**options), spikes(4, 3, 2, 7, 6)
    net(x)
    with energy.count(net) as work:
        net(x)
    with energy.EnergyTerm(net) as term:
        net(x)
    assert term().item() == pytest.approx(energy.price(work).total, rel=1e-6)
    assert term().item() > 0


@pytest.mark.parametrize("x", [torch.rand(3, 2, 6), 2.0 * spikes(3, 2, 6), spikes(3, 2, 6) - spikes(3, 2, 6)])
def test_graded_counts_and_ternary_are_charged_as_the_counter_does(x: torch.Tensor) -> None:
    net = nn.Sequential(nn.Linear(6, 4), Recurrent(IF(), 4, autapses=False), nn.Linear(4, 2))
    with energy.count(net) as work:
        net(x)
    with energy.EnergyTerm(net, energy.FieldFormula("fp16")) as term:
        net(x)
    assert term().item() == pytest.approx(energy.FieldFormula("fp16")(work).total, rel=1e-6)


@pytest.mark.parametrize("x", [torch.rand(5, 2, 2, 7), spikes(5, 2, 2, 7)], ids=["graded", "spikes"])
def test_delays_are_charged_as_the_counter_does(x: torch.Tensor) -> None:
    net = nn.Sequential(
        DelayConv1d(2, 4, 3, 3, stride=2, padding=1, elements=2),
        IF(v_threshold=0.3),
        nn.Flatten(2),
        DelayRecurrent(IF(), 16, 3),
        nn.Dropout(0.4),
        DelayLinear(16, 3, 4, elements=2),
    )
    with energy.count(net.eval()) as work:
        net(x)
    with energy.EnergyTerm(net) as term:
        net(x)
    assert not term.uncounted
    assert term().item() == pytest.approx(energy.price(work).total, rel=1e-6)
    with energy.EnergyTerm(net.train()) as term:
        net(x)
        term().backward()
    assert net[0].weight.grad.abs().sum() > 0


def test_events_are_charged() -> None:
    net, x = nn.Sequential(ToDense(), nn.Linear(6, 4)), EventTensor.from_dense(spikes(3, 2, 6))
    with energy.EnergyTerm(net) as term:
        net(x)
    assert term().item() == pytest.approx(0.9 * 4 * float(x.values.sum()) / 2)


def test_gradient_is_fan_out_times_the_surrogate_s() -> None:
    """The truth: autograd on the spikes themselves, weighted by hand with each spike's number of outputs."""
    net, x = network(padding=1), spikes(2, 1, 2, 5, 5)
    net(x)
    with energy.EnergyTerm(net) as term:
        net(x)
        term().backward()
    found = net[0].weight.grad.clone()
    net.zero_grad()
    first = net[1](net[0](x))
    reached = torch.nn.functional.conv2d(torch.ones(1, 1, 5, 5), torch.ones(1, 1, 3, 3), padding=1) * 4
    second = net[3](net[2](first))
    (0.9 * ((first * reached).sum() + 5 * second.sum())).backward()
    torch.testing.assert_close(found, net[0].weight.grad)
    assert found.abs().sum() > 0


def test_steps_against_the_gradient_save_energy() -> None:
    """What the input costs is fixed; the rest, of spikes that the network sends itself, falls to less than half."""
    net, x = network(padding=1), spikes(6, 4, 2, 7, 6)
    net(x)
    with energy.count(net) as work:
        net(x)
    fixed = energy.price(work).layers[0].total
    with energy.EnergyTerm(net) as term:
        spent = []
        for _ in range(8):
            net(x)
            spent.append(term().item() - fixed)
            net.zero_grad()
            term().backward()
            with torch.no_grad():
                for parameter in net.parameters():
                    if parameter.grad is not None:
                        parameter -= 1e-5 * parameter.grad
    assert spent[-1] < spent[0] / 2


def test_silent_neurons_hear_the_gradient_too() -> None:
    net = nn.Sequential(nn.Linear(3, 4, bias=False), LIF(), nn.Linear(4, 2))
    nn.init.zeros_(net[0].weight)
    with energy.EnergyTerm(net) as term:
        net(torch.ones(2, 1, 3))
        term().backward()
    assert (net[0].weight.grad > 0).all()


def test_dropout_is_looked_through() -> None:
    net = nn.Sequential(nn.Linear(6, 50), LIF(v_threshold=0.1), nn.Dropout(0.5), nn.Linear(50, 3))
    x = spikes(4, 2, 6)
    found = []
    for training in (True, False):
        net.train(training)
        with energy.EnergyTerm(net) as term:
            net(x)
            found.append(term().item())
    assert found[0] == found[1]


def test_batch_norm_is_free_and_other_weights_are_named() -> None:
    net = nn.Sequential(Conv2d(2, 3, 3), BatchNorm2d(3), LIF(), nn.Flatten(2), nn.LayerNorm(48))
    term = energy.EnergyTerm(net)
    assert term.uncounted == ["4 (LayerNorm)"]
    term.remove()
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in net.modules())


def test_attention_is_named_and_its_projections_are_charged() -> None:
    net, x = nn.Sequential(SpikingSelfAttention(8, 2)).eval(), spikes(3, 2, 6, 8)
    for parameter in (p for p in net.parameters() if p.ndim > 1):
        parameter.data = torch.randint(0, 3, parameter.shape).float()
    with energy.count(net) as work, energy.EnergyTerm(net) as term:
        net(x)
    products = sum(layer.acs for layer in work.layers if layer.operation == "product")
    assert products > 0
    assert term.uncounted == ["0 (SpikingSelfAttention)"]
    assert term().item() == pytest.approx(energy.price(work).total - 0.9 * products / 2)


def test_counting_and_training_go_together() -> None:
    """The term is out of the counter's sight."""
    net, x = network(padding=1), spikes(4, 3, 2, 7, 6)
    net(x)
    with energy.count(net) as alone:
        net(x)
    with energy.EnergyTerm(net) as term, energy.count(net) as together:
        net(x)
    assert term().item() == pytest.approx(energy.price(alone).total)
    assert [layer.steps.keys() for layer in together.layers] == [layer.steps.keys() for layer in alone.layers]
    assert energy.price(together).total == energy.price(alone).total


def test_without_a_pass_there_is_nothing_to_charge() -> None:
    with pytest.raises(StateError, match="call the network first"):
        energy.EnergyTerm(nn.Linear(2, 2))()
