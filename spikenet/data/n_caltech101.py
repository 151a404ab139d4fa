"""N-Caltech101 (Orchard et al. 2015)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from spikenet.data.about import About
from spikenet.data.recordings import FileRecordings, Recordings
from spikenet.data.stored import StoredData, by_class
from spikenet.events import Sensor


class NCaltech101(StoredData):
    """Photographs of 100 kinds of objects, and of background, that a real event camera saw in three saccades.

    Recordings differ in size; all lie in one corner of 240 x 180 pixels, and none is moved. There is no published
    split: 20 % of every class are held out for testing and 10 % of what remains for validation, always the same ones.

    Args:
        root: folder that holds the folder Caltech101.
        options: those of every `EventDataModule`.
    """

    about = About(
        title="N-Caltech101",
        content="photographs of objects seen by a moving event camera, 300 ms each",
        citation="Orchard, Jayawant, Cohen, Thakor, Frontiers in Neuroscience 9:437, 2015",
        url="https://www.garrickorchard.com/datasets/n-caltech101",
        licence="CC BY 4.0",
        layout="Caltech101/<class>/image_<number>.bin",
        split="none published; test is 20 % of every class, validation 10 % of the rest, always the same",
        sensor=Sensor(240, 180, 2),
        counts={"all": 8709},
        md5={"Caltech101.zip": "66201824eabb0239c7ab992480b50ba3"},
        tonic=(("NCALTECH101", {}),),
    )

    def names_of_classes(self, root: Path) -> Sequence[str]:
        """The names of the folders, in the order of the alphabet."""
        return sorted(path.name for path in (root / "Caltech101").glob("[!.]*") if path.is_dir())

    def find(self, root: Path) -> Mapping[str, Recordings]:
        """All recordings."""
        folder = root / "Caltech101"
        names, labels = by_class(folder, self.names_of_classes(root), "*.bin")
        return {"train": FileRecordings(folder, names, labels, self.about.sensor, "bin")}
