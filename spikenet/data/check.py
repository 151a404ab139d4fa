"""Whether what lies in a root folder is the published data set, and whole."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from spikenet.data.about import About
from spikenet.data.base import EventDataModule, Track, untracked
from spikenet.data.recordings import Recordings
from spikenet.errors import DataError

PARTS = ("train", "val", "test")


@dataclass(frozen=True)
class Findings:
    """What a check found.

    Attributes:
        name: the data's own name.
        classes: class names.
        counts: recordings of each class, int64 ``[classes]``, by part.
        events: events in the recordings that can be read, by part.
        damaged: one message for every recording that cannot be read, with its file.
        differences: one message for everything that differs from what was published.
    """

    name: str
    classes: list[str]
    counts: Mapping[str, np.ndarray]
    events: Mapping[str, int]
    damaged: list[str]
    differences: list[str]


def check(data: EventDataModule, track: Track = untracked) -> Findings:
    """Read every recording of a data set, and compare with the published numbers and checksums.

    Args:
        data: the data set; nothing of it stays in memory.
        track: shows how far the check is.

    Errors: DataError and FormatError where there is nothing to check or where a file that all recordings lie in is
    damaged.
    """
    damaged: list[str] = []
    counts, events = {}, {}
    unseen: list[str] = []
    for part in PARTS:
        recordings = data.raw(part)
        unseen += _without_file(recordings, part)
        counts[part] = np.bincount(recordings.labels, minlength=len(data.classes))
        events[part] = 0
        for index in track(range(len(recordings)), f"{data.name}, {part}"):
            try:
                events[part] += len(recordings[index][0])
            except DataError as error:
                damaged.append(str(error))
    about = data.about
    differences = [] if about is None else [*_numbers(about, data.classes, counts), *_checksums(about, _root(data))]
    return Findings(data.name, data.classes, counts, events, damaged, differences + unseen)


def _without_file(recordings: Recordings, part: str) -> list[str]:
    """What is said of recordings that the cache alone has: nothing can tell whether they are the published ones."""
    origins = filter(None, map(recordings.origin, range(len(recordings))))
    gone = [origin for origin in origins if not origin.is_file()]
    return [f"{part}: {len(gone)} recordings are read from the cache alone, {gone[0]} is gone"] if gone else []


def _numbers(about: About, classes: list[str], counts: Mapping[str, np.ndarray]) -> Iterator[str]:
    """Parts and classes whose numbers differ. Validation counts as training where it was not published."""
    total = sum(counts.values())
    found = {part: int(counts[part].sum()) for part in PARTS} | {"all": int(np.sum(total))}
    if "val" not in about.counts:
        found["train"] += found["val"]
    for part, published in about.counts.items():
        if found[part] != published:
            yield f"{part}: {found[part]} recordings, {published} are published"
    for name, number in zip(classes, np.atleast_1d(total).tolist(), strict=True):
        if not number or (about.per_class and number != about.per_class):
            yield f"class {name}: {number} recordings, {about.per_class or 'some'} are published"


def _checksums(about: About, root: Path | None) -> Iterator[str]:
    for name, published in about.md5.items():
        path = root / name if root else None
        if path and path.is_file():
            with path.open("rb") as file:
                found = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
            if found != published:
                yield f"{path} is not the published file: md5 {found}, published {published}"


def _root(data: EventDataModule) -> Path | None:
    root = getattr(data, "root", None)
    return Path(root) if root else None
