"""Networks of the peers with random weights, converted: the same spikes.

SpikingJelly's in float64; snnTorch's in float32, which its neurons put out, with weights from a continuous
distribution, where no rounding decides; Norse's on dyadic numbers, where there is none.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from spikenet import Stream, layers, use_backend
from spikenet.errors import ArgumentError, UnknownNameError
from spikenet.interop import from_norse, from_snntorch, from_spikingjelly, spikingjelly_neuron
from spikenet.neurons import IF, LIF, PLIF, CubaLIF, Neuron

pytestmark = pytest.mark.peers


@pytest.fixture(autouse=True)
def plain_backend():
    """No kernel is compiled for each neuron and dtype: what is compared here does not depend on it."""
    with use_backend("reference"):
        yield


def spikes(*shape: int, steps: int = 30, dtype: torch.dtype = torch.float64) -> Tensor:
    return (torch.rand(steps, 3, *shape) < 0.4).to(dtype)


def busy(z: Tensor) -> Tensor:
    assert 0.02 < z.mean() < 0.9
    return z


def no_peer_left(net: nn.Module, name: str) -> bool:
    return not any(type(m).__module__.startswith(name) for m in net.modules())


# SpikingJelly.


@pytest.fixture
def jelly() -> Any:
    pytest.importorskip("spikingjelly.activation_based.neuron")
    import spikingjelly.activation_based.layer
    import spikingjelly.activation_based.neuron

    return spikingjelly.activation_based


def in_steps(net: nn.Module) -> nn.Module:
    from spikingjelly.activation_based import functional

    functional.set_step_mode(net, "m")
    return net


@pytest.mark.parametrize("v_reset", [0.0, -0.25, None])
@pytest.mark.parametrize("decay_input", [True, False])
def test_spikingjelly_layers_and_neurons(jelly, v_reset, decay_input):
    layer, neuron, sg = jelly.layer, jelly.neuron, jelly.surrogate
    net = nn.Sequential(
        *(layer.Conv2d(2, 6, 3, padding=1, bias=False), layer.BatchNorm2d(6)),
        *(neuron.LIFNode(2.3, decay_input, 0.3, v_reset, sg.ATan(), True), layer.MaxPool2d(2)),
        *(layer.Conv2d(6, 4, 3), neuron.ParametricLIFNode(3.0, decay_input, 0.1, v_reset), layer.AvgPool2d(2)),
        *(layer.Flatten(), layer.Dropout(0.5), layer.Linear(4, 12), neuron.IFNode(0.5, v_reset, sg.Sigmoid(2.0))),
    )
    del net[8]  # its dropout keeps one mask for a whole sequence, and has a state
    net = in_steps(net).double().eval()
    ours, x = from_spikingjelly(net), spikes(2, 8, 8)
    assert no_peer_left(ours, "spikingjelly")
    assert [type(m) for m in ours if isinstance(m, Neuron)] == [LIF, PLIF, IF]
    assert torch.equal(ours(x), busy(net(x)))
    stream = Stream(ours)
    torch.testing.assert_close(torch.cat([stream(x[:7]), stream(x[7:])]), ours(x))


def test_spikingjelly_spikformer(jelly):
    from spikingjelly.activation_based.model.spikformer import Spikformer

    net = Spikformer(
        T=3, img_size_h=16, img_size_w=16, patch_size=4, embed_dims=32, num_heads=2, depths=1, num_classes=5
    )
    x = torch.randn(3, 2, 3, 16, 16, dtype=torch.float64)
    net = settled(net.double(), x)
    jelly.functional.reset_net(net)
    ours = from_spikingjelly(net)
    neurons = [m for m in ours.modules() if isinstance(m, LIF)]
    seen: dict[str, list[Tensor]] = {"ours": [], "theirs": []}
    watch(neurons, seen["ours"])
    watch([m for m in net.modules() if isinstance(m, jelly.neuron.LIFNode)], seen["theirs"])
    y, expected = ours(x), net(x)
    assert len(neurons) == len(seen["theirs"]) > 8
    for a, b in zip(seen["ours"], seen["theirs"], strict=True):
        assert torch.equal(a, b)
    assert sum(busy_enough(a) for a in seen["ours"]) > 8
    assert torch.equal(y, expected)


def settled(net: nn.Module, x: Tensor) -> nn.Module:
    """Norms with the statistics of `x`, and enough gain that neurons fire in every layer."""
    for m in net.modules():
        if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d):
            m.momentum = 1.0
            nn.init.uniform_(m.weight, 1.0, 3.0)
            nn.init.uniform_(m.bias, 0.0, 1.0)
    net.train()(x)
    return net.eval()


def watch(modules: list[nn.Module], into: list[Tensor]) -> None:
    def keep(module: nn.Module, args: Any, output: Tensor) -> None:
        into.append(output)

    for m in modules:
        m.register_forward_hook(keep)


def busy_enough(z: Tensor) -> bool:
    return bool(0.01 < z.mean() < 0.99)


def test_spikingjelly_recurrence_currents_and_graded_neurons(jelly):
    layer, neuron, sg = jelly.layer, jelly.neuron, jelly.surrogate
    lif = neuron.LIFNode(2.0, v_threshold=0.15, surrogate_function=sg.ATan())
    net = nn.Sequential(
        layer.LinearRecurrentContainer(lif, 8, 8, bias=True),
        neuron.CUBALIFNode(0.5, 0.75, 1.1, 0.0, sg.ATan()),
        layer.SeqToANNContainer(nn.Linear(8, 6), nn.BatchNorm1d(6)),
        neuron.NonSpikingLIFNode(3.0, "mean-mem"),
    )
    net = in_steps(net).double().eval()
    ours, x = from_spikingjelly(net), spikes(8)
    expected, theirs = net(x), x
    jelly.functional.reset_net(net)
    for module, mine in zip(net[:2], ours[:2], strict=True):
        theirs, x = module(theirs), mine(x)
        assert torch.equal(x, busy(theirs))
    torch.testing.assert_close(ours[2:](x), expected)


def test_spikingjelly_networks_of_your_own(jelly):
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(5, 5)
            self.lif = jelly.neuron.LIFNode(2.0, v_threshold=0.2)
            self.again = self.fc

        def forward(self, x: Tensor) -> Tensor:
            return x + self.lif(self.again(self.fc(x)))

    net = in_steps(Net()).double()
    ours, x = from_spikingjelly(net), spikes(5)
    assert isinstance(ours.lif, LIF)
    assert ours.again is ours.fc is not net.fc
    assert torch.equal(ours(x), net(x))


def test_spikingjelly_modules_without_a_counterpart(jelly):
    with pytest.raises(UnknownNameError, match="GatedLIFNode"):
        from_spikingjelly(nn.Sequential(jelly.neuron.GatedLIFNode(4)))
    with pytest.raises(UnknownNameError, match=r"surrogate.*Rect"):
        from_spikingjelly(jelly.neuron.LIFNode(surrogate_function=jelly.surrogate.Rect()))
    with pytest.raises(UnknownNameError, match="layer 'GroupNorm'"):
        from_spikingjelly(jelly.layer.GroupNorm(1, 4))
    with pytest.raises(ArgumentError, match="time for batch"):
        from_spikingjelly(jelly.layer.SeqToANNContainer(nn.Linear(2, 2), jelly.neuron.LIFNode()))
    with pytest.raises(ArgumentError, match="decode"):
        from_spikingjelly(jelly.neuron.NonSpikingLIFNode())


@pytest.mark.filterwarnings("ignore:MultiStep:FutureWarning")
@pytest.mark.parametrize("v_reset", [-0.25, None])
def test_spikingjelly_neurons_by_their_old_names(jelly, v_reset):
    x = torch.randn(30, 2, 50, dtype=torch.float64)
    for name, own in (("LIFNode", {"tau": 3.0}), ("IFNode", {}), ("ParametricLIFNode", {"init_tau": 3.0})):
        ours = spikingjelly_neuron(f"MultiStep{name}", v_threshold=0.5, v_reset=v_reset, backend="cupy", **own)
        theirs = getattr(jelly.neuron, name)(v_threshold=0.5, v_reset=v_reset, step_mode="m", **own)
        a, b = (x.clone().requires_grad_() for _ in range(2))
        z, expected = ours.double()(a), theirs.double()(b)
        z.sum().backward()
        expected.sum().backward()
        assert torch.equal(z, busy(expected))
        torch.testing.assert_close(a.grad, b.grad)


# snnTorch.


def looped(net: nn.Module, x: Tensor) -> Tensor:
    """Step by step, as snnTorch's networks with `init_hidden` run."""
    outputs = []
    for now in x:
        z = net(now)
        outputs.append(z[0] if isinstance(z, tuple) else z)
    return torch.stack(outputs)


