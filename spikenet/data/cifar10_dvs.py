"""CIFAR10-DVS (Li et al. 2017)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from spikenet.data.about import About
from spikenet.data.recordings import FileRecordings, Recordings
from spikenet.data.stored import StoredData, by_class
from spikenet.events import Sensor

_FORMATS = {"aedat": "aedat2", "aedat4": "aedat4"}  # as published, and as Tonic has converted them


class CIFAR10DVS(StoredData):
    """10 000 images of CIFAR-10 moved before a real event camera, 128 x 128 pixels, ON and OFF.

    There is no published split. Here 100 recordings of every class, chosen once and for all, are held out for testing
    and 90 of the remaining 900 for validation, so accuracies compare only with those on the same split. Columns,
    rows and polarities are those of the files; published loaders mirror and exchange them in different ways, and
    Tonic's files (.aedat4) need not agree with the original ones (.aedat). Times count from the first event.

    Args:
        root: folder that holds a folder for each class.
        options: those of every `EventDataModule`.
    """

    about = About(
        title="CIFAR10-DVS",
        content="images of CIFAR-10 moved before an event camera, 1000 of each of 10 classes",
        citation="Li, Liu, Ji, Li, Shi, Frontiers in Neuroscience 11:309, 2017",
        url="https://www.frontiersin.org/articles/10.3389/fnins.2017.00309/full",
        layout="<class>/*.aedat as published, or <class>/*.aedat4 as Tonic downloads them",
        split="none published; test is 10 % of every class, validation 10 % of the rest, always the same",
        sensor=Sensor(128, 128, 2),
        classes=("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
        counts={"all": 10_000},
        per_class=1000,
        md5={
            "CIFAR10DVS.zip": "ce3a4a0682dc0943703bd8f749a7701c",
            "airplane.zip": "0afd5c4bf9ae06af762a77b180354fdd",
            "automobile.zip": "8438dfeba3bc970c94962d995b1b9bdd",
            "bird.zip": "a9c207c91c55b9dc2002dc21c684d785",
            "cat.zip": "52c63c677c2b15fa5146a8daf4d56687",
            "deer.zip": "b6bf21f6c04d21ba4e23fc3e36c8a4a3",
            "dog.zip": "f379ebdf6703d16e0a690782e62639c3",
            "frog.zip": "cad6ed91214b1c7388a5f6ee56d08803",
            "horse.zip": "e7cbbf77bec584ffbf913f00e682782a",
            "ship.zip": "41c7bd7d6b251be82557c6cce9a7d5c9",
            "truck.zip": "89f3922fd147d9aeff89e76a2b0b70a7",
        },
        tonic=(("CIFAR10DVS", {}),),
    )
    test_share = 0.1

    def find(self, root: Path) -> Mapping[str, Recordings]:
        """All recordings, in the original format where both are there."""
        for ending, format in _FORMATS.items():
            names, labels = by_class(root, self.about.classes, f"*.{ending}")
            if names:
                return {"train": FileRecordings(root, names, labels, self.about.sensor, format, from_start=True)}
        return {}
