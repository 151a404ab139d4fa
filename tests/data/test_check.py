"""What a check finds: numbers, checksums, damaged files."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np
import pytest

from spikenet.data import NMNIST, About, EventData, EventDataModule, Recordings, check
from spikenet.data.recordings import Selection
from spikenet.errors import DataError, FormatError
from spikenet.events import EventStream, Sensor

SENSOR = Sensor(4)
ABOUT = About("toy", "spikes", "nobody", "https://example.org", "files", "as published", SENSOR, classes=("a", "b"))


class Toy(Recordings):
    """Recording ``i`` has ``i`` events; number 3 is damaged."""

    def __init__(self, labels):
        self.labels = np.array(labels)

    def stream(self, index):
        if index == 3:
            raise FormatError("toy/3.bin", 7, "is damaged")
        return EventStream.from_numpy(np.arange(index), np.zeros(index, int), sensor=SENSOR)


def toy(**facts):
    class ToySet(EventDataModule):
        about = replace(ABOUT, **facts)

        def read(self):
            return EventData("toy", ("a", "b"), SENSOR, Toy([0, 1, 0, 1, 0]), Toy([0, 1]), Toy([1, 0, 0]))

    return ToySet()


def test_everything_is_counted_and_damage_is_named():
    shown = []

    def track(sequence, description):
        shown.append((len(sequence), description))
        return sequence

    found = check(toy(), track)
    assert {part: counts.tolist() for part, counts in found.counts.items()} == {
        "train": [3, 2],
        "val": [1, 1],
        "test": [2, 1],
    }
    assert found.events == {"train": 0 + 1 + 2 + 4, "val": 1, "test": 3}
    assert found.damaged == ["toy/3.bin at offset 7: is damaged"]
    assert found.differences == []
    assert shown == [(5, "toy, train"), (2, "toy, val"), (3, "toy, test")]


@pytest.mark.parametrize(
    ("facts", "differences"),
    [
        ({"counts": {"train": 7, "test": 3}}, []),
        ({"counts": {"train": 5, "val": 2, "test": 3}}, []),
        ({"counts": {"all": 10}}, []),
        ({"counts": {"train": 5, "test": 3}}, ["train: 7 recordings, 5 are published"]),
        ({"counts": {"all": 11}}, ["all: 10 recordings, 11 are published"]),
        ({"per_class": 6}, ["class b: 4 recordings, 6 are published"]),
    ],
)
def test_numbers_are_compared_with_the_published_ones(facts, differences):
    assert check(toy(**facts)).differences == differences


def test_recordings_of_the_cache_alone_are_named(tmp_path):
    (tmp_path / "here").touch()

    class Kept(Toy):
        def origin(self, index):
            return tmp_path / ("here" if index else "gone")

    class Set(EventDataModule):
        def read(self):
            return EventData(
                "kept", ("a", "b"), SENSOR, Kept([0, 1, 0]), Selection(Kept([0, 1, 1]), np.array([1, 2])), Toy([0])
            )

    assert check(Set()).differences == [
        f"train: 1 recordings are read from the cache alone, {tmp_path / 'gone'} is gone"
    ]


def test_archives_are_compared_with_the_published_checksum(tmp_path, nmnist_files, monkeypatch):
    for name, content in nmnist_files("Train", 40).items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    (tmp_path / "Train.zip").write_bytes(b"published")
    known = hashlib.md5(b"published").hexdigest()
    for md5, wrong in ((known, 0), ("0" * 32, 1)):
        monkeypatch.setattr(NMNIST, "about", replace(NMNIST.about, counts={"train": 40}, md5={"Train.zip": md5}))
        found = [line for line in check(NMNIST(tmp_path)).differences if "md5" in line]
        assert len(found) == wrong
        assert all(known in line and "Train.zip is not the published file" in line for line in found)


def test_nothing_to_check(tmp_path):
    with pytest.raises(DataError, match="no N-MNIST recordings"):
        check(NMNIST(tmp_path))
