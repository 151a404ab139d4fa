"""The event camera against closed forms of its equations."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch

from spikenet.errors import ArgumentError, DtypeError, ShapeError, StateError
from spikenet.events import EventCamera, EventStream

EPS = 1e-3


def video(log_intensity, times):
    """Frames whose logarithm is as given, [N] or [N, H, W], and their times."""
    level = np.asarray(log_intensity, np.float64)
    level = level.reshape(len(level), 1, 1) if level.ndim == 1 else level
    return torch.from_numpy(np.exp(level) - EPS), torch.tensor(times)


def rows(stream):
    return list(zip(*(column.tolist() for column in (stream.t, stream.x, stream.y, stream.p)), strict=True))


def test_constant_input_gives_nothing():
    frames = torch.rand(1, 6, 5).repeat(9, 1, 1)
    stream = EventCamera(theta_on=0.01, theta_off=0.01, sigma=0.03)(frames, torch.arange(9) * 1000)
    assert len(stream) == 0
    assert stream.sensor == (5, 6, 2)


@pytest.mark.parametrize("theta", [0.2, 1 / 3, 2 / 3, 0.1234567])
@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("k", [1, 2, 3, 4, 5])
def test_a_step_of_k_thresholds_gives_k_events(k, sign, theta):
    start = np.random.default_rng(k).uniform(-2, 2, (8, 8))
    frames, times = video([start, start + sign * k * theta], [0, 1000])
    stream = EventCamera(theta_on=theta, theta_off=theta)(frames, times)
    counts = np.zeros((8, 8), int)
    np.add.at(counts, (stream.y.numpy(), stream.x.numpy()), 1)
    assert (counts == k).all()
    assert set(stream.p.tolist()) == {(sign + 1) // 2}


def test_a_step_just_short_of_a_threshold_gives_none():
    frames, times = video([0.0, 0.2 - 1e-4, 0.0, -0.3 + 1e-4], [0, 10, 20, 30])
    assert len(EventCamera(theta_on=0.2, theta_off=0.3)(frames, times)) == 0


@pytest.mark.parametrize(("theta", "slope"), [(0.2, 1.0), (0.25, 0.37), (0.3, -1.0)])
def test_a_ramp_gives_a_constant_rate(theta, slope):
    """Event k comes at k * theta / |slope|, whatever the frames in between."""
    ticks = [0, 130_000, 400_000, 999_000, 2_000_000]
    frames, times = video([slope * tick * 1e-6 for tick in ticks], ticks)
    stream = EventCamera(theta_on=theta, theta_off=theta)(frames, times)
    expected = [k * theta / abs(slope) * 1e6 for k in range(1, math.floor(2 * abs(slope) / theta + 1e-9) + 1)]
    # Logarithms are kept to 1e-6, so times to some 1e-6 / slope seconds.
    assert stream.t.tolist() == pytest.approx(expected, abs=1 + 2 / abs(slope))
    assert set(stream.p.tolist()) == {int(slope > 0)}


def test_times_are_exact_where_the_numbers_are():
    frames, times = video([0.0, 1.0], [5000, 15_000])
    stream = EventCamera(theta_on=0.3)(frames, times)
    assert stream.t.tolist() == [8000, 11_000, 14_000]


def test_on_and_off_have_their_own_thresholds():
    frames, times = video([0.0, 1.0, 0.0], [0, 1000, 2000])
    stream = EventCamera(theta_on=0.5, theta_off=0.25)(frames, times)
    assert rows(stream) == [(500, 0, 0, 1), (1000, 0, 0, 1), *((1000 + 250 * k, 0, 0, 0) for k in range(1, 5))]


def test_refractory_pixels_are_silent_but_follow():
    """Levels come every 100 us; 250 us of silence let every third pass, and the reference does not lag behind: the OFF
    levels 0.5 and 0 lie below the last ON level, 1.0, and the second comes too early to be seen."""
    frames, times = video([0.0, 1.0, 1.05, 0.0], [0, 1000, 1500, 2000])
    stream = EventCamera(theta_on=0.1, theta_off=0.5, refractory_us=250)(frames, times)
    assert stream.t[stream.p == 1].tolist() == [100, 400, 700, 1000]
    assert stream.t[stream.p == 0].tolist() == [1500 + math.floor(500 * 0.55 / 1.05)]


def test_pixels_are_independent_and_time_ascends():
    level = np.random.default_rng(0).normal(0, 0.5, (12, 5, 4)).cumsum(0)
    frames, times = video(level, list(range(0, 12_000, 1000)))
    camera = EventCamera(theta_on=0.15, theta_off=0.2, refractory_us=30)
    whole = camera(frames, times)
    assert (whole.t.diff() >= 0).all()
    for y, x in [(0, 0), (4, 3), (2, 1)]:
        alone = camera(frames[:, y : y + 1, x : x + 1], times)
        here = whole.take((whole.x == x) & (whole.y == y))
        assert here.t.tolist() == alone.t.tolist()
        assert here.p.tolist() == alone.p.tolist()


def test_one_seed_one_recording():
    frames, times = video(np.random.default_rng(1).normal(0, 1, (8, 6, 6)), list(range(0, 8000, 1000)))
    camera = EventCamera(sigma=0.05)
    first, again, other = camera(frames, times, seed=3), camera(frames, times, seed=3), camera(frames, times, seed=4)
    assert content(first) == content(again)
    assert content(first) != content(other)
    assert content(EventCamera()(frames, times, seed=3)) == content(EventCamera()(frames, times, seed=4))


def content(stream: EventStream) -> bytes:
    return b"".join(column.numpy().tobytes() for column in (stream.t, stream.x, stream.y, stream.p))


def test_drawn_thresholds_have_their_mean_and_spread():
    """The first crossing of a steep ramp tells the threshold of each pixel."""
    level = np.zeros((2, 60, 60))
    level[1] = 1.0
    frames, times = video(level, [0, 1_000_000])
    stream = EventCamera(theta_on=0.6, sigma=0.04)(frames, times, seed=0)
    first = np.full((60, 60), np.inf)
    np.minimum.at(first, (stream.y.numpy(), stream.x.numpy()), stream.t.numpy() * 1e-6)
    assert first.mean() == pytest.approx(0.6, abs=4 * 0.04 / 60)
    assert first.std() == pytest.approx(0.04, rel=4 / math.sqrt(2 * 3600))


def test_thresholds_are_clipped():
    level = np.zeros((2, 20, 20))
    level[1] = 0.1
    frames, times = video(level, [0, 1000])
    stream = EventCamera(theta_on=0.01, sigma=5.0)(frames, times)
    assert 0 < len(stream) <= 10 * 400


def test_a_slow_rise_in_many_frames_is_not_lost_to_threshold_noise():
    """Redrawn thresholds fall below changes that are already there; the rate stays that of the mean threshold."""
    level = np.linspace(0, 4, 401)[:, None, None] * np.ones((1, 10, 10))
    frames, times = video(level, list(range(0, 401_000, 1000)))
    noisy, plain = (len(EventCamera(sigma=sigma)(frames, times)) for sigma in (0.03, 0.0))
    assert plain == 20 * 100
    assert plain <= noisy <= 1.6 * plain


def test_chunks_give_the_same_events_as_the_whole():
    frames, times = video(np.random.default_rng(2).normal(0, 1, (20, 6, 5)), list(range(7, 20_007, 1000)))
    camera = EventCamera(sigma=0.05, refractory_us=90)
    whole = camera(frames, times, seed=3)
    cuts = [0, 1, 2, 9, 10, 20]
    chunks = [(frames[a:b], times[a:b]) for a, b in pairwise(cuts)]
    assert content(EventStream.concat(list(camera.record(chunks, seed=3)))) == content(whole)
    _, state = camera.run(*chunks[0], seed=3)
    first, again = (camera.run(*chunks[1], state)[0] for _ in range(2))  # a state stays as it is
    assert content(first) == content(again)
    with pytest.raises(StateError, match="after 7 us"):
        camera.run(*chunks[0], state)
    with pytest.raises(StateError, match=r"\(6, 5\)"):
        camera.run(torch.rand(1, 5, 5), torch.tensor([9999]), state)


def test_one_frame_is_no_change():
    assert len(EventCamera()(torch.rand(1, 3, 3), torch.tensor([0]))) == 0


@pytest.mark.parametrize(
    ("frames", "times", "error", "message"),
    [
        (torch.rand(2, 3), torch.arange(2), ShapeError, r"frames \[N, H, W\]"),
        (torch.rand(2, 3, 3), torch.arange(3), ShapeError, "times"),
        (torch.rand(0, 3, 3), torch.arange(0), ShapeError, "1 or more"),
        (torch.rand(2, 0, 3), torch.arange(2), ShapeError, "1 or more"),
        (-torch.rand(2, 3, 3), torch.arange(2), ArgumentError, "negative"),
        (torch.full((2, 3, 3), float("nan")), torch.arange(2), ArgumentError, "NaN"),
        (torch.rand(2, 3, 3), torch.tensor([5, 5]), ArgumentError, "ascend strictly"),
        (torch.rand(2, 3, 3), torch.tensor([0.0, 1.0]), ArgumentError, "whole microseconds"),
    ],
)
def test_impossible_videos_are_refused(frames, times, error, message):
    with pytest.raises(error, match=message):
        EventCamera()(frames, times)


@pytest.mark.parametrize(
    "values",
    [
        *({"theta_on": 0.0}, {"sigma": -1.0}, {"refractory_us": -1}, {"eps": 0.0}),
        *({name: value} for name in ("theta_off", "sigma", "eps") for value in (math.inf, math.nan)),
    ],
)
def test_impossible_cameras_are_refused(values):
    with pytest.raises(ArgumentError, match="an event camera wants"):
        EventCamera(**values)


def test_frames_that_numpy_does_not_know_are_refused():
    with pytest.raises(DtypeError, match=r"bfloat16 on cpu; frames\.float"):
        EventCamera()(torch.ones(2, 3, 3, dtype=torch.bfloat16), torch.tensor([0, 1]))


def test_frames_with_a_history_are_filmed_as_they_are():
    frames = torch.rand(3, 4, 4)
    times = torch.tensor([0, 1000, 2000])
    plain, learned = EventCamera()(frames, times), EventCamera()(frames.clone().requires_grad_(), times)
    assert torch.equal(plain.t, learned.t)
