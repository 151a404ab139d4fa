"""Seeds that follow from where a run is, so that a resumed run draws what an uninterrupted one would have drawn."""

from __future__ import annotations

import random

import numpy as np
import torch


def batch_seed(seed: int, epoch: int, batch: int, rank: int = 0) -> int:
    """Seed of one training batch: 64 bits of numpy's `SeedSequence` over (seed, epoch, batch), and over the number of
    the process where several share a batch; the first draws what a process alone would draw."""
    where = (seed, epoch, batch, rank) if rank else (seed, epoch, batch)
    return int(np.random.SeedSequence(where).generate_state(1, np.uint64)[0])


def seed_everything(seed: int) -> None:
    """Seed the generators of torch (all devices), numpy and Python."""
    torch.manual_seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 - for other people's modules, which may draw from it
    random.seed(seed)
