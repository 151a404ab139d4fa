"""What the networks here share: a body that keeps the time axis, and a readout that ends it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Literal

from torch import Tensor, nn

from spikenet.errors import ShapeError, UnknownNameError
from spikenet.layers import LastReadout, MaxReadout, MeanOverSpace, MeanReadout, Residual, SoftmaxSumReadout
from spikenet.neurons import Neuron

Readout = Literal["mean", "max", "softmax-sum", "last"]
_READOUTS: dict[str, type[nn.Module]] = {
    "mean": MeanReadout,
    "max": MaxReadout,
    "softmax-sum": SoftmaxSumReadout,
    "last": LastReadout,
}


class Network(nn.Module):
    """Input of a known feature shape through `body` to ``[T, B, classes]``, then through a readout over time to logits
    ``[B, classes]``.

    Called on an `EventTensor`, whose `lengths` the readout heeds, or on a dense ``[T, B, *features]`` tensor.

    Args:
        features: feature dimensions of one step.
        body: from input to ``[T, B, classes]``.
        readout: how the time axis ends.
        extend: steps by which the body makes every sequence longer.

    Raises:
        ShapeError: the input has other feature dimensions.
    """

    def __init__(self, features: Sequence[int], body: nn.Module, readout: Readout, extend: int = 0) -> None:
        super().__init__()
        if readout not in _READOUTS:
            raise UnknownNameError("readout", readout, _READOUTS)
        self.features = tuple(features)
        self.body, self.extend = body, extend
        self.readout = _READOUTS[readout]()

    def forward(self, x: Tensor) -> Tensor:
        if tuple(x.shape[2:]) != self.features:
            wanted = ", ".join(map(str, self.features))
            raise ShapeError(f"{type(self).__name__} takes [T, B, {wanted}], it was given {tuple(x.shape)}.")
        lengths = _lengths(x)
        return self.readout(self.body(x), None if lengths is None else lengths + self.extend)


def _lengths(x: Tensor) -> Tensor | None:
    """Lengths of the sequences, if some end early."""
    lengths = getattr(x, "lengths", None)
    # An entry without any step is read out after one, in which nothing happened.
    return None if lengths is None or bool((lengths == x.shape[0]).all()) else lengths.clamp(min=1)


def picture(model: str, in_shape: Sequence[int]) -> int:
    """The channels of data of the form ``(C, H, W)``; others are refused."""
    if len(in_shape) != 3:
        raise ShapeError(f"{model} takes data of shape (C, H, W), this data has {tuple(in_shape)}.")
    return in_shape[0]


def block(**parts: nn.Module) -> nn.Sequential:
    """Parts whose outputs are added to their inputs, one after the other."""
    return nn.Sequential(OrderedDict((name, Residual(part)) for name, part in parts.items()))


def head(dim: int, classes: int, dropout: float, neuron: Neuron | None = None) -> nn.Sequential:
    """The mean over the tokens, perhaps a neuron, and a linear layer: `[T, B, *space, D]` -> `[T, B, classes]`."""
    layers = [MeanOverSpace(), *([neuron] if neuron else []), nn.Dropout(dropout), nn.Linear(dim, classes)]
    return nn.Sequential(*layers)
