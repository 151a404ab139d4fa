"""Binning against numpy's histograms."""

from __future__ import annotations

import struct
from unittest import mock

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from spikenet.errors import ArgumentError, DataError, ShapeError
from spikenet.events import EventStream, EventTensor, Sensor, bin_by_count, bin_by_time
from spikenet.events.binning import TimeGrid
from spikenet.kernels import threads
from spikenet.kernels.backends import use_backend
from spikenet.kernels.events.numba_files import HERE

SENSOR = Sensor(4, 3, 2)


@st.composite
def streams(draw, sensor=SENSOR):
    generator = np.random.default_rng(draw(st.integers(0, 2**16)))
    size = draw(st.integers(0, 40))
    t = generator.integers(-30, 130, size)
    x, y, p = (generator.integers(0, limit, size) for limit in sensor)
    return EventStream.from_numpy(t, x, y, p, sensor=sensor)


def histogram(stream, edges):
    """Counts [T, P, H, W] of a stream between the given edges in time."""
    width, height, polarities = stream.sensor
    sample = np.stack([stream.t, stream.p, stream.y, stream.x], axis=1)
    bins = [edges, *(np.arange(size + 1) - 0.5 for size in (polarities, height, width))]
    return np.histogramdd(sample, bins)[0]


def half_open(edges):
    """Whole-numbered half-open edges as edges between whole numbers, for numpy closes its last bin."""
    return np.asarray(edges) - 0.5


@given(streams(), st.integers(1, 40), st.integers(1, 8), st.integers(-20, 50))
def test_bin_by_time_is_a_histogram(stream, dt_us, steps, origin_us):
    events = bin_by_time(stream, dt_us, steps, origin_us)
    edges = half_open(origin_us + dt_us * np.arange(steps + 1))
    assert events.shape == (steps, 1, 2, 3, 4)
    assert np.array_equal(events.to_dense()[:, 0].numpy(), histogram(stream, edges))
    EventTensor(events.indptr, events.indices, events.values, events.shape, events.lengths)  # passes the checks


