"""N-TIDIGITS18: spoken digits from a silicon cochlea of 64 channels (Anumula et al., Frontiers in Neuroscience 12:23,
2018).

For the parts ``train`` and ``test``: ``<part>_labels`` lists the names of the recordings, ``<part>_addresses/<name>``
holds the channels and ``<part>_timestamps/<name>`` the seconds of one. The digits spoken stand in the name, after its
last dash. Recordings are numbered through ``train_labels`` and on through ``test_labels``.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from spikenet.errors import FormatError
from spikenet.events.files.arrays import LONGEST, ArraySource, Raw, check_holds, check_lengths, chosen
from spikenet.events.files.bounds import length_of
from spikenet.events.files.hdf5 import holds, open_hdf5
from spikenet.events.files.hdf5_objects import MAGIC
from spikenet.events.files.recording import Format, Opening
from spikenet.events.stream import EventStream, Sensor

_SENSOR = Sensor(64)
_PARTS = ("train", "test")
_UNNAMED = "unlabelled"


def _open(opening: Opening) -> ArraySource:
    path = opening.path
    with open_hdf5(path, opening.whole()) as file:
        counts = {part: file.count(f"{part}_labels") for part in _PARTS if f"{part}_labels" in file}
        if not counts:
            raise FormatError(path, None, "lacks train_labels and test_labels")
        number = chosen(opening, sum(counts.values()))
        train = counts.get("train", 0)
        part, row = ("train", number) if number < train else ("test", number - train)
        (name,) = file.strings(f"{part}_labels", slice(row, row + 1))
        if "/" in name or not name.strip("."):
            raise FormatError(path, number, f"{name!r} cannot be the name of a recording")
        units = file.array(f"{part}_addresses/{name}", "iuf")
        times = file.array(f"{part}_timestamps/{name}", "f")
    lengths = (length_of(path, "addresses", units.shape), length_of(path, "timestamps", times.shape))
    check_lengths(opening, addresses=lengths[0], timestamps=lengths[1])
    header = {"recordings": str(sum(counts.values())), "index": str(number), "part": part, "name": name}
    header["label"] = name.rpartition("-")[2]
    none = np.zeros(lengths[0], np.int8)
    raw = Raw(times.reshape(-1), units.reshape(-1), none, none)
    return ArraySource(raw, opening.losses, _SENSOR, header, seconds=True, stored=path.stat().st_size)


def _write(stream: EventStream, path: Path) -> None:
    """One recording of the train part; its name says that no digits are known."""
    import h5py

    check_holds("ntidigits", stream, _SENSOR, LONGEST * 1_000_000)
    with h5py.File(path, "w") as file:
        file["train_labels"] = np.array([_UNNAMED.encode()])
        file[f"train_addresses/{_UNNAMED}"] = stream.x.numpy().astype(np.uint8)
        file[f"train_timestamps/{_UNNAMED}"] = stream.t.numpy() / 1e6


def _recognises(path: Path, head: bytes) -> bool:
    return holds(path, head, {f"{part}_labels".encode() for part in _PARTS})


NTIDIGITS = Format(
    "ntidigits", (), _recognises, _open, _write, begins=MAGIC[:1]
)  # to write one, name the format: .hdf5 says too little
