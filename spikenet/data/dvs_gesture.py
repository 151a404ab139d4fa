"""DVS128 Gesture (Amir et al. 2017)."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from spikenet.cache import cache_dir
from spikenet.data.about import About
from spikenet.data.base import Track, untracked
from spikenet.data.recordings import CachedRecordings, Made, Recordings, Selection, since
from spikenet.data.stored import StoredData, listed
from spikenet.errors import FormatError
from spikenet.events import EventStream, Sensor, open_recording

_LATEST = 1 << 40  # microseconds
_VALIDATION_USERS = (21, 22, 23)
_GESTURES = (
    "hand clapping",
    "right hand wave",
    "left hand wave",
    "right arm clockwise",
    "right arm counter-clockwise",
    "left arm clockwise",
    "left arm counter-clockwise",
    "arm roll",
    "air drums",
    "air guitar",
    "other",
)


class DVSGesture(StoredData):
    """11 hand gestures of 29 people in different light before a real event camera, 128 x 128 pixels, ON and OFF.

    A trial is one long file; a recording is one row of its label file, ``start <= t < end``, and its times count from
    the start. With every published row that makes 1176 and 288 recordings of the published train (users 1 to 23) and
    test trials (24 to 29), as in SpikingJelly; other cuts are in use (the paper: 1342 in all, Tonic: 1077 and 264), and
    accuracies on them do not compare. Users 21 to 23 are held out of the train trials for validation, so that
    validation, like testing, sees people it has not met.

    Recordings are cut out of their trial when they are first asked for, and kept in the cache;
    ``spikenet data prepare dvs-gesture`` does so for all.

    Args:
        root: folder that holds the trials, or the folder DvsGesture with them.
        options: those of every `EventDataModule`.
    """

    about = About(
        title="DVS128 Gesture",
        content="11 hand gestures of 29 people seen by an event camera, about 6 s each",
        citation="Amir, Taba, Berg, Melano, McKinstry, Di Nolfo, Nayak, Andreopoulos, Garreau, Mendoza, Kusnitz, "
        "Debole, Esser, Delbruck, Flickner, Modha, CVPR 2017",
        url="https://research.ibm.com/interactive/dvsgesture",
        licence="CC BY 4.0",
        layout="trials_to_train.txt and trials_to_test.txt, and <trial>.aedat and <trial>_labels.csv for every trial, "
        "unpacked from DvsGesture.tar.gz",
        split="published train and test trials, one recording a row of their label files; validation is users 21 to "
        "23 of the train trials",
        sensor=Sensor(128, 128, 2),
        classes=_GESTURES,
        counts={"train": 1176, "test": 288},
        md5={"DvsGesture.tar.gz": "8a5c71fb11e24e5ca5b11866ca6c00a1"},
    )

    def find(self, root: Path) -> Mapping[str, Recordings]:
        """The parts; nothing unless both lists of trials are there."""
        folder = root / "DvsGesture" if (root / "DvsGesture").is_dir() else root
        lists = {part: folder / f"trials_to_{part}.txt" for part in ("train", "test")}
        if not all(path.is_file() for path in lists.values()):
            return {}
        train, test = (_Trials(folder, lists[part]) for part in ("train", "test"))
        held = np.isin(train.users, _VALIDATION_USERS)
        train_all, test_all = _kept(train), _kept(test)
        found: dict[str, Recordings] = {"train": Selection(train_all, np.flatnonzero(~held)), "test": test_all}
        return found | ({"val": Selection(train_all, np.flatnonzero(held))} if held.any() else {})

    def prepare(self, track: Track = untracked) -> None:
        """Cut every recording out of its trial and keep it in the cache."""
        self.read_all(track)


class _Trials(Made):
    """The labelled rows of all trials in a list: trial ``[N]``, start and end ``[N, 2]`` in microseconds."""

    def __init__(self, folder: Path, trials: Path) -> None:
        self.folder = folder
        rows = [
            (trial.removesuffix(".aedat"), *row)
            for trial in listed(trials)
            for row in _rows(folder / f"{trial.removesuffix('.aedat')}_labels.csv")
        ]
        self.trials = [row[0] for row in rows]
        self.labels = np.array([row[1] for row in rows], np.int64) - 1
        self.windows = np.array([row[2:] for row in rows], np.int64).reshape(-1, 2)
        self.users = np.array([_user(trial, trials) for trial in self.trials], np.int64)

    def origin(self, index: int) -> Path:
        return self.folder / f"{self.trials[index]}.aedat"

    def stream(self, index: int) -> EventStream:
        start, end = self.windows[index].tolist()
        trial = open_recording(self.origin(index), format="aedat3", sensor=DVSGesture.about.sensor)
        return since(trial.slice(start, end), start)


def _kept(trials: _Trials) -> CachedRecordings:
    names = [f"{trial}/{start}-{end}" for trial, (start, end) in zip(trials.trials, trials.windows, strict=True)]
    place = hashlib.sha256(os.fsencode(trials.folder.resolve())).hexdigest()[:16]
    return CachedRecordings(trials, names, cache_dir() / f"dvs-gesture-{place}")


def _user(trial: str, trials: Path) -> int:
    match = re.match(r"user(\d+)_", trial)
    if not match:
        raise FormatError(trials, None, f"wants trials such as user01_lab.aedat, received {trial!r}")
    return int(match[1])


def _rows(path: Path) -> list[tuple[int, int, int]]:
    """Class, start and end of every row; windows may overlap and a class may come twice."""
    rows = []
    for number, line in enumerate(listed(path)[1:], start=2):
        fields = line.split(",")
        if len(fields) != 3 or not all(field.strip().isdecimal() for field in fields):
            raise FormatError(path, number, f"line {number} wants class,start,end in whole numbers, received {line!r}")
        label, start, end = map(int, fields)
        if not 1 <= label <= len(_GESTURES) or not start < end <= _LATEST:
            raise FormatError(path, number, f"line {number} wants class 1 to 11 and start < end, received {line!r}")
        rows.append((label, start, end))
    return rows
