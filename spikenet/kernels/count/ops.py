"""The tally of a tensor: one pass over its values for everything that a count of operations asks of them."""

from __future__ import annotations

import functools
from typing import NamedTuple

import torch
from torch import Tensor

from spikenet.kernels.backends import Implementation, Operation, anywhere, lazily, on_processor
from spikenet.kernels.count import reference


class _Columns(NamedTuple):
    """Of the values x in a step: sum |x|; how many are not 0; the same two, each value weighted by what it reaches;
    the largest |x|; 1 if one is negative; 1 if one is no whole number (NaN and infinity are none)."""

    total: int
    nonzero: int
    reach: int
    reach_nonzero: int
    largest: int
    negative: int
    fractional: int


COLUMNS = _Columns(*range(7))
SUMMED = 4  # the first four columns add up, the others are maxima

_numba = functools.partial(lazily, "spikenet.kernels.count.numba_backend")
TALLY = Operation(
    "tally",
    Implementation("numba", on_processor, _numba("tally")),
    Implementation("reference", anywhere, reference.tally),
)
TALLY_EVENTS = Operation(
    "tally_events",
    Implementation("numba", on_processor, _numba("tally_events")),
    Implementation("reference", anywhere, reference.tally_events),
)


def tally(x: Tensor, steps: int, reach: Tensor | None = None) -> Tensor:
    """Tally a dense tensor.

    Args:
        x: of any real dtype and shape; its row-major order is cut into `steps` equal parts.
        steps: a divisor of the number of elements.
        reach: float64 `[P]`, the weight of every P-th element in turn; P divides a step's elements. None: 1 for all.

    Returns:
        float64 `[steps, 7]`, on the device of `x`; see `COLUMNS`.
    """
    x = x.detach()
    flat = (_in_memory_order(x) if reach is None else x).reshape(steps, -1)
    if flat.dtype not in (torch.float32, torch.float64):
        flat = flat.float()
    return TALLY(flat, torch.ones(1, dtype=torch.float64, device=x.device) if reach is None else reach)


def _in_memory_order(x: Tensor) -> Tensor:
    """The axes behind the first as they lie in memory: where the order does not matter, nothing need be copied."""
    if x.is_contiguous() or max(x.stride()) > x.stride(0):
        return x
    return x.permute(0, *sorted(range(1, x.ndim), key=x.stride, reverse=True))


def tally_events(values: Tensor, indices: Tensor, starts: Tensor, reach: Tensor | None = None) -> Tensor:
    """Tally events: entries `starts[t]:starts[t + 1]` of `values` make step t; the others are 0.

    Args:
        values: float32 `[nnz]`.
        indices: int32 `[nnz]`, each entry's flat feature.
        starts: int64 `[steps + 1]`.
        reach: float64 `[P]`, the weight of feature `i` being `reach[i % P]`. None: 1 for all.

    Returns:
        float64 `[steps, 7]`; see `COLUMNS`.
    """
    ones = torch.ones(1, dtype=torch.float64, device=values.device)
    return TALLY_EVENTS(values.detach().float(), indices, starts, ones if reach is None else reach)
