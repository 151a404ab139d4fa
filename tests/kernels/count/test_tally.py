"""The one-pass tally against numbers by hand and against plain torch."""

import numpy as np
import pytest
import torch

from spikenet.kernels.backends import use_backend
from spikenet.kernels.count import COLUMNS, tally, tally_events

BACKENDS = ("numba", "reference")


@pytest.mark.parametrize("backend", BACKENDS)
def test_by_hand(backend: str) -> None:
    x = torch.tensor([[0.0, 1.0, -2.0, 0.0], [0.5, -0.0, 0.0, 1.0]])
    with use_backend(backend):
        found = tally(x, 2, torch.tensor([2.0, 3.0], dtype=torch.float64))
    assert found.tolist() == [[3.0, 2.0, 3.0 + 4.0, 3.0 + 2.0, 2.0, 1.0, 0.0], [1.5, 2.0, 4.0, 5.0, 1.0, 0.0, 1.0]]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 1e30, 2.5, 2.0, 1.0])
@pytest.mark.parametrize("backend", BACKENDS)
def test_what_is_no_whole_number(backend: str, value: float) -> None:
    x = torch.zeros(1, 700)
    x[0, 699] = value
    with use_backend(backend):
        found = tally(x, 1)
    assert bool(found[0, COLUMNS.fractional]) == (not np.isfinite(value) or value != np.trunc(value))


@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("period", [1, 2, 36, 700])
@pytest.mark.parametrize("kind", ["spikes", "ternary", "counts", "graded", "mixed"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_numba_equals_the_reference(steps: int, period: int, kind: str, dtype: torch.dtype) -> None:
    x = (torch.rand(steps, 5, period * 7, dtype=dtype) < 0.3).to(dtype)
    if kind == "ternary":
        x *= torch.randn_like(x).sign()
    elif kind == "counts":
        x = torch.poisson(2 * x)
    elif kind == "graded":
        x = torch.randn_like(x)
    elif kind == "mixed":
        x[-1, -1, -1] = -3.0
    reach = torch.randint(0, 10, (period,)).double()
    with use_backend("reference"):
        expected = tally(x, steps, reach)
    with use_backend("numba"):
        found = tally(x, steps, reach)
    if kind == "graded":
        torch.testing.assert_close(found, expected, rtol=1e-6 if dtype == torch.float32 else 1e-12, atol=0)
    else:
        assert torch.equal(found, expected)


@pytest.mark.parametrize("reach", [None, torch.arange(5, dtype=torch.float64)])
@pytest.mark.parametrize("backend", BACKENDS)
def test_the_layout_in_memory_makes_no_difference(backend: str, reach: torch.Tensor | None) -> None:
    x = torch.poisson(torch.rand(4, 3, 5, 10))
    views = (
        x.transpose(2, 3),
        x.permute(0, 3, 1, 2),
        x.transpose(0, 2),
        x[:, :2, :, 5:],
        x[:, :1].expand(-1, 7, -1, -1),
    )
    with use_backend(backend):
        for view in views:
            steps = len(view)
            assert torch.equal(tally(view, steps, reach), tally(view.contiguous(), steps, reach))


@pytest.mark.parametrize("backend", BACKENDS)
def test_events_are_tallied_as_frames(backend: str) -> None:
    x = torch.poisson(torch.full((3, 2, 12), 0.4)) * torch.tensor(1.0).where(torch.rand(3, 2, 12) < 0.8, -1.0)
    x[1] = 0.0
    row, column = x.view(6, 12).nonzero(as_tuple=True)
    starts = torch.cat([torch.zeros(1, dtype=torch.int64), torch.bincount(row // 2, minlength=3).cumsum(0)])
    reach = torch.rand(4, dtype=torch.float64)
    with use_backend(backend):
        found = tally_events(x.view(6, 12)[row, column], column.int(), starts, reach)
        torch.testing.assert_close(found, tally(x, 3, reach))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", [torch.bool, torch.int64, torch.uint8, torch.bfloat16])
def test_other_dtypes_and_nothing_at_all(backend: str, dtype: torch.dtype) -> None:
    with use_backend(backend):
        assert tally(torch.ones(2, 3).to(dtype), 2)[:, COLUMNS.total].tolist() == [3.0, 3.0]
        assert tally(torch.ones(2, 0).to(dtype), 2).tolist() == [[0.0] * 7] * 2
