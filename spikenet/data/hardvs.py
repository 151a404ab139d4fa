"""HARDVS (Wang et al. 2022)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from spikenet.data.about import About
from spikenet.data.recordings import FileRecordings, Recordings
from spikenet.data.stored import StoredData, listed
from spikenet.errors import FormatError
from spikenet.events import Sensor


class HARDVS(StoredData):
    """300 kinds of human activity before a real event camera, 346 x 260 pixels, ON and OFF.

    The published lists of training, validation and test recordings serve as they are. Times count from the first event.

    Args:
        root: folder with the label files and a folder for each activity.
        options: those of every `EventDataModule`.
    """

    about = About(
        title="HARDVS",
        content="300 kinds of human activity seen by an event camera",
        citation="Wang, Wu, Jiang, Bao, Zhu, Li, Wang, Tian, arXiv 2211.09648, 2022",
        url="https://github.com/Event-AHU/HARDVS",
        layout="train_label.txt, val_label.txt and test_label.txt, and action_<001 to 300>/<name>.npz",
        split="published lists of training, validation and test recordings",
        sensor=Sensor(346, 260, 2),
        classes=tuple(f"action_{number:03d}" for number in range(1, 301)),
        md5={
            "MINI_HARDVS_files.zip": "9c4cc0d9ba043faa17f6f1a9e9aff982",
            "train_label.txt": "0d642b6e6871034f151b2649a89d8d3c",
            "val_label.txt": "cd2cebcba80e4552102bbacf2b5df812",
            "test_label.txt": "5b664af5843f9b476a9c22626f7f5a59",
        },
    )

    def find(self, root: Path) -> Mapping[str, Recordings]:
        """The three parts; nothing unless all three lists are there."""
        lists = {part: root / f"{part}_label.txt" for part in ("train", "val", "test")}
        if not all(path.is_file() for path in lists.values()):
            return {}
        return {part: self._part(root, path) for part, path in lists.items()}

    def _part(self, root: Path, path: Path) -> Recordings:
        """Lines such as ``action_001/dvSave-2021_10_15_19_18_02 0``: what follows the name is not needed."""
        numbers = {name: label for label, name in enumerate(self.about.classes)}
        names, labels = [], []
        for row, line in enumerate(listed(path)):
            action, _, name = line.split()[0].removesuffix(".npz").partition("/")
            if action not in numbers or not name or "/" in name:
                raise FormatError(path, row, f"line {row + 1} wants action_<001 to 300>/<name>, received {line!r}")
            names.append(f"{action}/{name}.npz")
            labels.append(numbers[action])
        return FileRecordings(root, names, labels, self.about.sensor, "npz", from_start=True)
