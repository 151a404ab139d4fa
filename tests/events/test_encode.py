"""Encoders against the statistics and the formula that define them."""

from __future__ import annotations

import pytest
import torch
from scipy.stats import binomtest

from spikenet.errors import ArgumentError, DtypeError
from spikenet.events import expand, latency, poisson


def test_poisson_counts_are_binomial():
    rates = torch.tensor([[0.0, 0.05, 0.3, 0.9, 1.0]])
    steps = 4000
    counts = poisson(rates, steps, torch.Generator().manual_seed(1)).sum(0)[0].int().tolist()
    assert counts[0] == 0
    assert counts[-1] == steps
    for count, rate in zip(counts[1:-1], (0.05, 0.3, 0.9), strict=True):
        assert binomtest(count, steps, rate).pvalue > 1e-4


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
