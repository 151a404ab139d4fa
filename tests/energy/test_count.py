"""Operation counts against brute-force loops and closed forms."""

import itertools

import pytest
import torch
from torch import nn

from spikenet import energy
from spikenet.errors import EnergyError, ShapeError
from spikenet.events import EventTensor
from spikenet.kernels.delay import training
from spikenet.layers import Conv2d, DelayConv2d, DelayLinear, DelayRecurrent, Recurrent, ToDense
from spikenet.neurons import IF, LIF


def spikes(*shape: int, rate: float = 0.3) -> torch.Tensor:
    return (torch.rand(shape) < rate).float()


def loops(conv: nn.Conv2d, x: torch.Tensor) -> int:
    """Walk over every output, tap and channel of a zero-padded convolution and count the events that are met."""
    batch, _, height, width = x.shape
    (kh, kw), (sh, sw), (ph, pw), (dh, dw) = conv.kernel_size, conv.stride, conv.padding, conv.dilation
    rows = range((height + 2 * ph - dh * (kh - 1) - 1) // sh + 1)
    columns = range((width + 2 * pw - dw * (kw - 1) - 1) // sw + 1)
    met = 0
    group_in, group_out = conv.in_channels // conv.groups, conv.out_channels // conv.groups
    for b, out, r, c, i, kr, kc in itertools.product(
        range(batch), range(conv.out_channels), rows, columns, range(group_in), range(kh), range(kw)
    ):
        y, x_ = r * sh - ph + kr * dh, c * sw - pw + kc * dw
        if 0 <= y < height and 0 <= x_ < width:
            met += int(x[b, out // group_out * group_in + i, y, x_].abs())
    return met


def test_linear_reaches_all_outputs_for_each_spike() -> None:
    x = torch.zeros(4, 2, 10)
    x[0, 0, 3] = x[1, 1, 5] = x[3, 0, 9] = 1
    with energy.count(net := nn.Linear(10, 7)) as work:
        net(x)
    assert (work.acs, work.macs, work.samples) == (3 * 7, 0, 2)


def test_all_ones_cost_as_many_accumulates_as_the_dense_layer_multiplies() -> None:
    with energy.count(net := nn.Linear(10, 7)) as work:
        net(torch.ones(4, 2, 10))
    assert work.acs == work.dense_macs_steps == 4 * 2 * 70
    assert work.dense_macs == 2 * 70


def test_no_spikes_cost_nothing() -> None:
    net = nn.Sequential(Conv2d(2, 3, 3, padding=1), nn.Flatten(2), nn.Linear(3 * 25, 4))
    with torch.no_grad():
        net[0].bias.zero_()
    with energy.count(net) as work:
        net(torch.zeros(3, 2, 2, 5, 5))
    assert (work.acs, work.macs) == (0, 0)
    assert energy.price(work).total == 0


@pytest.mark.parametrize(
    "options",
    [
        {"kernel_size": 3},
        {"kernel_size": 3, "padding": 1},
        {"kernel_size": (3, 2), "stride": (2, 3), "padding": (0, 1)},
        {"kernel_size": 3, "dilation": 2, "padding": 2},
        {"kernel_size": 3, "groups": 2, "padding": 1, "stride": 2},
        {"kernel_size": 1, "stride": 3},
    ],
)
def test_convolution_reaches_what_a_loop_finds(options: dict) -> None:
    conv = nn.Conv2d(4, 6, **options)
    x = spikes(3, 4, 8, 7)
    with energy.count(conv) as work:
        conv(x)
    assert work.acs == loops(conv, x)


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
@pytest.mark.parametrize(("mode", "kernel"), [("circular", 3), ("reflect", 3), ("zeros", (3, 4))])
def test_padded_copies_of_spikes_are_charged(mode: str, kernel: int | tuple[int, int]) -> None:
    """The truth: the same convolution without padding on input that torch padded."""
    conv = nn.Conv2d(1, 2, kernel, padding="same", padding_mode=mode)
    x = spikes(1, 1, 6, 6)
    with torch.no_grad():
        conv.weight.fill_(1.0)
        conv.bias.zero_()
        expected = conv(x).sum()
    with energy.count(conv) as work:
        conv(x)
    assert work.acs == int(expected)


@pytest.mark.parametrize("layer", [nn.Conv1d(3, 5, 3, stride=2), nn.Conv3d(3, 5, 2, padding=1)])
def test_convolutions_in_one_and_three_dimensions(layer: nn.Module) -> None:
    """The truth: with all weights 1, the outputs sum to the synapses reached."""
    x = spikes(2, 3, *[6] * len(layer.kernel_size))
    with torch.no_grad():
        layer.weight.fill_(1.0)
        layer.bias.zero_()
        expected = layer(x).sum()
    with energy.count(layer) as work:
        layer(x)
    assert work.acs == int(expected)


def test_event_counts_are_charged_per_event() -> None:
    x = torch.zeros(1, 1, 4)
    x[0, 0, 1], x[0, 0, 2] = 3, -2
    with energy.count(net := nn.Linear(4, 5)) as work:
        net(x)
    assert (work.acs, work.layers[0].values) == (5 * 5, "counts")
    assert work.layers[0].bits.input == 3  # 0 to 3, and a sign


def test_graded_input_is_charged_as_dense_multiplies_at_every_step() -> None:
    with energy.count(net := nn.Linear(4, 5)) as work:
        net(torch.full((3, 2, 4), 0.5))
    assert (work.acs, work.macs, work.dense_macs) == (0, 3 * 2 * 20, 2 * 20)


def test_folded_time_and_time_first_cost_the_same() -> None:
    x = spikes(5, 3, 2, 6, 6)
    plain, folding = nn.Conv2d(2, 4, 3, padding=1), Conv2d(2, 4, 3, padding=1)

    class Folded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = plain

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.conv(x.flatten(0, 1)).unflatten(0, x.shape[:2])

    with energy.count(first := Folded()) as work:
        first(x)
    with energy.count(folding) as other:
        folding(x)
    assert work.acs == other.acs == loops(plain, x.flatten(0, 1))
    assert work.dense_macs == other.dense_macs == 3 * 4 * 36 * 18


def test_a_layer_after_the_time_axis_is_gone_runs_once() -> None:
    class Late(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(6, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.linear(x.mean(0))

    with energy.count(net := Late()) as work:
        net(spikes(4, 8, 6))
    assert work.dense_macs == work.dense_macs_steps == 8 * 12


def test_a_network_on_events_counts_rates_and_updates() -> None:
    """A neuron driven above threshold at every step fires at every step; one without input never does."""
    net = nn.Sequential(ToDense(), nn.Linear(2, 2, bias=False), LIF(tau=2.0))
    with torch.no_grad():
        net[1].weight.copy_(torch.tensor([[10.0, 0.0], [0.0, 0.0]]))
    x = EventTensor.from_dense(torch.ones(6, 3, 2))
    with energy.count(net) as work:
        net(x)
        net(x)
    assert work.samples == 6
    assert work.rates == {"2": 0.5}
    assert work.updates == 2 * 6 * 3 * 2
    assert work.acs == 2 * 6 * 3 * 2 * 2


class Unknown(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.linalg.matrix_exp(x @ x.mT)


def test_operations_that_cannot_be_counted_are_named_or_raise_and_hooks_are_removed() -> None:
    net = nn.Sequential(nn.Linear(4, 4), Unknown())
    with energy.count(net) as work:
        net(spikes(2, 2, 4, 4))
    net(spikes(2, 2, 4, 4))
    assert work.uncounted == ["1 (Unknown): linalg_matrix_exp"]
    assert work.samples == 2
    refused = pytest.raises(EnergyError, match=r"no rule for 1 \(Unknown\): linalg_matrix_exp")
    with refused, energy.count(net, strict=True):
        net(spikes(2, 2, 4, 4))
    assert not any(m._forward_pre_hooks or m._forward_hooks for m in net.modules())


def test_a_call_that_fails_leaves_the_count_as_it_was() -> None:
    net = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Linear(3, 3))
    x = torch.ones(2, 2, 4)
    with energy.count(net) as work:
        with pytest.raises(RuntimeError):
            net(x)
        net[1] = nn.Identity()
        net(x)
    assert (work.acs, work.samples) == (2 * 2 * 16, 2)
    assert not any(m._forward_pre_hooks or m._forward_hooks for m in net.modules())


def test_input_without_time_and_batch_is_refused() -> None:
    with pytest.raises(ShapeError, match=r"\[T, B, \.\.\.\]"), energy.count(net := nn.Linear(4, 4)):
        net(torch.ones(4))


def test_recording_keeps_the_spikes_of_each_neuron_layer() -> None:
    net = nn.Sequential(nn.Linear(3, 3), LIF(), nn.Linear(3, 2), LIF())
    x = spikes(4, 2, 3)
    with energy.record(net) as sent:
        out = net(x)
    assert list(sent) == ["1", "3"]
    assert torch.equal(sent["3"], out)


def test_a_recurrent_layer_is_charged_for_the_spikes_that_it_sends_itself() -> None:
    ring = Recurrent(IF(), 7, autapses=False)
    ring.weight.data = torch.eye(7).roll(1, 0)
    x = torch.zeros(10, 2, 7)
    x[0, 0, 0] = 1.0  # goes around: a spike a step in one of two samples
    with energy.count(net := nn.Sequential(ring)) as work, energy.record(net) as kept:
        net(x)
    neurons, layer = work.layers
    assert (neurons.name, neurons.operation, neurons.updates, neurons.spikes) == ("0", "neuron", 140, 10)
    assert (layer.name, layer.operation, layer.acs, layer.macs) == ("0", "connection", 10 * 6, 0)
    assert (layer.dense_macs_steps, layer.dense_macs) == (140 * 6, 14 * 6)
    assert not work.uncounted
    assert kept["0"].sum() == 10


def test_a_synapse_with_a_delay_is_charged_once_for_each_spike() -> None:
    x = spikes(6, 2, 10)
    for net in (DelayLinear(10, 7, 5, elements=3), DelayLinear(10, 7, 5, elements=3).eval()):
        with energy.count(net) as work:
            net(x)
        assert (work.acs, work.macs, work.dense_macs_steps) == (round(x.sum().item()) * 21, 0, 6 * 2 * 210)
        assert work.dense_macs == 2 * 210
        with energy.count(net) as events:
            net(EventTensor.from_dense(x))
        assert events.acs == work.acs


def test_a_convolution_with_delays_reaches_what_the_plain_one_reaches() -> None:
    options = {"stride": 2, "padding": 1, "groups": 2}
    net, plain = DelayConv2d(4, 6, 3, 5, elements=2, **options), nn.Conv2d(4, 6, 3, **options)
    x = spikes(3, 2, 4, 8, 7)
    for mode in (True, False):
        with energy.count(net.train(mode)) as work:
            net(x)
        assert work.acs == 2 * loops(plain, x.flatten(0, 1))


def test_delays_in_parts_are_charged_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "LARGEST", 0)
    monkeypatch.setattr(training, "TOGETHER", 3)
    net, x = DelayLinear(10, 7, 5, elements=3), spikes(6, 2, 10)
    with energy.count(net) as work:
        net(x)
    assert (work.acs, work.dense_macs) == (round(x.sum().item()) * 21, 2 * 210)


def test_recurrent_delays_are_neurons_and_connections() -> None:
    ring = DelayRecurrent(IF(), 7, 3).eval()
    ring.synapses.weight.data = torch.eye(7).roll(1, 0)[..., None].contiguous()
    ring.synapses.delay.data.zero_()
    x = torch.zeros(10, 2, 7)
    x[0, 0, 0] = 1.0
    with energy.count(net := nn.Sequential(ring)) as work:
        net(x)
    layers = {layer.operation: layer for layer in work.layers}
    assert (layers["neuron"].updates, layers["neuron"].spikes) == (140, 10)
    assert (layers["connection"].acs, layers["connection"].macs) == (10 * 7, 0)
