"""Which outputs of a convolution an input reaches, and by which weights."""

from __future__ import annotations

import functools
from typing import NamedTuple

import torch
from torch import Tensor

Pair = tuple[int, int]


class Geometry(NamedTuple):
    """A two-dimensional convolution with zero padding, but for the number of output channels."""

    channels: int
    size: Pair  # of the input
    kernel: Pair
    stride: Pair
    padding: Pair
    dilation: Pair
    groups: int

    @property
    def out(self) -> Pair:
        """The size of the output."""
        return self._along(0), self._along(1)

    def _along(self, axis: int) -> int:
        span = self.dilation[axis] * (self.kernel[axis] - 1) + 1
        return (self.size[axis] + 2 * self.padding[axis] - span) // self.stride[axis] + 1


@functools.lru_cache(maxsize=256)
def reached(geometry: Geometry, device: torch.device) -> tuple[Tensor, Tensor]:
    """For each input row and tap the output row that it reaches, or -1, int32 `[H, kh]`; the same for columns.

    Input `i` meets tap `k` at output `o` where `o stride + k dilation - padding = i`.
    """
    return _along(geometry, 0).to(device), _along(geometry, 1).to(device)


def _along(geometry: Geometry, axis: int) -> Tensor:
    i, k = torch.arange(geometry.size[axis])[:, None], torch.arange(geometry.kernel[axis])
    scaled = i + geometry.padding[axis] - k * geometry.dilation[axis]
    o = scaled.div(geometry.stride[axis], rounding_mode="floor")
    meets = (scaled == o * geometry.stride[axis]) & (o >= 0) & (o < geometry.out[axis])
    return torch.where(meets, o, -1).int()


def as_taps(weight: Tensor, geometry: Geometry) -> Tensor:
    """W `[N, C / groups, kh, kw]` as `[C, kh * kw, N / groups]`: what an event of channel `c` adds, outputs last."""
    grouped = weight.reshape(geometry.groups, -1, weight.shape[1], geometry.kernel[0] * geometry.kernel[1])
    return grouped.permute(0, 2, 3, 1).flatten(0, 1)


def as_weight(taps: Tensor, geometry: Geometry) -> Tensor:
    """The inverse of `as_taps`."""
    per_channel = geometry.channels // geometry.groups
    grouped = taps.reshape(geometry.groups, per_channel, *taps.shape[1:]).permute(0, 3, 1, 2)
    return grouped.reshape(-1, per_channel, *geometry.kernel)
