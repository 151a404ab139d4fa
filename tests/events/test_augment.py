"""Augmentations: what they may change, what they must keep, and that the generator alone decides."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import binomtest, kstest

from spikenet.errors import ArgumentError
from spikenet.events import EventDrop, EventStream, RandomShift, Sensor, TimeJitter

ALL = [RandomShift(2), TimeJitter(500.0), EventDrop(0.3)]


@pytest.fixture
def stream():
    generator = np.random.default_rng(0)
    t = np.sort(generator.integers(10_000, 90_000, 3000))
    x, y, p = (generator.integers(0, limit, 3000) for limit in (9, 7, 2))
    return EventStream.from_numpy(t, x, y, p, sensor=Sensor(9, 7, 2))


def same(a, b):
    return all(torch.equal(getattr(a, name), getattr(b, name)) for name in "txyp")


@pytest.mark.parametrize("augmentation", ALL)
def test_the_generator_decides(augmentation, stream):
    first, again = (augmentation(stream, np.random.default_rng(5)) for _ in range(2))
    assert same(first, again)
    assert any(not same(first, augmentation(stream, np.random.default_rng(seed))) for seed in range(6, 12))


@pytest.mark.parametrize("augmentation", ALL)
def test_the_original_is_untouched_and_the_result_is_valid(augmentation, stream):
    before = [column.clone() for column in (stream.t, stream.x, stream.y, stream.p)]
    augmentation(stream, np.random.default_rng(1)).check()
    assert all(torch.equal(a, b) for a, b in zip(before, (stream.t, stream.x, stream.y, stream.p), strict=True))


@pytest.mark.parametrize("augmentation", [RandomShift(0), TimeJitter(0.0), EventDrop(0.0)])
def test_nothing_is_nothing(augmentation, stream):
    assert same(augmentation(stream, np.random.default_rng(1)), stream)


def test_shift_moves_the_picture():
    stream = EventStream.from_numpy([1, 2], [4, 0], [3, 0], [1, 0], sensor=Sensor(9, 7, 2))
    seen = set()
    for seed in range(200):
        moved = RandomShift(2)(stream, np.random.default_rng(seed))
        right, down = int(moved.x[0]) - 4, int(moved.y[0]) - 3
        seen.add((right, down))
        assert (moved.t[0], moved.p[0]) == (1, 1)
        assert len(moved) == 1 + (right >= 0 and down >= 0)
    assert seen == {(right, down) for right in range(-2, 3) for down in range(-2, 3)}


def test_shift_of_a_row_of_channels_stays_in_the_row():
    stream = EventStream.from_numpy(np.arange(5), np.arange(5), sensor=Sensor(5))
    for seed in range(20):
        moved = RandomShift(3)(stream, np.random.default_rng(seed))
        assert not moved.y.any()
        assert moved.x.diff().eq(1).all()


def test_jitter_is_normal_and_sorted(stream):
    one_by_one = EventStream.from_numpy(np.full(3000, 50_000), np.zeros(3000, int), sensor=Sensor(1))
    moved = TimeJitter(1000.0)(one_by_one, np.random.default_rng(2))
    assert kstest((moved.t.numpy() - 50_000) / 1000, "norm").pvalue > 1e-3
    jittered = TimeJitter(1000.0)(stream, np.random.default_rng(2))
    assert jittered.t.diff().ge(0).all()
    assert torch.equal(jittered.address().sort().values, stream.address().sort().values)
    assert TimeJitter(1e6)(stream, np.random.default_rng(2)).t.min() == 0


def test_drop_is_binomial(stream):
    kept = EventDrop(0.3)(stream, np.random.default_rng(3))
    assert binomtest(len(kept), len(stream), 0.7).pvalue > 1e-3
    assert len(EventDrop(1.0)(stream, np.random.default_rng(3))) == 0


@pytest.mark.parametrize("make", [lambda: RandomShift(-1), lambda: TimeJitter(-1.0), lambda: EventDrop(1.5)])
def test_impossible_amounts_are_refused(make):
    with pytest.raises(ArgumentError, match="0 or more"):
        make()
