"""N-MNIST (Orchard et al. 2015), read from the official archives or from their extracted folders."""

from __future__ import annotations

import re
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from spikenet.data.base import EventDataModule
from spikenet.data.recordings import BinRecordings, EventData, Recordings, Selection, hold_out
from spikenet.errors import ArgumentError, DataError, FormatError
from spikenet.events import Sensor
from spikenet.events.files.bin import decode_bin

_SENSOR = Sensor(34, 34, 2)
_TEST_SEED, _VALIDATION_SEED = 1, 2
_LARGEST_FILE = 1 << 24  # bytes; a recording has some 20 000
_LAYOUT = (
    "expected there: Train.zip and Test.zip as published, or the folders Train/<digit>/<id>.bin and "
    "Test/<digit>/<id>.bin (the Test part may be missing). The data set is 'N-MNIST' by Garrick Orchard, "
    "https://www.garrickorchard.com/datasets/n-mnist (Orchard et al., Frontiers in Neuroscience 9:437, 2015)"
)
_BROKEN_ZIP = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, RuntimeError, OSError, ValueError)


class NMNIST(EventDataModule):
    """Handwritten digits that a real event camera saw in three saccades: 34 x 34 pixels, ON and OFF, about 300 ms.

    Archives are read as they are, without extracting them, into memory: 5 bytes an event, some 1.3 GB for all 70 000.
    The Test part serves for testing; where there is none, `test_fraction` of the Train part is held out for it.
    `val_fraction` of what then remains is held out for validation. Both are stratified and fixed: they follow from
    the recordings alone, not from `seed`, nor from whether archives or folders are read. The 1000 recordings of a
    sample without Test part become 720 train, 80 validation and 200 test.

    Args:
        root: folder with Train.zip and Test.zip, or with the folders Train and Test.
        test_fraction: share of the Train part held out for testing where there is no Test part.
        val_fraction: share of the remaining Train part held out for validation.
        batch_size: recordings in a batch.
        workers: processes that load data; 0 loads in the main process.
        seed: order and augmentation follow from it; the split into parts does not.
        dt_us: length of a time step in microseconds.
        steps: number of time steps; later events are left out. None (null) gives each recording its own length.
        shift: augmentation: move each training recording by up to this many pixels.
        jitter_us: augmentation: move each event in time, standard deviation in microseconds.
        drop: augmentation: lose each event with this probability.
    """

    def __init__(
        self,
        root: Path | None = None,
        test_fraction: float = 0.2,
        val_fraction: float = 0.1,
        batch_size: int = 64,
        workers: int = 0,
        seed: int = 0,
        dt_us: int = 20_000,
        steps: int | None = 16,
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
        for name, share in (("test_fraction", test_fraction), ("val_fraction", val_fraction)):
            if not 0 < share < 1:
                raise ArgumentError(f"{name} wants a share between 0 and 1, received {share}")
        self.root, self.test_fraction, self.val_fraction = root, test_fraction, val_fraction

    def read(self) -> EventData:
        """Read both parts. Errors: DataError where the Train part is missing, FormatError for a broken file."""
        if self.root is None:
            raise DataError(f"N-MNIST wants a root folder (--data.root), received none; {_LAYOUT}")
        root = Path(self.root)
        train = _read_part(root, "Train")
        test: Recordings | None = _read_part(root, "Test")
        if train is None:
            raise DataError(f"no N-MNIST recordings of the Train part under {root}; {_LAYOUT}")
        rest = np.arange(len(train))
        if test is None:
            rest, held = hold_out(train.labels, round(self.test_fraction * len(train)), _TEST_SEED)
            test = Selection(train, held)
        kept, val = hold_out(train.labels[rest], round(self.val_fraction * len(rest)), _VALIDATION_SEED)
        classes = tuple("0123456789")
        return EventData("N-MNIST", classes, _SENSOR, Selection(train, rest[kept]), Selection(train, rest[val]), test)


def _read_part(root: Path, part: str) -> BinRecordings | None:
    """All recordings of ``"Train"`` or ``"Test"`` in the order of their numbers; none where there are none."""
    archive = root / f"{part}.zip"
    files = _in_folder(root, part) if (root / part).is_dir() else _in_archive(archive, part) if archive.exists() else ()
    found = sorted(files, key=lambda file: file[:2])
    if not found:
        return None
    _, labels, contents = zip(*found, strict=True)
    records = np.frombuffer(b"".join(contents), np.uint8)
    return BinRecordings(records, [len(content) for content in contents], labels, _SENSOR)


def _in_folder(root: Path, part: str) -> Iterator[tuple[int, int, bytes]]:
    """Number, digit and checked bytes of each recording in an extracted folder."""
    for path in (root / part).glob("[0-9]/*.bin"):
        if place := _place(path.as_posix(), part):
            try:
                content = path.read_bytes()
            except OSError as error:
                raise DataError(f"{path} cannot be read: {error.strerror or error}") from error
            decode_bin(content, path, _SENSOR)
            yield *place, content


def _in_archive(archive: Path, part: str) -> Iterator[tuple[int, int, bytes]]:
    """The same from an archive."""
    try:
        with zipfile.ZipFile(archive) as file:
            for member in file.infolist():
                if place := _place(member.filename, part):
                    content = _member(file, member, archive)
                    decode_bin(content, archive / member.filename, _SENSOR)
                    yield *place, content
    except FormatError:
        raise
    except _BROKEN_ZIP as error:
        raise FormatError(archive, None, f"not a readable zip archive: {error}") from error


def _member(file: zipfile.ZipFile, member: zipfile.ZipInfo, archive: Path) -> bytes:
    if member.file_size > _LARGEST_FILE:
        raise FormatError(archive, member.header_offset, f"{member.filename} claims {member.file_size} bytes")
    return file.read(member)


def _place(name: str, part: str) -> tuple[int, int] | None:
    """Number and digit of a recording, from its path; none for any other file."""
    match = re.search(rf"(?:^|/){part}/(\d)/(\d+)\.bin$", name)
    return (int(match[2]), int(match[1])) if match else None
