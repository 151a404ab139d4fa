"""Truncated backpropagation through time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from spikenet.errors import ArgumentError, ShapeError
from spikenet.layers import Stream

__all__ = ["truncated_bptt"]


def truncated_bptt(net: nn.Module, x: Any, steps: int, loss: Callable[[Tensor, slice], Tensor]) -> Tensor:
    """Add to `.grad` the gradient of a sum over parts of a sequence, none of which reaches back beyond its part.

    The states go on from part to part; memory is that of one part, whatever T is. With one part for all it is
    backpropagation through time.

    Args:
        net: a module that takes `[T, B, ...]` and that `Stream` can run.
        x: the sequence `[T, B, ...]`.
        steps: of a part.
        loss: from the output of a part and its place in the sequence to its share of the loss, a number.

    Returns:
        The sum of the shares, without a gradient.

    Raises:
        ArgumentError: for parts of less than a step. ShapeError: if a share is no single number. StateError: if `net`
            cannot be run in parts, as `Stream` says.

    Source: Williams and Peng, Neural Computation 2, 1990.
    """
    if steps < 1:
        raise ArgumentError(f"truncated_bptt: parts of 1 step or more are needed, got {steps}.")
    stream, shares = Stream(net), []
    for start in range(0, x.shape[0], steps):
        place = slice(start, min(start + steps, x.shape[0]))
        share = loss(stream(x[place]), place)
        if share.numel() != 1:
            raise ShapeError(f"truncated_bptt: the loss of a part is one number, got {tuple(share.shape)}.")
        share.backward()
        stream.detach()
        shares.append(share.detach())
    return torch.stack(shares).sum() if shares else torch.zeros(())
