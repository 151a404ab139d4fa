"""One training run, from the first epoch or from the last complete one.

**Resume.** A checkpoint is written when an epoch is complete (training and validation), never in the middle of one. A
resumed run starts the next epoch. Nothing random depends on what the process did before: the order of the samples
follows from (seed, epoch), their augmentation from (seed, epoch, index), dropout from (seed, epoch, batch), the
learning rate from the step or the epoch; the sigma of learned delays is stored. So a run that was killed and resumed
ends with the weights of one that was not, bit for bit on a CPU at a fixed number of threads.

**Several devices.** Each has a process of its own, and all take part in every batch (see `processes`): gradients and
metrics are those of whole batches. Every process draws its own dropout. Batch norms take their statistics over the part
of a batch that their process has, and their running statistics are averaged before each validation; with
`sync_batchnorm` they take them over whole batches. Process 0 writes metrics, checkpoints and what a person reads.
"""

from __future__ import annotations

import copy
import logging
import signal
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import lightning.pytorch as pl
from lightning.pytorch.strategies import DDPStrategy
from torch import nn
from torch.utils.data import DataLoader

from spikenet.errors import ArgumentError, UnknownNameError
from spikenet.layers import SigmaSchedule, delay_groups
from spikenet.training.callbacks import BatchSeeds, EpochCheckpoint, MetricsFile, NormMeans, Progress, SigmaFall
from spikenet.training.checkpoint import SafetensorsIO, load_tree
from spikenet.training.module import Classifier, Optimiser
from spikenet.training.processes import check_processes, place, shared
from spikenet.training.run import RunFolder
from spikenet.training.sharding import FullySharded
from spikenet.training.synced_norms import synced_norms

_KNOWN = (
    "does not have many workers",
    "`OneCycleLR` scheduler",  # the published schedule
    "treespec, LeafSpec",  # a deprecation inside of Lightning
    "did not find any unused parameters",
    "`broadcast_buffers` is deprecated",  # what replaces it is not in all the torch versions that we take
)


@dataclass
class TrainerOptions:
    """How long and on what to train.

    Args:
        epochs: passes over the training part.
        clip_norm: gradients are scaled down to this norm; 0 leaves them as they are.
        precision: number format; the mixed ones train with automatic mixed precision.
        accelerator: device to train on.
        devices: devices that share each batch, a process each.
        strategy: how several devices train: each with the whole network ("ddp"), or with a shard of its weights,
            gradients and optimiser states ("fsdp").
        accumulate: batches whose gradients are averaged before each step.
        sync_batchnorm: let batch norms take their statistics over the whole batch that several devices share, not each
            over its part; slower.
    """

    epochs: int = 10
    clip_norm: float = 1.0
    precision: Literal["32-true", "bf16-mixed", "16-mixed", "64-true"] = "32-true"
    accelerator: Literal["auto", "cpu", "gpu"] = "auto"
    devices: int = 1
    strategy: Literal["ddp", "fsdp"] = "ddp"
    accumulate: int = 1
    sync_batchnorm: bool = False

    def __post_init__(self) -> None:
        for name in ("epochs", "devices", "accumulate"):
            if getattr(self, name) < 1:
                raise ArgumentError(f"trainer.{name}: at least 1 is needed, {getattr(self, name)} was given.")
        if self.strategy not in ("ddp", "fsdp"):
            raise UnknownNameError("trainer.strategy", self.strategy, ("ddp", "fsdp"))
        if self.strategy == "fsdp" and (self.devices < 2 or self.precision not in ("32-true", "bf16-mixed")):
            raise ArgumentError(
                "trainer.strategy 'fsdp' takes 2 devices or more and precision 32-true or bf16-mixed, "
                f"got {self.devices} and {self.precision}."
            )
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
        RunError: this is not one of as many processes as there are devices.
    """
    check_processes(options.devices)
    loader, valid = (shared(part, *place()) for part in (data.train_dataloader(), data.val_dataloader()))
    saved = folder.checkpoints()
    epoch, checkpoint = max(saved.items(), default=(0, None))
    _set_epoch(loader, epoch)
    trained = copy.deepcopy(model) if options.strategy == "fsdp" else model  # what was sharded stays so
    if options.precision == "64-true":
        trained.double()  # Lightning converts weights after it has read the checkpoint's, which would be rounded
    classifier = module(trained, len(data.classes), optim)  # type: ignore[attr-defined]
    if options.devices > 1:
        classifier.parts = {"train": loader.batch_sampler, "valid": valid.batch_sampler}  # type: ignore[dict-item]
    with ExitStack() as meanwhile:
        meanwhile.enter_context(_quiet())
        if options.sync_batchnorm and options.devices > 1:
            classifier.synced = meanwhile.enter_context(synced_norms(trained))
        trainer = _trainer(options, folder, [BatchSeeds(seed), *_sigma(trained, optim, options.epochs)])
        _run(trainer, classifier, loader, valid, checkpoint)
    if trained is not model:
        weights = load_tree(folder.checkpoint(options.epochs))["state_dict"]
        model.load_state_dict({name.removeprefix("model."): weights[name] for name in weights if name[:6] == "model."})


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
    rank, processes = place()
    shown = [Progress(), MetricsFile(folder)] if rank == 0 else []
    return pl.Trainer(
        max_epochs=options.epochs,
        accelerator=options.accelerator,
        devices=options.devices,
        strategy=_strategy(options),
        precision=options.precision,
        accumulate_grad_batches=options.accumulate,
        gradient_clip_val=options.clip_norm or None,
        plugins=[SafetensorsIO()],
        callbacks=[*callbacks, *([NormMeans()] if processes > 1 else []), *shown, EpochCheckpoint(folder)],
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        default_root_dir=folder.path,
    )


def _strategy(options: TrainerOptions) -> Any:
    """Neurons keep no state in buffers, so that none needs to be sent around; parameters may go without gradient."""
    if options.devices == 1:
        return "auto"
    if options.strategy == "fsdp":
        return FullySharded(options.devices)
    return DDPStrategy(broadcast_buffers=False, find_unused_parameters=True, gradient_as_bucket_view=True)


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
    """Lightning's banners and warnings that say nothing new stay out of the run's output."""
    for room in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(room).setLevel(logging.WARNING)
    with warnings.catch_warnings():
        for message in _KNOWN:
            warnings.filterwarnings("ignore", message=f".*{message}.*")
        yield
