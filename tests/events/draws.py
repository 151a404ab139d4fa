"""Random event tensors for hypothesis, each with the dense tensor that it stands for."""

from __future__ import annotations

import torch
from hypothesis import strategies as st

from spikenet.events import EventTensor

CAMERA = [(2, 3, 5), (2, 4, 4), (1, 1, 7), (3, 5, 1)]
COCHLEA = [(7,), (1,), (12,)]


@st.composite
def pairs(draw, features=tuple(CAMERA + COCHLEA), full=False, least=0):
    """``(dense, events)``: whole numbers from ``least`` to 4, some rows and some batches empty; lengths are drawn, or T
    if ``full``."""
    steps, batch = draw(st.integers(0, 5)), draw(st.integers(0, 3))
    shape = (steps, batch, *draw(st.sampled_from(features)))
    lengths = torch.tensor([steps if full else draw(st.integers(0, steps)) for _ in range(batch)], dtype=torch.int64)
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**16)))
    dense = torch.randint(-4, 5, shape, generator=generator).clamp(min=least).float()
    dense[torch.rand(shape[:2], generator=generator) < 0.2] = 0
    dense[torch.arange(steps)[:, None] >= lengths] = 0
    return dense, EventTensor.from_dense(dense, lengths)


def assert_is(events: EventTensor, dense: torch.Tensor, lengths: torch.Tensor) -> None:
    """The events are exactly that dense tensor, keep every rule of the layout and store no zeros."""
    events = events.to("cpu")
    EventTensor(events.indptr, events.indices, events.values, events.shape, events.lengths)
    assert events.shape == tuple(dense.shape)
    assert torch.equal(events.to_dense(), dense)
    assert events.nnz == int((dense != 0).sum())
    assert torch.equal(events.lengths, lengths)
