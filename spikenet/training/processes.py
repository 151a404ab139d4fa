"""Several processes that train one network, a device each: who they are, and which part of each batch is whose.

A batch is that of the whole step, however many devices share it: process r of n takes its entries r, r + n, ... Nothing
is left out and nothing counts twice, so that a run on n devices computes what a run on one would, to rounding.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch.utils.data import DataLoader, Sampler

from spikenet.errors import ArgumentError, DeviceError, RunError
from spikenet.events import EventTensor

__all__ = ["SharedBatches", "check_devices", "launched", "place", "shared"]

_KEPT = (
    *("num_workers", "collate_fn", "pin_memory", "timeout", "worker_init_fn", "multiprocessing_context"),
    *("generator", "prefetch_factor", "persistent_workers"),
)


def launched() -> bool:
    """Whether torchrun, or `spikenet train` by its means, started this process as one of several."""
    return torch.distributed.is_torchelastic_launched()


def place() -> tuple[int, int]:
    """This process's number, from 0, and how many there are."""
    return (int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])) if launched() else (0, 1)


def check_devices(accelerator: str, devices: int) -> None:
    """Refuse more devices than there are.

    Raises:
        DeviceError: for more GPUs than this machine has, or more processes than processors.
    """
    gpus = 0 if accelerator == "cpu" else torch.cuda.device_count()
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    there, kind = (gpus, "GPUs") if gpus or accelerator == "gpu" else (processors, "processors")
    if devices > there:
        raise DeviceError(f"trainer.devices: {devices} were asked for, this machine has {there} {kind}.")


def check_processes(devices: int) -> None:
    """Refuse to train on another number of devices than there are processes."""
    _, processes = place()
    if devices != processes:
        raise RunError(
            f"{devices} devices take as many processes, this run has {processes}: `spikenet train --devices {devices}` "
            f"starts them, and so does `torchrun --nproc-per-node {devices}` with a program of your own."
        )


class SharedBatches(Sampler[list[Any]]):
    """One process's part of each batch.

    A process for which a last, short batch has nothing left goes through its first entry, since all take every step
    together; `share` says that this counts for nothing.

    Args:
        batches: the whole batches.
        rank: number of this process.
        processes: how many there are.
        whole: whether to yield whole batches all the same, of which the part is taken when they are made.
    """

    def __init__(self, batches: Any, rank: int, processes: int, whole: bool = False) -> None:
        self.batches, self.rank, self.processes, self.whole = batches, rank, processes, whole
        self.sizes: list[int] = []

    @property
    def sampler(self) -> Any:
        """What the batches are made of; Lightning tells it the epoch."""
        return self.batches.sampler

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[list[Any]]:
        self.sizes = []
        for batch in self.batches:
            self.sizes.append(len(batch))
            yield batch if self.whole else [batch[i] for i in _own(len(batch), self.rank, self.processes)]

    def share(self, index: int) -> float:
        """The weight of this process's mean over batch `index` in the mean over all processes, such that the mean of
        the weighted means is that of the whole batch."""
        whole = self.sizes[index]
        return len(range(self.rank, whole, self.processes)) * self.processes / whole


def shared(loader: DataLoader[Any], rank: int, processes: int) -> DataLoader[Any]:
    """A loader of this process's part of each batch; `loader` itself where there is one process. Where a data set mixes
    the recordings of a batch (has `mixes`), each process makes the whole batch before it takes its part.

    Raises:
        ArgumentError: if batches have fewer entries than there are processes, or the loader makes no batches.
    """
    if processes == 1:
        return loader
    batches = loader.batch_sampler
    if batches is None or isinstance(loader.dataset, torch.utils.data.IterableDataset):
        raise ArgumentError("a loader without a batch sampler cannot be shared by several devices; train on one.")
    if loader.batch_size is not None and loader.batch_size < processes:
        raise ArgumentError(f"batches of {loader.batch_size} cannot be shared by {processes} devices; enlarge them.")
    same: dict[str, Any] = {name: getattr(loader, name) for name in _KEPT}
    whole = bool(getattr(loader.dataset, "mixes", ()))
    if whole:
        same["collate_fn"] = partial(_part, loader.collate_fn, rank, processes)
    return DataLoader(loader.dataset, batch_sampler=SharedBatches(batches, rank, processes, whole), **same)


def _own(size: int, rank: int, processes: int) -> range:
    """The entries of a batch that are this process's, or the first if there are none."""
    return range(rank, size, processes) or range(min(size, 1))


def _part(collate: Callable[[Any], Any], rank: int, processes: int, batch: Any) -> tuple[EventTensor, torch.Tensor]:
    """This process's part of a batch that was mixed."""
    events, labels = collate(batch)
    own = _own(len(labels), rank, processes)
    return EventTensor.stack([events.entry(b) for b in own]), labels[list(own)]
