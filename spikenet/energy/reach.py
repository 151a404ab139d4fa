"""How many outputs of a convolution each input position reaches, exactly, at borders too."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

Size = tuple[int, ...]


@functools.lru_cache(maxsize=256)
def reach(sizes: Size, outputs: Size, kernel: Size, stride: Size, padding: Size, dilation: Size, to: bool) -> Tensor:
    """Taps that meet each input position, for one pair of channels.

    Args:
        sizes, outputs: spatial sizes of the input and of the output.
        kernel, stride, padding, dilation: of the convolution.
        to: whether it is transposed.

    Returns:
        float64 ``[prod(sizes)]``, row-major.
    """
    met = np.ones(1)
    for a, b, k, s, p, d in zip(sizes, outputs, kernel, stride, padding, dilation, strict=True):
        met = np.multiply.outer(met, _axis(a, b, k, s, p, d, to)).ravel()
    return torch.from_numpy(met)


def _axis(size: int, output: int, kernel: int, stride: int, padding: int, dilation: int, to: bool) -> np.ndarray:
    """Along one axis: output o and tap k meet input ``o * stride - padding + k * dilation``, or, transposed, input i
    and tap k output ``i * stride - padding + k * dilation``."""
    ends = (size if to else output), (output if to else size)
    met = np.arange(ends[0])[:, None] * stride - padding + np.arange(kernel) * dilation
    inside = (met >= 0) & (met < ends[1])
    return inside.sum(1).astype(float) if to else np.bincount(met[inside], minlength=size).astype(float)


def spread(values: Sequence[int], axes: int) -> Size:
    """One number an axis, from one for all or one each."""
    return tuple(int(v) for v in (values if len(values) == axes else list(values) * axes))