Make = Callable[[Any, dict[str, Any]], list[nn.Module]]


@pytest.mark.parametrize(
    ("make", "resets"),
    [
        (lambda s, o: [s.Leaky(0.8, **o)], "all"),
        (lambda s, o: [s.Leaky(torch.rand(10) * 0.8 + 0.1, 0.5, learn_beta=True, **o)], "all"),
        (lambda s, o: [s.Synaptic(0.6, 0.8, **o)], "all"),
        (lambda s, o: [s.RLeaky(0.8, linear_features=10, **o)], "all"),
        (lambda s, o: [s.RSynaptic(0.6, 0.8, linear_features=10, **o)], "late"),  # theirs raises for others
    ],
    ids=["Leaky", "Leaky, own beta", "Synaptic", "RLeaky", "RSynaptic"],
)
@pytest.mark.parametrize("late", [True, False])
@pytest.mark.parametrize("mechanism", ["subtract", "zero", "none"])
def test_snntorch_networks(make: Make, resets: str, late: bool, mechanism: str):
    snn = pytest.importorskip("snntorch")
    if resets == "late" and not late:
        return
    options = {"reset_mechanism": mechanism, "reset_delay": late, "init_hidden": True}
    net = nn.Sequential(nn.Linear(8, 10), *make(snn, options), nn.Linear(10, 4), snn.Leaky(0.5, 0.2, **options))
    with torch.no_grad():
        net[0].weight.mul_(6)
        net[-2].weight.mul_(4)
    ours, x = from_snntorch(net, surrogate="atan"), spikes(8, dtype=torch.float32)
    assert no_peer_left(ours, "snntorch")
    assert torch.equal(ours[:2](x), busy(looped(net[:2], x)))
    for m in net:
        if hasattr(m, "reset_mem"):
            m.reset_mem()
    if hasattr(net[1], "recurrent"):
        net[1].spk = torch.zeros_like(net[1].spk)
    assert torch.equal(ours(x), busy(looped(net, x)))


