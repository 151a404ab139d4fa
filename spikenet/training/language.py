"""Training and evaluation of language models: the next token as a class."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchmetrics.classification import MulticlassAccuracy

from spikenet.errors import RunError, ShapeError
from spikenet.training.module import Batch, Classifier, check_logits

__all__ = ["NextToken", "bits_per_token"]


class NextToken(Classifier):
    """Trains a model from tokens ``[T, B]`` to logits ``[T, B, classes]`` by the cross-entropy of the tokens that
    follow. Everything else is as for `Classifier`.
    """

    def _step(self, split: str, batch: Batch, batch_idx: int, accuracy: MulticlassAccuracy, smoothing: float) -> Tensor:
        tokens, following = batch
        logits, labels = self(tokens).flatten(0, -2), following.flatten()
        check_logits(logits, labels, self.classes)
        loss = functional.cross_entropy(logits.float(), labels, label_smoothing=smoothing)
        if not torch.isfinite(loss):
            raise RunError(
                f"the loss is {loss.item()} at {split} batch {batch_idx} of epoch {self.current_epoch + 1}; try a "
                "smaller optim.lr or trainer.clip_norm."
            )
        accuracy(logits, labels)
        self.log(f"{split}_loss", loss, on_step=False, on_epoch=True, batch_size=len(labels))
        self.log(f"{split}_accuracy", accuracy, on_step=False, on_epoch=True, batch_size=len(labels))
        return loss


@torch.inference_mode()
def bits_per_token(model: nn.Module, tokens: Tensor, rows: int = 16) -> float:
    """Mean of ``-log2 P(token | those before)`` over a text, cut into `rows` texts that are read side by side, each
    without a past at its beginning.

    Args:
        model: from tokens ``[T, B]`` to logits ``[T, B, classes]``; it is put into evaluation mode.
        tokens: the text ``[N]``, with at least two tokens for each row.
        rows: texts side by side.

    Raises:
        ShapeError: the text is too short.
    """
    if tokens.ndim != 1 or rows < 1 or len(tokens) < 2 * rows:
        raise ShapeError(
            f"bits_per_token wants a text of two tokens a row or more, got {tuple(tokens.shape)}, {rows=}."
        )
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    columns = tokens[: len(tokens) // rows * rows].view(rows, -1).T.to(device)
    logits = model.eval()(columns[:-1]).flatten(0, 1)
    return functional.cross_entropy(logits.float(), columns[1:].flatten()).item() / math.log(2)
