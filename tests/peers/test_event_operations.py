"""The same events and spikes as the peers' functions, where they define them alike."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from spikenet.events import (
    EventStream,
    Sensor,
    background_activity_filter,
    delta,
    latency,
    population,
    refractory_filter,
    time_surface,
    voxel_grid,
)

pytestmark = pytest.mark.peers


def tonic_functional():
    pytest.importorskip("tonic")
    return pytest.importorskip("tonic.functional")


def recording(seed, sensor, count=400, first=1000, until=50_000):
    draw = np.random.default_rng(seed)
    t = np.sort(draw.integers(first, until, count))
    x, y, p = (draw.integers(0, size, count) for size in sensor)
    return EventStream.from_numpy(t, x, y, p, sensor=sensor)


def structured(stream):
    """The events as tonic takes them."""
    events = np.zeros(len(stream), [("t", "<i8"), ("x", "<i8"), ("y", "<i8"), ("p", "<i8")])
    for name in "txyp":
        events[name] = getattr(stream, name).numpy()
    return events


def same(stream, events):
    return all(np.array_equal(getattr(stream, name).numpy(), events[name]) for name in "txyp")


def test_tonic_refractory_period():
    """Tonic lets dropped events restart the rest and wants more than the period, so no two short ones in a row."""
    tonic = tonic_functional()
    draw, columns = np.random.default_rng(0), []
    for pixel in range(12):
        intervals = draw.integers(1, 200, 60)
        intervals[1::2] += 250
        columns += [(t, pixel % 4, pixel // 4, 0) for t in 1000 + intervals.cumsum()]
    t, x, y, p = np.array(sorted(columns)).T
    stream = EventStream.from_numpy(t, x, y, p, sensor=Sensor(4, 3, 1))
    for period in (0, 1, 50, 100, 199):
        theirs = tonic.refractory_period_numpy(structured(stream), period)
        assert same(refractory_filter(stream, period + 1), theirs)
        assert len(stream) // 2 <= len(theirs)


@pytest.mark.parametrize("dt", [10, 100, 900])
def test_tonic_denoise(dt):
    """Tonic looks at four neighbours and we at eight: on every other row both are left and right."""
    tonic = tonic_functional()
    stream = recording(1, Sensor(6, 4, 2))
    stream = EventStream(stream.t, stream.x, stream.y * 2, stream.p, Sensor(6, 8, 2))
    theirs = tonic.denoise_numpy(structured(stream), filter_time=dt + 1)
    assert 0 < len(theirs) < len(stream)
    assert same(background_activity_filter(stream, dt), theirs)


@pytest.mark.parametrize("bins", [1, 4, 10])
def test_tonic_voxel_grid(bins):
    """Tonic stretches the time over one bin more than the paper does, and leaves that bin out."""
    tonic = tonic_functional()
    sensor = Sensor(6, 4, 2)
    stream = recording(2, sensor)
    theirs = tonic.to_voxel_grid_numpy(structured(stream), sensor, bins)
    ours = voxel_grid(stream, bins + 1, signed=True).to_dense()[:bins, 0]
    np.testing.assert_allclose(ours.numpy(), theirs, atol=1e-5)


def test_tonic_time_surface():
    tonic = tonic_functional()
    sensor = Sensor(6, 4, 2)
    stream = recording(3, sensor)
    theirs = tonic.to_timesurface_numpy(structured(stream), sensor, dt=3000, tau=7000.0)
    ours = time_surface(stream, 3000, len(theirs), 7000.0, origin_us=int(stream.t[0]))
    assert len(theirs) > 10
    np.testing.assert_allclose(ours[:, 0].numpy(), theirs, rtol=1e-6)


def test_snntorch_delta():
    """Its reference is the last value, ours the last level: the same while the signal moves by whole levels."""
    spikegen = pytest.importorskip("snntorch.spikegen")
    steps = torch.randint(-1, 2, (50, 3, 4), generator=torch.Generator().manual_seed(0))
    signal = 0.25 * steps.cumsum(0).float()
    theirs = spikegen.delta(signal, threshold=0.25, padding=True, off_spike=True)
    assert torch.equal(delta(signal, 0.25), theirs)


def test_snntorch_linear_latency():
    spikegen = pytest.importorskip("snntorch.spikegen")
    values = 0.05 + 0.95 * torch.rand(4, 30, generator=torch.Generator().manual_seed(0))
    theirs = spikegen.latency(values, num_steps=20, normalize=True, linear=True)
    assert torch.equal(latency(values, 20), theirs)


def test_norse_population():
    """Its centres lie evenly from 0 to 1, its deviation is 1."""
    norse = pytest.importorskip("norse.torch.functional.encode")
    values, spacing = torch.rand(3, 5, generator=torch.Generator().manual_seed(0)), 1 / 8
    theirs = norse.population_encode(values, 9, scale=1)
    ours = population(values, 9, low=spacing / 2, high=1 - spacing / 2, gamma=spacing)
    torch.testing.assert_close(ours, theirs)
