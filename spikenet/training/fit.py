"""One training run, from the first epoch or from the last complete one.

**Resume.** A checkpoint is written when an epoch is complete (training and validation), never in the middle of one. A
resumed run starts the next epoch. Nothing random depends on what the process did before: the order of the samples
follows from (seed, epoch), their augmentation from (seed, epoch, index), dropout from (seed, epoch, batch), the
learning rate from the step or the epoch; the sigma of learned delays is stored. So a run that was killed and resumed
ends with the weights of one that was not, bit for bit on a CPU at a fixed number of threads.
"""

from __future__ import annotations

import logging
import signal
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import lightning.pytorch as pl
from torch import nn
from torch.utils.data import DataLoader

from spikenet.errors import ArgumentError
from spikenet.layers import SigmaSchedule, delay_groups
from spikenet.training.callbacks import BatchSeeds, EpochCheckpoint, MetricsFile, Progress, SigmaFall
from spikenet.training.checkpoint import SafetensorsIO
from spikenet.training.module import Classifier, Optimiser
from spikenet.training.run import RunFolder


@dataclass
class TrainerOptions:
    """How long and on what to train.

    Args:
        epochs: passes over the training part.
        clip_norm: gradients are scaled down to this norm; 0 leaves them as they are.
        precision: number format; the mixed ones train with automatic mixed precision.
        accelerator: device to train on.
    """

    epochs: int = 10
    clip_norm: float = 1.0
    precision: Literal["32-true", "bf16-mixed", "16-mixed", "64-true"] = "32-true"
    accelerator: Literal["auto", "cpu", "gpu"] = "auto"

    def __post_init__(self) -> None:
        if self.epochs < 1:
            raise ArgumentError(f"trainer.epochs: at least 1 is needed, {self.epochs} was given.")
        if self.clip_norm < 0:
            raise ArgumentError(f"trainer.clip_norm: 0 or more is needed, {self.clip_norm} was given.")


def fit(
    model: nn.Module,
    data: pl.LightningDataModule,
    folder: RunFolder,
    *,
    optim: Optimiser,
    options: TrainerOptions,
    seed: int,
    module: type[Classifier] = Classifier,
) -> None:
    """Train `model` in place; a folder that holds checkpoints is gone on with, after its last complete epoch.

    Args:
        model: called on a batch, returns what `module` trains.
        data: a set up data module with `classes`; its train sampler has ``set_epoch``.
        folder: where metrics and checkpoints go.
        optim: learning rate, weight decay, schedule.
        options: epochs, precision, device.
        seed: seed of the run.
        module: what is trained, and by which loss.

    Raises:
        KeyboardInterrupt: Ctrl-C; its message says what was saved.
    """
    loader, valid = data.train_dataloader(), data.val_dataloader()
    saved = folder.checkpoints()
    epoch, checkpoint = max(saved.items(), default=(0, None))
    _set_epoch(loader, epoch)
    with _quiet():
        trainer = _trainer(options, folder, [BatchSeeds(seed), *_sigma(model, optim, options.epochs)])
        _run(trainer, module(model, len(data.classes), optim), loader, valid, checkpoint)  # type: ignore[attr-defined]


def _set_epoch(loader: DataLoader, epoch: int) -> None:
    """Lightning opens the first iterator before it tells the sampler the epoch: a resumed run would replay epoch 0."""
    if hasattr(loader.sampler, "set_epoch"):
        loader.sampler.set_epoch(epoch)
    if hasattr(loader.batch_sampler, "set_epoch"):
        loader.batch_sampler.set_epoch(epoch)  # type: ignore[union-attr]


def _sigma(model: nn.Module, optim: Optimiser, epochs: int) -> list[pl.Callback]:
    """What narrows the kernels of delays and settles them, if there are any."""
    if not delay_groups(model, optim.lr)[1]["params"]:
        return []
    settle = optim.learning(epochs) if optim.settle < 1 else None
    return [SigmaFall(SigmaSchedule(model, int(optim.sigma_share * epochs), settle=settle))]


def _trainer(options: TrainerOptions, folder: RunFolder, callbacks: list[pl.Callback]) -> pl.Trainer:
    return pl.Trainer(
        max_epochs=options.epochs,
        accelerator=options.accelerator,
        devices=1,
        precision=options.precision,
        gradient_clip_val=options.clip_norm or None,
        plugins=[SafetensorsIO()],
        callbacks=[*callbacks, Progress(), MetricsFile(folder), EpochCheckpoint(folder)],
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        default_root_dir=folder.path,
    )


def _run(
    trainer: pl.Trainer, classifier: Classifier, loader: DataLoader, valid: DataLoader, checkpoint: Path | None
) -> None:
    """Lightning answers Ctrl-C with `sys.exit` and leaves the signal ignored; both are undone here."""
    handler = signal.getsignal(signal.SIGINT)
    try:
        trainer.fit(classifier, loader, valid, ckpt_path=checkpoint)
    except SystemExit:
        raise KeyboardInterrupt(f"stopped in epoch {trainer.current_epoch + 1}") from None
    finally:
        signal.signal(signal.SIGINT, handler)


@contextmanager
def _quiet() -> Iterator[None]:
    """Lightning's banners, its advice on workers and on the published schedule, and a deprecation inside of it stay out
    of the run's output."""
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    with warnings.catch_warnings():
        for message in (".*does not have many workers.*", ".*`OneCycleLR` scheduler.*", ".*treespec, LeafSpec.*"):
            warnings.filterwarnings("ignore", message=message)
        yield
