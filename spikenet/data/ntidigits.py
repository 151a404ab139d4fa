"""N-TIDIGITS18 (Anumula et al. 2018)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from spikenet.data.about import About
from spikenet.data.recordings import Recordings
from spikenet.data.stored import StoredData
from spikenet.errors import FormatError
from spikenet.events import EventStream, Sensor, read

_FILES = ("n-tidigits.hdf5", "n-tidigits18.hdf5")
_BROKEN = (OSError, KeyError, RuntimeError, TypeError, ValueError)


class NTIDIGITS(StoredData):
    """Single spoken digits (oh, one to nine, zero) as spikes of a silicon cochlea with 64 channels.

    The file also holds sequences of digits, which have no class and are left out. The published parts have different
    speakers; 10 % of the train part, stratified, are held out for validation.

    Args:
        root: folder that holds n-tidigits.hdf5.
        options: those of every `EventDataModule`.
    """

    about = About(
        title="N-TIDIGITS18",
        content="spoken digits through a silicon cochlea of 64 channels",
        citation="Anumula, Neil, Delbruck, Liu, Frontiers in Neuroscience 12:23, 2018",
        url="https://docs.google.com/document/d/1Uxe7GsKKXcy6SlDUX4hoJVAC0-UkH-8kr5UXp0Ndi1M",
        layout="n-tidigits.hdf5",
        split="published train and test parts, single digits; validation is 10 % of the train part, stratified, "
        "always the same",
        sensor=Sensor(64),
        classes=tuple("o123456789z"),
        md5={"n-tidigits.hdf5": "360a2d11e5429555c9197381cf6b58e0"},
        tonic=(("NTIDIGITS18", {"train": True}),),
    )

    def find(self, root: Path) -> Mapping[str, Recordings]:
        """Both parts of the file."""
        files = [root / name for name in _FILES if (root / name).is_file()]
        if not files:
            return {}
        names = _names(files[0])
        first = {"train": 0, "test": len(names["train"])}  # the format numbers the test part on
        return {part: _SingleDigits(files[0], names[part], first[part], self.about.classes) for part in names}


class _SingleDigits(Recordings):
    """The recordings of one digit; ``names`` are those of a part, whose first recording has number ``first``."""

    def __init__(self, path: Path, names: Sequence[str], first: int, classes: Sequence[str]) -> None:
        self.path = path
        digits = [name.rpartition("-")[2] for name in names]
        single = [number for number, digit in enumerate(digits) if digit in classes]
        self.numbers = first + np.array(single, np.int64)
        self.labels = np.array([classes.index(digits[number]) for number in single], np.int64)

    def stream(self, index: int) -> EventStream:
        return read(self.path, format="ntidigits", sensor=NTIDIGITS.about.sensor, index=int(self.numbers[index]))


def _names(path: Path) -> dict[str, list[str]]:
    import h5py

    try:
        with h5py.File(path, "r") as file:
            return {part: file[f"{part}_labels"].asstr()[:].tolist() for part in ("train", "test")}
    except _BROKEN as error:
        raise FormatError(path, None, f"lacks readable train_labels and test_labels: {error}") from error
