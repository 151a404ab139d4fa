"""What is known of a data set: one record, which lists, help and messages share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from spikenet.errors import DataError
from spikenet.events import Sensor


@dataclass(frozen=True)
class About:
    """The facts about a data set. Where nothing is known for certain a field is left empty.

    Attributes:
        title: its name.
        content: what it holds, in one line.
        citation: who made it, and where that is published.
        url: where it can be had.
        licence: the terms it was published under; empty where none were found.
        layout: what a root folder holds.
        split: where training, validation and test part come from.
        sensor: the sensor of its recordings.
        classes: class names in the order of the labels; empty where they come from the files.
        counts: published numbers of recordings: of ``"train"``, ``"val"``, ``"test"``, or of ``"all"``.
        per_class: published number of recordings of every class; 0 where they differ or are not known.
        md5: checksums of published files, by name.
        tonic: classes of ``tonic.datasets`` that download it, with their arguments.
        made: whether it is made on this machine, of what comes with the libraries.
    """

    title: str
    content: str
    citation: str
    url: str
    layout: str
    split: str
    sensor: Sensor
    licence: str = ""
    classes: tuple[str, ...] = ()
    counts: Mapping[str, int] = field(default_factory=dict)
    per_class: int = 0
    md5: Mapping[str, str] = field(default_factory=dict)
    tonic: tuple[tuple[str, Mapping[str, Any]], ...] = ()
    made: bool = False

    def missing(self, root: Path | None) -> DataError:
        """The error for recordings that are not there."""
        where = (
            f"no {self.title} recordings under {root}" if root else f"{self.title} wants a root folder (--data.root)"
        )
        return DataError(f"{where}; expected there: {self.layout}. {self.title}: {self.citation}, {self.url}")

    def facts(self) -> dict[str, str]:
        """Everything in words, by name."""
        width, height, polarities = self.sensor
        pixels = f"{width} x {height} pixels, {polarities} polarities" if height > 1 else f"{width} channels"
        counts = ", ".join(f"{count:,} {part}" for part, count in self.counts.items())
        by_hand = "none is needed" if self.made else "by hand, from the url"
        return {
            "title": self.title,
            "content": self.content,
            "sensor": pixels,
            "recordings": counts or "number not published, or not known for certain",
            "parts": self.split,
            "citation": self.citation,
            "licence": self.licence or "none found; ask the authors",
            "url": self.url,
            "layout": self.layout,
            "download": "spikenet data prepare, through Tonic" if self.tonic else by_hand,
        }
