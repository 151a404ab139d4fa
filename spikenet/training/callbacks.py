"""What happens around the batches: seeds, norms, the metrics file, checkpoints, the sigma of delays, a sign of life."""

from __future__ import annotations

import csv
import io
import os
import time
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback, Checkpoint
from torch import nn

from spikenet.cache import write_atomically
from spikenet.errors import RunError
from spikenet.layers import SigmaSchedule
from spikenet.training.run import RunFolder
from spikenet.training.seeds import batch_seed, seed_everything

COLUMNS = ("epoch", "steps", "lr", "train_loss", "train_accuracy", "valid_loss", "valid_accuracy", "seconds")


class BatchSeeds(Callback):
    """Seeds torch, numpy and Python before each training batch from (seed, epoch, batch) and the number of the
    process: dropout does not depend on what ran before."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_batch_start(self, trainer: pl.Trainer, module: pl.LightningModule, batch: Any, batch_idx: int) -> None:
        seed_everything(batch_seed(self.seed, trainer.current_epoch, batch_idx, trainer.global_rank))


class NormMeans(Callback):
    """Before each validation, the running statistics of batch norms become their mean over the processes: each has seen
    its own part of every batch."""

    def on_validation_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        norms = [m for m in module.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
        for statistic in (s for norm in norms for s in (norm.running_mean, norm.running_var) if s is not None):
            statistic.copy_(trainer.strategy.reduce(statistic.clone(), reduce_op="mean"))


class MetricsFile(Callback):
    """One row per finished epoch in ``metrics.csv``, synced to disk. On resume the file is cut back to the epoch of the
    checkpoint; rows are written before checkpoints, so a row is never missing."""

    def __init__(self, folder: RunFolder) -> None:
        self.path = folder.metrics

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        lines = self.path.read_text().splitlines() if self.path.exists() else []
        kept = lines[: trainer.current_epoch + 1] or [",".join(COLUMNS)]
        if len(kept) != trainer.current_epoch + 1:
            raise RunError(
                f"{self.path} has {len(kept) - 1} rows, the checkpoint {trainer.current_epoch} epochs; "
                "the run folder was changed."
            )
        write_atomically(self.path, ("\n".join(kept) + "\n").encode())

    def on_train_epoch_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self.started = time.perf_counter()

    def on_train_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        row = self._row(trainer)
        line = io.StringIO()
        csv.writer(line, lineterminator="\n").writerow([row[name] for name in COLUMNS])
        with self.path.open("a") as file:
            file.write(line.getvalue())
            file.flush()
            os.fsync(file.fileno())

    def _row(self, trainer: pl.Trainer) -> dict[str, Any]:
        measured = {name: value.item() for name, value in trainer.callback_metrics.items()}
        seconds = f"{time.perf_counter() - self.started:.2f}"
        return {"epoch": trainer.current_epoch + 1, "steps": trainer.global_step, "seconds": seconds, **measured}


class EpochCheckpoint(Checkpoint):
    """A checkpoint after each epoch and its validation. The last two and the one with the best validation accuracy are
    kept."""

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder
        self.best_epoch, self.best = 0, -1.0

    def state_dict(self) -> dict[str, Any]:
        return {"best_epoch": self.best_epoch, "best": self.best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best_epoch, self.best = state_dict["best_epoch"], state_dict["best"]

    def on_train_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        epoch, accuracy = trainer.current_epoch + 1, trainer.callback_metrics["valid_accuracy"].item()
        if accuracy > self.best:
            self.best_epoch, self.best = epoch, accuracy
        trainer.save_checkpoint(self.folder.checkpoint(epoch))
        old = self.folder.checkpoints() if trainer.is_global_zero else {}
        for other, path in old.items():
            if other not in (epoch, epoch - 1, self.best_epoch):
                path.unlink()


class SigmaFall(Callback):
    """The kernels of learned delays narrow after each epoch."""

    def __init__(self, schedule: SigmaSchedule) -> None:
        self.schedule = schedule

    def state_dict(self) -> dict[str, Any]:
        return self.schedule.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.schedule.load_state_dict(state_dict)

    def on_train_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self.schedule.step()


class Progress(Callback):
    """A sign of life: the first batch's time at once, an estimate, one line per epoch, and a bar on a terminal."""

    SAMPLE = 5

    def __init__(self) -> None:
        from rich.console import Console

        self.console = Console(highlight=False, soft_wrap=True)
        self.bar: Any = None
        self.seen = 0

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        todo = trainer.max_epochs - trainer.current_epoch  # type: ignore[operator]
        epochs = f"{todo} epoch{'s' if todo != 1 else ''} of {trainer.num_training_batches} batches"
        self.console.print(f"training: {epochs}; the first also compiles kernels ...")

    def on_train_epoch_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self.epoch_started = time.perf_counter()
        if self.console.is_terminal:
            self._open_bar(trainer)

    def on_train_batch_start(self, trainer: pl.Trainer, module: pl.LightningModule, batch: Any, batch_idx: int) -> None:
        self.batch_started = time.perf_counter()

    def on_train_batch_end(
        self, trainer: pl.Trainer, module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.seen += 1
        if self.seen == 1:
            self.console.print(f"first batch: {time.perf_counter() - self.batch_started:.1f} s")
            self.second_started = time.perf_counter()
        elif self.seen == self.SAMPLE:
            self._estimate(trainer)
        if self.bar:
            self.bar.update(self.task, completed=batch_idx + 1)

    def on_train_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self._close_bar()
        measured = trainer.callback_metrics
        self.console.print(
            f"epoch {trainer.current_epoch + 1:>3}/{trainer.max_epochs}  "
            f"loss {measured['train_loss']:.4f}  train {measured['train_accuracy']:.2%}  "
            f"validation {measured['valid_accuracy']:.2%}  {time.perf_counter() - self.epoch_started:.1f} s"
        )

    def on_exception(self, trainer: pl.Trainer, module: pl.LightningModule, exception: BaseException) -> None:
        self._close_bar()

    def _estimate(self, trainer: pl.Trainer) -> None:
        batch = (time.perf_counter() - self.second_started) / (self.SAMPLE - 1)
        epoch = batch * trainer.num_training_batches
        left = epoch * (trainer.max_epochs - trainer.current_epoch)  # type: ignore[operator]
        self.console.print(f"about {epoch:.0f} s per epoch, {_span(left)} in all")

    def _open_bar(self, trainer: pl.Trainer) -> None:
        from rich.progress import Progress as Bar

        self.bar = Bar(console=self.console, transient=True)
        self.task = self.bar.add_task(
            f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}", total=trainer.num_training_batches
        )
        self.bar.start()

    def _close_bar(self) -> None:
        if self.bar:
            self.bar.stop()
            self.bar = None


def _span(seconds: float) -> str:
    return f"{seconds / 60:.1f} min" if seconds > 99 else f"{seconds:.0f} s"
