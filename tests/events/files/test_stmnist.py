"""ST-MNIST files: ``spiketrain`` arrays saved with scipy from the published layout."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.io import loadmat, savemat

from spikenet.errors import ArgumentError, FormatError
from spikenet.events import EventStream, Sensor, open_recording, read, write

SENSOR = Sensor(10, 10, 2)
# column, row, spike
SPIKES = [(0, 99, 1), (2, 5, -1), (2, 40, 1), (2, 41, 1), (3, 0, -1)]
SECONDS = [0.0, 0.5, 1.234567, 2.000001]


def spiketrain():
    array = np.zeros((101, 4))
    array[100] = SECONDS
    for column, row, spike in SPIKES:
        array[row, column] = spike
    return array


def rows(stream):
    return list(zip(*(getattr(stream, name).tolist() for name in "txyp"), strict=True))


EVENTS = [(round(SECONDS[column] * 1e6), row % 10, row // 10, int(spike > 0)) for column, row, spike in SPIKES]


@pytest.fixture
def save(tmp_path):
    def put(array, name="spiketrain", **options):
        savemat(tmp_path / "a.mat", {name: array}, **options)
        return tmp_path / "a.mat"

    return put


@pytest.mark.parametrize("compressed", [False, True])
def test_spikes_in_order(save, compressed):
    stream = read(save(spiketrain(), do_compression=compressed))
    assert (rows(stream), stream.sensor) == (EVENTS, SENSOR)
    assert open_recording(save(spiketrain())).header == {"columns": "4"}


def test_small_integers_and_no_columns(save):
    array = spiketrain()
    array[100] = [0, 1, 2, 3]
    assert read(save(array.astype(np.int8))).t.tolist() == [0, 2_000_000, 2_000_000, 2_000_000, 3_000_000]
    assert len(read(save(np.zeros((101, 0))))) == 0


def test_pieces_are_the_whole(save):
    array = np.tile(spiketrain(), 100)
    array[100] = np.arange(400) / 1000
    recording = open_recording(save(array))
    chunks = list(recording.chunks(10_000))
    assert len(chunks) > 10
    assert torch.equal(EventStream.concat(chunks).t, recording.read().t)
    assert len(recording.read()) == 500
    assert recording.slice(396_000, 400_000).t.tolist() == [396_000, 398_000, 398_000, 398_000, 399_000]


@pytest.mark.parametrize("wrong", [np.nan, -1.0, 1e6])
def test_bad_times(save, wrong):
    array = spiketrain()
    array[100, 3] = wrong
    with pytest.raises(FormatError, match=r"t wants seconds .* at event 4"):
        read(save(array))
    with pytest.warns(UserWarning, match="left out 1 x t wants seconds"):
        assert rows(read(save(array), strict=False)) == EVENTS[:4]


@pytest.mark.parametrize("wrong", [2, -3, 0.5, np.nan])
def test_bad_spikes(save, wrong):
    array = spiketrain()
    array[40, 2] = wrong
    with pytest.raises(FormatError, match=r"a spike wants 1 or -1, received .* in row 40 of column 2"):
        read(save(array))
    with pytest.warns(UserWarning, match="left out 1 x a spike"):
        assert rows(read(save(array), strict=False)) == EVENTS[:2] + EVENTS[3:]


def test_other_shapes(save):
    for array in (np.zeros((100, 4)), spiketrain().T):
        with pytest.raises(FormatError, match="spiketrain wants 101 rows"):
            read(save(array))
    with pytest.raises(FormatError, match=r"lacks the arrays \['spiketrain'\]"):
        read(save(spiketrain(), "train"), format="stmnist")


def test_truncated(save, tmp_path):
    whole = save(spiketrain()).read_bytes()
    path = tmp_path / "b.mat"
    for size in range(0, len(whole), 17):
        path.write_bytes(whole[:size])
        with pytest.raises(FormatError):
            read(path, format="stmnist")


@settings(max_examples=40)
@given(st.lists(st.tuples(st.integers(0, 6 * 10**10), st.integers(0, 9), st.integers(0, 9), st.integers(0, 1))))
def test_written_and_read(tmp_path_factory, events):
    """Events of one moment, repeated ones and such that step back in time, too."""
    path = tmp_path_factory.mktemp("stmnist") / "a.mat"
    events = [event for event in events for _ in range(1 + event[0] % 2)]
    stream = EventStream.from_numpy(*np.array(events, np.int64).reshape(-1, 4).T, sensor=SENSOR)
    write(stream, path, format="stmnist")
    assert rows(read(path)) == events
    held = loadmat(path)["spiketrain"]
    assert held.shape[0] == 101
    assert np.abs(held[:100]).sum() == len(events)


def test_what_the_layout_does_not_hold(tmp_path):
    for t, sensor in ((-1, SENSOR), (60_000_000_001, SENSOR), (1, Sensor(10, 10))):
        with pytest.raises(ArgumentError, match="stmnist files hold"):
            write(EventStream.from_numpy([t], [0], sensor=sensor), tmp_path / "a.mat", format="stmnist")
