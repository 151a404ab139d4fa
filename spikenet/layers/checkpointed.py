"""Backpropagation through long sequences at the memory of a part of them."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from spikenet.errors import ArgumentError
from spikenet.layers.stream import Stream
from spikenet.neurons.carry import carrier

__all__ = ["CheckpointedTime"]


class CheckpointedTime(nn.Module):
    """Runs `net` part by part and keeps the states between the parts alone; the backward pass runs each part again.

    What the backward pass needs of one part of P steps, and T / P states, takes the place of what it needs of all T
    steps; the gradients are those of plain backpropagation through time. Random draws are the same both times.

    Args:
        net: a module that takes `[T, B, ...]` and that `Stream` can run.
        steps: P; None for 2 sqrt(T). A part costs the host of a GPU a few milliseconds: a network that is through with
            all of T in that time wants longer parts.

    Shape:
        as `net`; a readout in it answers for the whole sequence.

    Raises:
        ArgumentError: for parts of less than a step. StateError: if `net` cannot be run in parts, as `Stream` says.

    Source: Chen et al., "Training deep nets with sublinear memory cost", 2016, over time as in Gruslys et al.,
    "Memory-efficient backpropagation through time", NeurIPS 2016.
    """

    def __init__(self, net: nn.Module, steps: int | None = None) -> None:
        super().__init__()
        if steps is not None and steps < 1:
            raise ArgumentError(f"CheckpointedTime.steps: parts of 1 step or more are needed, got {steps}.")
        self.net, self.steps = net, steps

    def forward(self, x: Any) -> Any:
        if carrier() is not None or not torch.is_grad_enabled():
            return self.net(x)
        total = x.shape[0]
        steps = self.steps or max(1, 2 * math.isqrt(total))
        stream, outputs = Stream(self.net), []
        states: Any = {}
        for start in range(0, max(total, 1), steps):
            output, states = checkpoint(_part, stream, x[start : start + steps], states, use_reentrant=False)
            outputs.append(output)
        return outputs[-1] if stream.collapsed else torch.cat(outputs)


def _part(stream: Stream, x: Any, states: Any) -> tuple[Any, Any]:
    stream.states = dict(states)
    return stream(x), stream.states
