"""Attention layers and Spikformer beside SpikingJelly's on copied weights, in float64: equal spikes and gradients."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from spikenet.layers import QKAttention, SpikeDrivenSelfAttention, SpikingSelfAttention
from spikenet.models import Spikformer

pytestmark = pytest.mark.peers
T, B, N, D = 4, 2, 36, 32


def peer(module: str, name: str, *args: Any, **kwargs: Any) -> Any:
    pytest.importorskip("spikingjelly.activation_based")
    import importlib

    return getattr(importlib.import_module(f"spikingjelly.activation_based.{module}"), name)(*args, **kwargs).double()


def connections(module: nn.Module) -> Iterator[nn.Module]:
    kinds = (nn.Linear, nn.modules.conv._ConvNd, nn.modules.batchnorm._BatchNorm)
    yield from (each for each in module.modules() if isinstance(each, kinds))


def randomise(module: nn.Module) -> None:
    """Weights with which all neurons fire now and then; a bias that only one side has must be 0 on both."""
    for each in connections(module):
        norm = isinstance(each, nn.modules.batchnorm._BatchNorm)
        nn.init.uniform_(each.weight, 0.8, 1.6) if norm else nn.init.normal_(each.weight, std=0.3)
        if each.bias is not None:
            nn.init.uniform_(each.bias, 0.5, 1.5) if norm else nn.init.zeros_(each.bias)


def copy(theirs: Any, ours: nn.Module) -> None:
    """Connections in the order of their forward pass, which both declare them in."""
    randomise(theirs)
    pairs = zip(connections(theirs), connections(ours), strict=True)
    with torch.no_grad():
        for source, target in pairs:
            target.weight.copy_(source.weight.reshape(target.weight.shape))
            if target.bias is not None:
                target.bias.zero_() if source.bias is None else target.bias.copy_(source.bias)


def spikes(*shape: int) -> Tensor:
    return (torch.rand(*shape, generator=torch.Generator().manual_seed(1)) < 0.4).double()


def compare(ours: nn.Module, theirs: Any, x: Tensor, to_theirs: Any, back: Any) -> Tensor:
    given, same = x.clone().requires_grad_(), x.clone().requires_grad_()
    y, expected = ours(given), back(theirs(to_theirs(same)))
    weight = torch.rand(y.shape, generator=torch.Generator().manual_seed(2)).double()
    (y * weight).sum().backward()
    (expected * weight).sum().backward()
    torch.testing.assert_close(y, expected, rtol=1e-10, atol=1e-10)
    assert same.grad is not None
    assert same.grad.abs().max() > 0
    torch.testing.assert_close(given.grad, same.grad, rtol=1e-8, atol=1e-10)
    for source, target in zip(connections(theirs), connections(ours), strict=True):
        torch.testing.assert_close(
            target.weight.grad, source.weight.grad.reshape(target.weight.shape), rtol=1e-8, atol=1e-10
        )
    return y


def channel_first(x: Tensor) -> Tensor:
    return x.transpose(2, 3)


@pytest.mark.parametrize("heads", [2, 8])
def test_spiking_self_attention(heads: int) -> None:
    """Fewer features than tokens, and more: both orders of the product."""
    ours, theirs = SpikingSelfAttention(D, heads).double(), peer("layer", "SpikingSelfAttention", D, heads)
    copy(theirs, ours)
    y = compare(ours, theirs, spikes(T, B, N, D), channel_first, channel_first)
    assert 0.05 < y.mean() < 0.95
    compare(*fresh(ours, theirs), spikes(T, B, 10, D), channel_first, channel_first)


def fresh(ours: nn.Module, theirs: Any) -> tuple[nn.Module, Any]:
    from spikingjelly.activation_based import functional

    functional.reset_net(theirs)
    ours.zero_grad()
    theirs.zero_grad()
    return ours, theirs


@pytest.mark.parametrize("over", ["token", "channel"])
def test_qk_attention(over: Any) -> None:
    ours, theirs = QKAttention(D, 4, over).double(), peer("layer", "QKAttention", D, 4, over)
    copy(theirs, ours)
    y = compare(ours, theirs, spikes(T, B, N, D), channel_first, channel_first)
    assert 0.05 < y.mean() < 0.95


def test_spike_driven_self_attention() -> None:
    theirs = peer("layer", "SpikeDrivenSelfAttention", D, 4)
    ours = SpikeDrivenSelfAttention(D).double()
    randomise(theirs)
    fused = [("q", 0), ("k", D), ("v", 2 * D)]
    with torch.no_grad():
        for name, start in fused:
            conv, norm = getattr(theirs, f"{name}_conv"), getattr(theirs, f"{name}_bn")
            ours.project.linear.weight[start : start + D].copy_(conv.weight[..., 0, 0])
            ours.project.norm.weight[start : start + D].copy_(norm.weight)
            ours.project.norm.bias[start : start + D].copy_(norm.bias)
        ours.out.linear.weight.copy_(theirs.proj_conv.weight[..., 0, 0])
        ours.out.linear.bias.copy_(theirs.proj_conv.bias)
        ours.out.norm.weight.copy_(theirs.proj_bn.weight)
        ours.out.norm.bias.copy_(theirs.proj_bn.bias)
    x = 3 * torch.randn(T, B, 6, 6, D).double()
    given, same = x.clone().requires_grad_(), x.clone().requires_grad_()
    y, expected = ours(given) + given, theirs(same.movedim(-1, 2)).movedim(2, -1)
    torch.testing.assert_close(y, expected, rtol=1e-10, atol=1e-10)
    y.square().sum().backward()
    expected.square().sum().backward()
    torch.testing.assert_close(given.grad, same.grad, rtol=1e-8, atol=1e-10)


def test_spikformer() -> None:
    """SpikingJelly pools before the neuron, has no biases in its blocks, and answers at every step."""
    theirs = peer("model.spikformer", "Spikformer", T, 3, 16, 16, 4, 10, 32, 4, depths=2)
    pool = (False, False, True, True)
    ours = Spikformer((3, 16, 16), 10, 32, 2, 4, pool, pool_before_neuron=True).double()
    copy(theirs, ours)
    compare(ours, theirs, torch.rand(T, B, 3, 16, 16).double(), lambda x: x, lambda y: y.mean(0))
