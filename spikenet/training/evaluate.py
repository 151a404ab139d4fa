"""The evaluation of a trained network on a held-out part: accuracy, confusion, firing rates and energy, in one pass."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from spikenet.energy import LayerWork, Work, compare, count
from spikenet.training.module import check_batch, check_labels, check_logits


@dataclass
class Evaluation:
    """What a network did on a held-out part.

    Attributes:
        confusion: int64 ``[classes, classes]``, row = true class, column = predicted class.
        work: operation counts over all samples.
    """

    confusion: Tensor
    work: Work

    @property
    def samples(self) -> int:
        return int(self.confusion.sum())

    @property
    def correct(self) -> int:
        return int(self.confusion.diagonal().sum())

    @property
    def accuracy(self) -> float:
        """Share of samples whose highest logit is the true class."""
        return self.correct / self.samples

    def summary(self) -> dict[str, Any]:
        """Plain numbers for ``results.json``: energies in pJ per sample, operations summed over all samples."""
        energy = compare(self.work)
        return {
            "accuracy": self.accuracy,
            "correct": self.correct,
            "samples": self.samples,
            "confusion": self.confusion.tolist(),
            "rates": self.work.rates,
            "layers": [_plain(layer) for layer in self.work.layers],
            "uncounted": self.work.uncounted,
            "energy": {
                "snn_pj": energy.snn.total,
                "ann_frame_pj": energy.ann_frame.total,
                "ann_steps_pj": energy.ann_steps.total,
                "assumptions": energy.assumptions,
            },
        }


def _plain(layer: LayerWork) -> dict[str, Any]:
    """A layer's record with its counters summed over the steps."""
    return {
        "name": layer.name,
        "kind": layer.kind,
        "operation": layer.operation,
        "values": layer.values,
        "bits": layer.bits._asdict(),
        "geometry": layer.geometry._asdict(),
        "dense_macs_frame": layer.dense_macs_frame,
        "totals": {counter: layer.total(counter) for counter in layer.steps},
    }


def evaluate(model: nn.Module, loader: DataLoader, classes: int) -> Evaluation:
    """Run `model` once over `loader`, in evaluation mode and the precision of its weights.

    Args:
        model: called on a batch of events, returns logits ``[B, classes]``.
        loader: yields ``(events, labels)``.
        classes: number of classes.

    Returns:
        `Evaluation` over all samples of the loader.
    """
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    confusion = torch.zeros(classes, classes, dtype=torch.int64)
    model.eval()
    with torch.inference_mode(), count(model) as work:
        for index, (x, labels) in enumerate(loader):
            check_batch(x, labels, classes, f"test batch {index}")
            check_labels(labels, classes, f"test batch {index}")  # no weights of several classes
            logits = model(x.to(device))
            check_logits(logits, labels, classes)
            pairs = labels * classes + logits.argmax(-1).cpu()
            confusion += torch.bincount(pairs, minlength=classes * classes).view(classes, classes)
    return Evaluation(confusion, work)
