"""Layers of one step, made into layers of whole sequences: what the converters share."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from spikenet import layers

__all__ = ["UNFOLDED", "OverTime", "above", "rebuilt", "sequence_layer"]

_FOLDED: Mapping[type[nn.Module], type[nn.Module]] = {
    nn.Conv1d: layers.Conv1d,
    nn.Conv2d: layers.Conv2d,
    nn.BatchNorm1d: layers.BatchNorm1d,
    nn.BatchNorm2d: layers.BatchNorm2d,
    nn.MaxPool2d: layers.MaxPool2d,
    nn.AvgPool2d: layers.AvgPool2d,
    nn.AdaptiveAvgPool2d: layers.AdaptiveAvgPool2d,
}
_ANY_SHAPE = (nn.Linear, nn.Identity, nn.Dropout, nn.ReLU, nn.Sigmoid, nn.Tanh)
UNFOLDED: Mapping[type[nn.Module], type[nn.Module]] = {
    **{ours: torchs for torchs, ours in _FOLDED.items()},
    **{kind: kind for kind in _ANY_SHAPE},
    layers.SpikingLinear: nn.Linear,
}
"""Layers of whole sequences, and those of one step that compute the same."""


class OverTime(nn.Sequential):
    """Layers that know no time axis, at every step: `[T, B, ...]` is folded to `[T * B, ...]` and back."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.flatten(0, 1)).unflatten(0, x.shape[:2])


def sequence_layer(module: nn.Module, kind: type[nn.Module]) -> nn.Module | None:
    """A copy of a layer of torch's `kind` that takes `[T, B, ...]`; None if there is none."""
    if issubclass(kind, nn.Flatten):
        start = int(module.start_dim)  # type: ignore[arg-type]
        end = int(module.end_dim)  # type: ignore[arg-type]
        return nn.Flatten(start + 1 if start > 0 else start, end + 1 if end > 0 else end)
    target = _FOLDED.get(kind) or next((each for each in _ANY_SHAPE if kind is each), None)
    if target is None:
        return None
    layer = copy.deepcopy(module)
    layer.__class__ = target  # ours are subclasses of torch's that add a method and nothing else
    return layer


def rebuilt(module: nn.Module, child: Callable[[nn.Module], nn.Module]) -> nn.Module:
    """A copy of a module with a forward of its own, each of its children replaced."""
    inside = {id(each): each for each in module.children()}
    new = {key: child(each) for key, each in inside.items()}  # one that stands in two places stays one
    memo: dict[int, Any] = dict(new)
    return copy.deepcopy(module, memo)


def above(threshold: Tensor | float) -> Tensor:
    """The threshold that `u >= ..` reaches exactly when `u > threshold` there: the next number."""
    value = torch.as_tensor(threshold).detach().clone()
    return torch.nextafter(value, torch.full_like(value, torch.inf))
