"""N-MNIST (Orchard et al. 2015), read from the official archives or from their extracted folders."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from spikenet.data.about import About
from spikenet.data.contents import Contents, FolderContents, ZipContents
from spikenet.data.recordings import Recordings, Selection
from spikenet.data.stored import StoredData
from spikenet.errors import ArgumentError
from spikenet.events import EventStream, EventTensor, Sensor
from spikenet.events.binning import TimeGrid
from spikenet.events.files.bin import decode_bin

_SENSOR = Sensor(34, 34, 2)


class NMNIST(StoredData):
    """Handwritten digits that a real event camera saw in three saccades: 34 x 34 pixels, ON and OFF, about 300 ms.

    Archives are read as they are, without extracting them, one recording when it is asked for.
    The Test part serves for testing; where there is none, `test_fraction` of the Train part is held out for it.
    `val_fraction` of what then remains is held out for validation. Both are stratified and fixed: they follow from
    the recordings alone, not from `seed`, nor from whether archives or folders are read. The 1000 recordings of a
    sample without Test part become 720 train, 80 validation and 200 test.

    Args:
        root: folder with Train.zip and Test.zip, or with the folders Train and Test.
        test_fraction: share of the Train part held out for testing where there is no Test part.
        val_fraction: share of the remaining Train part held out for validation.
        dt_us: length of a time step in microseconds.
        steps: number of time steps; later events are left out. None (null) gives each recording its own length.
        options: those of every `EventDataModule`.
    """

    about = About(
        title="N-MNIST",
        content="handwritten digits seen by a moving event camera, 300 ms each",
        citation="Orchard, Jayawant, Cohen, Thakor, Frontiers in Neuroscience 9:437, 2015",
        url="https://www.garrickorchard.com/datasets/n-mnist",
        licence="CC BY-SA 4.0",
        layout="Train.zip and Test.zip as published, or the folders Train/<digit>/<id>.bin and Test/<digit>/<id>.bin "
        "(the Test part may be missing)",
        split="published train and test parts; validation is 10 % of the train part, stratified, always the same",
        sensor=_SENSOR,
        classes=tuple("0123456789"),
        counts={"train": 60_000, "test": 10_000},
        md5={"Train.zip": "20959b8e626244a1b502305a9e6e2031", "Test.zip": "69ca8762b2fe404d9b9bad1103e97832"},
        tonic=(("NMNIST", {"train": True}), ("NMNIST", {"train": False})),
    )

    def __init__(
        self,
        root: Path | None = None,
        test_fraction: float = 0.2,
        val_fraction: float = 0.1,
        *,
        dt_us: int = 20_000,
        steps: int | None = 16,
        **options: Any,
    ) -> None:
        super().__init__(root, dt_us=dt_us, steps=steps, **options)
        for name, share in (("test_fraction", test_fraction), ("val_fraction", val_fraction)):
            if not 0 < share < 1:
                raise ArgumentError(f"{name} wants a share between 0 and 1, received {share}")
        self.test_share, self.val_share = test_fraction, val_fraction

    def find(self, root: Path) -> Mapping[str, Recordings]:
        """Both parts, in the order of the recordings' numbers."""
        found = {part.lower(): _part(root, part) for part in ("Train", "Test")}
        return {part: recordings for part, recordings in found.items() if recordings is not None}


class BinFiles(Recordings):
    """Files of the ``.bin`` format on N-MNIST's sensor; the label is the name of their folder."""

    def __init__(self, contents: Contents) -> None:
        self.contents = contents
        self.labels = np.array([int(os.fsdecode(name).split("/")[-2]) for name in contents.names], np.int64)

    def stream(self, index: int) -> EventStream:
        return decode_bin(self.contents.read(index), self.contents.where(index), _SENSOR)

    def batch(self, indices: np.ndarray, grid: TimeGrid) -> EventTensor:
        numbers, contents = indices.tolist(), self.contents
        folder = contents.folder(indices)
        plain = grid.batch_bin(lambda k, room: contents.into(numbers[k], room), len(numbers), _SENSOR, folder)
        return super().batch(indices, grid) if plain is None else plain


def _part(root: Path, part: str) -> Recordings | None:
    """All recordings of ``"Train"`` or ``"Test"``; none where there is neither folder nor archive."""
    pattern = re.compile(rf"(?:^|/){part}/\d/(\d+)\.bin$")
    contents: Contents
    if (root / part).is_dir():
        names = (path.relative_to(root).as_posix() for path in (root / part).glob("[0-9]/*.bin"))
        contents = FolderContents(root, [name for name in names if pattern.search(name)])
    elif (root / f"{part}.zip").is_file():
        contents = ZipContents(root / f"{part}.zip", pattern.search)
    else:
        return None
    numbers = [int(os.fsdecode(name).rpartition("/")[2][: -len(".bin")]) for name in contents.names]
    recordings = BinFiles(contents)
    return Selection(recordings, np.lexsort((recordings.labels, np.array(numbers)))) if numbers else None
