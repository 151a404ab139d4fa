"""Joining and turning around time, against plain dense operations and against binning anew."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from spikenet.errors import ArgumentError, ShapeError
from spikenet.events import EventStream, EventTensor, Sensor, bin_by_time, concat, rebin, reverse
from tests.events.draws import assert_is, pairs


def joined(dense, steps):
    padded = torch.cat([dense, dense.new_zeros(-len(dense) % steps, *dense.shape[1:])])
    return padded.reshape(-(-len(dense) // steps), steps, *dense.shape[1:]).sum(1)


@given(pairs(least=-4), st.integers(1, 7))
def test_rebin_sums_steps(drawn, steps):
    dense, events = drawn
    assert_is(rebin(events, steps), joined(dense, steps), (events.lengths + steps - 1) // steps)


def test_rebin_is_binning_with_a_longer_step():
    draw = np.random.default_rng(0)
    columns = (np.sort(draw.integers(0, 10_000, 500)), draw.integers(0, 6, 500), draw.integers(0, 4, 500))
    stream = EventStream.from_numpy(*columns, draw.integers(0, 2, 500), sensor=Sensor(6, 4, 2))
    streams = [stream, stream.slice(0, 4321)]
    coarse = bin_by_time(streams, 700)
    assert_is(rebin(bin_by_time(streams, 100), 7), coarse.to_dense(), coarse.lengths)


@given(st.integers(0, 3), st.lists(st.integers(0, 4), min_size=1, max_size=4), st.integers(0, 999))
def test_concat_of_full_lengths_is_torch_cat(batch, steps, seed):
    generator = torch.Generator().manual_seed(seed)
    parts = [torch.randint(0, 3, (n, batch, 2, 3), generator=generator).float() for n in steps]
    whole = concat([EventTensor.from_dense(part) for part in parts])
    assert_is(whole, torch.cat(parts), torch.full((batch,), sum(steps)))


@given(pairs(), st.data())
def test_concat_joins_what_slices_cut(drawn, data):
    dense, events = drawn
    cuts = sorted(data.draw(st.lists(st.integers(0, len(dense)), max_size=3)))
    bounds = [0, *cuts, len(dense)]
    parts = [events[a:b] for a, b in pairwise(bounds)]
    assert_is(concat(parts), dense, events.lengths)


def test_concat_leaves_no_gap():
    first = EventTensor.from_dense(torch.tensor([[[1.0], [2.0]], [[0.0], [3.0]]]), torch.tensor([1, 2]))
    second = EventTensor.from_dense(torch.tensor([[[4.0], [5.0]]]))
    assert_is(concat([first, second]), torch.tensor([[[1.0], [2]], [[4], [3]], [[0], [5]]]), torch.tensor([2, 3]))


@given(pairs())
def test_reverse_turns_each_entry_within_its_length(drawn):
    dense, events = drawn
    expected = dense.clone()
    for b, length in enumerate(events.lengths.tolist()):
        expected[:length, b] = dense[:length, b].flip(0)
    assert_is(reverse(events), expected, events.lengths)
    assert_is(reverse(reverse(events)), dense, events.lengths)


@given(pairs(full=True))
def test_reverse_of_full_lengths_is_torch_flip(drawn):
    dense, events = drawn
    assert_is(reverse(events), dense.flip(0), events.lengths)


@given(pairs())
def test_a_ragged_batch_round_trips(drawn):
    """Unequal lengths need no padding: stacked, dense and taken apart again, nothing changes and nothing is added."""
    dense, events = drawn
    if not events.batch:
        return
    parts = [events.entry(b) for b in range(events.batch)]
    assert [part.T for part in parts] == events.lengths.tolist()
    stacked = EventTensor.stack(parts)
    assert stacked.nnz == events.nnz
    assert_is(stacked, dense[: stacked.T], events.lengths)


def test_what_does_not_fit_is_refused():
    events = EventTensor.from_dense(torch.ones(2, 1, 3))
    with pytest.raises(ArgumentError, match="1 or more steps, received 0"):
        rebin(events, 0)
    with pytest.raises(ArgumentError, match="received none"):
        concat([])
    with pytest.raises(ShapeError, match="equal batches and features"):
        concat([events, EventTensor.from_dense(torch.ones(2, 2, 3))])


@pytest.mark.gpu
@given(drawn=pairs())
def test_a_gpu_gives_the_same(drawn):
    dense, events = drawn
    there = events.to("cuda")
    assert_is(rebin(there, 2), joined(dense, 2), (events.lengths + 1) // 2)
    assert_is(concat([there[:2], there[2:]]), dense, events.lengths)
    assert_is(reverse(there), reverse(events).to_dense(), events.lengths)
