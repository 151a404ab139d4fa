"""The whole network with delays against the published one, made of SpikingJelly's and DCLS's modules."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from spikenet.layers import DelayLinear
from spikenet.models import DelayNet

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
            norm = nn.Identity() if last else layer.BatchNorm1d(b, step_mode="m")
            self.blocks.append(nn.ModuleList([convolution, norm, lif, layer.Dropout(DROPPED, step_mode="m")]))

    def forward(self, x: Tensor) -> Tensor:
        for convolution, norm, lif, dropout in self.blocks:
            padded = functional.pad(x.permute(1, 2, 0), (TAPS - 1, (TAPS - 1) // 2))
            x = convolution(padded).permute(2, 0, 1)
            x = x if isinstance(norm, nn.Identity) else norm(x.unsqueeze(3)).squeeze(3)
            spikes = lif(x)
            x = dropout(spikes)
        return lif.v_seq.softmax(-1).sum(0)


def pair() -> tuple[DelayNet, Published]:
    theirs = Published().double()
    ours = DelayNet((SIZES[0],), SIZES[-1], SIZES[1:-1], TAPS, tau=TAU, dropout=DROPPED, sigma=0.23).double()
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
