"""The v2e camera against closed forms of its equations."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy.stats import binom, kstest

from spikenet.errors import ArgumentError, ShapeError, StateError
from spikenet.events import EventStream, V2ECamera

QUIET = {"sigma": 0.0, "leak_hz": 0.0, "shot_hz": 0.0}


def video(log_intensity, times):
    """Frames on the logarithmic branch, [N] or [N, H, W], and their times."""
    level = np.asarray(log_intensity, np.float64)
    level = level.reshape(len(level), 1, 1) if level.ndim == 1 else level
    return torch.from_numpy(np.exp(level)), torch.tensor(times)


def grey(value, frames, size=(40, 50), every_us=1000):
    return torch.full((frames, *size), float(value)), torch.arange(frames) * every_us


def content(*streams: EventStream) -> bytes:
    whole = EventStream.concat(streams)
    return b"".join(column.numpy().tobytes() for column in (whole.t, whole.x, whole.y, whole.p))


def test_constant_input_gives_nothing():
    frames = torch.randint(0, 256, (1, 6, 5), dtype=torch.uint8).repeat(9, 1, 1)
    stream = V2ECamera(theta_on=0.01, theta_off=0.01, cutoff_hz=30, leak_hz=0)(frames, torch.arange(9) * 1000)
    assert len(stream) == 0
    assert stream.sensor == (5, 6, 2)


@pytest.mark.parametrize("theta", [0.2, 1 / 3, 0.1234567])
@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("k", [1, 2, 3, 4, 5])
def test_a_step_of_k_thresholds_gives_k_events(k, sign, theta):
    """At evenly spaced times; and the step back gives as many again."""
    low = np.random.default_rng(k).uniform(3.1, 3.8, (8, 8))
    start, end = (low, low + k * theta)[::sign]
    frames, times = video([start, end, start], [0, 900, 2000])
    stream = V2ECamera(theta_on=theta, theta_off=theta, **QUIET)(frames, times)
    for since, span, p in ((0, 900, (1 + sign) // 2), (900, 1100, (1 - sign) // 2)):
        part = stream.slice(since + 1, since + span + 1)
        assert set(part.p.tolist()) == {p}
        expected = [since + j * span // k for j in range(1, k + 1)]
        for y, x in np.ndindex(8, 8):
            assert part.t[(part.x == x) & (part.y == y)].tolist() == expected


def test_a_step_just_short_of_a_threshold_gives_none_and_is_kept():
    frames, times = video([3.1, 3.1 + 0.2 - 1e-5, 3.1 + 0.2], [0, 1000, 2000])
    stream = V2ECamera(**QUIET)(frames, times)
    assert stream.t.tolist() == [2000]


def test_darkness_is_linear_and_light_logarithmic():
    """From 0 to 20 the level rises by ln 20, as from 20 to 400; below the knee in a straight line."""
    frames = torch.tensor([0.0, 5.0, 10.0, 20.0, 200.0]).reshape(5, 1, 1)
    camera = V2ECamera(theta_on=0.01, **QUIET)
    counts = np.histogram(camera(frames, torch.arange(5) * 1000).t, [1, 1001, 2001, 3001, 4001])[0]
    steps = np.array([math.log(20) / 4, math.log(20) / 4, math.log(20) / 2, math.log(10)])
    np.testing.assert_allclose(counts.cumsum(), np.floor(steps.cumsum() / 0.01))


@pytest.mark.parametrize(("theta", "slope"), [(0.2, 1.0), (0.25, 0.37), (0.3, -1.0)])
def test_a_ramp_gives_a_constant_rate(theta, slope):
    """Event k comes with the first frame at which k * theta is reached."""
    times = np.arange(0, 2_000_001, 2000)
    frames, ticks = video((3.1 if slope > 0 else 5.2) + slope * times * 1e-6, times.tolist())
    stream = V2ECamera(theta_on=theta, theta_off=theta, **QUIET)(frames, ticks)
    reached = np.arange(1, math.floor(2 * abs(slope) / theta + 1e-9) + 1) * theta / abs(slope) * 1e6
    assert len(stream) == len(reached)
    assert ((stream.t.numpy() - reached > -1) & (stream.t.numpy() - reached < 2001)).all()
    assert set(stream.p.tolist()) == {int(slope > 0)}


@pytest.mark.parametrize(("before", "after"), [(30.0, 200.0), (200.0, 30.0), (0.0, 255.0)])
def test_the_low_pass_is_exponential(before, after):
    """A step decays by (1 - eps)^n in n frames, and with ever finer frames like exp(-t / tau); light makes it fast."""
    cutoff, seconds = 20.0, 0.01
    tau = 1 / (2 * math.pi * cutoff * (after + 20) / 275)

    def left(frames):
        span = round(seconds * 1e6) // frames
        values = torch.tensor([before] + [after] * frames).reshape(-1, 1, 1)
        _, state = V2ECamera(cutoff_hz=cutoff, **QUIET).run(values, torch.arange(frames + 1) * span)
        levels = [math.log(value) if value > 20 else value * math.log(20) / 20 for value in (before, after)]
        return (state.pixels["level"].item() - levels[1]) / (levels[0] - levels[1])

    assert left(50) == pytest.approx((1 - seconds / 50 / tau) ** 50, rel=1e-6)
    assert left(2000) == pytest.approx(math.exp(-seconds / tau), rel=1.5 * (seconds / tau) ** 2 / 2000 + 1e-6)


def test_a_low_pass_that_is_faster_than_the_frames_is_none():
    frames = torch.randint(0, 256, (20, 5, 5)).double()
    fast, none = (V2ECamera(cutoff_hz=cutoff, **QUIET)(frames, torch.arange(20) * 10_000) for cutoff in (1e5, 0.0))
    assert content(fast) == content(none)


def test_leak_events_come_at_their_rate():
    """Without jitter and spread every pixel sends an ON event each 1 / leak_hz seconds, to the frame."""
    camera = V2ECamera(leak_hz=5.0, sigma=0.03, leak_jitter=0.0, leak_spread=0.0)
    stream = camera(*grey(100, 2001, size=(6, 7)))
    assert len(stream) == 10 * 42
    assert set(stream.p.tolist()) == {1}
    assert sorted(set(stream.t.tolist())) == [200_000 * k for k in range(1, 11)]


def test_leak_rates_are_log_normal_over_pixels():
    """ln of the rate: mean ln leak_hz and standard deviation 0.1 ln 10; what jitter adds averages out."""
    camera = V2ECamera(leak_hz=100.0, sigma=0.0)
    size, seconds = (40, 50), 4
    stream = camera(*grey(100, 1000 * seconds // 5 + 1, size, every_us=5000))
    counts = np.bincount(stream.y.numpy() * 50 + stream.x.numpy(), minlength=2000)
    rates = np.log((counts + 0.5) / seconds)  # a count is the floor of what has leaked
    assert rates.mean() == pytest.approx(math.log(100), abs=4 * 0.1 * math.log(10) / math.sqrt(2000))
    assert rates.std() == pytest.approx(0.1 * math.log(10), rel=4 / math.sqrt(2 * 2000))


@pytest.mark.parametrize("value", [0, 120, 255])
def test_shot_noise_comes_at_its_rate(value):
    """Each sign is binomial with p = rate / 2 * dt * (1 - 0.75 s), s = (I + 20) / 275; times are uniform."""
    camera = V2ECamera(shot_hz=20.0, sigma=0.0, leak_hz=0.0)
    frames, times = grey(value, 201)
    stream = camera(frames, times)
    p = 20 / 2 * 1e-3 * (1 - 0.75 * (value + 20) / 275)
    trials = 200 * 40 * 50
    for sign in (0, 1):
        low, high = binom.interval(1 - 1e-6, trials, p)
        assert low <= (stream.p == sign).sum() <= high
    assert kstest((stream.t.numpy() - 1) % 1000 / 1000, "uniform").pvalue > 1e-3
    assert stream.t.min() >= 1
    assert stream.t.max() <= 200_000


def test_pixels_with_low_thresholds_are_noisier():
    """In proportion to mean over threshold."""
    camera = V2ECamera(shot_hz=100.0, sigma=0.05, leak_hz=0.0)
    frames, times = grey(50, 401)
    _, state = camera.run(frames[:1], times[:1], seed=5)
    stream = camera(frames, times, seed=5)
    for p in (0, 1):
        theta = state.pixels["theta"][p]
        expected = 400 * 50 * 1e-3 * (1 - 0.75 * 70 / 275) * (0.2 / theta)
        low = theta < 0.2
        here = stream.take(stream.p == p)
        counts = np.zeros((40, 50))
        np.add.at(counts, (here.y.numpy(), here.x.numpy()), 1)
        for part in (low, ~low):
            assert counts[part].sum() == pytest.approx(expected[part].sum(), abs=4.5 * math.sqrt(expected[part].sum()))


def test_noise_sets_the_reference_to_the_level():
    """Half a threshold below the next event, each noise event takes the pixel back to the start."""
    camera = V2ECamera(theta_on=0.2, theta_off=0.2, shot_hz=500.0, sigma=0.0, leak_hz=0.0)
    first, _ = video([np.full((30, 30), 4.0)], [0])
    half, _ = video([np.full((30, 30), 4.1)], [0])
    stream, state = camera.run(torch.cat([first, half]), torch.tensor([0, 1000]))
    noisy = np.zeros((30, 30), bool)
    noisy[stream.y.numpy(), stream.x.numpy()] = True
    assert 0 < noisy.sum() < 900
    np.testing.assert_allclose(state.pixels["reference"], np.where(noisy, 4.1, 4.0), atol=1e-7)


def test_thresholds_are_drawn_once_for_each_pixel():
    """A slow ramp tells each pixel's threshold again and again."""
    camera = V2ECamera(theta_on=0.3, sigma=0.04, leak_hz=0.0)
    level = np.linspace(3.1, 5.4, 2301)[:, None, None] * np.ones((30, 30))
    stream, state = camera.run(*video(level, list(range(0, 2_301_000, 1000))), seed=7)
    counts = np.zeros((30, 30))
    np.add.at(counts, (stream.y.numpy(), stream.x.numpy()), 1)
    theta = state.pixels["theta"][1]
    np.testing.assert_array_equal(counts, np.floor(2.3 / theta + 1e-6))
    assert theta.mean() == pytest.approx(0.3, abs=4 * 0.04 / 30)
    assert theta.std() == pytest.approx(0.04, rel=4 / math.sqrt(2 * 900))


