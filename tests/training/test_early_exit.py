"""Dynamic confidence against closed forms, brute force, and the same network run step by step."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

import spikenet as sn
from spikenet.errors import ArgumentError, ShapeError
from spikenet.training.early_exit import EarlyExit, fit_early_exit, oracle_exit, tradeoff


@pytest.fixture
def recordings():
    """Outputs that point to their class more and more, [8, 200, 5]."""
    labels = torch.randint(5, (200,))
    signal = nn.functional.one_hot(labels, 5).double()
    return signal * torch.rand(200, 1) + torch.randn(8, 200, 5, dtype=torch.float64), labels


def by_hand(outputs, threshold, temperature):
    """The definition, one recording at a time."""
    steps, answers = [], []
    for b in range(outputs.shape[1]):
        total = [0.0] * outputs.shape[2]
        for t in range(len(outputs)):
            total = [a + o for a, o in zip(total, outputs[t, b].tolist(), strict=True)]
            weights = [math.exp(a / temperature) for a in total]
            if max(weights) / sum(weights) > threshold:
                break
        steps.append(t + 1)
        answers.append(total.index(max(total)))
    return steps, answers


def test_confidence_of_two_classes_is_a_logistic_function(recordings):
    outputs = recordings[0][..., :2]
    difference = outputs.cumsum(0)[..., 0] - outputs.cumsum(0)[..., 1]
    wanted = torch.sigmoid(difference.abs() / 3.0)
    torch.testing.assert_close(EarlyExit(0.5, 3.0).confidence(outputs), wanted)


@pytest.mark.parametrize(("threshold", "temperature"), [(0.5, 1.0), (0.7, 2.5), (0.99, 0.3)])
def test_exits_are_those_of_the_definition(recordings, threshold, temperature):
    exits = EarlyExit(threshold, temperature)(recordings[0])
    assert (exits.steps.tolist(), exits.answers.tolist()) == by_hand(recordings[0], threshold, temperature)


def test_the_ends_of_the_scale(recordings):
    outputs, _ = recordings
    first, last = EarlyExit(0.0)(outputs), EarlyExit(1.0)(outputs)
    assert first.steps.eq(1).all()
    assert torch.equal(first.answers, outputs[0].argmax(-1))
    assert last.steps.eq(8).all()
    assert torch.equal(last.answers, outputs.sum(0).argmax(-1))


def test_frontier_against_brute_force(recordings):
    found = tradeoff(*recordings, temperature=2.0)
    points = list(zip(found.steps.tolist(), found.accuracy.tolist(), strict=True))
    wanted = {p for p in points if not any(q != p and q[0] <= p[0] and q[1] >= p[1] for q in points)}
    kept = found.frontier()
    assert set(zip(kept.steps.tolist(), kept.accuracy.tolist(), strict=True)) == wanted
    assert kept.steps.diff().gt(0).all()
    assert kept.accuracy.diff().gt(0).all()


def test_oracle_bounds_every_threshold(recordings):
    outputs, labels = recordings
    best, found = oracle_exit(outputs, labels), tradeoff(outputs, labels)
    static = (outputs.cumsum(0).argmax(-1) == labels).double().mean(1)
    assert best.accuracy(labels) >= static.max()
    assert best.accuracy(labels) >= found.accuracy.max()
    assert best.steps.le(EarlyExit(1.0)(outputs).steps).all()
    exits = EarlyExit(0.6)(outputs)
    right = exits.answers == labels
    assert right.any()
    assert (best.steps <= exits.steps)[right].all()


def test_what_is_chosen_keeps_the_accuracy_and_is_the_fastest(recordings):
    outputs, labels = recordings
    wanted = EarlyExit(1.0)(outputs).accuracy(labels) - 0.02
    chosen = fit_early_exit(outputs, labels, (0.5, 1.0, 4.0), tolerance=0.02)
    exits = chosen(outputs)
    assert exits.accuracy(labels) >= wanted - 1e-9
    assert exits.mean_steps < 8
    tried = [EarlyExit(c, temperature)(outputs) for temperature in (0.5, 1.0, 4.0) for c in torch.linspace(0, 1, 50)]
    fastest = min(e.mean_steps for e in tried if e.accuracy(labels) >= wanted)
    assert exits.mean_steps <= fastest + 0.1  # thresholds between those tried may differ by a recording or two


def test_live_stops_where_the_whole_sequence_says():
    net = nn.Sequential(nn.Linear(6, 4), sn.LeakyReadout(2.0)).double()
    frames = torch.randn(12, 7, 6, dtype=torch.float64)
    taken = []

    def watched():
        for frame in frames:
            taken.append(1)
            yield frame

    with torch.no_grad():
        chosen = EarlyExit(0.6)
        whole = chosen(net(frames))
        live = chosen.live(sn.Stream(net), watched())
    assert torch.equal(live.steps, whole.steps)
    assert torch.equal(live.answers, whole.answers)
    assert len(set(whole.steps.tolist())) > 1
    assert len(taken) == whole.steps.max()


def test_live_at_the_end_of_the_frames():
    net = nn.Sequential(nn.Linear(2, 3), sn.LeakyReadout(2.0))
    with torch.no_grad():
        exits = EarlyExit(1.0).live(sn.Stream(net), torch.randn(5, 4, 2))
    assert exits.steps.eq(5).all()


def test_what_cannot_be_is_refused():
    with pytest.raises(ArgumentError, match="between 0 and 1"):
        EarlyExit(1.5)
    with pytest.raises(ArgumentError, match="above 0, got 0"):
        EarlyExit(0.5, 0.0)
    with pytest.raises(ShapeError, match=r"got \(3, 4\)"):
        EarlyExit(0.5)(torch.zeros(3, 4))
    with pytest.raises(ShapeError, match="at least one frame"):
        EarlyExit(0.5).live(sn.Stream(nn.Linear(2, 3)), [])
