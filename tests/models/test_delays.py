"""The network with learned delays: the published sizes, what it makes of lengths, and what is not learned."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import nn

from spikenet.cli.options import PRESETS
from spikenet.events import EventTensor
from spikenet.layers import DelayLinear
from spikenet.models import DelayNet


def preset(name: str, classes: int, **more: Any) -> DelayNet:
    model = yaml.safe_load((Path(PRESETS) / f"{name}.yaml").read_text())["model"]
    return DelayNet((140,), classes, **{**model, **more})


def layers(net: nn.Module) -> list[DelayLinear]:
    return [m for m in net.modules() if isinstance(m, DelayLinear)]


def parameters(net: nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


@pytest.mark.parametrize(
    ("name", "classes", "more", "count"),
    [
        ("shd-delays", 20, {}, 214_016),
        ("ssc-delays", 35, {}, 1_230_848),
        ("ssc-delays", 35, {"elements": 2}, 2_458_624),
        ("gsc-delays", 35, {}, 1_230_848),
        ("gsc-delays", 35, {"elements": 2}, 2_458_624),
    ],
)
def test_presets_have_the_published_number_of_parameters(name: str, classes: int, more: dict, count: int) -> None:
    assert parameters(preset(name, classes, **more)) == count


@pytest.mark.parametrize(("name", "taps", "first"), [("shd-delays", 25, 12.0), ("ssc-delays", 31, 15.0)])
def test_presets_start_from_the_published_sigma(name: str, taps: int, first: float) -> None:
    net = preset(name, 20)
    assert {layer.taps for layer in layers(net)} == {taps}
    assert {float(layer.sigma) for layer in layers(net)} == {first}


def test_every_layer_makes_the_sequence_longer() -> None:
    net = DelayNet((2, 3), 4, hidden=(5, 7), taps=9)
    assert net.body(torch.rand(6, 2, 2, 3)).shape == (6 + 3 * 4, 2, 4)
    assert net(torch.rand(6, 2, 2, 3)).shape == (2, 4)
    torch.testing.assert_close(net(torch.rand(6, 2, 2, 3)).sum(-1), torch.full((2,), 18.0))


def test_steps_after_the_end_of_a_sequence_change_nothing() -> None:
    net = DelayNet((5,), 3, hidden=(8,), taps=7).eval()
    short, long = (EventTensor.from_dense((torch.rand(steps, 1, 5) < 0.4).float()) for steps in (4, 9))
    together = net(EventTensor.stack([short, long]))
    torch.testing.assert_close(together, torch.cat([net(short), net(long)]))


def test_delays_that_are_not_learned_are_whole_and_the_same_in_training() -> None:
    torch.manual_seed(0)
    learned = DelayNet((5,), 3, hidden=(8,), taps=7, dropout=0.0)
    torch.manual_seed(0)
    fixed = DelayNet((5,), 3, hidden=(8,), taps=7, dropout=0.0, learned=False)
    for ours, drawn in zip(layers(fixed), layers(learned), strict=True):
        assert torch.equal(ours.weight, drawn.weight)
        assert torch.equal(ours.delay, drawn.delay.round())
        assert not ours.delay.requires_grad
        x = torch.rand(4, 2, ours.in_features)
        torch.testing.assert_close(ours.train()(x), ours.eval()(x))


def test_one_tap_is_a_network_without_delays() -> None:
    net = DelayNet((5,), 3, hidden=(8,), taps=1).double().eval()
    x = torch.rand(6, 2, 5).double()
    assert net.body(x).shape == (6, 2, 3)
    first = net.body.hidden1.delays
    torch.testing.assert_close(first(x), x @ first.weight[..., 0].t())
