"""Energies beside SpikingJelly's estimators, on the same network and input.

Where the formula is the same the numbers are; each difference is asserted together with its reason.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from spikenet import energy

pytestmark = pytest.mark.peers


@pytest.fixture
def peer() -> Any:
    return pytest.importorskip("spikingjelly.activation_based.op_counter")


def network(*layers: nn.Module, leaks: bool = False) -> tuple[nn.Module, nn.Module]:
    """SpikingJelly's neuron behind plain layers, one sample and one step: both tools count the same calls."""
    neuron = pytest.importorskip("spikingjelly.activation_based.neuron")
    node = neuron.LIFNode(step_mode="m", v_threshold=0.1) if leaks else neuron.IFNode(step_mode="m", v_threshold=0.1)
    return nn.Sequential(*layers, node), node


def spikes(*shape: int) -> torch.Tensor:
    return (torch.rand(*shape) < 0.4).float()


def counted(net: nn.Module, node: Any, x: torch.Tensor) -> energy.Work:
    """One step of one sample: a linear layer is given ``[1, 1, features]``, a convolution ``[1, C, H, W]``."""
    node.reset()
    with torch.no_grad(), energy.count(net.eval(), steps=1 if x.ndim == 4 else None) as work:
        net(x)
    node.reset()
    return work


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("preset", ["fp32", "fp16", "int8"])
def test_simple_energy(peer: Any, bias: bool, preset: str) -> None:
    """Operations of connections and their memory agree: weights used, biases, states read and written at every step.

    SpikingJelly adds accumulates for the neurons, as torch happens to compute them (ours are a part of their own); we
    add activations, a bit a spike. Its price of a byte is 8 times our price of a bit.
    """
    net, node = network(nn.Linear(12, 7, bias=bias))
    x = spikes(1, 1, 12)
    work = counted(net, node, x)
    cost = getattr(peer.SimpleEnergyCostConfig, preset)()
    theirs = peer.estimate_simple_energy(net, x, config=peer.SimpleEnergyConfig(cost_config=cost))
    assert cost.e_mac_pj == pytest.approx(energy.FieldFormula(preset).mac)
    assert cost.e_ac_pj == pytest.approx(energy.FieldFormula(preset).ac)
    ours = energy.StepStyle()(work)
    bit = ours.profile["memory.bit"][1]
    assert cost.e_memory_pj_per_byte == pytest.approx(8 * bit)
    activations = bit * (12 + 7)  # 12 inputs and 7 outputs of a bit
    assert theirs.energy_memory_pj == pytest.approx(ours.parts["memory"] - activations)
    assert theirs.counts["synop"] == work.acs
    assert theirs.energy_mac_pj == 0


@pytest.mark.parametrize("leaks", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_lemaire_linear(peer: Any, bias: bool, leaks: bool) -> None:
    """Every part agrees: operations, addressing, memory by the size of each buffer."""
    net, node = network(nn.Linear(12, 7, bias=bias), leaks=leaks)
    x = spikes(1, 1, 12)
    assert_lemaire(peer, net, node, x)


@pytest.mark.parametrize("bias", [False, True])
def test_lemaire_convolution(peer: Any, bias: bool) -> None:
    """Every part agrees as long as no spike is near a border: there the paper charges outputs that do not exist."""
    net, node = network(nn.Conv2d(2, 3, 3, bias=bias))
    x = torch.zeros(1, 2, 9, 9)
    x[:, :, 2:7, 2:7] = spikes(1, 2, 5, 5)
    assert_lemaire(peer, net, node, x)


def test_lemaire_at_a_border_charges_what_is_reached(peer: Any) -> None:
    """A spike in the corner of a 'valid' 3 x 3 convolution reaches one output of each channel; the paper charges 9."""
    net, node = network(nn.Conv2d(1, 3, 3, bias=False))
    x = torch.zeros(1, 1, 5, 5)
    x[0, 0, 0, 0] = 1.0
    work = counted(net, node, x)
    theirs = peer.estimate_lemaire_energy(net, x)
    assert (work.acs, theirs.counts["synop"]) == (3, 27)
    assert energy.Lemaire()(work).parts["addressing"] == pytest.approx(theirs.breakdown_pj["addressing_pj"])


def test_lemaire_graded_input(peer: Any) -> None:
    net, node = network(nn.Linear(12, 7))
    assert_lemaire(peer, net, node, torch.rand(1, 1, 12))


def test_integer_spikes_are_events_here_and_dense_there(peer: Any) -> None:
    """SpikingJelly takes only {0, 1} for spikes: sums of spikes and ternary spikes are charged as dense there."""
    net = nn.Linear(64, 32, bias=False)
    for x in (2.0 * spikes(8, 1, 64), spikes(8, 1, 64) - spikes(8, 1, 64)):
        macs, acs = peer.MACCounter(), peer.ACCounter()
        with torch.no_grad():
            with peer.DispatchCounterMode([macs, acs]):
                net(x)
            with energy.count(net) as work:
                net(x)
        assert (macs.get_total(), acs.get_total()) == (8 * 64 * 32, 0)
        assert (work.macs, work.acs) == (0, float(x.abs().sum()) * 32)


def test_spikesim_dense(peer: Any) -> None:
    """SpikeSim's dense form: cycles of 64 x 64 tiles, every row and all control."""
    net, node = network(nn.Conv2d(70, 130, 3, padding=1, bias=False))
    x = spikes(1, 70, 5, 5)
    work = counted(net, node, x)
    theirs = peer.estimate_spikesim_energy(net, x)
    assert energy.Crossbar()(work).total == pytest.approx(theirs.energy_total_pj)


def test_spikesim_rows_by_event(peer: Any) -> None:
    """The cells of driven rows agree (one full tile); SpikingJelly also switches off the control of idle patches."""
    net, node = network(nn.Conv2d(64, 8, 3, padding=1, bias=False))
    x = spikes(1, 64, 5, 5)
    work = counted(net, node, x)
    theirs = peer.estimate_spikesim_energy(net, x, config=peer.SpikeSimEnergyConfig(activity_mode="event"))
    ours = energy.Crossbar(gated=True)(work)
    control = ours.profile["crossbar.adc"][1] * 64 + 8 * 16 * ours.profile["crossbar.subtract"][1]
    assert ours.parts["operations"] - 25 * control == pytest.approx(theirs.breakdown_pj["xbar_pj"])


def assert_lemaire(peer: Any, net: nn.Module, node: Any, x: torch.Tensor) -> None:
    work = counted(net, node, x)
    theirs = peer.estimate_lemaire_energy(net, x)
    ours = energy.Lemaire()(work)
    assert ours.total == pytest.approx(theirs.total_pj)
    assert ours.parts["operations"] + ours.parts.get("neurons", 0.0) == pytest.approx(theirs.breakdown_pj["ops_pj"])
    assert ours.parts["addressing"] == pytest.approx(theirs.breakdown_pj["addressing_pj"])
