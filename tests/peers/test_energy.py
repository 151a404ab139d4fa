"""Operation counts beside other libraries' counters, and of other libraries' networks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from spikenet import energy
from spikenet.layers import Conv2d
from spikenet.neurons import LIF

pytestmark = pytest.mark.peers


@pytest.mark.parametrize(
    "options", [{"padding": 1}, {"stride": 2, "padding": 1}, {"groups": 2}, {"dilation": 2, "padding": 3}]
)
def test_spikingjelly_counts_the_same_synaptic_operations(options: dict[str, int]) -> None:
    counters = pytest.importorskip("spikingjelly.activation_based.op_counter")
    net = nn.Sequential(Conv2d(2, 6, 3, bias=False, **options), LIF(), nn.Flatten(2), nn.LazyLinear(5, bias=False))
    x = (torch.rand(4, 3, 2, 9, 8) < 0.3).float()
    counter = counters.SynOpCounter()
    with torch.no_grad():
        net(x)
        with counters.DispatchCounterMode([counter]):
            net(x)
        with energy.count(net) as work:
            net(x)
    assert work.acs == counter.get_total()
    assert work.acs > 0


@pytest.mark.parametrize("values", ["counts", "ternary"])
def test_spikingjelly_charges_counts_and_ternary_spikes_as_dense(values: str) -> None:
    """Its spikes are 0 and 1 alone: anything else costs every multiplication; here a unit costs one accumulate."""
    counters = pytest.importorskip("spikingjelly.activation_based.op_counter")
    spikes = (torch.rand(4, 2, 64) < 0.3).float()
    x = spikes * (3 if values == "counts" else -1)
    macs, acs = counters.MACCounter(), counters.ACCounter()
    with torch.no_grad(), counters.DispatchCounterMode([macs, acs]):
        (net := nn.Linear(64, 32, bias=False))(x)
    with energy.count(net) as work:
        net(x)
    assert (macs.get_total(), acs.get_total()) == (8 * 64 * 32, 0)
    assert (work.macs, work.acs) == (0, int(x.abs().sum()) * 32)
    assert work.layers[0].values == values


def _spikingjelly(step_mode: str) -> nn.Module:
    layer, neuron, functional = (
        pytest.importorskip(f"spikingjelly.activation_based.{room}") for room in ("layer", "neuron", "functional")
    )
    net = nn.Sequential(
        layer.Conv2d(2, 4, 3, padding=1, bias=False),
        layer.BatchNorm2d(4),
        neuron.LIFNode(detach_reset=True),
        layer.MaxPool2d(2),
        layer.Flatten(),
        layer.Linear(4 * 9, 5, bias=False),
        neuron.IFNode(),
    ).eval()
    functional.set_step_mode(net, step_mode)
    return net


def test_a_spikingjelly_network_in_both_step_modes() -> None:
    functional = pytest.importorskip("spikingjelly.activation_based.functional")
    whole, single = _spikingjelly("m"), _spikingjelly("s")
    single.load_state_dict(whole.state_dict())
    with torch.no_grad():
        for net in (whole, single):
            net[0].weight.copy_(whole[0].weight.mul_(8).round_())  # the input currents are exact
    x = (torch.rand(4, 3, 2, 6, 6) < 0.4).float()
    sent: list[torch.Tensor] = []
    handle = whole[2].register_forward_hook(lambda *found: sent.append(found[2]))
    with torch.no_grad():
        with energy.count(whole, strict=True) as work:
            out = whole(x)
        functional.reset_net(whole)
        with energy.count(single, strict=True, calls=4) as stepped:
            for x_t in x:
                single(x_t)
        functional.reset_net(single)
    handle.remove()
    layers = {(layer.name, layer.operation): layer for layer in work.layers}
    lif, head = layers["2", "neuron"], layers["5", "connection"]
    assert lif.steps["spikes"].tolist() == sent[0].flatten(1).sum(1).tolist()
    assert (lif.updates, lif.spikes > 0, layers["6", "neuron"].spikes) == (sent[0].numel(), True, float(out.sum()))
    assert ("1", "norm") not in layers
    assert head.acs == head.events * 5
    for name in ("acs", "macs", "updates", "spikes", "adds", "comparisons", "dense_macs"):
        np.testing.assert_array_equal(work.per_step(name), stepped.per_step(name), err_msg=name)
    assert work.dense_macs == stepped.dense_macs


def _snntorch() -> tuple[nn.Module, Callable[[nn.Module, torch.Tensor], Any]]:
    snn = pytest.importorskip("snntorch")

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.lif = nn.Linear(6, 8), snn.Leaky(beta=0.9)
            self.second, self.out = nn.Linear(8, 3), snn.Synaptic(alpha=0.8, beta=0.9)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            mem, (syn, mem_out), sent = self.lif.reset_mem(), self.out.reset_mem(), []
            for x_t in x:
                z, mem = self.lif(self.first(x_t), mem)
                z, syn, mem_out = self.out(self.second(z), syn, mem_out)
                sent.append(z)
            return torch.stack(sent)

    return Net(), lambda net, x: net(x)


def _norse() -> tuple[nn.Module, Callable[[nn.Module, torch.Tensor], Any]]:
    norse = pytest.importorskip("norse.torch")
    net = norse.SequentialState(nn.Linear(6, 8), norse.LIFCell(), nn.Linear(8, 3), norse.LIFCell())

    class Over(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = net

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            state, sent = None, []
            for x_t in x:
                z, state = self.net(x_t, state)
                sent.append(z)
            return torch.stack(sent)

    return Over(), lambda net, x: net(x)


@pytest.mark.parametrize("make", [_snntorch, _norse])
def test_neurons_of_snntorch_and_norse_stepped_in_a_loop(make: Any) -> None:
    net, call = make()
    with torch.no_grad():
        for parameter in net.parameters():
            if parameter.ndim == 2:
                parameter.copy_(parameter.abs() * 4)
    x = (torch.rand(5, 3, 6) < 0.5).float()
    with torch.no_grad(), energy.count(net, strict=True) as work:
        out = call(net, x)
    neurons = [layer for layer in work.layers if layer.operation == "neuron"]
    maps = [layer for layer in work.layers if layer.operation == "connection"]
    assert [layer.updates for layer in neurons] == [5 * 3 * 8, 5 * 3 * 3]
    assert neurons[1].steps["spikes"].tolist() == out.flatten(1).sum(1).tolist()
    assert maps[0].acs == 8 * int(x.sum())
    assert maps[1].acs == 3 * neurons[0].spikes > 0
    np.testing.assert_array_equal(maps[1].steps["events"], neurons[0].steps["spikes"])
    assert work.dense_macs * 5 == work.dense_macs_steps
