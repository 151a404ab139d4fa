"""The contrastive loss at its two ends, and against cross-entropy written out."""

from __future__ import annotations

import math

import pytest
import torch

from spikenet.errors import ArgumentError, ShapeError
from spikenet.training import info_nce


def test_where_nothing_tells_them_apart_it_is_log_n():
    assert info_nce(torch.ones(3, 8, 5), torch.ones(3, 8, 5)).item() == pytest.approx(math.log(8))


def test_partners_alone_together_cost_nothing():
    assert info_nce(torch.eye(6), 3 * torch.eye(6), 0.01).item() == pytest.approx(0.0, abs=1e-6)
    assert info_nce(torch.eye(6), torch.eye(6).roll(1, 0), 0.1).item() > 9


def test_written_out():
    a, b = torch.randn(2, 4, 3).double(), torch.randn(2, 4, 3).double()
    total = 0.0
    for g in range(2):
        near = [[torch.cosine_similarity(x, y, 0).item() / 0.3 for y in b[g]] for x in a[g]]
        for i in range(4):
            row, column = near[i], [near[j][i] for j in range(4)]
            total -= sum(near[i][i] - math.log(sum(map(math.exp, line))) for line in (row, column)) / 2
    assert info_nce(a, b, 0.3).item() == pytest.approx(total / 8)
    assert info_nce(b, a, 0.3).item() == pytest.approx(total / 8)


def test_gradients():
    a, b = (torch.randn(2, 3, 4, dtype=torch.float64, requires_grad=True) for _ in range(2))
    torch.autograd.gradcheck(lambda x, y: info_nce(x, y, 0.5), (a, b))


def test_what_cannot_be_is_refused():
    with pytest.raises(ShapeError, match=r"got \(2, 3\) and \(2, 4\)"):
        info_nce(torch.zeros(2, 3), torch.zeros(2, 4))
    with pytest.raises(ArgumentError, match="above 0, got 0"):
        info_nce(torch.zeros(2, 3), torch.zeros(2, 3), 0)