def test_refractory_pixels_are_silent_and_keep_their_reference():
    """Ten thresholds in 1000 us, 250 us of silence: events at 100, 400, 700, 1000; six thresholds stay due."""
    frames, times = video([3.1, 4.1, 4.1, 4.1], [0, 1000, 2000, 3000])
    camera = V2ECamera(theta_on=0.1, refractory_us=250, **QUIET)
    stream = camera(frames, times)
    assert stream.t[:4].tolist() == [100, 400, 700, 1000]
    # Six are due in the next millisecond, at 166, 333, 500, 666, 833 and 1000, of which three may be sent.
    assert stream.t[4:7].tolist() == [1333, 1666, 2000]
    assert stream.t[7:].tolist() == [2333, 2666, 3000]
    assert (stream.t.diff() >= 250).all()


def test_chunks_give_the_same_events_as_the_whole():
    frames = torch.randint(0, 256, (30, 7, 9), generator=torch.Generator().manual_seed(0)).double()
    times = torch.arange(30) * 1000 + 5
    camera = V2ECamera(cutoff_hz=200, leak_hz=20, shot_hz=300, refractory_us=100)
    whole = camera(frames, times, seed=3)
    assert set(whole.p.tolist()) == {0, 1}
    cuts = [0, 1, 2, 11, 12, 30]
    chunks = [(frames[a:b], times[a:b]) for a, b in pairwise(cuts)]
    assert content(*camera.record(chunks, seed=3)) == content(whole)
    _, state = camera.run(*chunks[0], seed=3)
    again = [camera.run(*chunks[1], state)[0] for _ in range(2)]  # a state stays as it is
    assert content(again[0]) == content(again[1])
    assert (whole.t.diff() >= 0).all()


