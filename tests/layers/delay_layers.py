"""A delay layer and spikes for it."""

from __future__ import annotations

import torch
from torch import Tensor

from spikenet.layers import DelayLinear


def spikes(*shape: int, rate: float = 0.1) -> Tensor:
    return (torch.rand(shape) < rate).double()


def linear(**options: object) -> DelayLinear:
    return DelayLinear(6, 4, 7, **{"elements": 2, "sigma": 1.0, "bias": True, **options}).double()  # type: ignore[arg-type]
