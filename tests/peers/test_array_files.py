"""Recordings in other libraries' data sets, read by their loaders and by ours, where their formula is right.

Tonic cuts microseconds off where we round, so times may differ by one; it mirrors the rows of ASL-DVS.
"""

from __future__ import annotations

import h5py
import numpy as np
import pytest
from scipy.io import savemat

from spikenet.events import Sensor, read

datasets = pytest.importorskip("tonic.datasets")


def loader(kind, **attributes):
    """A loader that has found its files already."""
    made = kind.__new__(kind)
    vars(made).update(transform=None, target_transform=None, transforms=None, **attributes)
    return made


def close(t, peer):
    return np.abs(t.numpy() - peer).max() <= 1


def test_shd(tmp_path):
    generator = np.random.default_rng(0)
    with h5py.File(tmp_path / "shd_train.h5", "w") as file:
        times = file.create_dataset("spikes/times", (4,), h5py.vlen_dtype(np.float16))
        units = file.create_dataset("spikes/units", (4,), h5py.vlen_dtype(np.uint16))
        for number in range(4):
            times[number] = np.sort(generator.uniform(0, 1.2, 500)).astype(np.float16)
            units[number] = generator.integers(0, 700, 500)
        file["labels"] = np.arange(4, dtype=np.uint16)
    peer = loader(datasets.hsd.HSD, location_on_system=str(tmp_path), data_filename="shd_train.h5")
    for number in range(4):
        events, _ = peer[number]
        stream = read(tmp_path / "shd_train.h5", index=number)
        assert close(stream.t, events["t"])
        assert stream.x.tolist() == events["x"].tolist()


def test_ntidigits(tmp_path):
    generator = np.random.default_rng(0)
    path = tmp_path / "n-tidigits.hdf5"
    with h5py.File(path, "w") as file:
        file["train_labels"] = np.array([b"a-1", b"b-2z"])
        for name in ("a-1", "b-2z"):
            file[f"train_addresses/{name}"] = generator.integers(0, 64, 300)
            file[f"train_timestamps/{name}"] = np.sort(generator.uniform(0, 3, 300))
    with h5py.File(path) as file:
        names = ["a-1", "b-2z"]
        peer = loader(datasets.NTIDIGITS18, data=file, partition="train", _samples=names, single_digits=False)
        for number in range(2):
            events, target = peer[number]
            stream = read(path, index=number)
            assert close(stream.t, events["t"])
            assert stream.x.tolist() == events["x"].tolist()
            assert target == names[number].split("-")[1]


def test_asl_dvs(tmp_path):
    generator = np.random.default_rng(0)
    arrays = {name: generator.integers(0, n, (300, 1)) for name, n in (("x", 240), ("y", 180), ("pol", 2))}
    savemat(tmp_path / "a.mat", arrays | {"ts": np.sort(generator.integers(0, 10**6, (300, 1)), axis=0)})
    events, _ = loader(datasets.ASLDVS, data=[tmp_path / "a.mat"], targets=[0])[0]
    stream = read(tmp_path / "a.mat", flip_y=True)
    assert all(getattr(stream, name).tolist() == events[name].ravel().tolist() for name in "txyp")


def test_dvs_lip(tmp_path):
    generator = np.random.default_rng(0)
    events = np.zeros(300, [("t", "<i4"), ("x", "i1"), ("y", "i1"), ("p", "i1")])
    for name, high in (("t", 10**6), ("x", 128), ("y", 128), ("p", 2)):
        events[name] = generator.integers(0, high, 300)
    np.save(tmp_path / "a.npy", events)
    found, _ = loader(datasets.DVSLip, data=[tmp_path / "a.npy"], targets=[0])[0]
    stream = read(tmp_path / "a.npy")
    assert all(getattr(stream, name).tolist() == found[name].tolist() for name in "txyp")
    assert stream.sensor == Sensor(*datasets.DVSLip.sensor_size)
