"""Clamping and binarizing against torch, random loss against the binomial law."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest, chisquare

from spikenet.errors import ArgumentError, DataError
from spikenet.events import EventTensor, binarize, clamp, drop
from tests.events.draws import assert_is, pairs


@given(pairs(), st.sampled_from([0.5, 1.0, 2.0, 9.0]))
def test_clamp_is_torch_clamp(drawn, maximum):
    dense, events = drawn
    assert_is(clamp(events, maximum), dense.clamp(max=maximum), events.lengths)


@given(pairs())
def test_binarize(drawn):
    dense, events = drawn
    assert_is(binarize(events), (dense > 0).float(), events.lengths)


@given(pairs(), st.integers(0, 99))
def test_drop_only_takes_away(drawn, seed):
    dense, events = drawn
    thin = drop(events, 0.5, torch.Generator().manual_seed(seed))
    left = thin.to_dense()
    assert_is(thin, left, events.lengths)
    assert ((left >= 0) & (left <= dense) & (left == left.round())).all()
    assert_is(drop(events, 0.0), dense, events.lengths)
    assert_is(drop(events, 1.0), torch.zeros_like(dense), events.lengths)
    assert torch.equal(drop(events, 0.5, torch.Generator().manual_seed(seed)).to_dense(), left)


def test_drop_is_binomial_in_each_event():
    events = EventTensor.from_dense(torch.full((20, 10, 50), 3.0))
    left = drop(events, 0.3, torch.Generator().manual_seed(3)).to_dense()
    assert binomtest(int(left.sum()), 30_000, 0.7).pvalue > 1e-3
    law = [0.3**3, 3 * 0.7 * 0.3**2, 3 * 0.7**2 * 0.3, 0.7**3]
    assert chisquare(torch.bincount(left.flatten().long()).numpy(), [10_000 * p for p in law]).pvalue > 1e-3


def test_stored_zeros_vanish():
    events = EventTensor(
        torch.tensor([0, 2]), torch.tensor([0, 1], dtype=torch.int32), torch.tensor([0.0, 2]), (1, 1, 3)
    )
    assert_is(binarize(events), torch.tensor([[[0.0, 1, 0]]]), torch.tensor([1]))


def test_impossible_amounts_are_refused():
    events = EventTensor.from_dense(torch.full((1, 1, 2), 0.5))
    for maximum in (0.0, -1.0, float("nan")):
        with pytest.raises(ArgumentError, match="a maximum above 0"):
            clamp(events, maximum)
    with pytest.raises(ArgumentError, match="a probability of 0 to 1, received"):
        drop(events, 1.5)
    with pytest.raises(DataError, match="whole counts"):
        drop(events, 0.5)


@pytest.mark.gpu
@given(drawn=pairs())
def test_a_gpu_gives_the_same(drawn):
    dense, events = drawn
    there = events.to("cuda")
    assert_is(clamp(there, 2.0), dense.clamp(max=2.0), events.lengths)
    assert_is(binarize(there), (dense > 0).float(), events.lengths)
    left = drop(there, 0.5, torch.Generator("cuda").manual_seed(1))
    assert ((left.to_dense().cpu() >= 0) & (left.to_dense().cpu() <= dense)).all()
    assert_is(drop(there, 0.0), dense, events.lengths)
