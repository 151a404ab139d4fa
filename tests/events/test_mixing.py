"""CutMix and EventMix against dense mixing with the same masks, and against the rules for their labels."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kstest

from spikenet.errors import ArgumentError, DtypeError, ShapeError
from spikenet.events import CutMix, EventMix, EventTensor
from tests.events.draws import assert_is, pairs

BOTH = [CutMix(), EventMix(), EventMix(components=1)]


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def one_hot(labels, classes=5):
    return torch.nn.functional.one_hot(torch.as_tensor(labels), classes).float()


def tagged(batch, steps, features):
    """Every address of every step holds one event for entry 0, two for entry 1, and so on."""
    dense = (torch.arange(batch) + 1.0).view(1, batch, *[1] * len(features)).expand(steps, batch, *features)
    return EventTensor.from_dense(dense), torch.eye(batch)


@settings(max_examples=25)
@given(drawn=pairs(), seed=st.integers(0, 999), mix=st.sampled_from(BOTH))
def test_a_mix_is_valid_and_each_event_comes_from_its_place(drawn, seed, mix):
    dense, events = drawn
    labels = one_hot(torch.arange(events.batch) % 5)
    mixed, soft = mix(events, labels, seeded(seed))
    result = mixed.to_dense()
    partner = torch.randperm(events.batch, generator=seeded(seed))  # the generator's first draw
    assert_is(mixed, result, torch.maximum(events.lengths, events.lengths[partner]))
    assert ((result == dense) | (result == dense[:, partner])).all()
    assert soft.shape == (events.batch, 5)
    torch.testing.assert_close(soft.sum(1), torch.ones(events.batch))
    assert ((soft >= 0) & (soft <= 1)).all()
    again, soft_again = mix(events, labels, seeded(seed))
    assert torch.equal(again.to_dense(), result)
    assert torch.equal(soft_again, soft)


@pytest.mark.parametrize("features", [(2, 8, 6), (10,)])
def test_cutmix_cuts_boxes_and_weighs_their_area(features):
    events, labels = tagged(4, 3, features)
    axes = len(features[-2:])
    boxes = 0
    for seed in range(30):
        mixed, soft = CutMix()(events, labels, seeded(seed))
        partner = torch.randperm(4, generator=seeded(seed))
        foreign = mixed.to_dense() == (partner + 1.0).view(1, 4, *[1] * len(features))
        for b in torch.nonzero(partner != torch.arange(4)).flatten().tolist():
            assert (foreign[:, b] == foreign[:1, b]).all(), "one box for all steps"
            plane = foreign[0, b].reshape(-1, *features[-2:])[0] if axes == 2 else foreign[0, b]
            area = plane.float().mean().item()
            assert soft[b, b].item() == pytest.approx(1 - area, abs=1e-6)
            assert soft[b, partner[b]].item() == pytest.approx(area, abs=1e-6)
            if area:
                corners = [(places.min(), places.max() + 1) for places in plane.nonzero(as_tuple=True)]
                assert plane[tuple(slice(*corner) for corner in corners)].all(), "a full box"
                boxes += 1
    assert boxes > 40


def test_cutmix_draws_the_area_uniformly():
    """Away from the edges, a box of side sqrt(1 - lam) in both directions has an area of 1 - lam, uniform in 0 to 1."""
    begin, end = CutMix._boxes(4000, (1000, 1000), seeded(2))
    inner = ((begin > 0) & (end < 1000)).all(1)
    side = (end - begin)[inner].double()
    assert torch.equal(side[:, 0], side[:, 1])
    chance = (1 - side[:, 0] / 1000) ** 2  # of lying inside, given the side
    area = (side[:, 0] / 1000) ** 2
    weights = 1 / chance.clamp(min=1e-3)
    below = [(weights[area < level].sum() / 4000).item() for level in (0.1, 0.25, 0.5)]
    assert below == pytest.approx([0.1, 0.25, 0.5], abs=0.03)


@pytest.mark.parametrize("features", [(1, 9, 8), (16,)])
def test_eventmix_weighs_counts(features):
    """With k and m the shares of events kept and taken, the labels weigh k / (k + m) and m / (k + m)."""
    dense = torch.randint(1, 4, (6, 3, *features), generator=seeded(0)).float()
    dense[:, 1] *= 10  # entries are told apart by their counts
    dense[:, 2] *= 100
    events = EventTensor.from_dense(dense)
    mixes = 0
    for seed in range(20):
        mixed, soft = EventMix()(events, torch.eye(3), seeded(seed))
        partner = torch.randperm(3, generator=seeded(seed))
        result = mixed.to_dense()
        for b in torch.nonzero(partner != torch.arange(3)).flatten().tolist():
            other = int(partner[b])
            own = result[:, b] == dense[:, b]
            kept = (dense[:, b] * own).sum() / dense[:, b].sum()
            came = (dense[:, other] * ~own).sum() / dense[:, other].sum()
            assert soft[b, b].item() == pytest.approx((kept / (kept + came)).item(), rel=1e-5)
            assert soft[b, other].item() == pytest.approx((came / (kept + came)).item(), rel=1e-5)
            mixes += 0 < own.float().mean() < 1
    assert mixes > 20


def test_eventmix_takes_the_share_that_it_drew():
    """The exchanged share of a full grid is 1 - lam: uniform in 0 to 1, up to the sampled quantile."""
    events, labels = tagged(30, 8, (1, 12, 12))
    shares = []
    for seed in range(10):
        mixed, _ = EventMix()(events, labels, seeded(seed))
        partner = torch.randperm(30, generator=seeded(seed))
        foreign = (mixed.to_dense() == (partner + 1.0).view(1, 30, 1, 1, 1)).float().mean((0, 2, 3, 4))
        shares += foreign[partner != torch.arange(30)].tolist()
    assert len(shares) > 250
    assert kstest(shares, "uniform").pvalue > 1e-3


def test_one_gaussian_makes_one_solid_cloud():
    """With one component the cloud is an ellipsoid: convex, so every line through it meets one run of steps."""
    events, labels = tagged(2, 9, (1, 10, 10))
    seen = 0
    for seed in range(20):
        if torch.randperm(2, generator=seeded(seed))[0] == 1:
            mixed, _ = EventMix(components=1)(events, labels, seeded(seed))
            cloud = mixed.to_dense()[:, 0, 0] == 2
            for axis in range(3):
                turns = cloud.float().diff(dim=axis).abs().sum(axis)
                starts_inside = cloud.select(axis, 0).float()
                assert (turns + starts_inside <= 2).all()
            seen += bool(cloud.any())
    assert seen > 5


@pytest.mark.parametrize("mix", BOTH)
def test_empty_entries_keep_their_labels(mix):
    events = EventTensor.from_dense(torch.zeros(3, 2, 2, 4, 4))
    mixed, soft = mix(events, one_hot([1, 1]), seeded(0))
    assert mixed.nnz == 0
    assert soft.tolist() == [[0, 1, 0, 0, 0]] * 2


def test_an_empty_entry_counts_for_nothing_in_eventmix():
    dense = torch.zeros(4, 2, 1, 6, 6)
    dense[:, 1] = 1
    for seed in range(30):
        mixed, soft = EventMix()(EventTensor.from_dense(dense), torch.eye(2), seeded(seed))
        if torch.randperm(2, generator=seeded(seed))[0] == 1:
            assert soft[0].tolist() == ([0, 1] if mixed.entry(0).nnz else [1, 0])


@pytest.mark.parametrize("mix", BOTH)
def test_labels_that_do_not_fit_are_refused(mix):
    events = EventTensor.from_dense(torch.ones(2, 3, 4))
    with pytest.raises(ShapeError, match=r"labels \[3, classes\], received \(2, 5\)"):
        mix(events, one_hot([0, 1]), seeded(0))
    with pytest.raises(ShapeError, match=r"received \(3,\); torch\.nn\.functional\.one_hot"):
        mix(events, torch.tensor([0, 4, 1]), seeded(0))
    with pytest.raises(DtypeError, match=r"float32, received torch\.int64"):
        mix(events, one_hot([0, 4, 1]).long(), seeded(0))


def test_a_mixture_needs_a_component():
    with pytest.raises(ArgumentError, match="1 component or more"):
        EventMix(components=0)


@pytest.mark.parametrize("mix", BOTH)
def test_mixes_follow_each_other(mix):
    """Labels are linear: weights that were mixed before go into the mix of entries as classes of one's own would."""
    events, labels = tagged(4, 3, (1, 8, 6))
    once, weights = CutMix()(events, labels, seeded(2))
    twice, both = mix(once, weights, seeded(5))
    alike, of_entries = mix(once, torch.eye(4), seeded(5))
    assert torch.equal(twice.to_dense(), alike.to_dense())
    torch.testing.assert_close(both, of_entries @ weights)
    assert ((both > 0).sum(1) > 2).any()


@pytest.mark.gpu
@pytest.mark.parametrize("mix", BOTH)
def test_a_gpu_gives_the_same(mix):
    dense = torch.randint(0, 3, (6, 4, 2, 8, 8)).float()
    events, labels = EventTensor.from_dense(dense), torch.eye(4)
    mixed, soft = mix(events, labels, seeded(3))
    there, soft_there = mix(events.to("cuda"), labels.cuda(), seeded(3))
    if isinstance(mix, CutMix):  # a Gaussian's exp may round across the level elsewhere
        assert torch.equal(there.to_dense().cpu(), mixed.to_dense())
    torch.testing.assert_close(soft_there.cpu(), soft, atol=1e-2, rtol=0)
