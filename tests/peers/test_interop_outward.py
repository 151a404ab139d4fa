"""The way back: networks of ours with random weights, as the peers', fire as ours do.

SpikingJelly's and snnTorch's with weights from a continuous distribution, where no rounding decides; Norse's on dyadic
numbers, where there is none.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from spikenet import layers, use_backend
from spikenet.errors import ArgumentError, UnknownNameError
from spikenet.interop import (
    LateResetLIF,
    from_norse,
    from_snntorch,
    from_spikingjelly,
    to_norse,
    to_snntorch,
    to_spikingjelly,
)
from spikenet.neurons import ALIF, IF, LIF, NO_RESET, PLIF, CubaLIF

pytestmark = pytest.mark.peers


@pytest.fixture(autouse=True)
def plain_backend():
    with use_backend("reference"):
        yield


def spikes(*shape: int, dtype: torch.dtype) -> Tensor:
    return (torch.rand(30, 3, *shape) < 0.4).to(dtype)


def busy(z: Tensor) -> Tensor:
    assert 0.02 < z.mean() < 0.9
    return z


def network(first: nn.Module, second: nn.Module, third: nn.Module) -> nn.Sequential:
    net = nn.Sequential(
        nn.Sequential(layers.Conv2d(2, 6, 3, padding=1), layers.BatchNorm2d(6), first, layers.MaxPool2d(2)),
        *(layers.Conv2d(6, 4, 3), second, nn.Dropout(0.3), layers.AvgPool2d(2)),
        *(nn.Flatten(2), nn.Linear(4, 12), third),
    )
    return net.eval()


def test_spikingjelly():
    pytest.importorskip("spikingjelly.activation_based.neuron")
    from spikingjelly.activation_based import functional

    for v_reset, rest in ((0.0, 0.0), (-0.25, -0.25), (None, 0.0)):
        given = {"v_reset": v_reset, "v_rest": rest, "surrogate": "atan"}
        plif = PLIF(3.0, 0.1, decay_input=False, **given)
        net = network(
            LIF(2.5, 0.3, detach_reset=True, **given), plif, IF(0.5, v_reset, v_rest=rest, surrogate="sigmoid")
        )
        net, x = net.double(), spikes(2, 8, 8, dtype=torch.float64)
        theirs = to_spikingjelly(net)
        a, b = (x.clone().requires_grad_() for _ in range(2))
        z, expected = theirs(a), net(b)
        assert torch.equal(z, busy(expected))
        z.sum().backward()
        expected.sum().backward()
        torch.testing.assert_close(a.grad, b.grad)
        functional.reset_net(theirs)
        assert torch.equal(from_spikingjelly(theirs)(x), theirs(x))
    assert not any(type(m).__module__.startswith("spikingjelly") for m in net.modules())


def test_norse():
    norse = pytest.importorskip("norse.torch")
    lif = LIF(4.0, 0.5, decay_input=True, v_rest=0.0, surrogate="fast_sigmoid")
    cuba = CubaLIF(2.0, 4.0, 1.0, decay_input=True)
    net = nn.Sequential(
        *(layers.Conv2d(2, 4, 3, bias=False), lif, layers.AvgPool2d(2), IF(0.5), nn.Flatten(2)),
        *(nn.Linear(36, 12), cuba, nn.Linear(12, 5), LIF(2.0, 0.25, None)),
    )
    with torch.no_grad():
        for p in net.parameters():
            p.copy_((torch.randn_like(p) * (96 if p.ndim > 1 else 16)).round() / 64)
    x = spikes(2, 8, 8, dtype=torch.float32)[:12]
    theirs, outputs, state = to_norse(net, surrogate="fast_sigmoid"), [], None
    assert isinstance(theirs, norse.SequentialState)
    with torch.no_grad():
        for now in x:
            z, state = theirs(now, state)
            outputs.append(z)
        assert torch.equal(torch.stack(outputs), busy(net(x)))
        assert torch.equal(from_norse(theirs)(x), net(x))


@pytest.mark.parametrize(
    "lif",
    [
        LIF(5.0, 0.4, decay_input=False),
        LIF(torch.linspace(2, 9, 10), 0.4, NO_RESET, decay_input=False),
        LateResetLIF(5.0, 0.4),
        LateResetLIF(5.0, 0.4, late=False),
    ],
    ids=str,
)
def test_snntorch(lif: nn.Module):
    pytest.importorskip("snntorch")
    net = nn.Sequential(layers.Conv2d(2, 3, 3), layers.MaxPool2d(2), nn.Flatten(2), nn.Linear(27, 10), lif)
    x = spikes(2, 8, 8, dtype=torch.float32)
    theirs = to_snntorch(net)
    with torch.no_grad():
        net[3].weight.mul_(3)
        theirs[3].weight.mul_(3)
        z = torch.stack([theirs(now) for now in x])
        assert torch.equal(z, busy(net(x)))
        theirs[4].reset_mem()
        assert torch.equal(from_snntorch(theirs, surrogate="atan")(x), z)


def test_thresholds_that_are_met_exactly():
    """A potential of exactly the threshold fires here, and in the networks made of ours."""
    pytest.importorskip("snntorch")
    pytest.importorskip("norse.torch")
    x = torch.tensor([0.5, 0.75, 1.0, 0.75, 0.0]).view(5, 1, 1)
    ours = nn.Sequential(LIF(2.0, decay_input=False))
    assert ours(x).flatten().tolist() == [0, 1, 1, 0, 0]
    theirs = to_snntorch(ours)
    assert torch.stack([theirs(now) for now in x]).flatten().tolist() == [0, 1, 1, 0, 0]
    summed, theirs, state, sent = nn.Sequential(IF()), to_norse(nn.Sequential(IF()), surrogate="fast_sigmoid"), None, []
    for now in x:
        z, state = theirs(now, state)
        sent.append(z)
    assert torch.equal(torch.stack(sent), summed(x))


def test_what_has_no_counterpart_there():
    for package in ("spikingjelly", "norse", "snntorch"):
        pytest.importorskip(package)
    for take in (to_spikingjelly, to_norse, to_snntorch):
        with pytest.raises(UnknownNameError, match="'ALIF'"):
            take(nn.Sequential(nn.Linear(2, 2), ALIF()))
        with pytest.raises(UnknownNameError, match="'MeanReadout'"):
            take(nn.Sequential(layers.MeanReadout()))
        with pytest.raises(UnknownNameError, match="'gaussian'"):
            take(nn.Sequential(IF(surrogate="gaussian") if take is not to_snntorch else LIF(
                decay_input=False, surrogate="gaussian")))  # fmt: skip
        with pytest.raises(ArgumentError, match="time or batch"):
            take(nn.Sequential(nn.Flatten()))
    for take, neuron, reason in (
        (to_spikingjelly, LIF(v_rest=0.5), "rest where they reset"),
        (to_spikingjelly, IF(v_reset=NO_RESET), "reset"),
        (to_spikingjelly, LIF(torch.tensor([2.0, 3.0])), "one fixed number"),
        (to_spikingjelly, LIF(exact_decay=True), "Euler"),
        (to_norse, LIF(decay_input=False), "scale their input"),
        (to_norse, CubaLIF(v_reset=None), "resets to a potential"),
        (to_norse, LIF(v_reset=NO_RESET, surrogate="fast_sigmoid"), "reset"),
        (to_snntorch, LateResetLIF(4.0, subtracts=False), "loses an input"),
        (to_snntorch, LIF(), "decay_input=False"),
        (to_snntorch, LIF(v_reset=None, decay_input=False), "reset to 0"),
    ):
        with pytest.raises(ArgumentError, match=reason):
            take(nn.Sequential(neuron), surrogate="fast_sigmoid" if take is not to_spikingjelly else None)
