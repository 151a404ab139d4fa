"""Place recognition's parts: recall at its ends and by chance, silencing by hand, patches against a plain loop."""

from __future__ import annotations

import math

import pytest
import torch

from spikenet.errors import ArgumentError, ShapeError
from spikenet.models import PlaceModules, patch_normalize, recall_at


def test_recall_at_its_ends():
    places = torch.arange(40)
    assert recall_at(torch.eye(40), places) == 1.0
    assert recall_at(-torch.eye(40), places, 39) == 0.0
    assert recall_at(-torch.eye(40), places, 40) == 1.0
    assert recall_at(torch.zeros(40, 40), places, 39) == 0.0  # silence knows nothing


def test_recall_of_random_scores_is_chance():
    n, places = 4000, 20
    scores, truth = torch.rand(n, places), torch.randint(places, (n,))
    found = [recall_at(scores, truth, k) for k in (1, 5, 10)]
    assert found == sorted(found)
    for k, share in zip((1, 5, 10), found, strict=True):
        p = k / places
        assert share == pytest.approx(p, abs=5 * math.sqrt(p * (1 - p) / n))


def test_hyperactive_neurons_are_silenced():
    modules = PlaceModules((2,), places=4, per_module=2, neurons=2)
    counts = torch.tensor([[5.0, 1, 0, 1], [0, 1, 0, 1], [0, 1, 3, 1], [0, 0, 0, 9]])
    modules.assign(counts, torch.arange(4))
    assert modules.assigned.tolist() == [0, 0, 2, 3]
    free = modules.scores(counts)
    assert free[0].tolist() == [3.0, 0.0, 0.0, 1.0]
    modules.silence(counts, 0)
    assert torch.equal(modules.scores(counts), free)
    modules.silence(counts, 4)  # the last neuron answers all four
    assert modules.active.tolist() == [True, True, True, False]
    modules.silence(counts, 3)
    assert modules.active.tolist() == [True, False, True, False]
    assert modules.scores(counts)[0].tolist() == [2.5, 0.0, 0.0, 0.0]


def test_modules_see_everything_and_know_their_own():
    modules = PlaceModules((6,), places=6, per_module=3, neurons=4, theta=5.0)
    x = (torch.rand(50, 5, 6) < 0.5).float()
    counts = modules.counts(x)
    assert counts.shape == (5, 8)
    assert torch.equal(counts[:, 4:], modules.parts[1](x).sum(0))
    assert modules.own(1, torch.tensor([0, 3, 5, 2])).tolist() == [False, True, True, False]


def test_patches_against_a_loop():
    images = torch.rand(2, 9, 7).double() ** 3
    for b, row, column in torch.cartesian_prod(*map(torch.arange, images.shape)).tolist():
        around = images[b, max(0, row - 2) : row + 3, max(0, column - 2) : column + 3].flatten().tolist()
        mean = sum(around) / len(around)
        deviation = math.sqrt(sum((v - mean) ** 2 for v in around) / len(around))
        wanted = max(-1.0, min(1.0, (images[b, row, column].item() - mean) / deviation))
        assert patch_normalize(images, 5)[b, row, column].item() == pytest.approx(wanted, abs=1e-9)


def test_one_grey_is_zero():
    assert patch_normalize(torch.full((1, 12, 12), 0.3)).eq(0).all()
    assert patch_normalize(torch.zeros(1, 3, 3)).eq(0).all()


def test_what_cannot_be_is_refused():
    with pytest.raises(ArgumentError, match="10 places do not fill modules of 4"):
        PlaceModules((2,), places=10, per_module=4)
    with pytest.raises(ArgumentError, match="odd side, got 4"):
        patch_normalize(torch.zeros(1, 8, 8), 4)
    with pytest.raises(ShapeError, match=r"\[B, H, W\]"):
        patch_normalize(torch.zeros(8, 8))
