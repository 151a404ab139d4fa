"""Classification of event sequences as a LightningModule."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import lightning.pytorch as pl
import torch
from torch import Tensor, nn
from torch.nn import functional
from torchmetrics.classification import MulticlassAccuracy

from spikenet.errors import ArgumentError, DataError, DtypeError, RunError, ShapeError, UnknownNameError
from spikenet.events import EventTensor
from spikenet.layers import delay_groups
from spikenet.training.one_cycle import OneCycle, falling
from spikenet.training.processes import SharedBatches
from spikenet.training.sharding import FullySharded, shard
from spikenet.training.synced_norms import SyncedNorm

Batch = tuple[EventTensor | Tensor, Tensor]


@dataclass
class Optimiser:
    """AdamW, or Adam, and how its learning rate moves.

    Args:
        lr: highest learning rate.
        weight_decay: weight decay of the weight matrices (biases, norms, delays and neuron parameters are left alone).
        decoupled: decay apart from the gradient (AdamW); false adds it to the gradient (Adam).
        schedule: "cosine" rises linearly and falls by a cosine, batch by batch; "one-cycle" is torch's `OneCycleLR`
            with its defaults, epoch by epoch: a rise from 1/25 of `lr` over 30 % of the epochs, and a fall to almost 0.
        warmup: share of the run over which the rate of "cosine" rises from 0 to `lr`.
        final_lr: the rate of "cosine" at the end of the run as a share of `lr`; 1 keeps it constant.
        label_smoothing: probability mass spread evenly over all classes in the cross-entropy.
        delay_lr: highest learning rate of learned delays, in steps; it falls to 0 by half a cosine.
        sigma_share: share of the epochs over which the kernels of learned delays narrow, as `SigmaSchedule` does it.
        settle: share of the epochs after which learned delays are rounded and held; 1 never does it, as published.
    """

    lr: float = 2e-3
    weight_decay: float = 1e-2
    decoupled: bool = True
    schedule: Literal["cosine", "one-cycle"] = "cosine"
    warmup: float = 0.1
    final_lr: float = 0.0
    label_smoothing: float = 0.0
    delay_lr: float = 0.1
    sigma_share: float = 0.25
    settle: float = 1.0

    def __post_init__(self) -> None:
        if self.schedule not in ("cosine", "one-cycle"):
            raise UnknownNameError("optim.schedule", self.schedule, ("cosine", "one-cycle"))
        for name in ("lr", "delay_lr"):
            if not 0 < getattr(self, name) < math.inf:
                raise ArgumentError(f"optim.{name}: a positive number is needed, {getattr(self, name)} was given.")
        if not 0 <= self.weight_decay < math.inf:
            raise ArgumentError(f"optim.weight_decay: 0 or more is needed, {self.weight_decay} was given.")
        for name in ("warmup", "final_lr", "label_smoothing", "sigma_share", "settle"):
            if not 0 <= getattr(self, name) <= 1:
                raise ArgumentError(f"optim.{name}: a share from 0 to 1 is needed, {getattr(self, name)} was given.")

    def learning(self, epochs: int) -> int:
        """In how many of all epochs delays learn: one or more."""
        return max(int(self.settle * epochs), 1)

    def scale(self, step: int, steps: int) -> float:
        """The rate of "cosine" at `step` of `steps` as a share of `lr`: a linear rise, then half a cosine."""
        rise = self.warmup * steps
        if step < rise:
            return (step + 1) / (rise + 1)
        return self.final_lr + (1 - self.final_lr) * falling(step - rise, max(steps - rise, 1))


class Classifier(pl.LightningModule):
    """Trains any module that turns a batch of events into logits, by cross-entropy.

    Args:
        model: called on an `EventTensor` (or a dense ``[T, B, ...]`` tensor), returns logits ``[B, classes]``.
        classes: number of classes.
        optim: learning rate, weight decay, schedule and label smoothing.

    Labels are classes, int64 ``[B]``, or their weights, ``[B, classes]``, as mixed batches have them; the accuracy then
    counts the heaviest.

    Raises:
        DataError: a batch holds values that are not finite, a label outside the classes, or weights that do not add up
            to 1.
        DtypeError: a batch is a dense integer tensor.
        ShapeError: the model does not return ``[B, classes]``.
        RunError: the loss is not finite.
    """

    def __init__(self, model: nn.Module, classes: int, optim: Optimiser | None = None) -> None:
        super().__init__()
        self.model = model
        self.classes = classes
        self.optim = optim or Optimiser()
        self.parts: dict[str, SharedBatches] = {}  # of "train" and "valid", where several processes share batches
        self.synced: list[SyncedNorm] = []  # batch norms that take whole batches' statistics
        self.train_accuracy = MulticlassAccuracy(classes, average="micro")
        self.valid_accuracy = MulticlassAccuracy(classes, average="micro")

    def forward(self, x: EventTensor | Tensor) -> Tensor:
        return self.model(x)

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Copies from page-locked memory do not wait, those of events no more than those of tensors."""
        if isinstance(batch, tuple | list) and isinstance(batch[0], EventTensor):
            return [part.to(device, non_blocking=True) for part in batch]
        return super().transfer_batch_to_device(batch, device, dataloader_idx)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        loss = self._step("train", batch, batch_idx, self.train_accuracy, self.optim.label_smoothing)
        rate = self.lr_schedulers().get_last_lr()[0]  # type: ignore[union-attr]
        self.log("lr", rate, on_step=False, on_epoch=True, batch_size=1, sync_dist=True)
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self._step("valid", batch, batch_idx, self.valid_accuracy, 0.0)

    def configure_model(self) -> None:
        """Cut the network into shards, where the strategy asks for it."""
        strategy = self.trainer.strategy
        if isinstance(strategy, FullySharded):
            shard(self.model, strategy.device_mesh["data_parallel"])

    def configure_optimizers(self) -> Any:
        kind = torch.optim.AdamW if self.optim.decoupled else torch.optim.Adam
        optimizer = kind(self._groups(), lr=self.optim.lr)
        epochs, steps = int(self.trainer.max_epochs or 1), int(self.trainer.estimated_stepping_batches)
        learning = self.optim.learning(epochs)
        if self.optim.schedule == "one-cycle":
            if epochs < 2:
                raise ArgumentError("schedule 'one-cycle' rises and falls over 2 epochs or more, got 1")
            cycle = OneCycle(optimizer, epochs, learning)
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": cycle, "interval": "epoch"}}
        of_weights = partial(self.optim.scale, steps=steps)
        of_delays = partial(falling, steps=steps * learning / epochs)
        scales: list[Callable[[int], float]] = [
            of_delays if group["delays"] else of_weights for group in optimizer.param_groups
        ]
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, scales)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _groups(self) -> list[dict[str, Any]]:
        """Matrices, what does not decay, and learned delays, if there are any."""
        rest, delays = (
            {**group, "params": [p for p in group["params"] if p.requires_grad]}
            for group in delay_groups(self, self.optim.lr, self.optim.delay_lr, self.optim.weight_decay)
        )
        matrices, vectors = ([p for p in rest["params"] if (p.dim() > 1) == decayed] for decayed in (True, False))
        groups = [
            {**rest, "params": matrices, "delays": False},
            {**rest, "params": vectors, "weight_decay": 0.0, "delays": False},
        ]
        return [*groups, {**delays, "delays": True}] if delays["params"] else groups

    def _step(self, split: str, batch: Batch, batch_idx: int, accuracy: MulticlassAccuracy, smoothing: float) -> Tensor:
        place = f"{split} batch {batch_idx} of epoch {self.current_epoch + 1}"
        part = self.parts.get(split)
        share = part.share(batch_idx) if part else 1.0
        for norm in self.synced:
            norm.counts = share > 0
        logits, labels = self._scored(*batch, place)
        check_logits(logits, labels, self.classes)
        weighted = labels.is_floating_point()
        target = labels.float() if weighted else labels
        loss = functional.cross_entropy(logits.float(), target, label_smoothing=smoothing)
        if not torch.isfinite(loss):
            raise RunError(
                f"the loss is {loss.item()} at {place}; try a smaller optim.lr, trainer.clip_norm or precision 32-true."
            )
        if share:
            accuracy.update(logits, labels.argmax(1) if weighted else labels)
        # Lightning divides sums over the processes by their number, in integers: this leaves no remainder.
        size = len(labels) * (part.processes if part else 1) if share else 0
        self.log(f"{split}_loss", loss, on_step=False, on_epoch=True, batch_size=size, sync_dist=True)
        self.log(f"{split}_accuracy", accuracy, on_step=False, on_epoch=True, batch_size=size)
        return loss * share if part else loss

    def _scored(self, x: EventTensor | Tensor, labels: Tensor, place: str) -> tuple[Tensor, Tensor]:
        """The logits ``[N, classes]`` of a checked batch, and the labels ``[N]`` that they are held against."""
        check_batch(x, labels, self.classes, place)
        return self(x), labels


