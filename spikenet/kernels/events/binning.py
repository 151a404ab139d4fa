"""Counting the events of a recording by step and address, and laying recordings side by side."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from spikenet.kernels.backends import Implementation, Operation, anywhere, lazily, on_processor

Counted = tuple[Tensor, Tensor, Tensor]


def count(
    t: Tensor, x: Tensor, y: Tensor, p: Tensor, dt: int, origin: int, steps: int, sensor: tuple[int, int, int]
) -> Counted:
    """Count the events with ``origin + k dt <= t < origin + (k + 1) dt`` for every step and address.

    Args:
        t: int64 ``[E]``, in any order.
        x: int32 ``[E]``, on the sensor, as are y and p.
        y: int32 ``[E]``.
        p: int8 ``[E]``.
        dt: length of a step.
        origin: the time at which step 0 begins.
        steps: number of steps ``T``; events outside the grid are left out.
        sensor: width, height, polarities.

    Returns:
        The number of distinct addresses in each step, int64 ``[T]``; the addresses ``(p * H + y) * W + x``, step by
        step and ascending within one, int32 ``[nnz]``; how often each occurs, float32 ``[nnz]``.
    """
    counted: Counted = COUNT(t, x, y, p, dt, origin, steps, sensor)
    return counted


def stack(parts: Sequence[Counted], steps: int) -> Counted:
    """Lay recordings side by side: row ``k * B + b`` is step ``k`` of recording ``b``.

    Args:
        parts: what `count` returned for each of ``B`` recordings, with at most ``steps`` steps each.
        steps: number of steps ``T``.

    Returns:
        Where each row begins, int64 ``[T * B + 1]``; addresses and counts in the order of the rows.
    """
    stacked: Counted = STACK(parts, steps)
    return stacked


def _count(
    t: Tensor, x: Tensor, y: Tensor, p: Tensor, dt: int, origin: int, steps: int, sensor: tuple[int, int, int]
) -> Counted:
    """Sort the events by step and address and merge equal ones."""
    width, height, polarities = sensor
    size = width * height * polarities
    step = torch.div(t - origin, dt, rounding_mode="floor")
    key = step * size + (p.long() * height + y) * width + x
    key = key[(step >= 0) & (step < steps)]
    distinct, counts = torch.unique_consecutive(key.sort().values, return_counts=True)
    rows = torch.bincount(torch.div(distinct, size, rounding_mode="floor"), minlength=steps)
    return rows, (distinct % size).int(), counts.float()


def _stack(parts: Sequence[Counted], steps: int) -> Counted:
    """Sort the entries by step, those of earlier recordings first."""
    rows = torch.stack([torch.nn.functional.pad(part[0], (0, steps - len(part[0]))) for part in parts], dim=1)
    step = torch.cat([torch.arange(len(part[0]), device=rows.device).repeat_interleave(part[0]) for part in parts])
    order = step.sort(stable=True).indices
    indices, values = (torch.cat(columns)[order] for columns in list(zip(*parts, strict=True))[1:])
    return torch.cat([rows.new_zeros(1), rows.flatten().cumsum(0)]), indices, values


def _why_not_stack(parts: Sequence[Counted], _: int) -> str | None:
    return on_processor(parts[0][0])


_NUMBA = "spikenet.kernels.events.numba_binning"
COUNT = Operation(
    "count",
    Implementation("numba", on_processor, lazily(_NUMBA, "count")),
    Implementation("reference", anywhere, _count),
)
STACK = Operation(
    "stack",
    Implementation("numba", _why_not_stack, lazily(_NUMBA, "stack")),
    Implementation("reference", anywhere, _stack),
)
