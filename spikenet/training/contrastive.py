"""Contrastive loss between two kinds of recordings of the same things."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from spikenet.errors import ArgumentError, ShapeError

__all__ = ["info_nce"]


def info_nce(first: Tensor, second: Tensor, temperature: float = 0.1) -> Tensor:
    """How badly every embedding finds its partner among all of the other kind, both ways:

        s_ij = cos(first_i, second_j) / temperature
        loss = -1/2 mean_i (log softmax_j(s_ij)[i] + log softmax_i(s_ij)[j = i])

    0 where each is next to its own partner and far from the others, `log N` where nothing tells them apart.

    Args:
        first, second: `[..., N, D]`, row i of both belongs together; the leading dimensions are batches of their own.
        temperature: above 0.

    Raises:
        ShapeError: for two different shapes. ArgumentError: for a temperature that is not above 0.

    Source: van den Oord, Li and Vinyals, arXiv 1807.03748, 2018; both ways: Radford et al., ICML 2021.
    """
    if first.shape != second.shape or first.ndim < 2:
        raise ShapeError(f"info_nce needs two of [..., N, D], got {tuple(first.shape)} and {tuple(second.shape)}")
    if not temperature > 0:
        raise ArgumentError(f"info_nce: the temperature must be above 0, got {temperature}")
    near = functional.normalize(first, dim=-1) @ functional.normalize(second, dim=-1).mT / temperature
    partners = [kind.log_softmax(-1).diagonal(dim1=-2, dim2=-1) for kind in (near, near.mT)]
    return -torch.stack(partners).mean()
