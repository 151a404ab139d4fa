"""Synaptic operations beside SpikingJelly's counter, which watches the same torch calls from below."""

from __future__ import annotations

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
