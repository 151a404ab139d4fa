"""Any data set of Tonic's as a data module."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from spikenet.data.base import EventDataModule
from spikenet.data.recordings import EventData, Recordings, cut
from spikenet.errors import ArgumentError, DataError
from spikenet.events import EventStream, Sensor


class TonicData(EventDataModule):
    """Data sets of Tonic's, or anything else with a length and ``(events, target)`` for every index, where events are
    a structured array with the fields t, x, p and, for cameras, y.

    Times are taken as whole microseconds, fractions rounded. On a sensor of one polarity p is left out (Tonic fills it
    in). Classes are the data set's own where it names them, else its targets in ascending order. Where a data set has
    no list of its targets, every recording is read once to learn them.

    Args:
        train: the train part, without a transform that makes frames.
        test: the test part; none holds out 20 % of the train part, stratified, always the same.
        sensor: the size of the sensor; none takes the data set's ``sensor_size``.
        classes: class names in the order of the labels; none takes those of the data set.
        val_fraction: share of the train part held out for validation.
        options: those of every `EventDataModule`.

    Errors: ArgumentError without a sensor size; DataError for targets that are no classes, and for events of another
    form when they are asked for.
    """

    def __init__(
        self,
        train: Any,
        test: Any = None,
        sensor: Sensor | None = None,
        classes: list[str] | None = None,
        val_fraction: float = 0.1,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        size = sensor or getattr(train, "sensor_size", None)
        if size is None:
            raise ArgumentError(f"{train} has no sensor_size; sensor=Sensor(width, height, polarities) would work")
        if not 0 < val_fraction < 1:
            raise ArgumentError(f"val_fraction wants a share between 0 and 1, received {val_fraction}")
        self.sources = {"train": train} | ({} if test is None else {"test": test})
        self.size, self.named, self.val_fraction = Sensor(*size), classes, val_fraction

    def read(self) -> EventData:
        """Learn the targets and cut the data set into parts."""
        targets = {part: _targets(source) for part, source in self.sources.items()}
        classes, number = _classes(self.named or _own_classes(self.sources["train"]), targets)
        found = {
            part: _TonicRecordings(source, [number[target] for target in targets[part]], self.size)
            for part, source in self.sources.items()
        }
        name = type(self.sources["train"]).__name__
        return cut(name, classes, self.size, found, val_share=self.val_fraction)


class _TonicRecordings(Recordings):
    """The events of one data set, as they are asked for."""

    def __init__(self, source: Any, labels: list[int], sensor: Sensor) -> None:
        self.source, self.labels, self.sensor = source, np.array(labels, np.int64), sensor

    def stream(self, index: int) -> EventStream:
        events, _ = self.source[index]
        fields = getattr(getattr(events, "dtype", None), "names", None) or ()
        wanted = {"t", "x"} | ({"y"} if self.sensor.height > 1 else set())
        if not wanted <= set(fields):
            raise DataError(
                f"recording {index} wants a structured array with the fields {sorted(wanted)}, received "
                f"{type(events).__name__} with {list(fields)}; a data set without a transform would work"
            )
        y = events["y"].astype(np.int64) if "y" in fields else None
        p = events["p"].astype(np.int64) if self.sensor.polarities > 1 else None
        return EventStream.from_numpy(_whole(events["t"]), events["x"].astype(np.int64), y, p, sensor=self.sensor)


def _whole(t: np.ndarray) -> np.ndarray:
    if t.dtype.kind == "f" and not np.isfinite(t).all():
        raise DataError("times want finite microseconds, received NaN or infinity")
    return np.rint(t).astype(np.int64) if t.dtype.kind == "f" else t.astype(np.int64)


def _targets(source: Any) -> list[Any]:
    """The target of every recording: the data set's list where there is one, as its target_transform changes it."""
    listed = getattr(source, "targets", None)
    if listed is None or len(listed) != len(source):
        return [_plain(source[index][1]) for index in range(len(source))]
    change = getattr(source, "target_transform", None)
    return [_plain(change(target) if change else target) for target in listed]


def _plain(target: Any) -> Any:
    value = target.item() if hasattr(target, "item") and getattr(target, "size", 1) == 1 else target
    value = value.decode() if isinstance(value, bytes) else value
    if not isinstance(value, int | str):
        raise DataError(f"a target wants to be the number or the name of a class, received {target!r}")
    return value


def _own_classes(source: Any) -> list[str]:
    classes = getattr(source, "classes", None)
    if classes is None:
        return []
    if isinstance(classes, Mapping):
        classes = sorted(classes, key=classes.__getitem__)
    return [name.decode() if isinstance(name, bytes) else str(name) for name in classes]


def _classes(names: list[str], targets: Mapping[str, list[Any]]) -> tuple[list[str], dict[Any, int]]:
    """Class names and the label of each target."""
    present = sorted({target for part in targets.values() for target in part}, key=lambda t: (isinstance(t, str), t))
    numbers = all(isinstance(target, int) for target in present)
    if names and numbers:
        return names, {target: target for target in present}
    if names and set(present) <= set(names):
        return names, {name: label for label, name in enumerate(names)}
    return [str(target) for target in present], {target: label for label, target in enumerate(present)}
