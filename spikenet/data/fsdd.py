"""The Free Spoken Digit Dataset through the cochlea."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from spikenet.data.about import About
from spikenet.data.audio import CHANNELS, SpokenData
from spikenet.data.recordings import Recordings
from spikenet.events import Sensor

_NAME = re.compile(r"(\d)_(\w+)_(\d+)\.wav")


class FSDD(SpokenData):
    """Spoken English digits, 50 recordings of each digit and speaker, through a cochlea of 700 channels.

    Recordings 0 to 4 of each digit and speaker are the official test part, the others the official train part, of
    which 45 to 49 serve for validation. Where none of a part is there, a fixed part of the train part is held out.

    Args:
        root: folder with the sound files, or with the folder recordings.
        pool: neighbouring channels joined to one; 5 makes 140 of 700.
        cochlea: what hears; none takes ``spikenet.events.Cochlea()``.
        options: those of every `EventDataModule`.
    """

    about = About(
        title="FSDD",
        content="Free Spoken Digit Dataset: English digits of six speakers, through a cochlea model",
        citation="Jackson and others, Free Spoken Digit Dataset, Zenodo, doi 10.5281/zenodo.1342401",
        url="https://github.com/Jakobovski/free-spoken-digit-dataset",
        licence="CC BY-SA 4.0",
        layout="recordings/<digit>_<speaker>_<number>.wav",
        split="official: recordings 0 to 4 are for testing; of the others 45 to 49 are for validation",
        sensor=Sensor(CHANNELS),
        classes=tuple("0123456789"),
        counts={"train": 2700, "test": 300},
        per_class=300,
    )

    def find(self, root: Path) -> Mapping[str, Recordings]:
        """The parts, as far as they are there."""
        folder = root / "recordings" if (root / "recordings").is_dir() else root
        found: dict[str, list[tuple[str, int]]] = {"train": [], "val": [], "test": []}
        for path in sorted(folder.glob("*.wav")):
            if match := _NAME.fullmatch(path.name):
                number = int(match[3])
                part = "test" if number < 5 else "val" if number >= 45 else "train"
                found[part].append((path.name, int(match[1])))
        return {
            part: self.heard(folder, [name for name, _ in files], [label for _, label in files])
            for part, files in found.items()
            if files
        }
