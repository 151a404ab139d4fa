"""Torch layers that know no time axis, applied to every time step: `[T, B, ...]` is folded to `[T * B, ...]`.

Each is the torch layer of the same name with the same arguments. Batch norms therefore take their statistics
over time and batch together (threshold-dependent scaling aside, as in Zheng et al., AAAI 2021).
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from spikenet.errors import ShapeError

__all__ = ["AdaptiveAvgPool2d", "AvgPool2d", "BatchNorm1d", "BatchNorm2d", "Conv2d", "MaxPool2d"]


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
Conv2d = _folded(nn.Conv2d, _MAPS, _SMALLER)
BatchNorm2d = _folded(nn.BatchNorm2d, _MAPS, _MAPS)
MaxPool2d = _folded(nn.MaxPool2d, _MAPS, _SMALLER)
AvgPool2d = _folded(nn.AvgPool2d, _MAPS, _SMALLER)
AdaptiveAvgPool2d = _folded(nn.AdaptiveAvgPool2d, _MAPS, _SMALLER)
