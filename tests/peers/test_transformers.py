"""Transformers beside SpikingJelly's model zoo on copied weights, in float64: the same logits and gradients."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from spikenet.models import MaxFormer, QKFormer, SpikeDrivenTransformer
from tests.peers.test_attention_layers import compare, connections, copy, peer, randomise

pytestmark = pytest.mark.peers
T, B = 3, 2
NEURON = {"tau": 2.0, "detach_reset": True}


def picture(side: int) -> Tensor:
    return 2 * torch.rand(T, B, 3, side, side, generator=torch.Generator().manual_seed(3)).double()


def same(x: Tensor) -> Tensor:
    return x


class InOrder(nn.Module):
    """A network of theirs whose parts are listed in the order in which they run."""

    def __init__(self, net: Any) -> None:
        super().__init__()
        stages = zip("123", (net.stage1, net.stage2, net.stage3), strict=True)
        parts = [part for number, stage in stages for part in (getattr(net, f"patch_embed{number}"), *stage)]
        self.parts = nn.ModuleList([*parts, net.head])
        self.run = net.forward

    def forward(self, x: Tensor) -> Tensor:
        return self.run(x)


def test_qkformer() -> None:
    theirs = peer("model.qkformer", "QKFormer", T, 3, 5, 32, (2, 4, 4), (1, 1, 2), **NEURON)
    ours = QKFormer((3, 48, 48), 5, 32, (1, 1, 2), 4).double()
    for block in (*theirs.stage1, *theirs.stage2):
        block.attn.num_heads = 4
    copy(theirs := InOrder(theirs), ours)
    y = compare(ours, theirs, picture(48), same, same)
    assert y.std() > 0


def test_maxformer() -> None:
    theirs = peer("model.maxformer", "MaxFormer", T, 3, 5, 32, (1, 1, 2), cifar=True)
    ours = MaxFormer((3, 16, 16), 5, 32, depths=(1, 1, 2), heads=8).double()
    copy(theirs := InOrder(theirs), ours)
    y = compare(ours, theirs, picture(16), same, same)
    assert y.std() > 0


def test_spike_driven_transformer() -> None:
    """Theirs has q, k and v in three convolutions."""
    theirs = peer("model.spike_driven_transformer", "SpikeDrivenTransformer", T, 3, 5, 32, 4, 2, 4.0, "0011", **NEURON)
    ours = SpikeDrivenTransformer((3, 16, 16), 5, 32, 2, pool=(False, False, True, True)).double()
    randomise(theirs)
    parts = list(connections(theirs))
    for i in reversed(starts(theirs)):
        parts[i : i + 6] = together(parts[i : i + 6 : 2], parts[i + 1 : i + 6 : 2])
    with torch.no_grad():
        for source, target in zip(parts, connections(ours), strict=True):
            target.weight.copy_(source.weight.reshape(target.weight.shape))
            if target.bias is not None and source.bias is not None:
                target.bias.copy_(source.bias)
    x = picture(16)
    given, also = x.clone().requires_grad_(), x.clone().requires_grad_()
    y, expected = ours(given), theirs(also)
    torch.testing.assert_close(y, expected, rtol=1e-10, atol=1e-10)
    y.square().sum().backward()
    expected.square().sum().backward()
    torch.testing.assert_close(given.grad, also.grad, rtol=1e-8, atol=1e-10)
    assert y.std() > 0
    assert also.grad.abs().max() > 0


def starts(theirs: Any) -> list[int]:
    """Where the three convolutions of each block begin among all connections."""
    order = {id(module): i for i, module in enumerate(connections(theirs))}
    return [order[id(block.attn.q_conv)] for block in theirs.blocks]


def together(convolutions: list[nn.Module], norms: list[nn.Module]) -> tuple[nn.Module, nn.Module]:
    linear, norm = nn.Linear(1, 1, bias=False), nn.BatchNorm1d(1)
    linear.weight = nn.Parameter(torch.cat([c.weight.flatten(1) for c in convolutions]))
    norm.weight = nn.Parameter(torch.cat([n.weight for n in norms]))
    norm.bias = nn.Parameter(torch.cat([n.bias for n in norms]))
    return linear, norm
