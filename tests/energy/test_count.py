"""Operation counts against brute-force loops and closed forms."""

import pytest
import torch
from torch import nn

from spikenet import energy
from spikenet.errors import EnergyError, ShapeError
from spikenet.events import EventTensor
from spikenet.layers import Conv2d, DelayConv1d, DelayLinear, DelayRecurrent, ToDense
from spikenet.neurons import IF, LIF


def spikes(*shape: int, rate: float = 0.3) -> torch.Tensor:
    return (torch.rand(shape) < rate).float()


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
    assert work.acs == other.acs > 0
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


class Around(nn.Module):
    """Runs a layer past its hooks."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer.run(x)[0]


@pytest.mark.parametrize(
    ("layer", "shape", "operation"),
    [
        (DelayLinear(4, 5, 3), (6, 2, 4), "delay_bumps"),
        (DelayLinear(4, 5, 3).eval(), (6, 2, 4), "delay_taps"),
        (DelayConv1d(4, 5, 3, 3), (6, 2, 4, 7), "convolution"),
        (DelayRecurrent(IF(), 4, 3), (6, 2, 4), "mm"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_delays_that_run_past_their_hooks_are_named(layer: nn.Module, shape: tuple[int, ...], operation: str) -> None:
    with energy.count(net := Around(layer)) as work:
        net(spikes(*shape))
    assert [found for found in work.uncounted if found.endswith(operation)]
    with pytest.raises(EnergyError, match=operation), energy.count(net, strict=True):
        net(spikes(*shape))


class Times(nn.Module):
    """A product with something that is not a parameter."""

    def __init__(self, weight: torch.Tensor) -> None:
        super().__init__()
        self.weight = nn.Buffer(weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.weight @ x.flatten(0, 1).to(self.weight.dtype).T


def test_products_of_whole_numbers_are_counted() -> None:
    x = spikes(3, 2, 5)
    with energy.count(net := Times(torch.randint(-3, 4, (4, 5)))) as work:
        net(x)
    assert work.acs == 4 * int(x.sum()) > 0
    with energy.count(net := Times(torch.randint(-3, 4, (5,)))) as work:
        net(x)
    assert work.acs == int(x.sum())


@pytest.mark.parametrize("weight", [torch.eye(5).to_sparse(), torch.eye(5, dtype=torch.complex64)])
def test_sparse_and_complex_weights_are_named(weight: torch.Tensor) -> None:
    with energy.count(net := Times(weight)) as work:
        net(spikes(3, 2, 5))
    assert work.uncounted


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
