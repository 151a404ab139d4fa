"""Spiking Heidelberg Digits, Spiking Speech Commands (Cramer et al. 2022) and any data in their file layout."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from spikenet.data.about import About
from spikenet.data.base import Track, untracked
from spikenet.data.recordings import EventData, Recordings, Selection, cut
from spikenet.data.spoken import JoinedSpikes, Spoken, StoredSpikes
from spikenet.data.stored import StoredData, download
from spikenet.errors import ArgumentError, DataError, FormatError
from spikenet.events import Sensor
from spikenet.events.files.shd import read_spikes

_CHANNELS = 700
_CITATION = "Cramer, Stradmann, Schemmel, Zenke, IEEE TNNLS 33, 2022"
_URL = "https://zenkelab.org/resources/spiking-heidelberg-datasets-shd"
_LICENCE = "CC BY 4.0"
_DIGITS = "null eins zwei drei vier fuenf sechs sieben acht neun zero one two three four five six seven eight nine"


class SHD(StoredData):
    """Spoken digits as spikes of a 700-channel cochlea: SHD or other data in its HDF5 layout.

    The data's name and classes come from its files: the name of the train file without ``_train``, and ``extra/keys``.
    Without a validation file (SHD has none) a fixed part of the train file is held out: `val_speakers`, where given,
    else `val_fraction` of it, stratified. The test file never serves for choosing anything. The files are read whole.

    Args:
        root: folder with the official files, instead of `train`, `test` and `val`.
        train: train file, .h5 or .h5.gz.
        test: test file, .h5 or .h5.gz.
        val: validation file, .h5 or .h5.gz; none holds out a part of the train file.
        val_fraction: share of the train file held out for validation.
        val_speakers: speakers of the train file held out for validation instead.
        pool: neighbouring channels joined to one; 5 makes 140 of 700.
        dt_us: length of a time step in microseconds.
        steps: number of time steps; later events are left out. None (null) gives each recording its own length.
        options: those of every `EventDataModule`.
    """

    about = About(
        title="SHD",
        content="Spiking Heidelberg Digits: 20 spoken digits, German and English, through a cochlea model",
        layout="shd_train.h5 and shd_test.h5, also .h5.gz as published; or name the files (--data.train, --data.test)",
        split="published train and test files; validation is 10 % of the train file, stratified, always the same",
        classes=tuple(_DIGITS.split()),
        counts={"all": 10_420},  # published as 8332 + 2088 and as 8156 + 2264
        md5={
            "shd_train.h5.zip": "f3252aeb598ac776c1b526422d90eecb",
            "shd_test.h5.zip": "1503a5064faa34311c398fb0a1ed0a6f",
        },
        tonic=(("SHD", {"train": True}), ("SHD", {"train": False})),
        sensor=Sensor(_CHANNELS),
        citation=_CITATION,
        url=_URL,
        licence=_LICENCE,
    )

    def __init__(
        self,
        root: Path | None = None,
        train: Path | None = None,
        test: Path | None = None,
        val: Path | None = None,
        val_fraction: float = 0.1,
        val_speakers: list[int] | None = None,
        pool: int = 5,
        *,
        dt_us: int = 10_000,
        steps: int | None = 100,
        **options: Any,
    ) -> None:
        super().__init__(root, dt_us=dt_us, steps=steps, **options)
        if root is not None and (train or test or val):
            raise ArgumentError("root and the files train, test, val exclude each other, received both")
        if not 0 < val_fraction < 1 or not 1 <= pool <= _CHANNELS:
            raise ArgumentError(
                f"val_fraction wants a share between 0 and 1 and pool 1 to {_CHANNELS}, received {val_fraction}, {pool}"
            )
        self.files = {"train": train, "test": test, "valid": val}
        self.val_fraction, self.val_speakers, self.pool = val_fraction, val_speakers, pool

    def find(self, root: Path) -> Mapping[str, Recordings]:
        """The official files under the root."""
        return {part: self.recordings(path) for part, path in self._official(root).items()}

    def recordings(self, path: Path) -> Spoken:
        """The recordings of one file."""
        return JoinedSpikes(read_spikes(path, _CHANNELS), _CHANNELS, self.pool)

    def read(self) -> EventData:
        """Read the files. Errors: DataError for files that are missing or do not belong together, FormatError."""
        files = self._find()
        found = {part: self.recordings(path) for part, path in files.items()}
        train = found["train"]
        for part, recordings in found.items():
            _check_classes(files[part], recordings.classes, train.classes)
        name = files["train"].name.split(".")[0].removesuffix("_train")
        parts: dict[str, Recordings] = {"val" if part == "valid" else part: spoken for part, spoken in found.items()}
        if self.val_speakers is not None and "val" not in parts:
            held = self._held(train.speakers, files["train"])
            parts |= {"train": Selection(train, np.flatnonzero(~held)), "val": Selection(train, np.flatnonzero(held))}
        return cut(name, train.classes, train.sensor, parts, val_share=self.val_fraction)

    def prepare(self, track: Track = untracked) -> None:
        """Download the files through Tonic unless they are there."""
        if self.root is not None and not self._official(self._place()):
            download(self.about, self._root(), track)

    def _find(self) -> dict[str, Path]:
        """The file of each part: those given, or the official names under the root."""
        if self.root is not None:
            found = self._official(self._place())
            if not {"train", "test"} <= found.keys():
                raise self.about.missing(self.root)
            return found
        given = {part: Path(path) for part, path in self.files.items() if path is not None}
        if not {"train", "test"} <= given.keys():
            raise DataError(
                f"a train and a test file are wanted, received {sorted(given) or 'neither'}; {self.about.missing(None)}"
            )
        return given

    def _official(self, root: Path) -> dict[str, Path]:
        name = self.about.title.lower()
        paths = (
            (part, root / f"{name}_{part}{end}") for part in ("train", "valid", "test") for end in (".h5.gz", ".h5")
        )
        return {part: path for part, path in paths if path.is_file()}

    def _held(self, speakers: np.ndarray | None, path: Path) -> np.ndarray:
        """Which recordings of the train file are held out for validation."""
        if speakers is None:
            raise DataError(f"{path} names no speakers (extra/speaker); val_fraction would work")
        present = np.unique(speakers).tolist()
        if not set(self.val_speakers or ()) < set(present) or not self.val_speakers:
            raise ArgumentError(f"val_speakers wants some, not all, of {present}, received {self.val_speakers}")
        return np.isin(speakers, self.val_speakers)


class SSC(SHD):
    """Spiking Speech Commands: 35 spoken words as spikes of a 700-channel cochlea, in the layout of `SHD`.

    The three published parts serve as they are. The events stay in their ``.h5`` files, some 100 000 recordings, and
    are read one recording at a time; a ``.h5.gz`` is read whole, into memory.

    Args:
        root: folder with the official files, instead of `train`, `test` and `val`.
        train: train file, .h5 or .h5.gz.
        test: test file, .h5 or .h5.gz.
        val: validation file, .h5 or .h5.gz; none holds out a part of the train file.
        pool: neighbouring channels joined to one; 5 makes 140 of 700.
        options: those of `SHD`.
    """

    about = About(
        title="SSC",
        content="Spiking Speech Commands: 35 English words through a cochlea model",
        layout="ssc_train.h5, ssc_valid.h5 and ssc_test.h5, also .h5.gz as published",
        split="published train, validation and test files",
        counts={"train": 75_466, "val": 9_981, "test": 20_382},
        md5={
            "ssc_train.h5.zip": "d102be95e7144fcc0553d1f45ba94170",
            "ssc_valid.h5.zip": "b4eee3516a4a90dd0c71a6ac23a8ae43",
            "ssc_test.h5.zip": "a35ff1e9cffdd02a20eb850c17c37748",
        },
        tonic=tuple(("SSC", {"split": split}) for split in ("train", "valid", "test")),
        sensor=Sensor(_CHANNELS),
        citation=_CITATION,
        url=_URL,
        licence=_LICENCE,
    )

    def recordings(self, path: Path) -> Spoken:
        """The recordings of one file."""
        return super().recordings(path) if path.suffix == ".gz" else StoredSpikes(path, _CHANNELS, self.pool)


def _check_classes(path: Path, found: Sequence[str], train: Sequence[str]) -> None:
    if found != train:
        raise FormatError(path, None, f"classes {list(found)} differ from {list(train)} of the train file")
