"""A liquid state machine: a random recurrent network that never learns, and the counts of its spikes."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from spikenet.errors import ShapeError
from spikenet.layers import Recurrent, ToDense
from spikenet.neurons import LIF

__all__ = ["LiquidStateMachine"]


class LiquidStateMachine(nn.Module):
    """Fixed random reservoir of leaky integrate-and-fire neurons; what is learned is learned behind it.

        v[t] = decay v[t-1] (1 - s[t-1]) + W_in x[t] + W_rec s[t-1],    s[t] = 1 where v[t] >= v_threshold
        feature = sum_t s[t]                                            W_in, W_rec: scale N(0, 1)

    It has nothing to train, and follows from its seed. Called on an `EventTensor` or a dense `[T, B, *features]`,
    returns counts `[B, neurons]`.

    Args:
        in_shape: feature dimensions of one step.
        neurons: in the reservoir.
        decay: of the potential in a step, in [0, 1).
        scale: standard deviation of all weights; what suits depends on how many inputs are active.
        v_threshold: potential at which a neuron fires.
        seed: of the weights.

    Raises:
        ShapeError: the input has other features.

    Source: Lin et al., Nature Computational Science 5, 2025 (arXiv 2307.00771), whose weights are the conductances of
    resistive memory; where they place the scale is not published, this placement is ours.
    """

    def __init__(
        self,
        in_shape: Sequence[int],
        neurons: int = 256,
        decay: float = 0.9,
        scale: float = 0.1,
        v_threshold: float = 1.0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.features, inputs = tuple(in_shape), math.prod(in_shape)
        generator = torch.Generator().manual_seed(seed)
        self.dense = ToDense()
        self.register_buffer("weight", scale * torch.randn(neurons, inputs, generator=generator))
        self.weight: Tensor
        self.reservoir = Recurrent(LIF(1 / (1 - decay), v_threshold, decay_input=False), neurons)
        self.reservoir.weight.requires_grad_(False).copy_(scale * torch.randn(neurons, neurons, generator=generator))

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        if tuple(x.shape[2:]) != self.features:
            wanted = ", ".join(map(str, self.features))
            raise ShapeError(f"LiquidStateMachine takes [T, B, {wanted}], it was given {tuple(x.shape)}.")
        return self.reservoir(self.dense(x).flatten(2) @ self.weight.T).sum(0)
