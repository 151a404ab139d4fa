"""Torch layers that know no time axis, applied to every time step: `[T, B, ...]` is folded to `[T * B, ...]`.

Each is the torch layer of the same name with the same arguments. Batch norms therefore take their statistics
over time and batch together.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from spikenet.errors import ShapeError

__all__ = [
    "AdaptiveAvgPool2d",
    "AvgPool2d",
    "BatchNorm1d",
    "BatchNorm2d",
    "Conv1d",
    "Conv2d",
    "MaxPool2d",
    "ThresholdNorm2d",
]


class Folded(nn.Module):
    """Folds time into the batch, applies the torch layer, and unfolds."""

    axes: tuple[str, ...]

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim != len(self.axes):
            raise ShapeError(
                f"{type(self).__name__} takes [{', '.join(self.axes)}], got {tuple(x.shape)}; "
                "one step alone is x.unsqueeze(0)"
            )
        return super().forward(x.flatten(0, 1)).unflatten(0, x.shape[:2])


def _folded(layer: type[nn.Module], before: str, after: str) -> Any:
    doc = f"`torch.nn.{layer.__name__}` at every time step: `[{before}]` -> `[{after}]`."
    axes = tuple(before.split(", "))
    return type(layer.__name__, (Folded, layer), {"__doc__": doc, "__module__": __name__, "axes": axes})


_MAPS, _SMALLER = "T, B, C, H, W", "T, B, C', H', W'"

BatchNorm1d = _folded(nn.BatchNorm1d, "T, B, N", "T, B, N")
Conv1d = _folded(nn.Conv1d, "T, B, C, L", "T, B, C', L'")
Conv2d = _folded(nn.Conv2d, _MAPS, _SMALLER)
BatchNorm2d = _folded(nn.BatchNorm2d, _MAPS, _MAPS)
MaxPool2d = _folded(nn.MaxPool2d, _MAPS, _SMALLER)
AvgPool2d = _folded(nn.AvgPool2d, _MAPS, _SMALLER)
AdaptiveAvgPool2d = _folded(nn.AdaptiveAvgPool2d, _MAPS, _SMALLER)


class ThresholdNorm2d(Folded, nn.BatchNorm2d):
    """Threshold-dependent batch norm: potentials begin with a standard deviation of `alpha v_threshold`.

        y = alpha v_threshold w (x - mean) / std + b,    statistics over time, batch and space

    The factor is the initial value of the learned weight.

    Args:
        channels: C.
        v_threshold: of the neurons that follow.
        alpha: 1, and 1 / sqrt(n) where n branches are added.

    Shape:
        `[T, B, C, H, W]` -> the same.

    Source: Zheng et al., "Going deeper with directly-trained larger spiking neural networks", AAAI 2021, eqs. 5 to 8.
    """

    axes = ("T", "B", "C", "H", "W")

    def __init__(self, channels: int, v_threshold: float = 1.0, alpha: float = 1.0) -> None:
        super().__init__(channels)
        nn.init.constant_(self.weight, alpha * v_threshold)
