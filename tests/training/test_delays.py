"""Training of learned delays: the published schedules against torch's, and a run that goes on where it was."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR, OneCycleLR

from spikenet.errors import ArgumentError
from spikenet.layers import DelayLinear
from spikenet.models import DelayNet
from spikenet.training import Classifier, Optimiser, RunFolder, TrainerOptions, fit, load_tree, seed_everything
from spikenet.training.one_cycle import OneCycle
from tests.training.tiny import TinyEvents

EPOCHS = 4
PUBLISHED = Optimiser(lr=5e-3, weight_decay=1e-5, decoupled=False, schedule="one-cycle", sigma_share=1.0)


def adam(*groups: dict) -> torch.optim.Adam:
    return torch.optim.Adam([{"params": [nn.Parameter(torch.zeros(2))], **group} for group in groups], lr=5e-3)


def test_one_optimiser_does_what_the_published_two_do() -> None:
    both = adam({"delays": False}, {"delays": True, "lr": 0.1})
    weights, positions = adam({}), adam({"lr": 0.1})
    ours = OneCycle(both, 20, 20)
    theirs = OneCycleLR(weights, 5e-3, total_steps=20), CosineAnnealingLR(positions, 20)
    for _ in range(20):
        for group, other in zip(both.param_groups, (weights, positions), strict=True):
            assert group["lr"] == pytest.approx(other.param_groups[0]["lr"], rel=1e-12)
            assert group["betas"] == pytest.approx(other.param_groups[0]["betas"], rel=1e-12)
        for optimiser in (both, weights, positions):
            optimiser.step()
        for schedule in (ours, *theirs):
            schedule.step()


def test_delays_that_settle_have_no_rate_afterwards() -> None:
    optimiser = adam({"delays": False}, {"delays": True, "lr": 0.1})
    schedule, rates = OneCycle(optimiser, 20, 5), []
    for _ in range(20):
        rates.append(optimiser.param_groups[1]["lr"])
        optimiser.step()
        schedule.step()
    assert rates[:5] == pytest.approx([0.05 * (1 + math.cos(math.pi * epoch / 5)) for epoch in range(5)])
    assert set(rates[5:]) == {0.0}


def test_delays_have_a_group_of_their_own() -> None:
    net = DelayNet((5,), 3, hidden=(8,), taps=7)
    matrices, vectors, delays = Classifier(net, 3, Optimiser(lr=0.2, delay_lr=0.7, weight_decay=0.3))._groups()
    layers = [m for m in net.modules() if isinstance(m, DelayLinear)]
    assert matrices["params"] == [layer.weight for layer in layers]
    assert delays["params"] == [layer.delay for layer in layers]
    assert [(g["lr"], g["weight_decay"]) for g in (matrices, vectors, delays)] == [(0.2, 0.3), (0.2, 0.0), (0.7, 0.0)]
    fixed = DelayNet((5,), 3, hidden=(8,), taps=7, learned=False)
    assert len(Classifier(fixed, 3)._groups()) == 2


@pytest.mark.parametrize("wrong", [{"delay_lr": 0}, {"sigma_share": 1.5}])
def test_options_out_of_range_are_refused(wrong: dict) -> None:
    with pytest.raises(ArgumentError, match=f"optim.{next(iter(wrong))}"):
        Optimiser(**wrong)


def trained(folder: RunFolder, optim: Optimiser) -> DelayNet:
    data = TinyEvents()
    seed_everything(0)
    model = DelayNet(data.feature_shape, 3, hidden=(8, 8), taps=5)
    fit(model, data, folder, optim=optim, options=TrainerOptions(EPOCHS, 0.0, accelerator="cpu"), seed=0)
    return model


def delays(model: nn.Module) -> list[DelayLinear]:
    return [m for m in model.modules() if isinstance(m, DelayLinear)]


def resumed(folder: RunFolder, optim: Optimiser) -> DelayNet:
    """A run whose last checkpoint is taken away and which goes on from the one before; it ends with the same bits."""
    model = trained(folder, optim)
    whole = folder.checkpoint(EPOCHS).read_bytes()
    folder.checkpoint(EPOCHS).unlink()
    again = trained(folder, optim)
    assert folder.checkpoint(EPOCHS).read_bytes() == whole
    for name, tensor in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor), name
    return again


@pytest.mark.parametrize("optim", [PUBLISHED, Optimiser(sigma_share=1.0)], ids=["published", "cosine"])
def test_a_resumed_run_goes_on_within_the_fall_of_sigma(tmp_path: Path, optim: Optimiser) -> None:
    model = resumed(folder := RunFolder.create(tmp_path, "run", ""), optim)
    assert [float(layer.sigma) for layer in delays(model)] == pytest.approx([0.23, 0.23, 0.23])
    stored = load_tree(folder.checkpoint(EPOCHS - 1))["state_dict"]["model.body.out.delays.sigma"]
    assert stored.item() == pytest.approx(2 * (0.23 / 2) ** ((EPOCHS - 1) / EPOCHS))


@pytest.mark.parametrize("schedule", ["one-cycle", "cosine"])
def test_a_resumed_run_leaves_settled_delays_alone(tmp_path: Path, schedule: Any) -> None:
    optim = Optimiser(lr=5e-3, schedule=schedule, settle=0.5)
    model = resumed(folder := RunFolder.create(tmp_path, "run", ""), optim)
    stored = load_tree(folder.checkpoint(EPOCHS // 2 + 1))["state_dict"]
    for layer, name in zip(delays(model), ("hidden1", "hidden2", "out"), strict=True):
        assert torch.equal(layer.delay, layer.delay.round())
        assert torch.equal(layer.delay, stored[f"model.body.{name}.delays.delay"])
        assert not torch.equal(layer.weight, stored[f"model.body.{name}.delays.weight"])
        x = torch.rand(5, 2, layer.in_features)
        torch.testing.assert_close(layer.train()(x), layer.eval()(x), rtol=0.01, atol=0.01)
