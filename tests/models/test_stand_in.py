"""Other neurons in a network: the same spikes as the network that was written with them."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from spikenet import use_backend
from spikenet.errors import ArgumentError
from spikenet.layers import Recurrent
from spikenet.models import STAND_INS, SpikingConvNet, with_neuron
from spikenet.neurons import IF, LIF, NO_RESET, PLIF, PSN, ConductanceLIF, IntrinsicLIF, Neuron, RefractoryLIF


@pytest.fixture(autouse=True)
def plain_backend():
    with use_backend("reference"):
        yield


@pytest.mark.parametrize("name", STAND_INS)
def test_every_neuron_can_stand_in(name: str) -> None:
    net = with_neuron(SpikingConvNet((2, 8, 8), 3, channels=[4], hidden=6), STAND_INS[name])
    assert [type(m) for m in net.body.modules() if isinstance(m, Neuron)] == [STAND_INS[name]] * 2
    logits = net((torch.rand(4, 2, 2, 8, 8) < 0.5).float())
    logits.sum().backward()
    assert logits.shape == (2, 3)


@pytest.mark.parametrize("v_reset", [0.25, None, NO_RESET], ids=str)
def test_what_both_neurons_have_stays(v_reset: object) -> None:
    """Beside neurons made by hand from the same numbers."""
    tau = torch.tensor([3.0, 5.0, 7.0])
    rest = {"v_threshold": 0.6, "v_reset": v_reset, "detach_reset": True, "surrogate": "sigmoid", "v_rest": 0.125}
    x = torch.randn(40, 2, 3)
    for kind, mine in (
        (LIF, LIF(tau, decay_input=False, **rest)),
        (IF, IF(**rest)),
        (PLIF, PLIF(tau, decay_input=False, **rest)),
        (RefractoryLIF, RefractoryLIF(tau=tau, decay_input=False, **rest)),
    ):
        net = with_neuron(nn.Sequential(LIF(tau, decay_input=False, **rest)), kind)
        (a, b), got = (x.clone().requires_grad_() for _ in range(2)), net
        z, expected = got(a), mine(b)
        z.sum().backward()
        expected.sum().backward()
        assert 0.02 < z.mean() < 0.9
        assert torch.equal(z, expected)
        assert torch.equal(a.grad, b.grad)


def test_neurons_inside_of_layers_and_shared_ones() -> None:
    shared = LIF()
    net = with_neuron(nn.ModuleList([Recurrent(LIF(4.0), 3), shared, shared]), PLIF)
    assert isinstance(net[0].neuron, PLIF)
    torch.testing.assert_close(net[0].neuron.tau, torch.tensor(4.0))
    assert net[1] is net[2]


def test_what_cannot_stand_in() -> None:
    net = nn.Sequential(LIF())
    for kind, reason in ((ConductanceLIF, "inputs"), (PSN, "no inputs"), (IntrinsicLIF, "needs features")):
        with pytest.raises(ArgumentError, match=reason):
            with_neuron(net, kind)
    assert type(net[0]) is LIF
    with pytest.raises(ArgumentError, match="no LIF neuron"):
        with_neuron(nn.Sequential(nn.Linear(2, 2)), IF)
