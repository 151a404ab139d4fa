"""Rotary positions on a map: pairs of features turn by an angle that grows with a token's row or column."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["rotate", "turns"]


def turns(height: int, width: int, features: int) -> Tensor:
    """Cosines and sines `[2, H W, features / 2]`: of rows for the first half of the pairs, of columns for the other.

    Pair n of a half with P pairs turns by `10000^(-n / P)` a row or column, as in MLLA.
    """
    rate = 10_000 ** (-torch.arange(features // 4) / (features // 4))
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    angles = torch.cat([rows.reshape(-1, 1) * rate, columns.reshape(-1, 1) * rate], 1)
    return torch.stack([angles.cos(), angles.sin()])


def rotate(x: Tensor, turned: Tensor) -> Tensor:
    """Each pair of neighbouring features of `x` `[..., N, D]`, a complex number, times `turns` `[2, N, D / 2]`."""
    even, odd = x.unflatten(-1, (-1, 2)).unbind(-1)
    cos, sin = turned.to(x.dtype).unbind(0)
    return torch.stack([even * cos - odd * sin, even * sin + odd * cos], -1).flatten(-2)