def check_batch(x: EventTensor | Tensor, labels: Tensor, classes: int, place: str) -> None:
    """Refuse a batch of nonsense; a spiking neuron swallows a NaN without a trace in the loss."""
    values = x.values if isinstance(x, EventTensor) else x
    if not values.is_floating_point():
        raise DtypeError(f"{place} is {values.dtype}; layers with float weights need float input: x.float() makes it.")
    if not bool(torch.isfinite(values).all()):
        raise DataError(f"{place} holds values that are not finite (NaN or infinity); check the data set.")
    if labels.ndim == 2:
        check_weights(labels, classes, place)
    else:
        check_labels(labels, classes, place)


def check_weights(labels: Tensor, classes: int, place: str) -> None:
    """Refuse weights of the classes that are none."""
    if not labels.is_floating_point() or labels.shape[1] != classes:
        raise ShapeError(
            f"{place} holds labels {tuple(labels.shape)} of {labels.dtype}; classes [B] in int64 or their weights "
            f"[B, {classes}] in float32 are needed."
        )
    if not bool(((labels.sum(1) - 1).abs() < 1e-3).all() and (labels >= 0).all()):  # NaN neither
        raise DataError(f"{place} holds weights of classes that are negative or do not add up to 1.")


def check_labels(labels: Tensor, classes: int, place: str, name: str = "labels") -> None:
    """Refuse numbers outside of the classes."""
    if labels.is_floating_point():
        raise DtypeError(f"{place} holds {name} of {labels.dtype}; the numbers of the classes are whole: int64.")
    least, most = labels.aminmax() if labels.numel() else (0, 0)
    if least < 0 or most >= classes:
        raise DataError(
            f"{place} holds {name} {int(least)} to {int(most)}; the {classes} classes are 0 to {classes - 1}."
        )


def check_logits(logits: Tensor, labels: Tensor, classes: int) -> None:
    """The model must return one score per sample and class."""
    if tuple(logits.shape) != (len(labels), classes):
        wanted = (len(labels), classes)
        raise ShapeError(f"the model returned {tuple(logits.shape)}; logits [batch, classes] = {wanted} are needed.")
