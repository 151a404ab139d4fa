"""The whole network with delays against the published one, made of SpikingJelly's and DCLS's modules."""

from __future__ import annotations

from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor, nn
from torch.nn import functional

from spikenet.cli.options import PRESETS
from spikenet.layers import DelayLinear, SigmaSchedule
from spikenet.models import DelayNet
from spikenet.training import Classifier, Optimiser

pytestmark = pytest.mark.peers
dcls = pytest.importorskip("DCLS.construct.modules")
jelly = pytest.importorskip("spikingjelly.activation_based")
SIZES, TAPS, TAU, DROPPED = (6, 10, 9, 4), 9, 1.5, 0.3


class Published(nn.Module):
    """Delays, batch norm, LIF, dropout; the last layer's LIF never fires and its potential is read."""

    def __init__(self) -> None:
        from spikingjelly.activation_based import layer, neuron, surrogate

        super().__init__()
        self.blocks = nn.ModuleList()
        for number, (a, b) in enumerate(pairwise(SIZES)):
            last = number == len(SIZES) - 2
            lif = neuron.LIFNode(
                TAU, False, 1e9 if last else 1.0, 0.0, surrogate.ATan(5.0), True, "m", store_v_seq=True
            )
            convolution = dcls.Dcls1d(a, b, 1, dilated_kernel_size=TAPS, bias=False, version="gauss")
            nn.init.kaiming_uniform_(convolution.weight, nonlinearity="relu")
            nn.init.uniform_(convolution.P, -TAPS // 2, TAPS // 2)
            convolution.clamp_parameters()
            norm = nn.Identity() if last else layer.BatchNorm1d(b, step_mode="m")
            self.blocks.append(nn.ModuleList([convolution, norm, lif, layer.Dropout(DROPPED, step_mode="m")]))

    def forward(self, x: Tensor) -> Tensor:
        for convolution, norm, lif, dropout in self.blocks:
            padded = functional.pad(x.permute(1, 2, 0), (TAPS - 1, (TAPS - 1) // 2))
            x = convolution(padded).permute(2, 0, 1)
            x = x if isinstance(norm, nn.Identity) else norm(x.unsqueeze(3)).squeeze(3)
            lif.reset()
            dropout.reset()
            x = dropout(lif(x))
        return lif.v_seq.softmax(-1).sum(0)


def pair(sigma: float = 0.23, learned: bool = True) -> tuple[DelayNet, Published]:
    theirs, options = Published().double(), {"tau": TAU, "dropout": DROPPED, "sigma": sigma, "learned": learned}
    ours = DelayNet((SIZES[0],), SIZES[-1], SIZES[1:-1], TAPS, **options).double()  # type: ignore[arg-type]
    for convolution, *_ in theirs.blocks:
        nn.init.constant_(convolution.SIG, sigma).requires_grad_(False)
    if not learned:
        round_(theirs)
    layers: list[Any] = [m for m in ours.modules() if isinstance(m, DelayLinear)]
    for layer, block in zip(layers, theirs.blocks, strict=True):
        layer.load_dcls_state(block[0].state_dict())
    return ours, theirs


def test_the_same_answer_and_gradients_in_training() -> None:
    ours, theirs = pair()
    x = (torch.rand(20, 5, SIZES[0]) < 0.4).double()
    answers, gradients = [], []
    for net in (ours, theirs):
        torch.manual_seed(7)  # the same masks
        answers.append(net(x))
        functional.cross_entropy(answers[-1], torch.arange(5) % 4).backward()
    torch.testing.assert_close(*answers, rtol=0.0, atol=1e-6)
    assert answers[0].std() > 0.1
    blocks = [*ours.body[2:]]  # type: ignore[misc]
    for block, theirs_block in zip(blocks, theirs.blocks, strict=True):
        gradients.append((block.delays.weight.grad, theirs_block[0].weight.grad))
        gradients.append((block.delays.delay.grad, -theirs_block[0].P.grad[0]))
        if hasattr(block, "norm"):
            gradients.append((block.norm.weight.grad, theirs_block[1].weight.grad))
            torch.testing.assert_close(block.norm.running_var, theirs_block[1].running_var, rtol=1e-6, atol=1e-9)
    for got, wanted in gradients:
        assert wanted.abs().max() > 0
        torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-6)


EPOCHS, BATCHES = 8, 3


def recordings() -> list[tuple[Tensor, Tensor]]:
    """Batches of counts `[T, B, C]` and labels; the last one is smaller."""
    return [
        (torch.poisson(torch.full((20, size, SIZES[0]), 0.4)).double(), torch.arange(size) % 4) for size in (6, 6, 4)
    ]


def published_losses(net: Published, batches: list[tuple[Tensor, Tensor]], learned: bool) -> list[float]:
    """The published loop: two optimisers, positions clamped after each step, rates and SIG moved after each epoch. The
    rate of fixed positions is 0."""
    layers, losses = [block[0] for block in net.blocks], []
    norms = [p for block in net.blocks for p in block[1].parameters()]
    groups = [{"params": [m.weight for m in layers], "weight_decay": 1e-5}, {"params": norms, "weight_decay": 0.0}]
    weights = torch.optim.Adam(groups, lr=1e-3)
    positions = torch.optim.Adam([m.P for m in layers], lr=0.1 if learned else 0.0)
    schedules = (
        torch.optim.lr_scheduler.OneCycleLR(weights, 5e-3, total_steps=EPOCHS),
        torch.optim.lr_scheduler.CosineAnnealingLR(positions, EPOCHS),
    )
    for epoch in range(EPOCHS):
        for number, (x, labels) in enumerate(batches):
            torch.manual_seed(BATCHES * epoch + number)
            loss = functional.cross_entropy(net(x), functional.one_hot(labels, SIZES[-1]).double())
            weights.zero_grad()
            positions.zero_grad()
            loss.backward()
            weights.step()
            positions.step()
            for layer in layers:
                layer.clamp_parameters()
            losses.append(loss.item())
        for schedule in schedules:
            schedule.step()
        for layer in layers if epoch < EPOCHS // 4 else ():
            layer.SIG.mul_((0.23 / (TAPS // 2)) ** (1 / (EPOCHS // 4)))
    return losses


def preset_losses(net: DelayNet, batches: list[tuple[Tensor, Tensor]]) -> list[float]:
    """What a run of the preset does in the same steps."""
    optim = Optimiser(**yaml.safe_load((PRESETS / "shd-delays.yaml").read_text())["optim"])
    module, losses = Classifier(net, SIZES[-1], optim), []
    module.trainer = SimpleNamespace(max_epochs=EPOCHS, estimated_stepping_batches=EPOCHS * BATCHES)  # type: ignore[assignment]
    made = module.configure_optimizers()
    optimiser, rates = made["optimizer"], made["lr_scheduler"]["scheduler"]
    widths = SigmaSchedule(net, int(optim.sigma_share * EPOCHS))
    for epoch in range(EPOCHS):
        for number, (x, labels) in enumerate(batches):
            torch.manual_seed(BATCHES * epoch + number)
            loss = functional.cross_entropy(module(x), labels)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            losses.append(loss.item())
        rates.step()
        widths.step()
    return losses


@pytest.mark.parametrize("learned", [True, False])
def test_a_whole_run_of_the_preset_goes_as_the_published_loop(learned: bool) -> None:
    ours, theirs = pair(TAPS // 2, learned)
    batches = recordings()
    losses = preset_losses(ours, batches)
    assert losses == pytest.approx(published_losses(theirs, batches, learned), abs=1e-6)
    assert max(losses) - min(losses) > 0.1
    for block, (convolution, norm, *_) in zip(ours.body[2:], theirs.blocks, strict=True):  # type: ignore[misc,call-overload]
        layer = block.delays
        layer.clamp_()
        torch.testing.assert_close(layer.weight, convolution.weight, rtol=0, atol=1e-7)
        torch.testing.assert_close(TAPS // 2 - layer.delay, convolution.P[0], rtol=0, atol=1e-7)
        assert layer.delay.min() == 0.0 or layer.delay.max() == TAPS - 1
        if learned:
            assert layer.sigma.item() == pytest.approx(convolution.SIG.mean().item(), rel=1e-9)
        if hasattr(block, "norm"):
            torch.testing.assert_close(block.norm.weight, norm.weight, rtol=0, atol=1e-7)
            torch.testing.assert_close(block.norm.running_var, norm.running_var, rtol=1e-6, atol=1e-7)
    x, _ = batches[0]
    round_(theirs)
    torch.testing.assert_close(ours.eval()(x), theirs.eval()(x), rtol=0, atol=1e-5)


@torch.no_grad()
def round_(net: Published) -> None:
    """The published evaluation, in which fixed positions are always: version "max", a SIG of 0, positions rounded."""
    for convolution, *_ in net.blocks:
        convolution.version = convolution.DCK.version = "max"
        convolution.SIG.zero_()
        convolution.P.round_()
        convolution.clamp_parameters()
