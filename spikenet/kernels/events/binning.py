"""Counting events by step, recording and address: the reference and the table of backends."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from spikenet.kernels.backends import Implementation, Operation, anywhere, lazily, on_processor

Columns = tuple[Tensor, Tensor, Tensor, Tensor]


def count(
    recordings: Sequence[Columns], dt: int, origin: int, steps: int, sensor: tuple[int, int, int]
) -> tuple[Tensor, Tensor, Tensor]:
    """Count the events with ``origin + k dt <= t < origin + (k + 1) dt`` for every step, recording and address.

    Args:
        recordings: columns t, x, y, p of each of ``B`` recordings, in any order of time; all lie on the sensor.
        dt: length of a step.
        origin: the time at which step 0 begins.
        steps: number of steps ``T``; events outside the grid are left out.
        sensor: width, height, polarities.

    Returns:
        Compressed rows ``t * B + b``: starts int64 ``[T * B + 1]``, addresses ``(p * H + y) * W + x`` int32 ``[nnz]``,
        ascending within a row, and counts float32 ``[nnz]``.
    """
    found: tuple[Tensor, Tensor, Tensor] = COUNT(recordings, dt, origin, steps, sensor)
    return found


def _reference(
    recordings: Sequence[Columns], dt: int, origin: int, steps: int, sensor: tuple[int, int, int]
) -> tuple[Tensor, Tensor, Tensor]:
    """Sort the events by (step, recording, address) and merge equal ones into counts."""
    t, x, y, p = (torch.cat(columns) for columns in zip(*recordings, strict=True))
    width, height, polarities = sensor
    size, batch = width * height * polarities, len(recordings)
    step = torch.div(t - origin, dt, rounding_mode="floor")
    sizes = torch.tensor([len(recording[0]) for recording in recordings], device=t.device)
    entry = torch.arange(batch, device=t.device).repeat_interleave(sizes)
    key = (step * batch + entry) * size + (p.long() * height + y) * width + x
    key = key[(step >= 0) & (step < steps)]
    distinct, counts = torch.unique_consecutive(key.sort().values, return_counts=True)
    begins = torch.arange(steps * batch + 1, device=t.device) * size
    return torch.searchsorted(distinct, begins), (distinct % size).int(), counts.float()


def _why_not(recordings: Sequence[Columns], *_: Any) -> str | None:
    return on_processor(recordings[0][0])


COUNT = Operation(
    "bin",
    Implementation("numba", _why_not, lazily("spikenet.kernels.events.numba_binning", "count")),
    Implementation("reference", anywhere, _reference),
)
