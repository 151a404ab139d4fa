"""Encoders against the statistics and the formula that define them."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from spikenet.errors import ArgumentError, DtypeError, ShapeError
from spikenet.events import delta, expand, latency, poisson, population, rank_order


def test_poisson_counts_are_binomial():
    rates = torch.tensor([[0.0, 0.05, 0.3, 0.9, 1.0]])
    steps = 4000
    counts = poisson(rates, steps, torch.Generator().manual_seed(1)).sum(0)[0].int().tolist()
    assert counts[0] == 0
    assert counts[-1] == steps
    for count, rate in zip(counts[1:-1], (0.05, 0.3, 0.9), strict=True):
        assert binomtest(count, steps, rate).pvalue > 1e-4


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_poisson_keeps_small_rates_in_half_precision(dtype):
    rates = torch.full((1, 1000), 2**-10, dtype=dtype)
    count = int(poisson(rates, 200, torch.Generator().manual_seed(1)).double().sum())
    assert binomtest(count, 200_000, 2**-10).pvalue > 1e-4


def test_poisson_follows_its_generator():
    rates = torch.full((3, 4), 0.5, dtype=torch.float64)
    first, second = (poisson(rates, 6, torch.Generator().manual_seed(7)) for _ in range(2))
    assert torch.equal(first, second)
    assert first.shape == (6, 3, 4)
    assert first.dtype == torch.float64


def test_latency_formula():
    spikes = latency(torch.tensor([[1.0, 0.5, 0.25, 1e-6, 0.0]]), 9)
    assert spikes.sum(0).tolist() == [[1, 1, 1, 1, 0]]
    assert spikes[:, 0, :4].argmax(0).tolist() == [0, 4, 6, 8]


@pytest.mark.parametrize("encode", [poisson, latency])
def test_impossible_input_is_refused(encode):
    with pytest.raises(ArgumentError, match=r"within 0 to 1, received -0\.5 to 2"):
        encode(torch.tensor([-0.5, 2.0]), 3)
    with pytest.raises(ArgumentError, match="within 0 to 1"):
        encode(torch.tensor([0.5, float("nan")]), 3)
    with pytest.raises(DtypeError, match="float tensor"):
        encode(torch.tensor([1, 0]), 3)
    with pytest.raises(ArgumentError, match="steps wants 1 or more"):
        encode(torch.tensor([0.5]), 0)


def test_binary_steps_come_first_in_each_step():
    counts = torch.tensor([[0.5], [1.0], [0.0]], dtype=torch.bfloat16)
    assert expand(counts, 2).flatten().tolist() == [1, 0, 1, 1, 0, 0]
    assert expand(torch.tensor([[1 / 3], [2 / 3]]), 3).flatten().tolist() == [1, 0, 0, 1, 1, 0]


def test_what_is_no_count_cannot_be_expanded():
    with pytest.raises(ArgumentError, match="multiples of 1/4; was this made with another maximum"):
        expand(torch.full((2, 1), 1 / 3), 4)
    with pytest.raises(ArgumentError, match="counts wants finite numbers within 0 to 1"):
        expand(torch.full((2, 1), -0.25), 4)
    with pytest.raises(ArgumentError, match="maximum wants 1 or more, received 0"):
        expand(torch.zeros(2, 1), 0)


@given(st.integers(0, 2**16), st.floats(0.01, 3.0), st.sampled_from([torch.float32, torch.float64]))
def test_delta_follows_the_signal_within_theta(seed, theta, dtype):
    signal = torch.randn(30, 2, 3, generator=torch.Generator().manual_seed(seed), dtype=dtype).cumsum(0)
    spikes = delta(signal, theta)
    assert spikes.dtype == dtype
    assert (spikes == spikes.round()).all()
    rebuilt = signal[0].double() + theta * spikes.double().cumsum(0)
    assert (rebuilt - signal.double()).abs().max() < theta * (1 + 1e-9)


@pytest.mark.parametrize("slope", [0.125, -0.125])
def test_delta_of_a_ramp_is_regular(slope):
    """A ramp of 1/8 a step crosses a level of 1/2 every four steps."""
    spikes = delta((slope * torch.arange(17.0)).view(17, 1), 0.5)
    assert spikes.flatten().nonzero().flatten().tolist() == [4, 8, 12, 16]
    assert spikes.sum().item() == 4 * (1 if slope > 0 else -1)


def test_delta_sends_several_spikes_for_a_jump_and_none_for_rest():
    signal = torch.tensor([3.0, 3, 3.9, 3.4, 2.6, 0.5, 0.5]).view(-1, 1)
    assert delta(signal, 0.5).flatten().tolist() == [0, 0, 1, 0, -1, -5, 0]
    assert delta(torch.zeros(0, 2), 0.5).shape == (0, 2)


def test_each_neuron_of_a_population_answers_most_at_its_centre():
    """Bohte's centres for n = 8 on 0 to 6: -0.5, 0.5, ..., 6.5, one apart; at a distance d the answer is
    exp(-(gamma d)^2 / 2)."""
    centres = torch.arange(8, dtype=torch.float64) - 0.5
    answers = population(centres, 8, low=0.0, high=6.0, gamma=2.0)
    assert torch.equal(answers.argmax(0), torch.arange(8))
    expected = torch.exp(-2 * (centres[:, None] - centres).square())
    torch.testing.assert_close(answers, expected)
    off = population(torch.tensor([[2.0]], dtype=torch.float64), 8, 0.0, 6.0, gamma=1.0)
    assert off.shape == (1, 1, 8)
    assert off[0, 0, 3].item() == pytest.approx(math.exp(-0.125))


def test_a_population_feeds_latency_and_poisson():
    answers = population(torch.rand(4, 3), 6)
    spikes = latency(answers, 20)
    assert spikes.shape == (20, 4, 3, 6)
    assert torch.equal(spikes.argmax(0).flatten(0, 1).argmin(1), answers.flatten(0, 1).argmax(1))
    assert poisson(answers, 5).shape == (5, 4, 3, 6)


@given(st.integers(0, 2**16), st.sampled_from([(3, 7), (2, 2, 4), (1, 1), (0, 5)]))
def test_rank_order_is_a_permutation(seed, shape):
    values = torch.randint(-2, 3, shape, generator=torch.Generator().manual_seed(seed)).float()  # many ties
    size = math.prod(shape[1:])
    spikes = rank_order(values, size)
    assert spikes.shape == (size, *shape)
    flat = spikes.flatten(2)
    assert (flat.sum(0) == 1).all(), "each value spikes once"
    assert (flat.sum(2) == 1).all(), "each step has one spike"
    for b in range(shape[0]):
        row = values[b].flatten().tolist()
        expected = sorted(range(size), key=lambda i, row=row: (-row[i], i))
        assert flat[:, b].argmax(1).tolist() == expected


def test_rank_order_stops_at_its_last_step():
    values = torch.tensor([[0.1, 0.9, 0.5, 0.9]], dtype=torch.float16)
    spikes = rank_order(values, 2)
    assert spikes.dtype == torch.float16
    assert spikes.argmax(2).flatten().tolist() == [1, 3]
    longer = rank_order(values, 6)
    assert longer[:4].sum((1, 2)).tolist() == [1] * 4
    assert not longer[4:].any()


@pytest.mark.parametrize("encode", [lambda x: delta(x, 0.1), lambda x: population(x, 5), lambda x: rank_order(x, 3)])
def test_what_is_not_finite_or_no_float_is_refused(encode):
    with pytest.raises(ArgumentError, match="wants finite numbers"):
        encode(torch.tensor([[0.5, float("inf")]]))
    with pytest.raises(DtypeError, match="float tensor"):
        encode(torch.tensor([[1, 0]]))


def test_impossible_codes_are_refused():
    signal = torch.zeros(3, 2)
    for theta in (0.0, -1.0, float("inf"), float("nan")):
        with pytest.raises(ArgumentError, match="theta wants a finite number above 0"):
            delta(signal, theta)
    with pytest.raises(ArgumentError, match="steps wants 1 or more"):
        rank_order(signal, 0)
    with pytest.raises(ShapeError, match="2 dimensions or more"):
        rank_order(torch.zeros(3), 2)
    with pytest.raises(ShapeError, match="1 dimensions or more"):
        delta(torch.tensor(1.0), 0.1)
    for arguments in ({"neurons": 2}, {"neurons": 4, "low": 1.0}, {"neurons": 4, "gamma": 0.0}):
        with pytest.raises(ArgumentError, match="population wants 3 neurons or more"):
            population(signal, **arguments)
