"""Training and evaluation of language models: the next token as a class."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from spikenet.errors import DtypeError, ShapeError
from spikenet.events import EventTensor
from spikenet.training.module import Classifier, check_labels

__all__ = ["NextToken", "bits_per_token"]


class NextToken(Classifier):
    """Trains a model from tokens ``[T, B]`` to logits ``[T, B, classes]`` by the cross-entropy of the tokens that
    follow. Everything else is as for `Classifier`.
    """

    def _scored(self, x: EventTensor | Tensor, labels: Tensor, place: str) -> tuple[Tensor, Tensor]:
        if isinstance(x, EventTensor):
            raise DtypeError(f"{place} holds an EventTensor; a language model takes tokens [T, B] in int64.")
        check_labels(x, self.classes, place, "tokens")
        check_labels(labels, self.classes, place)
        return self(x).flatten(0, -2), labels.flatten()


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