@given(streams(), st.integers(1, 40))
def test_without_steps_the_last_event_ends_the_grid(stream, dt_us):
    events = bin_by_time(stream, dt_us)
    inside = stream.slice(0, 10**6)
    assert events.values.sum() == len(inside)
    assert (int(inside.t.max()) // dt_us + 1 if len(inside) else 0) == events.T


@given(st.lists(streams(), min_size=1, max_size=4), st.integers(5, 40), st.sampled_from([None, 3]))
def test_a_batch_is_its_recordings_stacked(batch, dt_us, steps):
    together = bin_by_time(batch, dt_us, steps)
    alone = EventTensor.stack([bin_by_time(stream, dt_us, steps) for stream in batch])
    assert together.shape == alone.shape
    for field in ("indptr", "indices", "values", "lengths"):
        assert torch.equal(getattr(together, field), getattr(alone, field))


@given(streams(), st.integers(1, 15))
def test_bin_by_count_fills_steps_in_order(stream, size):
    events = bin_by_count(stream, size)
    parts = [stream.take(torch.arange(i, min(i + size, len(stream)))) for i in range(0, len(stream), size)]
    edges = half_open([-(10**6), 10**6])
    expected = [histogram(part, edges)[0] for part in parts]
    assert len(parts) == events.T
    assert np.array_equal(events.to_dense()[:, 0].numpy(), np.array(expected).reshape(events.T, 2, 3, 4))


@given(
    st.lists(streams(Sensor(67, 3, 2)), min_size=1, max_size=4), st.integers(1, 60), st.sampled_from([None, 0, 1, 4])
)
def test_the_kernel_is_its_reference(batch, dt_us, steps):
    fast = bin_by_time(batch, dt_us, steps, origin_us=-7)
    with use_backend("reference"):
        plain = bin_by_time(batch, dt_us, steps, origin_us=-7)
    for field in ("indptr", "indices", "values", "lengths"):
        assert torch.equal(getattr(fast, field), getattr(plain, field))
        assert getattr(fast, field).dtype == getattr(plain, field).dtype


def records(events):
    """Column, row, then 1 bit polarity and 23 bits of time, most significant byte first."""
    return b"".join(struct.pack(">BBBH", x, y, p << 7 | t >> 16, t & 0xFFFF) for t, x, y, p in events)


def rows_of(stream):
    return list(zip(*(column.tolist() for column in (stream.t, stream.x, stream.y, stream.p)), strict=True))


def reader(files):
    """What writes one of these files to an array."""

    def into(number, room):
        content = np.frombuffer(files[number], np.uint8)[: len(room)]
        room[: len(content)] = content
        return len(files[number])

    return into


@pytest.mark.parametrize("count", [1, 3])
@given(
    st.lists(streams(), min_size=1, max_size=6),
    *(st.integers(low, high) for low, high in ((1, 60), (0, 6), (-20, 20), (1, 9))),
)
def test_plain_records_are_counted_as_their_streams(count, batch, dt_us, steps, origin_us, times):
    kept = [stream.slice(0, 1000).sorted() for stream in batch] * times
    files, grid = [records(rows_of(stream)) for stream in kept], TimeGrid(dt_us, steps, origin_us)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(count)
        with mock.patch.object(threads, "SERIAL", 1):  # threads share the recordings of the smallest batch
            fast = grid.batch_bin(reader(files), len(files), SENSOR)
    finally:
        torch.set_num_threads(before)
    plain = grid.batch([grid.count(stream) for stream in kept])
    assert fast.shape == plain.shape
    for field in ("indptr", "indices", "values", "lengths"):
        assert torch.equal(getattr(fast, field), getattr(plain, field))
        assert getattr(fast, field).dtype == getattr(plain, field).dtype


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("ascending", [True, False])
@given(
    st.lists(streams(), min_size=1, max_size=6),
    *(st.integers(low, high) for low, high in ((1, 60), (0, 6), (-20, 20), (1, 9))),
    st.booleans(),
)
def test_joined_recordings_are_counted_as_each_of_them(
    threads, ascending, batch, dt_us, steps, origin_us, times, whole
):
    kept = [stream.sorted() if ascending else stream for stream in batch] * times
    grid = TimeGrid(dt_us, None if whole else steps, origin_us)
    joined, stops = EventStream.concat(kept), np.cumsum([len(stream) for stream in kept])
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        fast = grid.batch_joined(joined, stops)
        with use_backend("reference"):
            plain = grid.batch_joined(joined, stops)
    finally:
        torch.set_num_threads(before)
    each = grid.batch([grid.count(stream) for stream in kept])
    for other in (plain, each):
        assert fast.shape == other.shape
        for field in ("indptr", "indices", "values", "lengths"):
            assert torch.equal(getattr(fast, field), getattr(other, field))
            assert getattr(fast, field).dtype == getattr(other, field).dtype


def test_records_that_are_not_plain_are_left_to_the_stream():
    grid, plain = TimeGrid(10, 9), [(5, 1, 1, 0), (25, 2, 2, 1)]

    def counted(rows, grid=grid, sensor=SENSOR, cut=None):
        files = [records(plain), records(rows)[:cut], records(plain)] * 20
        return grid.batch_bin(reader(files), len(files), sensor)

    assert counted(plain).indptr[::60].tolist() == [0, 60, 60, *[120] * 7]
    assert counted(plain, cut=-1) is None
    for event in ((30, 4, 0, 0), (30, 0, 3, 0), (30, 0, 240, 0), (9, 0, 0, 0)):
        assert counted([*plain, event]) is None
    assert counted([(30, 0, 0, 1)], sensor=Sensor(4, 3, 1)) is None
    assert counted(plain, grid=TimeGrid(10)) is None
    assert counted(plain, sensor=Sensor(4, 241, 2)) is None


def test_many_records_are_seen_one_by_one():
    """Twelve at a time are looked at: wherever among them one is that ends a step, or is not plain."""
    draw, grid = np.random.default_rng(1), TimeGrid(9, 9, 5)
    for _ in range(30):
        rows = [(t, draw.integers(4), draw.integers(3), draw.integers(2)) for t in sorted(draw.integers(0, 90, 60))]
        fast = grid.batch_bin(reader([records(rows)]), 1, SENSOR)
        kinds = (torch.int64, torch.int32, torch.int32, torch.int8)
        columns = (torch.tensor([row[k] for row in rows], dtype=kind) for k, kind in enumerate(kinds))
        plain = grid.batch([grid.count(EventStream(*columns, SENSOR))])
        assert all(
            torch.equal(getattr(fast, field), getattr(plain, field)) for field in ("indptr", "indices", "values")
        )
    for place in range(60):
        for odd in ((50, 4, 0, 0), (50, 255, 0, 0), (50, 0, 3, 0), (50, 0, 255, 1), (13, 0, 0, 0)):
            content = records([*[(50, 3, 2, 1)] * place, odd, *[(50, 3, 2, 1)] * (60 - place)])
            plain = place == 0 and odd[0] == 13
            assert (grid.batch_bin(reader([content]), 1, SENSOR) is not None) == plain
        content = records([(50, 3, 2, 0)] * place + [(50, 3, 2, 1)] + [(50, 3, 2, 0)] * (60 - place))
        assert grid.batch_bin(reader([content]), 1, Sensor(4, 3, 1)) is None


@pytest.mark.parametrize("count", [1, 3])
def test_steps_as_long_as_time_itself(count):
    far, files = 1 << 61, [records([(0, 1, 0, 0), ((1 << 23) - 1, 1, 0, 0)]), b"", records([(5, 0, 0, 1)])]
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(count)
        with mock.patch.object(threads, "SERIAL", 1):
            for origin, step in ((0, 0), (-far, 1), (-far - 9, 1)):
                events = TimeGrid(far, 9, origin).batch_bin(reader(files), 3, SENSOR)
                assert events.indptr.diff().nonzero().flatten().tolist() == [3 * step, 3 * step + 2]
                assert (events.indices.tolist(), events.values.tolist()) == ([1, 12], [2, 1])
            for grid in (TimeGrid(1, 9, 1 << 23), TimeGrid(1, 9, -50), TimeGrid(7, 0)):  # after, before, no steps
                assert not len(grid.batch_bin(reader(files), 3, SENSOR).indices)
    finally:
        torch.set_num_threads(before)


def test_files_that_outgrow_their_room():
    files = [records([(t, t % 4, 0, 0)]) * 300_000 for t in range(4)]  # 1.5 MB each
    events = TimeGrid(1, 4).batch_bin(reader(files), 4, SENSOR)
    assert events.indices.tolist() == [0, 1, 2, 3]
    assert events.values.tolist() == [300_000] * 4
    assert events.indptr.diff().reshape(4, 4).tolist() == torch.eye(4).tolist()


@pytest.mark.skipif(not HERE, reason="files are read by Python here")
@pytest.mark.parametrize("count", [1, 3])
def test_files_of_a_folder_are_counted_as_their_bytes(tmp_path, count):
    draw = np.random.default_rng(0)
    files = [records([(t, t % 4, t % 3, t % 2) for t in sorted(draw.integers(0, 90, n))]) for n in (0, 9, 70) * 9]
    names, grid = np.array([f"{number}.bin".encode() for number in range(len(files))]), TimeGrid(9, 9, 5)
    for name, content in zip(names.tolist(), files, strict=True):
        (tmp_path / name.decode()).write_bytes(content)
    expected, before = grid.batch_bin(reader(files), len(files), SENSOR), torch.get_num_threads()
    try:
        torch.set_num_threads(count)
        folder = (f"{tmp_path}/".encode(), names)
        events = grid.batch_bin(mock.Mock(side_effect=AssertionError), len(files), SENSOR, folder)
        files[1] = records([(50, 1, 1, 1)]) * 600_000  # more than compiled code has room for
        (tmp_path / "1.bin").write_bytes(files[1])
        larger = grid.batch_bin(reader(files), len(files), SENSOR, folder)
    finally:
        torch.set_num_threads(before)
    assert all(
        torch.equal(getattr(events, field), getattr(expected, field)) for field in ("indptr", "indices", "values")
    )
    assert larger.to_dense()[5, 1, 1, 1, 1] == larger.to_dense()[:, 1].sum() == 600_000
    assert torch.equal(larger.to_dense()[:, 2:], expected.to_dense()[:, 2:])


def test_a_file_that_cannot_be_read_is_no_batch():
    def broken(number, room):
        raise DataError(f"file {number} is gone")

    with pytest.raises(DataError, match="is gone"):
        TimeGrid(10, 9).batch_bin(broken, 64, SENSOR)


def test_columns_with_gaps_in_memory():
    wide = torch.arange(40, dtype=torch.int32)
    columns = (wide.long()[::4], wide[::4], torch.zeros_like(wide)[::4], torch.zeros(40, dtype=torch.int8)[::4])
    events = bin_by_time(EventStream(*columns, Sensor(40)), 10)
    assert events.indices.tolist() == list(range(0, 40, 4))
    assert events.indptr.tolist() == [0, 3, 5, 8, 10]


def test_streams_of_two_sensors_are_refused():
    one, two = (EventStream.from_numpy([0], [0], sensor=Sensor(size)) for size in (2, 3))
    with pytest.raises(ArgumentError, match="of one sensor"):
        bin_by_time([one, two], 1)


def test_bin_by_count_with_steps_cuts_or_ends_in_empty_steps():
    stream = EventStream.from_numpy(np.arange(7), np.zeros(7, int), sensor=Sensor(2))
    assert bin_by_count(stream, 3, 2).to_dense()[:, 0, 0].tolist() == [3, 3]
    assert bin_by_count(stream, 3, 5).to_dense()[:, 0, 0].tolist() == [3, 3, 1, 0, 0]


def test_addresses_beyond_32_bits():
    """Steps times addresses past 2^31: the wide sort gives what small pieces give."""
    sensor = Sensor(1280, 720, 2)
    t = np.array([0, 2_999_999, 2_999_999, 1_000_000])
    stream = EventStream.from_numpy(t, [1279, 3, 3, 0], [719, 0, 0, 5], [1, 0, 0, 1], sensor=sensor)
    events = bin_by_time(stream, 1000, 3000)
    assert events.indices.tolist() == [2 * 720 * 1280 - 1, (720 + 5) * 1280, 3]
    assert events.values.tolist() == [1, 1, 2]
    assert events.indptr[[1, 1000, 1001, 2999, 3000]].tolist() == [1, 1, 2, 2, 3]


def test_impossible_grids_are_refused():
    stream = EventStream.from_numpy([0], [0], sensor=Sensor(2))
    with pytest.raises(ArgumentError, match="dt_us wants 1 or more, received 0"):
        bin_by_time(stream, 0)
    with pytest.raises(ArgumentError, match="steps wants 0 or more"):
        bin_by_time(stream, 1, -1)
    with pytest.raises(ArgumentError, match="events_per_step wants 1 or more"):
        bin_by_count(stream, 0)


def test_a_sensor_of_too_many_addresses_is_refused():
    corner = EventStream.from_numpy([0], [65535], [65535], sensor=Sensor(65536, 65536))
    with use_backend("reference"), pytest.raises(ShapeError, match="at most 2147483647 addresses"):
        bin_by_time(corner, 10)


def test_a_clock_that_began_long_ago_wants_an_origin():
    begin = 1_600_000_000_000_000  # microseconds since 1970, as cameras stamp
    stream = EventStream.from_numpy([begin, begin + 1500], [0, 1], sensor=Sensor(4))
    with pytest.raises(ArgumentError, match=f"origin_us={begin}"):
        bin_by_time(stream, 1000)
    assert bin_by_time(stream, 1000, origin_us=begin).to_dense().nonzero().tolist() == [[0, 0, 0], [1, 0, 1]]


@pytest.mark.parametrize("values", [{"dt_us": 1e3}, {"dt_us": 10, "steps": 2.0}, {"dt_us": 10, "origin_us": 0.5}])
def test_numbers_of_a_grid_are_whole(values):
    with pytest.raises(ArgumentError, match="wants a whole number"):
        TimeGrid(**values)


@pytest.mark.parametrize("time", [1 << 62, -(1 << 62), (1 << 63) - 1, -(1 << 63)])
def test_times_that_cannot_be_subtracted_are_refused(time):
    stream = EventStream.from_numpy([0, time], [0, 0], sensor=Sensor(2))
    with pytest.raises(ArgumentError, match="less than 2\\^62 us"):
        bin_by_time(stream, 10, 5)
    with pytest.raises(ArgumentError, match="less than 2\\^62 us"):
        TimeGrid(10, 5, time)
