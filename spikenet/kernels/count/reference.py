"""The tally in plain torch: the truth, and the way on a GPU, where nothing waits for the device."""

from __future__ import annotations

import torch
from torch import Tensor


def tally(flat: Tensor, reach: Tensor) -> Tensor:
    """See `spikenet.kernels.count.ops.tally`; `flat` is `[steps, n]`."""
    steps, n = flat.shape
    if flat.numel() == 0:
        return torch.zeros(steps, 7, dtype=torch.float64, device=flat.device)
    size = flat.abs()
    by_reach = size.view(steps, n // len(reach), len(reach)).sum(1, dtype=torch.float64)
    met_by_reach = (flat != 0).view(steps, n // len(reach), len(reach)).sum(1, dtype=torch.float64)
    return torch.stack(
        [
            by_reach.sum(1),
            met_by_reach.sum(1),
            by_reach @ reach,
            met_by_reach @ reach,
            size.amax(1).double(),
            (flat < 0).any(1).double(),
            _fractional(flat).any(1).double(),
        ],
        1,
    )


def tally_events(values: Tensor, indices: Tensor, starts: Tensor, reach: Tensor) -> Tensor:
    """See `spikenet.kernels.count.ops.tally_events`."""
    steps = len(starts) - 1
    step = torch.arange(steps, device=values.device).repeat_interleave(starts.diff(), output_size=len(values))
    size, met = values.abs().double(), (values != 0).double()
    weight = reach[indices.long() % len(reach)]
    columns = torch.stack([size, met, size * weight, met * weight], 1)
    marks = torch.stack([size, (values < 0).double(), _fractional(values).double()], 1)
    sums = values.new_zeros(steps, 4, dtype=torch.float64).index_add_(0, step, columns)
    most = values.new_zeros(steps, 3, dtype=torch.float64)
    most = most.scatter_reduce_(0, step[:, None].expand(-1, 3), marks, "amax")
    return torch.cat([sums, most], 1)


def _fractional(x: Tensor) -> Tensor:
    return ~(x == x.trunc()) | x.isinf()
