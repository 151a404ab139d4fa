"""ASL-DVS (Bi et al. 2019)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from spikenet.data.about import About
from spikenet.data.recordings import FileRecordings, Recordings
from spikenet.data.stored import StoredData, by_class
from spikenet.events import Sensor


class ASLDVS(StoredData):
    """24 letters of American Sign Language (all but J and Z, which move) before a real event camera, 240 x 180 pixels.

    There is no published split: 20 % of every letter are held out for testing and 10 % of what remains for validation,
    always the same ones. Columns and rows are those of the files, which published loaders mirror in different ways.
    Times count from the first event.

    Args:
        root: folder that holds a folder for each letter.
        options: those of every `EventDataModule`.
    """

    about = About(
        title="ASL-DVS",
        content="24 letters of American Sign Language seen by an event camera, about 100 ms each",
        citation="Bi, Chadha, Abbas, Bourtsoulatze, Andreopoulos, ICCV 2019",
        url="https://github.com/PIX2NVS/NVS2Graph",
        layout="<letter>/*.mat",
        split="none published; test is 20 % of every class, validation 10 % of the rest, always the same",
        sensor=Sensor(240, 180, 2),
        classes=tuple("abcdefghiklmnopqrstuvwxy"),
        counts={"all": 100_800},
    )

    def find(self, root: Path) -> Mapping[str, Recordings]:
        """All recordings."""
        names, labels = by_class(root, self.about.classes, "*.mat")
        return {"train": FileRecordings(root, names, labels, self.about.sensor, "asldvs", from_start=True)}