def test_one_seed_one_recording():
    frames, times = torch.randint(0, 256, (8, 6, 6)), torch.arange(8) * 1000
    camera = V2ECamera(shot_hz=100)
    first, again, other = camera(frames, times, seed=3), camera(frames, times, seed=3), camera(frames, times, seed=4)
    assert content(first) == content(again)
    assert content(first) != content(other)


def test_hours_keep_their_microseconds():
    """float32 seconds would have steps of 2 ms here."""
    late = 6 * 3600 * 1_000_000 + 7
    frames, times = video([3.1, 3.1 + 3 * 0.2], [late, late + 9])
    assert V2ECamera(**QUIET)(frames, times).t.tolist() == [late + 3, late + 6, late + 9]


def test_impossible_videos_are_refused():
    camera = V2ECamera(shot_hz=10)
    with pytest.raises(ShapeError, match=r"frames \[N, H, W\]"):
        camera(torch.rand(2, 3), torch.arange(2))
    with pytest.raises(ArgumentError, match="0 to 255"):
        camera(torch.full((2, 3, 3), 256), torch.arange(2))
    with pytest.raises(ArgumentError, match="too far apart"):
        camera(*grey(0, 2, every_us=1_000_000))
    _, state = camera.run(*grey(9, 3))
    with pytest.raises(StateError, match="after 2000 us"):
        camera.run(*grey(9, 3), state)
    with pytest.raises(StateError, match=r"\(40, 50\)"):
        camera.run(torch.zeros(1, 3, 3), torch.tensor([9000]), state)


@pytest.mark.parametrize("values", [{"theta_on": 0.0}, {"sigma": -1.0}, {"leak_hz": -1.0}, {"refractory_us": -1}])
def test_impossible_cameras_are_refused(values):
    with pytest.raises(ArgumentError, match="an event camera wants"):
        V2ECamera(**values)
