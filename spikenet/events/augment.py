"""Random changes to a recording, for training: each takes a stream and a generator and returns a stream."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from spikenet.errors import ArgumentError
from spikenet.events.stream import EventStream


class Augmentation(Protocol):
    """Anything called as ``augmentation(stream, generator)``; every draw comes from the generator."""

    def __call__(self, stream: EventStream, generator: np.random.Generator) -> EventStream: ...


@dataclass(frozen=True)
class RandomShift:
    """Move the whole recording by whole pixels, from ``-pixels`` to ``pixels`` across and (on a sensor with more than
    one row) down. Events that leave the sensor are lost."""

    pixels: int

    def __post_init__(self) -> None:
        _check(self.pixels >= 0, self)

    def __call__(self, stream: EventStream, generator: np.random.Generator) -> EventStream:
        width, height, _ = stream.sensor
        right, down = generator.integers(-self.pixels, self.pixels + 1, size=2).tolist()
        x, y = stream.x + right, stream.y + (down if height > 1 else 0)
        stays = (x >= 0) & (x < width) & (y >= 0) & (y < height)
        return EventStream._trusted((stream.t, x, y, stream.p), stream.sensor).take(stays)


@dataclass(frozen=True)
class TimeJitter:
    """Move each event by a normal draw with standard deviation ``sigma_us``, rounded to microseconds, not below 0; then
    sort by time."""

    sigma_us: float

    def __post_init__(self) -> None:
        _check(0 <= self.sigma_us < math.inf, self)

    def __call__(self, stream: EventStream, generator: np.random.Generator) -> EventStream:
        moved = np.rint(self.sigma_us * generator.standard_normal(len(stream))).astype(np.int64)
        t = (stream.t + torch.from_numpy(moved)).clamp_(min=0)
        return EventStream._trusted((t, stream.x, stream.y, stream.p), stream.sensor).sorted()


@dataclass(frozen=True)
class EventDrop:
    """Lose each event independently with ``probability``."""

    probability: float

    def __post_init__(self) -> None:
        _check(0 <= self.probability <= 1, self)

    def __call__(self, stream: EventStream, generator: np.random.Generator) -> EventStream:
        return stream.take(torch.from_numpy(generator.random(len(stream)) >= self.probability))


@dataclass(frozen=True)
class TimeDrop:
    """Lose all events of one window of time, ``fraction`` of the recording long, that begins at random within it
    (EventDrop's drop by time: Gu et al., IJCAI 2021)."""

    fraction: float

    def __post_init__(self) -> None:
        _check(0 <= self.fraction <= 1, self)

    def __call__(self, stream: EventStream, generator: np.random.Generator) -> EventStream:
        if not len(stream):
            return stream
        span = stream.duration + 1  # the last event lasts a microsecond
        window = round(self.fraction * span)  # whole microseconds: a float would round late times
        begin = int(stream.t.min()) + int(generator.integers(0, span - window + 1))
        return stream.take((stream.t < begin) | (stream.t >= begin + window))


@dataclass(frozen=True)
class AreaDrop:
    """Lose all events of one box of pixels, about ``fraction`` of the sensor's area and of its proportions, that lies
    at random within it (EventDrop's drop by area: Gu et al., IJCAI 2021)."""

    fraction: float

    def __post_init__(self) -> None:
        _check(0 <= self.fraction <= 1, self)

    def __call__(self, stream: EventStream, generator: np.random.Generator) -> EventStream:
        width, height, _ = stream.sensor
        side = self.fraction if min(width, height) == 1 else self.fraction**0.5
        gone = torch.ones(len(stream), dtype=torch.bool)
        for place, size in ((stream.x, width), (stream.y, height)):
            cut = size if size == 1 else round(side * size)
            begin = int(generator.integers(0, size - cut + 1))
            gone &= (place >= begin) & (place < begin + cut)
        return stream.take(~gone) if self.fraction else stream


@dataclass(frozen=True)
class _Flip:
    """A change of the columns that happens with ``probability``."""

    probability: float

    def __post_init__(self) -> None:
        _check(0 <= self.probability <= 1, self)

    def __call__(self, stream: EventStream, generator: np.random.Generator) -> EventStream:
        if generator.random() >= self.probability:
            return stream
        return EventStream._trusted(self._columns(stream), stream.sensor)

    def _columns(self, stream: EventStream) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        raise NotImplementedError


class FlipX(_Flip):
    """Mirror left and right, with ``probability``."""

    def _columns(self, stream: EventStream) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return stream.t, stream.sensor.width - 1 - stream.x, stream.y, stream.p


class FlipY(_Flip):
    """Mirror top and bottom, with ``probability``."""

    def _columns(self, stream: EventStream) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return stream.t, stream.x, stream.sensor.height - 1 - stream.y, stream.p


class FlipPolarity(_Flip):
    """Exchange ON and OFF, with ``probability``."""

    def _columns(self, stream: EventStream) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return stream.t, stream.x, stream.y, stream.sensor.polarities - 1 - stream.p


class ReverseTime(_Flip):
    """Play the recording backwards, with ``probability``: ``t`` becomes ``t_first + t_last - t``, and ON and OFF are
    exchanged, for what grew brighter now grows darker."""

    def _columns(self, stream: EventStream) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        ends = stream.t.min() + stream.t.max() if len(stream) else 0
        t, x, y, p = (column.flip(0) for column in (stream.t, stream.x, stream.y, stream.p))
        return ends - t, x, y, stream.sensor.polarities - 1 - p


@dataclass(frozen=True)
class ScaleTime:
    """Play the recording slower or faster: all times are multiplied by one factor, uniform from ``low`` to ``high``,
    and rounded to microseconds."""

    low: float
    high: float

    def __post_init__(self) -> None:
        _check(0 <= self.low <= self.high < math.inf, self, "0 <= low <= high")

    def __call__(self, stream: EventStream, generator: np.random.Generator) -> EventStream:
        t = (stream.t.double() * generator.uniform(self.low, self.high)).round_().long()
        return EventStream._trusted((t, stream.x, stream.y, stream.p), stream.sensor)


@dataclass(frozen=True)
class RandomCrop:
    """Cut out a window of ``width`` by ``height`` pixels at random; it becomes the sensor.

    Errors: ArgumentError for a sensor that is smaller than the window.
    """

    width: int
    height: int = 1

    def __post_init__(self) -> None:
        _check(min(self.width, self.height) >= 1, self, "a window of 1 pixel or more each way")

    def __call__(self, stream: EventStream, generator: np.random.Generator) -> EventStream:
        full, size = stream.sensor, stream.sensor._replace(width=self.width, height=self.height)
        if size.width > full.width or size.height > full.height:
            raise ArgumentError(f"{self} does not fit the sensor {full}; a window of its size or less would")
        left = int(generator.integers(0, full.width - size.width + 1))
        top = int(generator.integers(0, full.height - size.height + 1))
        x, y = stream.x - left, stream.y - top
        inside = (x >= 0) & (x < size.width) & (y >= 0) & (y < size.height)
        return EventStream._trusted((stream.t, x, y, stream.p), size).take(inside)


@dataclass(frozen=True)
class OneOf:
    """One of several augmentations, each as likely as the others.

    EventDrop (Gu et al., IJCAI 2021) is ``OneOf((EventDrop(0.0), EventDrop(r), TimeDrop(s), AreaDrop(a)))``.
    """

    augmentations: tuple[Augmentation, ...]

    def __post_init__(self) -> None:
        _check(len(self.augmentations) > 0, self, "one augmentation or more")

    def __call__(self, stream: EventStream, generator: np.random.Generator) -> EventStream:
        return self.augmentations[generator.integers(len(self.augmentations))](stream, generator)


def _check(
    valid: bool, augmentation: object, wanted: str = "an amount of 0 or more (a fraction or probability: 0 to 1)"
) -> None:
    if not valid:
        raise ArgumentError(f"{wanted} would work, received {augmentation}")
