"""What a neuron's parameters and initial state become for the kernels, and how long that holds."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

Prepared = tuple[list[Tensor], list[int], list[Tensor]]  # flat kernel parameters, their spans, the initial state


class Kept:
    """What was prepared for inputs of one kind, which holds as long as the declared parameters do not change."""

    def __init__(self, inputs: Sequence[Tensor], declared: Mapping[str, Tensor], prepared: Prepared) -> None:
        self.kinds = [(type(x), x.shape, x.dtype, x.device) for x in inputs]
        self.stamps = [(v, v.data_ptr(), v._version) for v in declared.values()]
        self.prepared = prepared
        self.bound: dict[Hashable, Any] = {}  # by what was bound, and the backend that is forced

    def fits(self, inputs: Sequence[Any], declared: Mapping[str, Tensor]) -> bool:
        for x, (kind, shape, dtype, device) in zip(inputs, self.kinds, strict=True):
            if type(x) is not kind or x.shape != shape or x.dtype != dtype or x.device != device:
                return False
        for v, (known, place, version) in zip(declared.values(), self.stamps, strict=True):
            if v is not known or v.data_ptr() != place or v._version != version or v.requires_grad:
                return False
        return True


def flat_param(value: Tensor, features: torch.Size) -> tuple[Tensor, int]:
    """`value` as [M], and how many neighbouring lanes share an entry: lane n takes entry `(n // span) % M`."""
    if value.numel() <= 1:
        return value.reshape(-1), 1
    shape = (1,) * (len(features) - value.ndim) + tuple(value.shape)
    varied = [d for d, size in enumerate(shape) if size > 1]
    first, last = varied[0], varied[-1]
    if shape[first : last + 1] != features[first : last + 1]:  # a gap: write the parameter out for every neuron
        value, last = value.expand(features), len(features) - 1
    return value.reshape(-1).contiguous(), math.prod(features[last + 1 :])
