"""Noise filters against closed forms, and against the plainest loop over a list of events."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from spikenet.errors import ArgumentError
from spikenet.events import EventStream, Sensor, background_activity_filter, hot_pixel_filter, refractory_filter

SENSOR = Sensor(5, 4, 2)


def rows(stream):
    return list(zip(*(column.tolist() for column in (stream.t, stream.x, stream.y, stream.p)), strict=True))


@st.composite
def streams(draw):
    seed, count = draw(st.integers(0, 2**16)), draw(st.integers(0, 60))
    dice = np.random.default_rng(seed)
    columns = (np.sort(dice.integers(0, 300, count)), *(dice.integers(0, size, count) for size in SENSOR))
    return EventStream.from_numpy(*columns, sensor=SENSOR)


@given(streams(), st.integers(0, 80))
def test_refractory_is_the_plain_loop(stream, period):
    kept, last = [], {}
    for t, x, y, p in rows(stream):
        if (x, y) not in last or t - last[x, y] >= period:
            kept.append((t, x, y, p))
            last[x, y] = t
    assert rows(refractory_filter(stream, period)) == kept


@given(streams(), st.integers(0, 80))
def test_background_activity_is_the_plain_rule(stream, dt):
    everything = rows(stream)
    kept = [
        (t, x, y, p)
        for i, (t, x, y, p) in enumerate(everything)
        if any(max(abs(x - a), abs(y - b)) == 1 and t - before <= dt for before, a, b, _ in everything[:i])
    ]
    assert rows(background_activity_filter(stream, dt)) == kept


@pytest.mark.parametrize(("period", "every"), [(0, 1), (10, 1), (11, 2), (20, 2), (21, 3), (1000, 100), (10_000, 1000)])
def test_refractory_thins_a_regular_train(period, every):
    """Of a train with interval 10, a rest of ``period`` keeps each event ``ceil(period / 10)`` places on."""
    train = EventStream.from_numpy(np.arange(1000) * 10 - 500, np.zeros(1000, int), sensor=Sensor(1))
    assert torch.equal(refractory_filter(train, period).t, train.t[::every])


def test_company_of_a_moving_edge():
    """An edge that takes 10 us a pixel: all but its first event are supported for dt >= 10, none below."""
    edge = EventStream.from_numpy(np.arange(6) * 10, np.arange(6), sensor=Sensor(6))
    assert rows(background_activity_filter(edge, 10)) == rows(edge)[1:]
    assert len(background_activity_filter(edge, 9)) == 0


def test_a_pixel_is_no_company_for_itself_nor_for_one_two_away():
    stream = EventStream.from_numpy([0, 1, 2, 3], [0, 0, 2, 2], [0, 0, 0, 2], sensor=Sensor(3, 3))
    assert len(background_activity_filter(stream, 100)) == 0


def with_counts(counts, duration=1_000_000):
    """A row of pixels with these numbers of events each, evenly over the duration."""
    t = np.concatenate([np.linspace(0, duration, n).astype(int) for n in counts])
    x = np.repeat(np.arange(len(counts)), counts)
    order = np.argsort(t, kind="stable")
    return EventStream.from_numpy(t[order], x[order], sensor=Sensor(len(counts)))


def test_hot_pixels_by_deviations():
    """Counts 2, 2, 2, 2, 2, 2, 2, 2, 2, 12: mean 3, deviation 3, so the last lies 3 deviations above."""
    stream = with_counts([2] * 9 + [12])
    assert len(hot_pixel_filter(stream, deviations=3.0)) == 30
    assert hot_pixel_filter(stream, deviations=2.99).x.unique().tolist() == list(range(9))
    assert len(hot_pixel_filter(with_counts([7, 7, 7]), deviations=0.0)) == 21


def test_hot_pixels_by_rate():
    """11, 21 and 31 events in 2 s from first to last: 5, 10 and 15 Hz."""
    stream = with_counts([11, 21, 31], 2_000_000)
    for rate, left in [(4.9, []), (5.0, [0]), (9.9, [0]), (10.0, [0, 1]), (15.0, [0, 1, 2])]:
        assert hot_pixel_filter(stream, rate_hz=rate).x.unique().tolist() == left
    single = EventStream.from_numpy([5], [0], sensor=Sensor(2))
    assert len(hot_pixel_filter(single, rate_hz=0.0)) == 1


def test_both_polarities_count_together():
    stream = EventStream.from_numpy([0, 1, 2, 3], [0, 0, 0, 1], [0] * 4, [0, 1, 0, 1], sensor=Sensor(2, 1, 2))
    assert hot_pixel_filter(stream, deviations=0.5).x.tolist() == [1]
    assert refractory_filter(stream, 2).t.tolist() == [0, 2, 3]


def test_empty_streams_stay_empty():
    empty = EventStream.from_numpy([], [], sensor=SENSOR)
    for filtered in (
        refractory_filter(empty, 5),
        background_activity_filter(empty, 5),
        hot_pixel_filter(empty, deviations=1.0),
        hot_pixel_filter(empty, rate_hz=1.0),
    ):
        filtered.check()
        assert len(filtered) == 0
        assert filtered.sensor == SENSOR


@pytest.mark.parametrize("kept", [refractory_filter, background_activity_filter])
def test_disorder_and_negative_times_are_refused(kept):
    with pytest.raises(ArgumentError, match=r"ascending time; stream\.sorted\(\) has them"):
        kept(EventStream.from_numpy([2, 1], [0, 0], sensor=SENSOR), 5)
    with pytest.raises(ArgumentError, match="0 or more microseconds, received -1"):
        kept(EventStream.from_numpy([1, 2], [0, 0], sensor=SENSOR), -1)


@pytest.mark.parametrize(
    "rule", [{}, {"deviations": 1.0, "rate_hz": 1.0}, {"deviations": -1.0}, {"rate_hz": float("nan")}]
)
def test_hot_pixels_want_one_rule(rule):
    with pytest.raises(ArgumentError, match="either deviations or rate_hz"):
        hot_pixel_filter(EventStream.from_numpy([1], [0], sensor=SENSOR), **rule)
