"""What every event data set shares: order, augmentation, binning, loaders."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from itertools import repeat
from typing import Any, ClassVar, Protocol

import lightning
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from spikenet.data.about import About
from spikenet.data.named import augmentations, mixes
from spikenet.data.recordings import EventData, Recordings, philox, shuffled
from spikenet.errors import ArgumentError, UnknownNameError
from spikenet.events import Augmentation, BatchAugmentation, EventStream, EventTensor, Sensor
from spikenet.events.binning import TimeGrid

Batch = tuple[EventTensor, Tensor]


class Track(Protocol):
    """Anything that hands on the items of a sequence and shows how far it is, as ``rich.progress.track`` does."""

    def __call__(self, sequence: Sequence[Any], description: str) -> Iterable[Any]: ...


def untracked(sequence: Sequence[Any], description: str) -> Iterable[Any]:
    """Hands on the items and shows nothing."""
    return sequence


_ORDER, _AUGMENTATION, _MIXING = 1, 2, 4  # purposes of random bits
Key = int | tuple[int, int]  # (epoch, index); a plain index belongs to epoch 0


class EpochSampler(Sampler[tuple[int, int]]):
    """A new order in every epoch, which follows from the seed and the epoch alone.

    Yields ``(epoch, index)``, so that whoever fetches the recording, in whichever process, knows the epoch.
    Lightning's trainer calls ``set_epoch`` before each epoch.
    """

    def __init__(self, size: int, seed: int) -> None:
        self.size, self.seed, self.epoch = size, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next iteration belongs to."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.size

    def __iter__(self) -> Iterator[tuple[int, int]]:
        epoch = self.epoch
        order = shuffled(self.size, philox(self.seed, _ORDER, epoch))
        return zip(repeat(epoch), order.tolist())


class EventDataset(Dataset[tuple[EventStream, int]]):
    """Recordings, changed at random in a way that follows from the seed, the epoch and the number of the recording.

    Indexed by ``(epoch, index)``; a plain ``index`` belongs to epoch 0.
    """

    def __init__(self, recordings: Recordings, augmentations: Sequence[Augmentation] = (), seed: int = 0) -> None:
        self.recordings, self.augmentations, self.seed = recordings, tuple(augmentations), seed

    def __len__(self) -> int:
        return len(self.recordings)

    def __getitem__(self, key: Key) -> tuple[EventStream, int]:
        epoch, index = _place(key)
        stream, label = self.recordings[index]
        if self.augmentations:
            generator = np.random.Generator(philox(self.seed, _AUGMENTATION, epoch, index))
            for augmentation in self.augmentations:
                stream = augmentation(stream, generator)
        return stream, label


class BatchedDataset(Dataset[Batch]):
    """Whole batches of recordings on a time grid, mixed in a way that follows from the seed, the epoch and the number
    of the batch's first recording.

    Args:
        dataset: the recordings.
        grid: the grid.
        mixes: augmentations of batches. With one, labels are weights of the classes, float32 ``[B, classes]``.
        classes: number of classes.
    """

    def __init__(
        self, dataset: EventDataset, grid: TimeGrid, mixes: Sequence[BatchAugmentation] = (), classes: int = 0
    ) -> None:
        self.dataset, self.grid, self.mixes, self.classes = dataset, grid, tuple(mixes), classes

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitems__(self, keys: Sequence[Key]) -> Batch:
        """The recordings of a batch side by side and their labels: what a DataLoader asks for where it can."""
        recordings = self.dataset.recordings
        indices = np.array([_place(key)[1] for key in keys], np.int64)
        if self.dataset.augmentations:
            events = self.grid.batch([self.grid.count(self.dataset[key][0]) for key in keys])
        else:
            events = recordings.batch(indices, self.grid)
        labels = torch.from_numpy(recordings.labels[indices])
        return self._mixed(events, labels, keys[0]) if self.mixes else (events, labels)

    def _mixed(self, events: EventTensor, labels: Tensor, first: Key) -> Batch:
        bits = philox(self.dataset.seed, _MIXING, *_place(first))
        generator = torch.Generator().manual_seed(int(bits.random_raw()))
        weights = torch.nn.functional.one_hot(labels, self.classes).float()
        for mix in self.mixes:
            events, weights = mix(events, weights, generator)
        return events, weights

    @staticmethod
    def collate(batch: Any) -> Any:
        """A batch as it is: the loaders' ``collate_fn``."""
        return batch


def _place(key: Key) -> tuple[int, int]:
    return key if isinstance(key, tuple) else (0, key)