def test_snntorch_thresholds_are_strict():
    """A potential of exactly the threshold fires here and not there; the converted one does as they do."""
    snn = pytest.importorskip("snntorch")
    net = snn.Leaky(0.5, 1.0, init_hidden=True, reset_mechanism="zero", reset_delay=False)
    x = torch.tensor([0.5, 0.75, 1.0, 0.75, 0.0]).view(5, 1, 1)  # 0.5, then exactly 1, then 1.5
    ours = from_snntorch(net, surrogate="atan")
    assert torch.equal(ours(x), looped(net, x))
    assert ours(x).flatten().tolist() == [0, 0, 1, 0, 0]
    assert LIF(2.0, decay_input=False)(x).flatten().tolist() == [0, 1, 1, 0, 0]


def test_snntorch_convolutions_and_learned_decays():
    snn = pytest.importorskip("snntorch")
    leaky = snn.Leaky(0.9, 0.3, learn_beta=True, init_hidden=True)
    net = nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), leaky, nn.MaxPool2d(2), nn.Flatten(), nn.Linear(36, 5))
    net = net.eval()
    ours, x = from_snntorch(net, surrogate="atan"), spikes(2, 8, 8, dtype=torch.float32)
    assert isinstance(ours[0], layers.Conv2d)
    assert isinstance(ours[2].tau, nn.Parameter)
    torch.testing.assert_close(ours[2].tau, 1 / (1 - leaky.beta.detach()))
    torch.testing.assert_close(ours(x), looped(net, x))
    leaky.reset_mem()
    assert torch.equal(ours[:4](x), busy(looped(net[:4], x)))


