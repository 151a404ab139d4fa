"""N-TIDIGITS18 files written with h5py from the published layout."""

from __future__ import annotations

import zlib

import h5py
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from spikenet.errors import ArgumentError, FormatError
from spikenet.events import EventStream, Sensor, open_recording, read, write

NAMES = {"train": [b"man-ae-o1z", b"man-ae-5"], "test": [b"woman-bi-z"]}
TIMES = {"man-ae-o1z": [0.0, 0.000_001, 1.234_567], "man-ae-5": [2.5], "woman-bi-z": [0.125, 0.25]}
UNITS = {"man-ae-o1z": [0, 63, 7], "man-ae-5": [5], "woman-bi-z": [1, 2]}


def make(path, times=TIMES, units=UNITS, names=NAMES, dtype=np.float64):
    with h5py.File(path, "w") as file:
        for part, listed in names.items():
            file[f"{part}_labels"] = np.array(listed)
            for name in listed:
                file[f"{part}_addresses/{name.decode()}"] = np.array(units[name.decode()], np.uint8)
                file[f"{part}_timestamps/{name.decode()}"] = np.array(times[name.decode()], dtype)
    return path


def test_recordings_of_both_parts(tmp_path):
    path = make(tmp_path / "n-tidigits.hdf5")
    assert read(path, index=0).t.tolist() == [0, 1, 1_234_567]
    assert read(path, index=0).x.tolist() == [0, 63, 7]
    assert read(path, index=1).t.tolist() == [2_500_000]
    assert (read(path, index=2).x.tolist(), read(path, index=2).sensor) == ([1, 2], Sensor(64))
    header = open_recording(path, index=2).header
    assert header == {"recordings": "3", "index": "2", "part": "test", "name": "woman-bi-z", "label": "z"}
    assert open_recording(path, index=0).header["label"] == "o1z"
    with pytest.raises(ArgumentError, match="holds 3 recordings"):
        read(path)


def test_channels_as_floats(tmp_path):
    path = make(tmp_path / "a.hdf5")
    with h5py.File(path, "r+") as file:
        del file["train_addresses/man-ae-5"]
        file["train_addresses/man-ae-5"] = np.array([5.0])
    assert read(path, index=1).x.tolist() == [5]


def test_what_is_read_is_ones_own(tmp_path):
    path = make(tmp_path / "a.hdf5")
    with h5py.File(path, "r+") as file:
        del file["train_addresses/man-ae-5"]
        file["train_addresses/man-ae-5"] = np.array([5], np.int32)
    recording = open_recording(path, index=1)
    stream = recording.read()
    for name in "xyp":
        getattr(stream, name).fill_(3)
    again = recording.read()
    assert (again.x.tolist(), again.y.tolist(), again.p.tolist()) == ([5], [0], [0])


def test_one_part_alone_and_names_of_any_length(tmp_path):
    path = make(tmp_path / "a.hdf5", names={"test": NAMES["test"]})
    with h5py.File(path, "r+") as file:
        del file["test_labels"]
        file.create_dataset("test_labels", data=["woman-bi-z"], dtype=h5py.string_dtype())
    assert read(path).t.tolist() == [125_000, 250_000]


@pytest.mark.parametrize("wrong", [np.nan, -1.0, 1e7])
def test_bad_times(tmp_path, wrong):
    path = make(tmp_path / "a.hdf5", TIMES | {"man-ae-o1z": [0.5, 1.0, wrong]})
    with pytest.raises(FormatError, match=r"t wants seconds .* at event 2"):
        read(path, index=0)
    with pytest.warns(UserWarning, match="left out 1 x t wants seconds"):
        assert read(path, index=0, strict=False).x.tolist() == [0, 63]


def test_broken_content(tmp_path):
    unequal = make(tmp_path / "a.hdf5", UNITS | {"man-ae-o1z": [1.0]})
    with pytest.raises(FormatError, match=r"arrays of one length are wanted, .*'addresses': 3, 'timestamps': 1"):
        read(unequal, index=0)
    outside = make(tmp_path / "b.hdf5", units=UNITS | {"man-ae-5": [64]})
    with pytest.raises(FormatError, match="column 64"):
        read(outside, index=1)
    with h5py.File(outside, "r+") as file:
        del file["train_addresses/man-ae-5"]
    with pytest.raises(FormatError, match="lacks the data set train_addresses/man-ae-5"):
        read(outside, index=1)
    with h5py.File(outside, "r+") as file:
        file.create_dataset("train_addresses/man-ae-5", (2**31, 4), "u1", chunks=(1024, 4))
    with pytest.raises(FormatError, match="claims"):
        read(outside, index=1)


def test_a_chunk_that_is_a_bomb(tmp_path):
    path = make(tmp_path / "a.hdf5")
    with h5py.File(path, "r+") as file:
        del file["train_addresses/man-ae-5"]
        data = file.create_dataset("train_addresses/man-ae-5", data=np.array([5], np.uint8), chunks=(1,), compression=9)
        data.id.write_direct_chunk((0,), zlib.compress(bytes(10_000_000)))
    with pytest.raises(FormatError, match="a chunk of 1 bytes unpacks to more"):
        read(path, index=1)


@pytest.mark.parametrize("packed", [{"compression": 9}, {"compression": 9, "shuffle": True, "fletcher32": True}])
def test_packed_arrays(tmp_path, packed):
    path = make(tmp_path / "a.hdf5")
    with h5py.File(path, "r+") as file:
        for kind in ("addresses", "timestamps"):
            values = file[f"train_{kind}/man-ae-o1z"][:]
            del file[f"train_{kind}/man-ae-o1z"]
            file.create_dataset(f"train_{kind}/man-ae-o1z", data=values, chunks=(2,), **packed)
    assert read(path, index=0).t.tolist() == [0, 1, 1_234_567]


def test_names_that_lead_elsewhere(tmp_path):
    path = make(tmp_path / "a.hdf5")
    for name in (b"../labels", b"/spikes", b"."):
        with h5py.File(path, "r+") as file:
            del file["train_labels"]
            file["train_labels"] = np.array([name])
        with pytest.raises(FormatError, match="cannot be the name of a recording"):
            read(path, index=0)


def test_truncated(tmp_path):
    content = make(tmp_path / "a.hdf5").read_bytes()
    path = tmp_path / "b.hdf5"
    for size in range(0, len(content), 211):
        path.write_bytes(content[:size])
        with pytest.raises(FormatError):
            read(path, index=0)


@settings(max_examples=40)
@given(st.lists(st.tuples(st.integers(0, 6 * 10**10), st.integers(0, 63)), max_size=20))
def test_written_and_read(tmp_path_factory, events):
    path = tmp_path_factory.mktemp("ntidigits") / "a.hdf5"
    stream = EventStream.from_numpy(*np.array(events, np.int64).reshape(-1, 2).T, sensor=Sensor(64))
    write(stream, path, format="ntidigits")
    again = read(path)
    assert torch.equal(again.t, stream.t)
    assert torch.equal(again.x, stream.x)
    with h5py.File(path) as file:
        (name,) = file["train_labels"].asstr()[:]
        assert np.rint(file[f"train_timestamps/{name}"][:] * 1e6).tolist() == [t for t, _ in events]


def test_what_the_layout_does_not_hold(tmp_path):
    for t, sensor in ((-1, Sensor(64)), (1, Sensor(65))):
        with pytest.raises(ArgumentError, match="ntidigits files hold"):
            write(EventStream.from_numpy([t], [0], sensor=sensor), tmp_path / "a.hdf5", format="ntidigits")
