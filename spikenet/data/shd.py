"""Spiking Heidelberg Digits, Spiking Speech Commands (Cramer et al. 2022) and any data in their file layout."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from spikenet.data.base import EventDataModule
from spikenet.data.recordings import EventData, Selection, hold_out
from spikenet.data.spikes_h5 import SpikeFile, SpikeRecordings, read_spikes
from spikenet.errors import ArgumentError, DataError, FormatError

_CHANNELS = 700
_VALIDATION_SEED = 2
_SOURCE = (
    "name the two files (--data.train, --data.test), or a root folder (--data.root) that holds shd_train.h5 and "
    "shd_test.h5, or ssc_train.h5, ssc_valid.h5 and ssc_test.h5, each also as published with .gz. The data sets are "
    "'Spiking Heidelberg Digits' and 'Spiking Speech Commands', https://zenkelab.org/resources/"
    "spiking-heidelberg-datasets-shd (Cramer et al., IEEE TNNLS 33, 2022)"
)


class SHD(EventDataModule):
    """Spoken words as spikes of a 700-channel cochlea: SHD, SSC or other data in their HDF5 layout.

    The data's name and classes come from its files: the name of the train file without ``_train``, and ``extra/keys``.
    Without a validation file (SHD has none) a fixed part of the train file is held out: `val_speakers`, where given,
    else `val_fraction` of it, stratified. The test file never serves for choosing anything.

    Args:
        root: folder with the official files, instead of `train`, `test` and `val`.
        train: train file, .h5 or .h5.gz.
        test: test file, .h5 or .h5.gz.
        val: validation file, .h5 or .h5.gz; none holds out a part of the train file.
        val_fraction: share of the train file held out for validation.
        val_speakers: speakers of the train file held out for validation instead.
        pool: neighbouring channels joined to one; 5 makes 140 of 700.
        batch_size: recordings in a batch.
        workers: processes that load data; 0 loads in the main process.
        seed: order and augmentation follow from it; the split into parts does not.
        dt_us: length of a time step in microseconds.
        steps: number of time steps; later events are left out. None (null) gives each recording its own length.
        shift: augmentation: move each training recording by up to this many (joined) channels.
        jitter_us: augmentation: move each event in time, standard deviation in microseconds.
        drop: augmentation: lose each event with this probability.
    """

    def __init__(
        self,
        root: Path | None = None,
        train: Path | None = None,
        test: Path | None = None,
        val: Path | None = None,
        val_fraction: float = 0.1,
        val_speakers: list[int] | None = None,
        pool: int = 5,
        batch_size: int = 64,
        workers: int = 0,
        seed: int = 0,
        dt_us: int = 10_000,
        steps: int | None = 100,
        shift: int = 0,
        jitter_us: float = 0.0,
        drop: float = 0.0,
    ) -> None:
        super().__init__(
            batch_size=batch_size,
            workers=workers,
            seed=seed,
            dt_us=dt_us,
            steps=steps,
            shift=shift,
            jitter_us=jitter_us,
            drop=drop,
        )
        if root is not None and (train or test or val):
            raise ArgumentError("root and the files train, test, val exclude each other, received both")
        if not 0 < val_fraction < 1 or not 1 <= pool <= _CHANNELS:
            raise ArgumentError(
                f"val_fraction wants a share between 0 and 1 and pool 1 to {_CHANNELS}, received {val_fraction}, {pool}"
            )
        self.root, self.files = root, {"train": train, "test": test, "valid": val}
        self.val_fraction, self.val_speakers, self.pool = val_fraction, val_speakers, pool

    def read(self) -> EventData:
        """Read the files. Errors: DataError for files that are missing or do not belong together, FormatError."""
        files = self._find()
        contents = {part: read_spikes(path, _CHANNELS) for part, path in files.items()}
        for part, content in contents.items():
            _check_classes(files, part, content, contents["train"])
        recordings = {part: SpikeRecordings(content, _CHANNELS, self.pool) for part, content in contents.items()}
        whole = recordings["train"]
        name = files["train"].name.split(".")[0].removesuffix("_train")
        classes, sensor = contents["train"].classes, whole.sensor
        if "valid" in recordings:
            return EventData(name, classes, sensor, whole, recordings["valid"], recordings["test"])
        rest, held = self._hold_out(contents["train"], files["train"])
        return EventData(name, classes, sensor, Selection(whole, rest), Selection(whole, held), recordings["test"])

    def _find(self) -> dict[str, Path]:
        """The file of each part: those given, or the official names under the root."""
        if self.root is not None:
            return _official(Path(self.root))
        given = {part: Path(path) for part, path in self.files.items() if path is not None}
        if not {"train", "test"} <= given.keys():
            raise DataError(f"a train and a test file are wanted, received {sorted(given) or 'neither'}; {_SOURCE}")
        return given

    def _hold_out(self, content: SpikeFile, path: Path) -> tuple[np.ndarray, np.ndarray]:
        """Numbers of the recordings kept for training and of those held out for validation."""
        if self.val_speakers is None:
            return hold_out(content.labels, round(self.val_fraction * len(content.labels)), _VALIDATION_SEED)
        if content.speakers is None:
            raise DataError(f"{path} names no speakers (extra/speaker); val_fraction would work")
        present = np.unique(content.speakers).tolist()
        if not set(self.val_speakers) < set(present) or not self.val_speakers:
            raise ArgumentError(f"val_speakers wants some, not all, of {present}, received {self.val_speakers}")
        held = np.isin(content.speakers, self.val_speakers)
        return np.flatnonzero(~held), np.flatnonzero(held)


def _official(root: Path) -> dict[str, Path]:
    for name in ("shd", "ssc"):
        paths = (
            (part, root / f"{name}_{part}{end}") for part in ("train", "valid", "test") for end in (".h5.gz", ".h5")
        )
        found = {part: path for part, path in paths if path.is_file()}
        if {"train", "test"} <= found.keys():
            return found
    raise DataError(f"no SHD or SSC files under {root}; {_SOURCE}")


def _check_classes(files: dict[str, Path], part: str, content: SpikeFile, train: SpikeFile) -> None:
    if content.classes != train.classes:
        raise FormatError(
            files[part], None, f"classes {list(content.classes)} differ from {list(train.classes)} of the train file"
        )