def test_snntorch_modules_without_a_counterpart():
    snn = pytest.importorskip("snntorch")
    for module, error, reason in (
        (snn.Alpha(0.9, 0.8), UnknownNameError, "Alpha"),
        (snn.Leaky(0.9, state_quant=torch.round), ArgumentError, "state_quant"),
        (snn.Leaky(1.0), ArgumentError, "does not decay"),
        (snn.RLeaky(0.9, all_to_all=False), ArgumentError, "all-to-all"),
        (snn.Leaky(0.9, learn_threshold=True), ArgumentError, "learned threshold"),
    ):
        with pytest.raises(error, match=reason):
            from_snntorch(module, surrogate="atan")
    with pytest.raises(ArgumentError, match="surrogate='atan'"):
        from_snntorch(snn.Leaky(0.9))


# Norse.


def stepped(net: nn.Module, x: Tensor) -> Tensor:
    outputs, state = [], None
    for now in x:
        z, state = net(now, state)
        outputs.append(z)
    return torch.stack(outputs)


def dyadic(net: nn.Module) -> nn.Module:
    with torch.no_grad():
        for p in net.parameters():
            p.copy_((torch.randn_like(p) * (96 if p.ndim > 1 else 16)).round() / 64)
    return net


def test_norse_networks():
    """float32, which is what Norse's states are, on dyadic numbers: dt / tau is 1/4 and 1/2."""
    norse = pytest.importorskip("norse.torch")
    quarter, half, p = torch.tensor(0.25), torch.tensor(0.5), norse.LIFParameters
    net = norse.SequentialState(
        *(
            nn.Conv2d(2, 4, 3, bias=False),
            norse.LIFBoxCell(norse.LIFBoxParameters(quarter, v_th=torch.tensor(0.5)), dt=1),
        ),
        *(nn.AvgPool2d(2), norse.IAFCell(norse.IAFParameters(v_th=half)), nn.Flatten(), nn.Linear(36, 12, bias=False)),
        *(norse.LIFCell(p(half, quarter, v_th=torch.tensor(2.0)), dt=1), nn.Linear(12, 8)),
        *(norse.LIFRecurrentCell(8, 6, p(half, half), dt=1), nn.Linear(6, 3, bias=False)),
        norse.LICell(norse.LIParameters(half, quarter), dt=1),
    )
    ours, x = from_norse(dyadic(net)), spikes(2, 8, 8, dtype=torch.float32, steps=12)
    assert no_peer_left(ours, "norse")
    assert isinstance(ours[6], CubaLIF)
    for n in (2, 4, 7, 9):
        assert torch.equal(ours[:n](x), busy(stepped(norse.SequentialState(*list(net)[:n]), x)))
    torch.testing.assert_close(ours(x), stepped(net, x))


def test_norse_modules_over_time():
    norse = pytest.importorskip("norse.torch")
    half, x = torch.tensor(0.5), spikes(6, dtype=torch.float32)
    for module in (norse.LIF(norse.LIFParameters(half, half, v_th=half), dt=1), norse.IAF(norse.IAFParameters(), dt=1)):
        assert torch.equal(from_norse(module)(x), busy(module(x)[0]))


def test_norse_modules_without_a_counterpart():
    norse = pytest.importorskip("norse.torch")
    with pytest.raises(UnknownNameError, match="LSNNCell"):
        from_norse(norse.LSNNCell())
    with pytest.raises(UnknownNameError, match="method 'tanh'"):
        from_norse(norse.LIFCell(norse.LIFParameters(method="tanh")))
