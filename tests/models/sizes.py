"""Sizes of whole networks without their weights: built on the meta device, and run on it for its shapes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import nn
from torch.utils import _device

from spikenet.neurons import Neuron


def parameters(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


@contextmanager
def on_meta() -> Iterator[None]:
    """Modules made here have no memory. `torch.empty` is poisoned in the tests, and torch's device context does not
    know it: inside it is what it was."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "empty", getattr(torch.empty, "__wrapped__", torch.empty))
        _device._device_constructors.cache_clear()
        with torch.device("meta"):
            yield


def dense_macs(model: nn.Module, *shape: int) -> int:
    """Multiply-accumulates of all linear layers and convolutions for an input of this shape on the meta device.

    Neurons and attention, which have no kernel there, and norms are taken out.
    """
    macs = 0

    def add(layer: nn.Module, _: object, out: torch.Tensor) -> None:
        nonlocal macs
        macs += out.numel() * layer.weight[0].numel() if isinstance(layer, nn.Linear | nn.Conv2d) else 0

    kinds = (Neuron, nn.modules.batchnorm._BatchNorm)
    found = [(m, name) for m in model.modules() for name, child in m.named_children() if isinstance(child, kinds)]
    for module, name in found:
        setattr(module, name, nn.Identity())
    for module in model.modules():
        module.register_forward_hook(add)
        if hasattr(module, "attend"):
            module.attend = lambda *parts: parts[-1]  # neurons of its own
    body = model.get_submodule("body").eval()  # the readout sums, which takes its neuron
    body(torch.zeros(*shape, device="meta"))
    return macs
