"""Three blobs in events, small enough to train on in a second; spoilt variants; a network that gets killed."""

from __future__ import annotations

import math
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from spikenet.data import EventDataModule
from spikenet.data.recordings import EventData, Recordings
from spikenet.events import EventStream, EventTensor, Sensor
from spikenet.layers import BatchNorm1d, MeanReadout
from spikenet.models import SpikingMLP
from spikenet.neurons import LIF

SENSOR = Sensor(12, 6, 2)


class Blobs(Recordings):
    """Recordings of 120 events around one of three places; which one is the label."""

    def __init__(self, size: int, first: int) -> None:
        self.first, self.labels = first, np.arange(size) % 3

    def stream(self, index: int) -> EventStream:
        draw = np.random.default_rng(self.first + index)
        x = np.clip(draw.normal(2 + 4 * int(self.labels[index]), 1.0, 120), 0, 11).astype(int)
        t = np.sort(draw.integers(0, 60_000, 120))
        return EventStream.from_numpy(t, x, draw.integers(0, 6, 120), draw.integers(0, 2, 120), sensor=SENSOR)


class TinyEvents(EventDataModule):
    """Three blobs.

    Args:
        root: a folder that must exist, if given.
        samples: training samples.
        batch_size: recordings in a batch.
        workers: processes that load data.
        seed: order and augmentation follow from it.
        augment: random changes of each training recording.
        mix: random changes of each training batch.
    """

    def __init__(
        self,
        root: Path | None = None,
        samples: int = 48,
        batch_size: int = 8,
        workers: int = 0,
        seed: int = 0,
        augment: Any = None,
        mix: Any = None,
    ) -> None:
        super().__init__(
            batch_size=batch_size, workers=workers, seed=seed, dt_us=10_000, steps=6, augment=augment, mix=mix
        )
        self.samples = samples

    def read(self) -> EventData:
        parts = {"train": Blobs(self.samples, 0), "val": Blobs(24, 1000), "test": Blobs(30, 2000)}
        return EventData("three blobs", ("left", "middle", "right"), SENSOR, **parts)


class Spoilt(TinyEvents):
    """Three blobs, every batch changed by `spoil`."""

    def _loader(self, *arguments: Any) -> DataLoader:
        loader = super()._loader(*arguments)
        bins = loader.collate_fn
        loader.collate_fn = lambda samples: self.spoil(*bins(samples))
        return loader

    def spoil(self, x: EventTensor, labels: Tensor) -> tuple[Any, Tensor]:
        raise NotImplementedError


class NanEvents(Spoilt):
    """Three blobs with one value that is not a number in each batch."""

    def spoil(self, x: EventTensor, labels: Tensor) -> tuple[Any, Tensor]:
        x.values[0] = math.nan
        return x, labels


class IntegerEvents(Spoilt):
    """Three blobs as dense integer tensors."""

    def spoil(self, x: EventTensor, labels: Tensor) -> tuple[Any, Tensor]:
        return x.to_dense(torch.int64), labels


class FlatEvents(Spoilt):
    """Three blobs whose batches have lost their last dimension."""

    def spoil(self, x: EventTensor, labels: Tensor) -> tuple[Any, Tensor]:
        return x.to_dense().sum(-1), labels


class FourthLabel(Spoilt):
    """Three blobs and labels that go up to 3."""

    def spoil(self, x: EventTensor, labels: Tensor) -> tuple[Any, Tensor]:
        return x, labels + 1


class Killed(SpikingMLP):
    """A `SpikingMLP` whose process is killed in the training batch that KILL_AT names, counted from 1 over all such
    networks."""

    trained = 0

    def forward(self, x: Tensor) -> Tensor:
        Killed.trained += self.training
        if Killed.trained == int(os.environ.get("KILL_AT", 0)) and self.training:
            os.kill(os.getpid(), getattr(signal, os.environ.get("KILL_WITH", "SIGKILL")))
        return super().forward(x)


class Sounds(TinyEvents):
    """Three blobs on a line of twelve channels, as recordings of sound are."""

    def read(self) -> EventData:
        data = super().read()
        parts = {name: Channels(getattr(data, name)) for name in ("train", "val", "test")}
        return EventData("three tones", data.classes, Sensor(12), **parts)


class Channels(Recordings):
    """Recordings of a sensor's columns."""

    def __init__(self, seen: Recordings) -> None:
        self.seen, self.labels = seen, seen.labels

    def stream(self, index: int) -> EventStream:
        stream = self.seen.stream(index)
        return EventStream.from_numpy(stream.t.numpy(), stream.x.numpy(), sensor=Sensor(12))


class FrameANN(nn.Sequential):
    """An ANN on the counts of a whole recording."""

    def __init__(self, in_shape: tuple[int, ...], classes: int) -> None:
        inputs = math.prod(in_shape)
        layers = (nn.Linear(inputs, 12), nn.ReLU(), nn.Linear(12, classes), MeanReadout())
        super().__init__(Frame(), nn.Flatten(2), *layers)


class Frame(nn.Module):
    """Events `[T, B, ...]` summed over time, `[1, B, ...]`."""

    def forward(self, x: EventTensor) -> Tensor:
        return x.to_dense().sum(0, keepdim=True)


class Normed(nn.Sequential):
    """Events in the precision of the weights, with a batch norm before the neurons."""

    def __init__(self, in_shape: tuple[int, ...], classes: int) -> None:
        hidden = nn.Linear(math.prod(in_shape), 16, bias=False), BatchNorm1d(16), LIF(detach_reset=True)
        super().__init__(nn.Flatten(2), *hidden, nn.Linear(16, classes), MeanReadout())

    def forward(self, x: EventTensor) -> Tensor:
        return super().forward(x.to_dense(self[1].weight.dtype))


class Exact(Killed):
    """`Killed` on events in the precision of its weights."""

    def forward(self, x: EventTensor) -> Tensor:
        return super().forward(x.to_dense(next(self.parameters()).dtype))
