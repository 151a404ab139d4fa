"""The adapter for Tonic's data sets, on objects of the same form and on Tonic's own reader of SHD files."""

from __future__ import annotations

import numpy as np
import pytest

from spikenet.data import SHD, TonicData
from spikenet.errors import ArgumentError, DataError
from spikenet.events import Sensor

CAMERA = np.dtype([("t", np.uint64), ("x", np.uint16), ("y", np.uint16), ("p", bool)])


class Camera:
    """Recording ``i`` has one event at ``t = i``; targets as they are given."""

    sensor_size = (6, 5, 2)

    def __init__(self, targets, **more):
        self.targets = targets
        vars(self).update(more)

    def __len__(self):
        return len(self.targets)

    def __getitem__(self, index):
        return np.array([(index, 5, 4, True)], CAMERA), self.targets[index]


def test_events_and_sensor():
    module = TonicData(Camera([0, 1] * 10), Camera([1, 0]))
    assert (module.sensor, module.name) == (Sensor(6, 5, 2), "Camera")
    assert module.sizes == {"train": 18, "val": 2, "test": 2}
    stream, label = module.raw("test")[1]
    columns = [column.tolist() for column in (stream.t, stream.x, stream.y, stream.p)]
    assert (columns, label) == ([[1], [5], [4], [1]], 0)
    events, _ = next(iter(TonicData(Camera([0, 1] * 10), steps=4).train_dataloader()))
    assert events.shape[2:] == (2, 5, 6)


def test_without_a_test_part_one_is_held_out():
    module = TonicData(Camera([0, 1] * 10))
    assert module.sizes == {"train": 14, "val": 2, "test": 4}
    assert module.name == "Camera, own test part of 20%"


@pytest.mark.parametrize(
    ("targets", "more", "classes", "labels"),
    [
        ([3, 7] * 10, {}, ["3", "7"], [0, 1]),
        (["cup", "ant"] * 10, {}, ["ant", "cup"], [1, 0]),
        (np.array([0, 2] * 10), {"classes": ["a", "b", "c"]}, ["a", "b", "c"], [0, 2]),
        ([1, 0] * 10, {"classes": {"ship": 1, "car": 0}}, ["car", "ship"], [1, 0]),
        ([0, 1] * 10, {"classes": np.array([b"null", b"eins"])}, ["null", "eins"], [0, 1]),
        ([0, 1] * 10, {"target_transform": lambda target: 1 - target}, ["0", "1"], [1, 0]),
    ],
)
def test_classes(targets, more, classes, labels):
    module = TonicData(Camera(targets, **more), Camera(targets[:2], **more))
    assert module.classes == classes
    assert module.raw("test").labels.tolist() == labels


def test_targets_that_stand_nowhere_are_read():
    class Unlisted(Camera):
        def __init__(self, targets):
            self.hidden = targets

        def __len__(self):
            return len(self.hidden)

        def __getitem__(self, index):
            return np.array([(index, 0, 0, 0)], CAMERA), np.int64(self.hidden[index])

    assert TonicData(Unlisted([4, 2] * 10), Unlisted([2, 4])).raw("test").labels.tolist() == [0, 1]


def test_what_cannot_work():
    with pytest.raises(ArgumentError, match=r"has no sensor_size; sensor=Sensor"):
        TonicData(Camera([0] * 10, sensor_size=None))
    assert TonicData(Camera([0] * 10, sensor_size=None), sensor=Sensor(6, 5, 2)).sensor == (6, 5, 2)
    with pytest.raises(DataError, match=r"a target wants .* received \[1, 2\]"):
        TonicData(Camera([[1, 2]] * 10)).setup()
    with pytest.raises(DataError, match=r"labels in the test part want 0 to 1 .* received 5"):
        TonicData(Camera([0, 1] * 10), Camera([5]), classes=["a", "b"]).setup()

    class Frames(Camera):
        def __getitem__(self, index):
            return np.zeros((3, 2, 5, 6)), 0

    with pytest.raises(
        DataError, match=r"wants a structured array with the fields \['t', 'x', 'y'\], received ndarray"
    ):
        TonicData(Frames([0] * 10)).raw("test")[0]
    with pytest.raises(DataError, match="x wants 0 to 4"):
        TonicData(Camera([0] * 10, sensor_size=(5, 5, 2))).raw("test")[0]


@pytest.mark.peers
def test_tonics_reader_of_shd(write_spikes):
    """Half a float of seconds, the artificial polarity 1, classes as bytes: the same recordings as read here."""
    hsd = pytest.importorskip("tonic.datasets.hsd")

    class Spikes(hsd.HSD):
        def __init__(self, path):
            self.location_on_system, self.data_filename = str(path.parent), path.name
            self.transform = self.target_transform = None
            self.classes = np.array([b"null", b"eins", b"one", b"two"])

    train, test = write_spikes("a_train.h5"), write_spikes("a_test.h5", count=12)
    theirs, ours = TonicData(Spikes(train), Spikes(test)), SHD(train=train, test=test, pool=1)
    assert (theirs.classes, theirs.sensor, theirs.sizes) == (ours.classes, ours.sensor, ours.sizes)
    for part in ours.sizes:
        for (one, label), (two, same) in zip(theirs.raw(part), ours.raw(part), strict=True):
            assert label == same
            assert (one.t - two.t).abs().max() <= 1  # Tonic cuts fractions of a microsecond off
            assert one.x.tolist() == two.x.tolist()