class EventDataModule(lightning.LightningDataModule):
    """A data set of labelled recordings with train, validation and test loaders.

    Batches are ``(events, labels)``: an ``EventTensor`` of shape ``(T, B, *feature_shape)``, which holds the lengths,
    and int64 ``[B]``; training batches that were mixed have float32 ``[B, classes]``, the weights of the classes. The
    order of training follows from ``(seed, epoch)`` and the augmentation from ``(seed, epoch, index)``, whatever the
    number of workers and wherever a run was resumed. Validation and test are never augmented.

    A new data set is a subclass with a ``read`` method, which runs on first use, and an ``about``.

    Args:
        batch_size: recordings in a batch.
        workers: processes that load data; 0 loads in the main process.
        seed: order and augmentation follow from it; the split into parts does not.
        dt_us: length of a time step in microseconds.
        steps: number of time steps; later events are left out. None (null) gives each recording its own length.
        augment: random change of each training recording, or a list of them in their order: names of
            ``spikenet.events`` with their arguments, such as ``[RandomShift: 1, ScaleTime: {low: 0.9, high: 1.1}]``; in
            Python also objects.
        mix: random change of each training batch and its labels, or a list: ``CutMix``, ``EventMix: 2``.

    Errors: ArgumentError for a value out of range, UnknownNameError for an augmentation that is not known; reading
    raises DataError and FormatError.
    """

    about: ClassVar[About | None] = None

    def __init__(
        self,
        *,
        batch_size: int = 64,
        workers: int = 0,
        seed: int = 0,
        dt_us: int = 10_000,
        steps: int | None = None,
        augment: list[Any] | dict[str, Any] | str | None = None,
        mix: list[Any] | dict[str, Any] | str | None = None,
    ) -> None:
        super().__init__()
        least = {"batch_size": 1, "workers": 0, "seed": 0, "dt_us": 1, "steps": 1}
        given = {"batch_size": batch_size, "workers": workers, "seed": seed, "dt_us": dt_us, "steps": steps}
        for name, value in given.items():
            if value is not None and value < least[name]:
                raise ArgumentError(f"{name} wants {least[name]} or more, received {value}")
        self.batch_size, self.workers, self.seed = batch_size, workers, seed
        self.dt_us, self.steps = dt_us, steps
        self.augmentations, self.mixes = augmentations(augment), mixes(mix)

    @abstractmethod
    def read(self) -> EventData:
        """Read the data set and cut it into its three parts by a fixed rule."""

    def prepare(self, track: Track = untracked) -> None:
        """Fetch or make what ``read`` needs and is missing; ``track`` shows how far that is."""

    def read_all(self, track: Track = untracked) -> None:
        """Ask for every recording once, so that those which the cache keeps are made."""
        for part in ("train", "val", "test"):
            recordings = self.raw(part)
            for index in track(range(len(recordings)), f"{self.name}, {part}"):
                recordings[index]

    @cached_property
    def parts(self) -> EventData:
        """The data set, read on first use."""
        return self.read()

    @property
    def name(self) -> str:  # type: ignore[override]
        """The data's own name (a plain attribute in Lightning, which does not use it)."""
        return self.parts.name

    @property
    def classes(self) -> list[str]:
        """Class names, in the order of the labels."""
        return list(self.parts.classes)

    @property
    def sensor(self) -> Sensor:
        """The sensor that the events of a batch lie on."""
        return self.parts.sensor

    @property
    def feature_shape(self) -> tuple[int, ...]:
        """Feature dimensions of a batch: ``(P, H, W)`` or ``(W,)``."""
        return self.sensor.shape

    @property
    def sizes(self) -> dict[str, int]:
        """Recordings in each part."""
        return {part: len(self.raw(part)) for part in ("train", "val", "test")}

    def raw(self, split: str) -> Recordings:
        """The recordings of ``"train"``, ``"val"`` or ``"test"`` as ``(EventStream, label)``, without augmentation."""
        if split not in ("train", "val", "test"):
            raise UnknownNameError("split", split, ["train", "val", "test"])
        part: Recordings = getattr(self.parts, split)
        return part

    def setup(self, stage: str | None = None) -> None:
        """Read the data set unless that is done (called by the trainer)."""
        self.parts  # noqa: B018 - reading is the effect

    def train_dataloader(self) -> DataLoader[Any]:
        """Training batches: shuffled and augmented anew in every epoch."""
        dataset = EventDataset(self.parts.train, self.augmentations, self.seed)
        return self._loader(dataset, EpochSampler(len(dataset), self.seed), self.mixes)

    def val_dataloader(self) -> DataLoader[Any]:
        """Validation batches, in order."""
        return self._loader(EventDataset(self.parts.val))

    def test_dataloader(self) -> DataLoader[Any]:
        """Test batches, in order."""
        return self._loader(EventDataset(self.parts.test))

    def _loader(
        self, dataset: EventDataset, sampler: EpochSampler | None = None, mixes: Sequence[BatchAugmentation] = ()
    ) -> DataLoader[Any]:
        batched = BatchedDataset(dataset, TimeGrid(self.dt_us, self.steps), mixes, len(self.parts.classes))
        return DataLoader(
            batched,
            self.batch_size,
            sampler=sampler,
            num_workers=self.workers,
            persistent_workers=self.workers > 0,
            collate_fn=batched.collate,
            pin_memory=torch.cuda.is_available(),
            # Its own generator: otherwise a loader takes a number from torch's, at times that depend on the workers.
            generator=torch.Generator().manual_seed(self.seed),
        )
