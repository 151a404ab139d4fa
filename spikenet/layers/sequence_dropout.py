"""Dropout that silences a neuron for a whole sequence."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from spikenet.errors import ShapeError, StateError
from spikenet.neurons.carry import carrier

__all__ = ["SequenceDropout"]


class SequenceDropout(nn.modules.dropout._DropoutNd):
    """Dropout with one mask for all time steps of a sequence: `y[t, b] = x[t, b] m[b]` while training, where m is
    `1 / (1 - p)` with probability `1 - p`, else 0.

    (`nn.Dropout` draws anew in every step, so that nearly every neuron is heard now and then.)

    Args:
        p: the share of neurons that is silent.

    Shape:
        `[T, B, *features]` -> `[T, B, *features]`.

    Raises:
        ShapeError: without a time axis and a batch.
        StateError: in training in a stream, whose parts would each get a mask of their own.

    Source: Gal and Ghahramani, "A theoretically grounded application of dropout in recurrent neural networks",
    NeurIPS 2016.
    """

    def __init__(self, p: float = 0.5) -> None:
        super().__init__(p)

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim < 2:
            raise ShapeError(f"SequenceDropout takes [T, B, *features], got {tuple(x.shape)}")
        if not self.training or self.p == 0:
            return x
        if carrier() is not None:
            raise StateError("SequenceDropout in training holds a mask for a whole sequence; call .eval() to stream")
        return x * functional.dropout(x.new_ones(x.shape[1:]), self.p)
