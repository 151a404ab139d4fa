"""Augmentations: what they may change, what they must keep, and that the generator alone decides."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import binomtest, kstest

from spikenet.errors import ArgumentError
from spikenet.events import (
    AreaDrop,
    EventDrop,
    EventStream,
    FlipPolarity,
    FlipX,
    FlipY,
    OneOf,
    RandomCrop,
    RandomShift,
    ReverseTime,
    ScaleTime,
    Sensor,
    TimeDrop,
    TimeJitter,
    bin_by_time,
)

ALL = [
    RandomShift(2),
    TimeJitter(500.0),
    EventDrop(0.3),
    TimeDrop(0.3),
    AreaDrop(0.3),
    FlipX(0.5),
    FlipY(0.5),
    FlipPolarity(0.5),
    ReverseTime(0.5),
    ScaleTime(0.5, 2.0),
    RandomCrop(4, 5),
    OneOf((EventDrop(0.1), TimeDrop(0.1))),
]


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


@pytest.mark.parametrize(
    "augmentation",
    [
        RandomShift(0),
        TimeJitter(0.0),
        EventDrop(0.0),
        TimeDrop(0.0),
        AreaDrop(0.0),
        FlipX(0.0),
        ReverseTime(0.0),
        ScaleTime(1.0, 1.0),
        RandomCrop(9, 7),
    ],
)
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


@pytest.mark.parametrize("augmentation", ALL)
def test_an_empty_recording_stays_empty(augmentation):
    empty = augmentation(EventStream.from_numpy([], [], sensor=Sensor(9, 7, 2)), np.random.default_rng(0))
    empty.check()
    assert len(empty) == 0


@pytest.mark.parametrize(
    ("make", "wanted"),
    [
        (lambda: RandomShift(-1), "amount of 0 or more"),
        (lambda: TimeJitter(-1.0), "amount of 0 or more"),
        (lambda: TimeJitter(float("inf")), "amount of 0 or more"),
        (lambda: EventDrop(1.5), "probability: 0 to 1"),
        (lambda: TimeDrop(1.1), "fraction or probability: 0 to 1"),
        (lambda: AreaDrop(-0.1), "fraction or probability: 0 to 1"),
        (lambda: FlipX(2.0), r"probability: 0 to 1\) would work, received FlipX\(probability=2.0\)"),
        (lambda: ScaleTime(2.0, 1.0), "0 <= low <= high"),
        (lambda: RandomCrop(0, 3), "1 pixel or more each way"),
        (lambda: OneOf(()), "one augmentation or more"),
    ],
)
def test_impossible_amounts_are_refused(make, wanted):
    with pytest.raises(ArgumentError, match=wanted):
        make()


# What follows a rule is checked against the rule.


def draws(seed=0):
    return np.random.default_rng(seed)


def test_flips_are_flips_of_the_dense_picture(stream):
    dense = bin_by_time(stream, 1000).to_dense()
    for flip, dim in ((FlipX, -1), (FlipY, -2), (FlipPolarity, -3)):
        assert torch.equal(bin_by_time(flip(1.0)(stream, draws()), 1000).to_dense(), dense.flip(dim))
        assert same(flip(1.0)(flip(1.0)(stream, draws()), draws()), stream)


def test_reversed_time_is_a_reversed_video(stream):
    """Steps come in the opposite order and polarities change places; the first and the last time stamp stay."""
    first, last = int(stream.t[0]), int(stream.t[-1])
    backwards = ReverseTime(1.0)(stream, draws())
    span = last - first + 1
    dense = bin_by_time(stream, 1, span, first).to_dense()
    assert torch.equal(bin_by_time(backwards, 1, span, first).to_dense(), dense.flip(0).flip(-3))
    assert backwards.t.diff().ge(0).all()
    assert same(ReverseTime(1.0)(backwards, draws()), stream)


@pytest.mark.parametrize("flip", [FlipX, FlipY, FlipPolarity, ReverseTime])
def test_flips_come_with_their_probability(flip, stream):
    generator = draws(4)
    flipped = sum(not same(flip(0.3)(stream, generator), stream) for _ in range(400))
    assert binomtest(flipped, 400, 0.3).pvalue > 1e-3


def test_scaled_time_is_one_factor(stream):
    factors = []
    for seed in range(300):
        scaled = ScaleTime(0.5, 2.0)(stream, draws(seed))
        factor = (scaled.t.double() / stream.t).mean().item()
        assert (scaled.t - factor * stream.t).abs().max() <= 1
        factors.append(factor)
    assert kstest([(factor - 0.5) / 1.5 for factor in factors], "uniform").pvalue > 1e-3


def test_crop_cuts_a_window_anywhere(stream):
    dense = bin_by_time(stream, 1000, 100).to_dense()
    windows = [dense[..., top : top + 5, left : left + 4] for top in range(3) for left in range(6)]
    seen = set()
    for seed in range(200):
        cropped = RandomCrop(4, 5)(stream, draws(seed))
        cropped.check()
        assert cropped.sensor == Sensor(4, 5, 2)
        found = bin_by_time(cropped, 1000, 100).to_dense()
        seen.add(next(number for number, window in enumerate(windows) if torch.equal(window, found)))
    assert seen == set(range(18))
    with pytest.raises(ArgumentError, match="does not fit the sensor"):
        RandomCrop(10, 1)(stream, draws())


def test_time_drop_loses_one_window(stream):
    span, begins = stream.duration + 1, []
    for seed in range(300):
        kept = TimeDrop(0.25)(stream, draws(seed))
        lost = stream.t[~torch.isin(stream.t, kept.t)]
        assert 0.2 * span < int(lost[-1] - lost[0]) < 0.25 * span
        assert not torch.isin(kept.t, torch.arange(int(lost[0]), int(lost[-1]) + 1)).any()
        begins.append((int(lost[0]) - int(stream.t[0])) / (0.75 * span))
    assert kstest(begins, "uniform").pvalue > 1e-3


def test_time_drop_is_exact_at_late_times():
    late = 10**15
    stream = EventStream.from_numpy(late + np.arange(100), np.zeros(100, int), sensor=Sensor(1))
    kept = TimeDrop(0.25)(stream, draws())
    assert len(kept) == 75
    assert (kept.t.diff() != 1).sum() <= 1


def test_area_drop_loses_one_box():
    y, x = np.divmod(np.arange(200), 20)
    full = EventStream.from_numpy(np.arange(200), x, y, sensor=Sensor(20, 10, 1))
    corners = set()
    for seed in range(400):
        kept = AreaDrop(0.25)(full, draws(seed))
        gone = torch.ones(10, 20, dtype=torch.bool)
        gone[kept.y, kept.x] = False
        rows, columns = gone.nonzero(as_tuple=True)
        assert gone.sum() == 50
        assert gone[rows.min() : rows.min() + 5, columns.min() : columns.min() + 10].all()
        corners.add((int(rows.min()), int(columns.min())))
    assert len(corners) == 6 * 11
    row = EventStream.from_numpy(np.arange(20), np.arange(20), sensor=Sensor(20))
    assert len(AreaDrop(0.25)(row, draws())) == 15


def test_everything_can_be_dropped(stream):
    for augmentation in (TimeDrop(1.0), AreaDrop(1.0)):
        assert len(augmentation(stream, draws())) == 0


def test_one_of_takes_each_as_often(stream):
    choice = OneOf((EventDrop(0.0), FlipX(1.0), EventDrop(1.0)))
    generator = draws(1)
    sizes = [choice(stream, generator) for _ in range(600)]
    counts = [sum(same(s, stream) for s in sizes), sum(len(s) == 0 for s in sizes)]
    assert all(binomtest(count, 600, 1 / 3).pvalue > 1e-3 for count in counts)
