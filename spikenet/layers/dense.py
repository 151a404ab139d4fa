"""The step from events to dense tensors, for networks whose first layer is dense."""

from __future__ import annotations

from torch import Tensor, nn

from spikenet.events import EventTensor

__all__ = ["ToDense"]


class ToDense(nn.Module):
    """An `EventTensor` becomes `[T, B, *features]`; a dense tensor passes through."""

    def forward(self, x: EventTensor | Tensor) -> Tensor:
        return x.to_dense() if isinstance(x, EventTensor) else x
