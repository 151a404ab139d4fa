"""Counts and trains of spikes: exact reconstruction, closed forms, conversion."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from spikenet.energy import count
from spikenet.errors import ArgumentError, UnknownNameError
from spikenet.layers import SpikeCodedLinear, spike_coded, spike_counts, spike_train
from spikenet.layers.spike_coding import CODES

NUMBERS = st.lists(st.integers(-128, 127), min_size=1, max_size=20)


@given(NUMBERS)
def test_every_train_reproduces_its_counts(numbers: list[int]) -> None:
    counts = torch.tensor(numbers).double()
    for code in CODES:
        c = counts.abs() if code == "binary" else counts
        spikes, weight = spike_train(c, code)  # type: ignore[arg-type]
        assert torch.equal(torch.tensordot(weight, spikes, 1), c)
        assert set(spikes.unique().tolist()) <= (
            {0.0, 1.0} if code in ("binary", "twos-complement") else {-1.0, 0.0, 1.0}
        )


def test_trains_by_hand() -> None:
    counts = torch.tensor([5.0, -3.0, 0.0])
    assert spike_train(counts, "ternary").spikes.T.tolist() == [[1, 1, 1, 1, 1], [-1, -1, -1, 0, 0], [0] * 5]
    assert spike_train(counts, "bitwise").spikes.T.tolist() == [[1, 0, 1], [-1, -1, 0], [0, 0, 0]]
    train = spike_train(counts, "twos-complement")
    assert train.weight.tolist() == [1, 2, 4, -8]
    assert train.spikes.T.tolist() == [[1, 0, 1, 0], [1, 0, 1, 1], [0, 0, 0, 0]]
    assert spike_train(counts.abs(), "binary").sparsity == pytest.approx(1 - 8 / 15)


def test_thresholds_of_normal_numbers() -> None:
    """mean |x| = sqrt(2 / pi), so that at k = 3 a share erf(v / sqrt 8) of them lies within half a threshold of 0."""
    counts, v_threshold = spike_counts(torch.randn(100, 10_000).double(), 3.0)
    expected = math.sqrt(2 / math.pi) / 3
    assert v_threshold.mean().item() == pytest.approx(expected, rel=1e-3)
    silent = counts.eq(0).double().mean().item()
    assert silent == pytest.approx(math.erf(expected / 2 / math.sqrt(2)), abs=1e-3)


@pytest.mark.parametrize("code", [None, "ternary", "bitwise", "twos-complement"])
def test_whole_weights_give_what_the_counts_give_exactly(code) -> None:
    layer = SpikeCodedLinear(12, 5, k=4.0, code=code).double()
    layer.weight.data = torch.randint(-8, 9, (5, 12)).double()
    layer.bias.data = torch.randint(-8, 9, (5,)).double()
    x = torch.randn(3, 7, 12).double()
    counts, v_threshold = spike_counts(x, 4.0)
    assert torch.equal(layer(x), layer.bias + v_threshold * (counts @ layer.weight.T))
    torch.testing.assert_close(layer(x), nn.functional.linear(x, layer.weight, layer.bias), atol=5.0, rtol=0)


def test_finer_counts_come_nearer_to_the_dense_layer() -> None:
    x, dense = torch.randn(50, 32).double(), nn.Linear(32, 8).double()
    errors = []
    for k in (1.0, 4.0, 16.0, 64.0):
        coded = spike_coded(nn.Sequential(dense), k)
        errors.append((coded(x) - dense(x)).norm().item())
    assert errors == sorted(errors, reverse=True)
    assert errors[0] > 10 * errors[-1]


def test_gradients_pass_as_if_nothing_were_rounded() -> None:
    """The input's gradient is the dense layer's; the weight's is that of the rounded input."""
    layer = SpikeCodedLinear(6, 4, bias=False).double()
    x, g = torch.randn(5, 6).double().requires_grad_(), torch.randn(5, 4).double()
    layer(x).backward(g)
    counts, v_threshold = spike_counts(x.detach())
    torch.testing.assert_close(x.grad, g @ layer.weight)
    torch.testing.assert_close(layer.weight.grad, g.T @ (counts * v_threshold))


def test_a_converted_network_is_a_copy_with_coded_layers_alone() -> None:
    net = nn.Sequential(nn.Linear(4, 6), nn.GELU(), nn.Sequential(nn.Linear(6, 2, bias=False)))
    coded = spike_coded(net, k=2.0, code="bitwise")
    assert [type(m) for m in net.modules() if isinstance(m, nn.Linear)] == [nn.Linear] * 2
    layers = [m for m in coded.modules() if isinstance(m, SpikeCodedLinear)]
    assert [(m.k, m.code, m.bias is None) for m in layers] == [(2.0, "bitwise", False), (2.0, "bitwise", True)]
    assert torch.equal(layers[0].weight, net[0].weight)
    assert layers[0].weight is not net[0].weight


def test_a_linear_layer_alone_is_coded_and_one_with_two_names_stays_one() -> None:
    dense = nn.Linear(4, 4)
    assert type(spike_coded(dense)) is SpikeCodedLinear
    coded = spike_coded(nn.Sequential(dense, nn.GELU(), dense, nn.Sequential(dense)))
    assert isinstance(coded[0], SpikeCodedLinear)
    assert coded[0] is coded[2] is coded[3][0]


def test_what_is_no_count_is_refused_in_words() -> None:
    with pytest.raises(ArgumentError, match="whole numbers"):
        spike_train(torch.tensor([0.5]))
    with pytest.raises(ArgumentError, match="negative"):
        spike_train(torch.tensor([-1.0]), "binary")
    with pytest.raises(UnknownNameError, match="Known: binary"):
        spike_train(torch.tensor([1.0]), "unary")  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="k above 0"):
        spike_counts(torch.ones(2), 0.0)


@pytest.mark.parametrize("code", ["ternary", "bitwise", "twos-complement"])
def test_what_comes_before_learns_through_every_code_alike(code: str) -> None:
    plain, coded = SpikeCodedLinear(4, 3), SpikeCodedLinear(4, 3, code=code)
    coded.load_state_dict(plain.state_dict())
    x = torch.randn(5, 4, requires_grad=True)
    y = torch.randn(5, 3)
    grads = [torch.autograd.grad((layer(x) * y).sum(), [x, layer.weight]) for layer in (plain, coded)]
    torch.testing.assert_close(grads[1], grads[0])


@pytest.mark.parametrize("code", [None, "ternary", "bitwise", "twos-complement"])
def test_the_counter_charges_an_addition_for_every_spike_and_synapse(code) -> None:
    """Counts as they are cost as much as the ternary train of them; no weight is multiplied."""
    x, net = torch.randn(4, 3, 12), spike_coded(nn.Sequential(nn.Linear(12, 5)), 4.0, code)
    with torch.no_grad(), count(net, strict=True) as work:
        net(x)
    (connection,) = (layer for layer in work.layers if layer.operation == "connection")
    spikes = spike_train(spike_counts(x, 4.0).counts, code or "ternary").spikes.count_nonzero().item()
    assert connection.acs == 5 * spikes
    assert connection.macs == 0
