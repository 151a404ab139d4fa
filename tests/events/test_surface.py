"""Time surfaces and voxel grids against their equations, written out event by event."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from spikenet.errors import ArgumentError
from spikenet.events import EventStream, EventTensor, Sensor, time_surface, voxel_grid

SENSOR = Sensor(5, 4, 2)


def recording(seed, count=200, sensor=SENSOR, until=10_000):
    draw = np.random.default_rng(seed)
    x, y, p = (draw.integers(0, limit, count) for limit in (sensor.width, sensor.height, sensor.polarities))
    return EventStream.from_numpy(draw.integers(0, until, count), x, y, p, sensor=sensor)


def events_of(stream):
    return zip(*(column.tolist() for column in (stream.t, stream.x, stream.y, stream.p)), strict=True)


def test_surface_is_its_equation():
    streams, dt, steps, tau, origin = [recording(0), recording(1, 30)], 700, 11, 1500.0, 1000
    surface = time_surface(streams, dt, steps, tau, origin)
    assert surface.shape == (steps, 2, 2, 4, 5)
    expected = np.zeros(surface.shape)
    for k in range(steps):
        end = origin + (k + 1) * dt
        for b, stream in enumerate(streams):
            for t, x, y, p in events_of(stream):
                if t < end:
                    expected[k, b, p, y, x] = max(expected[k, b, p, y, x], math.exp((t - end) / tau))
    assert (expected == 0).any()
    np.testing.assert_allclose(surface.numpy(), expected, rtol=1e-6)


def test_surface_of_one_event():
    """It jumps up at the event, then falls by exp(-dt / tau) a step; an event at a step's end belongs to the next."""
    stream = EventStream.from_numpy([300], [1], sensor=Sensor(3))
    surface = time_surface(stream, 100, 6, 50.0)
    assert surface.shape == (6, 1, 3)
    expected = [0, 0, 0, math.exp(-2), math.exp(-4), math.exp(-6)]
    assert surface[:, 0, 1].tolist() == pytest.approx(expected, rel=1e-6)
    assert not surface[:, 0, [0, 2]].any()


def test_surface_of_late_times_is_exact():
    late = 10**15
    stream = EventStream.from_numpy([late + 3], [0], sensor=Sensor(1))
    assert time_surface(stream, 10, 1, 7.0, late).item() == pytest.approx(math.exp(-1), rel=1e-6)


def test_empty_streams():
    empty = EventStream.from_numpy([], [], sensor=Sensor(3, 2, 2))
    assert torch.equal(time_surface([empty, empty], 10, 4, 5.0), torch.zeros(4, 2, 2, 2, 3))
    assert voxel_grid([empty, recording(0, 3, Sensor(3, 2, 2))], 4, signed=False).entry(0).nnz == 0


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("bins", [1, 2, 5])
def test_voxels_are_their_equation(signed, bins):
    streams = [recording(3), recording(4, 50), recording(5, 1)]
    grid = voxel_grid(streams, bins, signed)
    EventTensor(grid.indptr, grid.indices, grid.values, grid.shape, grid.lengths)
    assert grid.shape == (bins, 3, 1 if signed else 2, 4, 5)
    assert grid.lengths.tolist() == [bins] * 3
    expected = np.zeros(grid.shape)
    for i, stream in enumerate(streams):
        first, last = int(stream.t.min()), int(stream.t.max())
        for t, x, y, p in events_of(stream):
            place = (bins - 1) * (t - first) / (last - first) if last > first else 0.0
            for b in range(bins):
                expected[b, i, 0 if signed else p, y, x] += (2 * p - 1 if signed else 1) * max(0, 1 - abs(b - place))
    np.testing.assert_allclose(grid.to_dense().numpy(), expected, atol=1e-6)


def test_voxels_keep_the_sum_of_events():
    streams = [recording(6), recording(7, 90)]
    grid = voxel_grid(streams, 9, signed=False).to_dense()
    assert grid.sum((0, 2, 3, 4)).tolist() == pytest.approx([200, 90])


def test_voxels_of_opposite_events_cancel():
    stream = EventStream.from_numpy([0, 5, 5, 10], [0, 1, 1, 0], [0] * 4, [1, 0, 1, 1], sensor=Sensor(2, 1, 2))
    grid = voxel_grid(stream, 3, signed=True)
    assert grid.nnz == 2
    assert grid.to_dense().flatten().tolist() == [1, 0, 0, 0, 1, 0]


@pytest.mark.parametrize(
    "call",
    [
        lambda s: time_surface(s, 0, 3, 1.0),
        lambda s: time_surface(s, 1, -1, 1.0),
        lambda s: time_surface(s, 1, 3, 0.0),
        lambda s: time_surface(s, 1, 3, float("nan")),
    ],
)
def test_impossible_surfaces_are_refused(call):
    with pytest.raises(ArgumentError, match="time_surface wants dt_us of 1 or more"):
        call(recording(0))


def test_impossible_grids_are_refused():
    with pytest.raises(ArgumentError, match="1 bin or more"):
        voxel_grid(recording(0), 0, signed=False)
    with pytest.raises(ArgumentError, match="two polarities"):
        voxel_grid(EventStream.from_numpy([1], [0], sensor=Sensor(3)), 4, signed=True)
