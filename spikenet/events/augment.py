"""Random changes to a recording, for training: each takes a stream and a generator and returns a stream."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch

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
        _check(self.sigma_us >= 0, self)

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


def _check(valid: bool, augmentation: object) -> None:
    if not valid:
        raise ArgumentError(f"an amount of 0 or more (a probability: 0 to 1) would work, received {augmentation}")
