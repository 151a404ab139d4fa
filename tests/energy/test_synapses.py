"""Each kind of layer against a walk over its synapses: written as loops, or, with all weights 1, torch's own sums."""

import itertools

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from spikenet import energy
from spikenet.events import EventTensor
from spikenet.layers import (
    AvgPool2d,
    Conv2d,
    DelayConv1d,
    DelayConv2d,
    DelayLinear,
    DelayRecurrent,
    EventConv2d,
    MaxReadout,
    MeanReadout,
    Recurrent,
    SpikingSelfAttention,
    Stream,
)
from spikenet.neurons import IF


def spikes(*shape: int, rate: float = 0.3) -> torch.Tensor:
    return (torch.rand(shape) < rate).float()


def walked(conv: nn.Module, x: torch.Tensor) -> int:
    """Walk over every output, tap and channel of a zero-padded convolution of rows ``[N, C, *space]`` and add up the
    events that are met."""
    sizes, values, met = x.shape[2:], np.abs(x.numpy()), 0
    axes = list(zip(sizes, conv.kernel_size, conv.stride, conv.padding, conv.dilation, strict=True))
    places = [range((n + 2 * p - d * (k - 1) - 1) // s + 1) for n, k, s, p, d in axes]
    group_in, group_out = conv.in_channels // conv.groups, conv.out_channels // conv.groups
    for at, tap in itertools.product(itertools.product(*places), itertools.product(*map(range, conv.kernel_size))):
        source = tuple(o * s - p + k * d for o, k, (_, _, s, p, d) in zip(at, tap, axes, strict=True))
        if all(0 <= i < n for i, n in zip(source, sizes, strict=True)):
            for row, out, i in itertools.product(range(len(x)), range(conv.out_channels), range(group_in)):
                met += values[(row, out // group_out * group_in + i, *source)]
    return int(met)


def ones(layer: nn.Module) -> nn.Module:
    """All weights 1 and no bias: the outputs add up to the synapses that events reach."""
    nn.init.ones_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


CONVOLUTIONS = [
    nn.Conv1d(3, 5, 3, stride=2),
    nn.Conv1d(4, 8, 4, groups=4, padding=2),
    nn.Conv2d(4, 6, 3),
    nn.Conv2d(4, 6, 3, padding=1),
    nn.Conv2d(4, 6, (3, 2), stride=(2, 3), padding=(0, 1)),
    nn.Conv2d(4, 6, 3, dilation=2, padding=2),
    nn.Conv2d(4, 6, 3, groups=2, padding=1, stride=2),
    nn.Conv2d(4, 8, 3, groups=4, padding=2),
    nn.Conv2d(4, 6, 1, stride=3),
    nn.Conv3d(2, 4, 2, padding=1),
    nn.Conv3d(2, 2, (1, 2, 3), stride=2, groups=2),
]


@pytest.mark.parametrize("conv", CONVOLUTIONS, ids=repr)
@pytest.mark.parametrize("values", ["spikes", "ternary", "counts"])
def test_convolutions(conv: nn.Module, values: str) -> None:
    sizes = {1: (9,), 2: (8, 7), 3: (4, 5, 3)}[len(conv.kernel_size)]
    x = spikes(4, conv.in_channels, *sizes)
    if values == "ternary":
        x = x - 2 * x * spikes(*x.shape)
    if values == "counts":
        x = x + 2 * x * spikes(*x.shape)
    with energy.count(conv, steps=1) as work:
        conv(x)
    assert (work.acs, work.macs, work.layers[0].values) == (walked(conv, x), 0, values)


@pytest.mark.parametrize("values", ["spikes", "counts"])
def test_convolution_of_events(values: str) -> None:
    conv, plain = EventConv2d(2, 3, 3, stride=2, padding=1), nn.Conv2d(2, 3, 3, stride=2, padding=1)
    x = spikes(3, 2, 2, 7, 6) * (1 if values == "spikes" else 3)
    with energy.count(conv) as work:
        conv(EventTensor.from_dense(x))
    assert (work.acs, work.layers[0].values) == (walked(plain, x.flatten(0, 1)), values)


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
@pytest.mark.parametrize(("mode", "kernel"), [("circular", 3), ("reflect", 3), ("zeros", (3, 4))])
def test_padded_copies_of_spikes_are_charged(mode: str, kernel: int | tuple[int, int]) -> None:
    conv = ones(nn.Conv2d(1, 2, kernel, padding="same", padding_mode=mode))
    x = spikes(1, 1, 6, 6)
    with energy.count(conv) as work, torch.no_grad():
        out = conv(x)
    assert work.acs == int(out.sum())


TRANSPOSED = [
    nn.ConvTranspose2d(4, 6, 3, stride=2, padding=1, output_padding=1),
    nn.ConvTranspose2d(4, 6, (2, 3), groups=2, dilation=2),
    nn.ConvTranspose1d(4, 6, 4, stride=3, padding=2),
    nn.ConvTranspose3d(4, 2, 2, padding=1),
]


@pytest.mark.parametrize("layer", TRANSPOSED, ids=repr)
def test_transposed_convolutions(layer: nn.Module) -> None:
    x = spikes(3, 4, *[5] * len(layer.kernel_size))
    with energy.count(ones(layer)) as work, torch.no_grad():
        out = layer(x)
    assert work.acs == int(out.sum())


# Delays: with the end of the sequence far enough away, every spike arrives once at each synapse.

DELAYED = [
    DelayLinear(6, 5, 4, elements=3, extend=3),
    DelayLinear(6, 5, 4, per="input", extend=3),
    DelayConv1d(4, 6, 3, 4, stride=2, padding=1, groups=2, elements=2, extend=3),
    DelayConv2d(2, 4, 3, 4, dilation=2, padding=2, per="output", extend=3),
    DelayConv2d(4, 4, (1, 3), 3, groups=4, stride=2, extend=2),
]


@pytest.mark.parametrize("layer", DELAYED, ids=repr)
def test_a_synapse_with_a_delay_is_charged_once_for_each_spike(layer: nn.Module) -> None:
    ones(layer).eval()
    sizes = {DelayLinear: (6,), DelayConv1d: (4, 7), DelayConv2d: (getattr(layer, "in_channels", 0), 6, 5)}[type(layer)]
    x = spikes(5, 2, *sizes)
    with torch.no_grad():
        arrived = int(layer(x).sum())
    for training in (False, True):  # a bump over many taps is one synapse all the same
        for given in (x, EventTensor.from_dense(x)):
            with energy.count(layer.train(training), strict=True) as work:
                layer(given)
            (found,) = work.layers
            assert (found.acs, found.macs, found.geometry.parameters) == (arrived, 0, layer.weight.numel())
            assert found.dense_macs_steps == 5 * found.dense_macs


def test_recurrent_delays_are_neurons_and_connections() -> None:
    ring = DelayRecurrent(IF(), 7, 3).eval()
    ring.synapses.weight.data = torch.eye(7).roll(1, 0)[..., None].contiguous()
    ring.synapses.delay.data.zero_()
    x = torch.zeros(10, 2, 7)
    x[0, 0, 0] = 1.0  # goes around: a spike a step in one of two samples
    with energy.count(net := nn.Sequential(ring), strict=True) as work:
        net(x)
    layers = {layer.operation: layer for layer in work.layers}
    assert layers.keys() == {"neuron", "connection"}
    assert (layers["neuron"].updates, layers["neuron"].spikes) == (140, 10)
    assert (layers["connection"].acs, layers["connection"].macs) == (10 * 7, 0)


def test_a_stream_charges_recurrent_delays_once() -> None:
    """At the start of a chunk earlier spikes are sent anew, so that they are heard; they were charged before."""
    net = nn.Sequential(DelayRecurrent(IF(), 7, 3, bias=True), DelayLinear(7, 4, 3), IF()).eval()
    x = spikes(12, 2, 7)
    with energy.count(net, strict=True) as whole:
        net(x)
    with energy.count(stream := Stream(net), strict=True) as parts:
        for chunk in x.split(3):
            stream(chunk)
    assert whole.acs > 0
    for counter in ("acs", "adds", "updates", "spikes", "dense_macs"):
        np.testing.assert_array_equal(parts.per_step(counter), whole.per_step(counter), err_msg=counter)


def test_a_recurrent_layer_is_charged_for_the_spikes_that_it_sends_itself() -> None:
    ring = Recurrent(IF(), 7, autapses=False)
    ring.weight.data = torch.eye(7).roll(1, 0)
    x = torch.zeros(10, 2, 7)
    x[0, 0, 0] = 1.0
    with energy.count(net := nn.Sequential(ring)) as work, energy.record(net) as kept:
        net(x)
    neurons, layer = work.layers
    assert (neurons.name, neurons.operation, neurons.updates, neurons.spikes) == ("0", "neuron", 140, 10)
    assert (layer.name, layer.operation, layer.acs, layer.macs) == ("0", "connection", 10 * 6, 0)
    assert (layer.dense_macs_steps, layer.dense_macs) == (140 * 6, 14 * 6)
    assert not work.uncounted
    assert kept["0"].sum() == 10


def test_spiking_attention() -> None:
    """k^T v meets spike by spike; each spike of q then adds a count, where that is not 0."""
    net = SpikingSelfAttention(8, 2).eval()
    for parameter in (p for p in net.parameters() if p.ndim > 1):
        parameter.data = torch.randint(0, 3, parameter.shape).float()
    sent: list[torch.Tensor] = []
    net.lif.register_forward_hook(lambda _, args, output: sent.append(output))
    with energy.count(net, strict=True) as work, torch.no_grad():
        net(spikes(3, 2, 6, 8))
    q, k, v = (part.unflatten(-1, (2, 4)).transpose(2, 3).flatten(0, 2).numpy() for part in sent[0].chunk(3, -1))
    pairs = sums = 0
    for head, d, e in itertools.product(range(len(q)), range(4), range(4)):
        together = [n for n in range(6) if k[head, n, d] and v[head, n, e]]
        pairs += len(together)
        sums += sum(1 for n in range(6) if q[head, n, d] and together)
    found = {layer.operation: layer for layer in work.layers if layer.name == "network"}["product"]
    assert (found.acs, found.macs) == (pairs + sums, 0)
    assert min(pairs, sums) > 0


# Windows.


def windows(axes: list[list[range]], rows: int) -> int:
    """Values in all windows, one list of ranges an axis."""
    return rows * sum(1 for each in itertools.product(*axes) for _ in itertools.product(*each))


def cut(size: int, kernel: int, stride: int, padding: int, outputs: int) -> list[range]:
    return [range(max(o * stride - padding, 0), min(o * stride - padding + kernel, size)) for o in range(outputs)]


@pytest.mark.parametrize(("kernel", "stride", "padding", "ceil"), [(2, 2, 0, False), (3, 2, 1, False), (3, 2, 0, True)])
def test_pooling_windows_end_at_the_border(kernel: int, stride: int, padding: int, ceil: bool) -> None:
    x = spikes(6, 4, 8, 7)
    for function, counter in ((F.max_pool2d, "comparisons"), (F.avg_pool2d, "adds")):

        class Pool(nn.Module):
            def forward(self, x: torch.Tensor, function: object = function) -> torch.Tensor:
                return function(x, kernel, stride, padding, ceil_mode=ceil)

        with energy.count(net := Pool(), steps=1) as work:
            out = net(x)
        axes = [cut(n, kernel, stride, padding, m) for n, m in zip(x.shape[2:], out.shape[2:], strict=True)]
        assert work.total(counter) == windows(axes, 24)


def test_adaptive_windows_overlap() -> None:
    """torch: output i averages inputs floor(i n / m) to ceil((i + 1) n / m) - 1."""
    with energy.count(net := nn.AdaptiveAvgPool2d((3, 2)), steps=1) as work:
        net(x := torch.rand(2, 3, 8, 7))
    axes = [[range(i * n // m, -(-(i + 1) * n // m)) for i in range(m)] for n, m in ((8, 3), (7, 2))]
    assert work.total("adds") == windows(axes, 6)
    torch.testing.assert_close(net(x)[0, 0, 1, 1], x[0, 0, 2:6, 3:7].mean())


@pytest.mark.parametrize(
    ("readout", "expected"),
    [(MeanReadout(), {"adds": 5 * 12, "multiplies": 12}), (MaxReadout(), {"comparisons": 5 * 12 + 12})],
)
def test_readouts_behind_an_average(readout: nn.Module, expected: dict[str, int]) -> None:
    """Averages are no spikes: the linear layer behind them multiplies. A mean adds up 5 steps of 2 x 6 outputs and
    divides once; a maximum compares them, and once with what came before."""
    net = nn.Sequential(Conv2d(3, 4, 3, padding=1), IF(), AvgPool2d(2), nn.Flatten(2), nn.Linear(16, 6), readout)
    with energy.count(net, strict=True) as work:
        net(spikes(5, 2, 3, 4, 4))
    layers = {layer.name: layer for layer in work.layers}
    assert (layers["4"].acs, layers["4"].macs) == (0, 5 * 2 * 16 * 6)
    assert layers["2"].total("adds") == 5 * 2 * 4 * 16
    last = [layer for layer in work.layers if layer.name == "5"]
    assert {counter: sum(layer.total(counter) for layer in last) for counter in expected} == expected
