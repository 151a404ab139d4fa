"""Raw events: what a stream accepts, refuses and gives back."""

from __future__ import annotations

import dataclasses
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from spikenet.errors import ArgumentError, DataError, DtypeError, ShapeError
from spikenet.events import EventStream, Sensor

SENSOR = Sensor(5, 4, 2)


def stream_of(*rows, sensor=SENSOR):
    t, x, y, p = np.array(rows, np.int64).reshape(-1, 4).T
    return EventStream.from_numpy(t, x, y, p, sensor=sensor)


@pytest.mark.parametrize(
    ("sensor", "shape", "size"),
    [
        (Sensor(7), (7,), 7),
        (Sensor(5, 4, 2), (2, 4, 5), 40),
        (Sensor(5, 4), (1, 4, 5), 20),
        (Sensor(5, 1, 2), (2, 1, 5), 10),
    ],
)
def test_sensor_shape(sensor, shape, size):
    assert sensor.shape == shape
    assert sensor.size == size


@given(st.lists(st.tuples(st.integers(0, 99), st.integers(0, 4), st.integers(0, 3), st.integers(0, 1))))
def test_address_is_the_flat_index(rows):
    stream = stream_of(*rows)
    columns = (stream.p.numpy(), stream.y.numpy(), stream.x.numpy())
    expected = np.ravel_multi_index(columns, SENSOR.shape)
    assert stream.address().tolist() == expected.tolist()


def test_slice_is_half_open_and_keeps_time():
    stream = stream_of((10, 0, 0, 0), (20, 1, 0, 1), (30, 2, 0, 0))
    assert stream.slice(10, 30).t.tolist() == [10, 20]
    assert len(stream.slice(11, 20)) == 0
    assert stream.duration == 20
    assert stream.slice(40, 50).duration == 0


def test_sorted_is_stable():
    stream = stream_of((5, 0, 0, 0), (3, 1, 0, 0), (5, 2, 0, 0), (3, 3, 0, 0)).sorted()
    assert stream.t.tolist() == [3, 3, 5, 5]
    assert stream.x.tolist() == [1, 3, 0, 2]


def test_concat_keeps_order():
    joined = EventStream.concat([stream_of((9, 1, 2, 1)), stream_of((3, 4, 3, 0))])
    assert joined.t.tolist() == [9, 3]
    assert joined.sensor == SENSOR


@pytest.mark.parametrize("streams", [[], [stream_of(), stream_of(sensor=Sensor(6, 4, 2))]])
def test_concat_refuses(streams):
    with pytest.raises(ArgumentError, match="streams of one sensor"):
        EventStream.concat(streams)


def test_a_row_of_channels_needs_only_t_and_x():
    stream = EventStream.from_numpy(np.array([1, 2], np.uint16), np.array([0, 6], np.uint8), sensor=Sensor(7))
    assert stream.address().tolist() == [0, 6]
    assert stream.y.dtype == torch.int32
    assert stream.p.dtype == torch.int8


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ((0, 5, 0, 0), "x wants 0 to 4 on this sensor, received 5 at event 1"),
        ((0, -1, 0, 0), "x wants 0 to 4 on this sensor, received -1 at event 1"),
        ((0, 0, 4, 0), "y wants 0 to 3"),
        ((0, 0, 0, 2), "p wants 0 to 1"),
        ((0, 2**40, 0, 0), "x wants values that fit int32"),
    ],
)
def test_events_outside_the_sensor_are_refused(row, message):
    with pytest.raises(DataError, match=message):
        stream_of((0, 0, 0, 0), row)


def test_columns_of_the_wrong_kind_are_refused():
    good = stream_of((0, 0, 0, 0))
    with pytest.raises(DtypeError, match=r"x wants torch\.int32"):
        dataclasses.replace(good, x=good.x.long())
    with pytest.raises(ShapeError, match="one length"):
        dataclasses.replace(good, y=torch.zeros(2, dtype=torch.int32))
    with pytest.raises(DtypeError, match="t wants integers, received float64"):
        EventStream.from_numpy(np.array([0.5]), np.array([0]), sensor=SENSOR)
    with pytest.raises(ArgumentError, match="at least 1 in every direction"):
        EventStream.from_numpy([], [], sensor=Sensor(0))


def test_read_only_memory_is_copied():
    frozen = np.frombuffer(bytes(8), np.int64)
    stream = EventStream.from_numpy(frozen, [0], sensor=SENSOR)
    stream.t.add_(1)
    assert frozen[0] == 0


def test_pickle_and_repr():
    stream = pickle.loads(pickle.dumps(stream_of((1, 2, 3, 1), (8, 0, 0, 0))))
    assert stream.t.tolist() == [1, 8]
    assert repr(stream) == "EventStream(2 events in 7 us on 5x4x2)"
