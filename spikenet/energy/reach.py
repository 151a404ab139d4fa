"""How many synapses an input reaches, exactly, and how many a dense layer has."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from spikenet.events import EventTensor
from spikenet.layers import DelayConv1d, DelayConv2d, DelayLinear

Convolution = nn.Conv1d | nn.Conv2d | nn.Conv3d | DelayConv1d | DelayConv2d
Connection = nn.Linear | Convolution | DelayLinear
_TRANSPOSED = {1: functional.conv_transpose1d, 2: functional.conv_transpose2d, 3: functional.conv_transpose3d}


def dense_macs(layer: Connection, output: Tensor) -> int:
    """Multiply-accumulates that the layer does for this output if it skips nothing, padding included."""
    if isinstance(layer, DelayLinear | DelayConv1d | DelayConv2d):
        return output.numel() * layer.weight[0].numel()  # of one tap each, as at inference
    if isinstance(layer, nn.Linear):
        return output.numel() * layer.in_features
    return output.numel() * math.prod(layer.kernel_size) * (layer.in_channels // layer.groups)


def synapses_reached(layer: Connection, x: Tensor | EventTensor) -> int:
    """Sum over the events in `x` of the synapses that each one reaches; a value of 3 (or -3) is three events."""
    if isinstance(layer, nn.Linear):
        return round(entries(x).double().abs().sum().item()) * layer.out_features
    if isinstance(layer, DelayLinear):
        return round(entries(x).double().abs().sum().item()) * layer.out_features * layer.elements
    elements = layer.elements if isinstance(layer, DelayConv1d | DelayConv2d) else 1
    return _reached_by_convolution(layer, _at_each_input(x, len(layer.kernel_size))) * elements


def entries(x: Tensor | EventTensor) -> Tensor:
    """The numbers in `x`; of events those that are stored, and every other one is 0."""
    return x.values if isinstance(x, EventTensor) else x.detach()


def _at_each_input(x: Tensor | EventTensor, space: int) -> Tensor:
    """Events at each input, `[C, *space]`, in all."""
    if isinstance(x, EventTensor):
        flat = torch.bincount(x.indices, x.values.double().abs(), minlength=math.prod(x.features))
        return flat.view(x.features)
    return x.detach().double().abs().reshape(-1, *x.shape[-space - 1 :]).sum(0)


def _reached_by_convolution(layer: Convolution, events: Tensor) -> int:
    """A transposed convolution of ones says how many windows cover each padded position."""
    space = len(layer.kernel_size)
    at = _padded(layer, events).sum(0)
    geometry = zip(at.shape, layer.kernel_size, layer.stride, layer.dilation, strict=True)
    windows = [(size - dilation * (kernel - 1) - 1) // stride + 1 for size, kernel, stride, dilation in geometry]
    covered_by = _TRANSPOSED[space](
        torch.ones(1, 1, *windows).to(at),
        torch.ones(1, 1, *layer.kernel_size).to(at),
        stride=layer.stride,
        dilation=layer.dilation,
    )[0, 0]
    seen = at[tuple(slice(0, size) for size in covered_by.shape)]
    return round((seen * covered_by).sum().item()) * (layer.out_channels // layer.groups)


def _padded(layer: Convolution, events: Tensor) -> Tensor:
    """Padding as the layer does it, so that reflected or wrapped spikes are charged too."""
    if layer.padding == "valid":
        return events
    if layer.padding == "same":
        totals = [dilation * (kernel - 1) for dilation, kernel in zip(layer.dilation, layer.kernel_size, strict=True)]
        sides = [(total // 2, total - total // 2) for total in totals]
    else:
        sides = [(int(amount), int(amount)) for amount in layer.padding]
    flat = [side for pair in reversed(sides) for side in pair]
    mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
    return functional.pad(events[None], flat, mode=mode)[0]
