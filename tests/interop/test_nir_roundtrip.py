"""Networks that go through a NIR file and come back: the same output to the last bit."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from spikenet import Stream, layers
from spikenet.interop import CubaLeakyIntegrator, Delay, Graph, Integrator, Scale, Threshold, from_nir, to_nir
from spikenet.neurons import IF, LIF, CubaLIF, LeakyReadout

nir = pytest.importorskip("nir")
pytestmark = pytest.mark.peers


def through_a_file(net: nn.Module, shape: tuple[int, ...], folder: Path, dt: float = 1e-4) -> nn.Module:
    nir.write(folder / "net.nir", to_nir(net, shape, dt=dt))
    return from_nir(folder / "net.nir")


def spikes(shape: tuple[int, ...], dtype: torch.dtype, steps: int = 60, rate: float = 0.4) -> Tensor:
    return (torch.rand(steps, 3, *shape) < rate).to(dtype)


def stirred(net: nn.Module, dtype: torch.dtype) -> nn.Module:
    net = net.to(dtype).eval()
    with torch.no_grad():
        for name, p in net.named_parameters():
            p.mul_(3.0 if name.endswith("weight") else 1.0).add_(0.05 * torch.rand_like(p))
    return net


def per_neuron(n: int, least: float = 1.5) -> Tensor:
    return torch.rand(n) * 5 + least


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("elements", [1, 2])
def test_recurrence_own_time_constants_and_delays(dtype, elements, tmp_path):
    torch.set_default_dtype(dtype)  # so that the neurons' constants have all digits of it
    try:
        net = nn.Sequential(
            layers.DelayLinear(12, 20, taps=7, elements=elements, bias=True),
            LIF(per_neuron(20), v_reset=-0.1, v_rest=0.05, decay_input=False, exact_decay=True),
            nn.Linear(20, 16),
            layers.Recurrent(CubaLIF(per_neuron(16), 3.3, torch.rand(16) + 0.3), 16, bias=True, autapses=False),
            layers.DelayRecurrent(LIF(per_neuron(16), 0.6), 16, 5, elements=elements, bias=True),
            layers.Residual(nn.Linear(16, 16), IF(0.3)),
            nn.Linear(16, 5),
            LeakyReadout(per_neuron(5)),
        )
    finally:
        torch.set_default_dtype(torch.float32)
    net, x = stirred(net, dtype), spikes((12,), dtype)
    for n in (2, 4, 5):
        assert 0.02 < net[:n](x).mean() < 0.8  # there is something to compare
    assert torch.equal(through_a_file(net, (12,), tmp_path)(x), net(x))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_convolutions_with_delays_and_pools(dtype, tmp_path):
    net = nn.Sequential(
        layers.DelayConv2d(2, 4, 3, taps=4, padding=1, bias=True),
        IF(0.7),
        layers.AvgPool2d(2),
        layers.Conv2d(4, 3, 3, stride=2, padding=1),
        LIF(torch.rand(3, 2, 2) + 2, 0.3),
        layers.AvgPool2d(2, divisor_override=1),
        nn.Flatten(2),
        layers.EventLinear(3, 4, bias=False),
    )
    net, x = stirred(net, dtype), spikes((2, 8, 8), dtype, 20)
    back = through_a_file(net, (2, 8, 8), tmp_path)
    assert isinstance(back[0] if isinstance(back, nn.Sequential) else back.nodes["0"], layers.DelayConv2d)
    assert net[:5](x).mean() > 0.02
    assert torch.equal(back(x), net(x))


def test_one_space_axis_and_the_rarer_nodes(tmp_path):
    net = nn.Sequential(
        layers.DelayConv1d(2, 3, 3, taps=3),
        layers.Conv1d(3, 2, 3, padding=1),
        Delay(torch.arange(12).view(2, 6)),
        Scale(torch.rand(2, 6)),
        nn.Flatten(2),
        Threshold(v_threshold=0.05),
        nn.Dropout(0.5),
        CubaLeakyIntegrator(per_neuron(12), 2.5, v_rest=0.2),
        Integrator(),
    )
    net, x = stirred(net, torch.float32), spikes((2, 8), torch.float32, 20)
    back = through_a_file(net, (2, 8), tmp_path)
    assert 0.1 < net[:6](x).mean() < 0.9
    assert torch.equal(back(x), net(x))


@pytest.mark.parametrize(("per", "rest"), [("input", {}), ("output", {"bias": True}), ("shared", {})])
def test_axonal_and_dendritic_delays(per, rest, tmp_path):
    net = stirred(nn.Sequential(layers.DelayLinear(6, 5, taps=9, per=per, **rest)), torch.float32)
    net[0].clamp_()
    x = spikes((6,), torch.float32)
    assert torch.equal(through_a_file(net, (6,), tmp_path)(x), net(x))


def test_axonal_delays_of_others_are_joined_with_their_weights():
    delay, weight = torch.tensor([0.0, 2e-3, 5e-3]), torch.randn(4, 3)
    nodes = [nir.Delay(delay.double().numpy()), nir.Linear(weight.numpy())]
    net, x = from_nir(nir.NIRGraph.from_list(*nodes), dt=1e-3), torch.randn(12, 1, 3)
    late = torch.stack([torch.cat([torch.zeros(k, 1), x[: len(x) - k, :, j]]) for j, k in enumerate((0, 2, 5))], -1)
    assert isinstance(net[0], layers.DelayLinear)
    torch.testing.assert_close(net(x), late @ weight.T)


def test_seconds_stay_seconds(tmp_path):
    """Neurons in seconds need no `dt`, and their graph holds their time constants as they are."""
    net = nn.Sequential(nn.Linear(3, 4), LIF(tau=per_neuron(4) * 1e-3, v_threshold=0.4, dt=1e-3))
    graph = to_nir(net, (3,))
    assert graph.nodes["1"].tau.tolist() == net[1].tau.tolist()
    x = spikes((3,), torch.float32)
    assert torch.equal(from_nir(graph)(x), net(x))


def test_another_step_is_another_discretisation():
    """tau = 8 ms in steps of 1 ms and of 0.5 ms: a rate of 1/8 and of 1/16."""
    graph = to_nir(nn.Sequential(LeakyReadout(8.0)), (1,), dt=1e-3)
    x = torch.ones(4, 1, 1)
    for dt, rate in ((1e-3, 1 / 8), (5e-4, 1 / 16)):
        expected = 1 - (1 - rate) ** torch.arange(1.0, 5.0)
        torch.testing.assert_close(from_nir(graph, dt=dt)(x).flatten(), expected)


def loop(delayed: bool) -> tuple[nn.Module, nn.Module, Graph]:
    """A neuron that hears itself through another: no layer of its own."""
    first, back = nn.Linear(5, 4), nn.Linear(4, 4)
    middle: nn.Module = Delay(torch.tensor(2)) if delayed else nn.Linear(4, 4)
    modules = {"in": first, "a": LIF(2.0, 0.3), "b": middle, "c": IF(0.5), "back": back}
    edges = [("input", "in"), ("in", "a"), ("a", "b"), ("b", "c"), ("c", "back"), ("back", "a"), ("c", "output")]
    return first, back, Graph(modules, edges, dict.fromkeys(modules, (4,)))


@pytest.mark.parametrize("delayed", [False, True])
def test_loops_through_several_neurons(delayed, tmp_path):
    """Step by step by hand, through a file, and in parts."""
    first, back, net = loop(delayed)
    x = spikes((5,), torch.float32, 25)
    a, b, c = (net.nodes[n] for n in "abc")
    sa = sb = sc = None
    heard, outputs = torch.zeros(3, 4), []
    for now in x:
        z, sa = a.step(first(now) + back(heard), sa)
        z, sb = b.step(z, sb) if delayed else (b(z), None)
        heard, sc = c.step(z, sc)
        outputs.append(heard)
    expected = torch.stack(outputs)
    assert 0.05 < expected.mean() < 0.95
    assert torch.equal(net(x), expected)
    assert torch.equal(through_a_file(net, (5,), tmp_path)(x), expected)
    stream = Stream(net)
    assert torch.equal(torch.cat([stream(x[:7]), stream(x[7:8]), stream(x[8:])]), expected)


def test_delays_stream():
    delay, x = Delay(torch.tensor([0, 3, 1])), torch.randn(9, 2, 3)
    stream = Stream(delay)
    assert torch.equal(torch.cat([stream(x[:2]), stream(x[2:3]), stream(x[3:])]), delay(x))
    assert torch.equal(delay(x)[3:, :, 1], x[:-3, :, 1])


def test_nested_graphs_are_unfolded():
    torch.manual_seed(3)
    lif = nir.LIF(*(torch.full((4,), v).double().numpy() for v in (2e-3, 1.0, 0.0, 0.4)))
    rest = nir.Linear(torch.randn(4, 4).numpy())
    inner = nir.NIRGraph(
        nodes={"in": nir.Input([4]), "lif": lif, "w": rest, "out": nir.Output([4])},
        edges=[("in", "lif"), ("lif", "w"), ("w", "lif"), ("lif", "out")],
    )
    weight = torch.randn(4, 3)
    nodes = {"x": nir.Input([3]), "w": nir.Linear(weight.numpy()), "population": inner, "y": nir.Output([4])}
    net = from_nir(nir.NIRGraph(nodes=nodes, edges=[("x", "w"), ("w", "population"), ("population", "y")]), dt=1e-3)
    ours = layers.Recurrent(LIF(2.0, 0.4), 4)
    ours.weight = nn.Parameter(torch.tensor(rest.weight))
    x = torch.randn(20, 2, 3)
    z = ours(x @ weight.T)
    assert isinstance(net[1], layers.Recurrent)
    assert 0.05 < z.mean() < 0.95
    assert torch.equal(net(x), z)


def test_thresholds_move_to_the_number_before():
    """NIR fires above the threshold, ours from it on."""
    for dtype in (torch.float32, torch.float64):
        net = nn.Sequential(IF(torch.tensor(0.75, dtype=dtype)))
        graph = to_nir(net, (1,), dt=1.0)
        said = torch.as_tensor(graph.nodes["0"].v_threshold)
        assert said.dtype == dtype
        assert torch.nextafter(said, said + 1) == 0.75
        x = torch.tensor([0.75, float(said)], dtype=dtype).view(1, 2, 1)
        assert from_nir(graph, dtype=dtype)(x).flatten().tolist() == [1, 0]


def test_soft_resets_are_asked_for():
    graph = nir.NIRGraph.from_list(nir.IF(*(torch.tensor([v]).numpy() for v in (1.0, 1.0))))
    x = torch.full((1, 1, 1), 1.75)
    assert from_nir(graph, dt=1.0)[0].trace(x)[1].v.item() == 0.0
    assert from_nir(graph, dt=1.0, soft_reset=True)[0].trace(x)[1].v.item() == pytest.approx(0.75)
