"""Our NIR graphs read by the peers: the same spikes.

Weights, decays and inputs are dyadic, so that no rounding decides.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from spikenet import layers
from spikenet.interop import to_nir
from spikenet.neurons import IF, LIF, CubaLIF

pytestmark = pytest.mark.peers
pytest.importorskip("nir")


def dyadic(net: nn.Module) -> nn.Module:
    with torch.no_grad():
        for p in net.parameters():
            scale = 1.0 if p.ndim == 1 else 8 / p[0].numel() ** 0.5
            p.copy_((torch.randn_like(p) * scale * 32).round() / 128)
    return net


def spikes(*shape: int) -> Tensor:
    return (torch.rand(40, 3, *shape) < 0.4).float()


def stepped(net: Any, x: Tensor) -> Tensor:
    outputs, state = [], None
    for now in x:
        z, state = net(now, state)
        outputs.append(z)
    return torch.stack(outputs)


def fires(z: Tensor) -> Tensor:
    assert 0.02 < z.mean() < 0.9
    return z


def test_spikingjelly_reads_our_graph():
    pytest.importorskip("spikingjelly.activation_based.neuron")
    from spikingjelly.activation_based.nir_exchange import import_from_nir

    net = nn.Sequential(
        *(layers.Conv2d(2, 4, 3, padding=1), IF(), layers.AvgPool2d(2), nn.Flatten(2), nn.Linear(64, 20)),
        *(LIF(2.0, decay_input=False), nn.Linear(20, 10, bias=False), CubaLIF(4.0, 2.0, decay_input=False)),
    )
    x = spikes(2, 8, 8)
    theirs = import_from_nir(to_nir(dyadic(net), (2, 8, 8), dt=1e-4), dt=1e-4)
    assert torch.equal(stepped(theirs, x), fires(net(x)))


def test_snntorch_reads_our_graph():
    pytest.importorskip("snntorch")
    from snntorch.import_nir import import_from_nir

    net = nn.Sequential(
        *(nn.Linear(12, 20), LIF(2.0, decay_input=False), nn.Linear(20, 10), CubaLIF(4.0, 2.0, decay_input=False))
    )
    x = spikes(12)
    theirs = import_from_nir(to_nir(dyadic(net), (12,), dt=1e-4))  # its dt is 1e-4, always
    assert torch.equal(stepped(theirs, x), fires(net(x)))


@pytest.mark.filterwarnings("ignore:nirtorch.load is being deprecated:DeprecationWarning")  # which Norse calls
def test_norse_reads_our_graph():
    pytest.importorskip("norse")
    import norse.torch

    net = nn.Sequential(nn.Linear(12, 20), LIF(2.0), nn.Linear(20, 20), LIF(4.0, 0.25))
    x = 2 * spikes(12)
    theirs = norse.torch.from_nir(to_nir(dyadic(net), (12,), dt=1e-3), dt=1e-3)
    assert torch.equal(stepped(theirs, x), fires(net(x)))
