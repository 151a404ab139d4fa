"""Diehl and Cook's layer of competing neurons for unsupervised learning, and what its spikes say about classes."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from spikenet.errors import ShapeError
from spikenet.layers import Recurrent
from spikenet.neurons import ConductanceLIF

__all__ = ["DiehlCook", "assign_neurons", "class_scores"]


class DiehlCook(nn.Module):
    """Conductance-based neurons, each of which inhibits all others and has a threshold of its own.

        tau dv/dt = (v_rest - v) + g_e (0 - v) + g_i (-100 - v)        v_rest = v_reset = -65 mV, tau = 100 ms
        g_e, g_i decay with 1 and 2 ms; an input spike adds weight to g_e, a spike `inhibition` to g_i of all others
        a spike where v >= theta - 72 mV, then 5 ms of rest

    The inhibitory neurons of the source, one for each, are left out: their spike is heard one step of 1 ms later.
    Nothing is trained by gradient. `weight` and `theta` are for local rules to change: `spikenet.learning` has
    `DiehlCookSTDP`, `TargetSTDP`, `ThresholdAdaptation` and `normalize_weights`.

    Args:
        in_shape: feature dimensions of one step.
        neurons: how many compete.
        inhibition: weight between them. 17 in the source; many spikes at once then overshoot in steps of 1 ms.
        theta: threshold above -72 mV to start from, mV; drawn within 5 mV above that, so that neurons differ.
        seed: of weights, uniform on (0, 1), and thresholds.

    Shape:
        `[T, B, *in_shape]` -> spikes `[T, B, neurons]`, a step a ms.

    Raises:
        ShapeError: the input has other features.

    Source: Diehl and Cook, Frontiers in Computational Neuroscience 9, 2015, and the code published with it.
    """

    def __init__(
        self, in_shape: Sequence[int], neurons: int = 100, inhibition: float = 8.0, theta: float = 20.0, seed: int = 0
    ) -> None:
        super().__init__()
        self.features, self.neurons, self.inhibition = tuple(in_shape), neurons, inhibition
        generator = torch.Generator().manual_seed(seed)
        self.register_buffer("weight", torch.rand(neurons, math.prod(in_shape), generator=generator))
        self.register_buffer("theta", theta + 5.0 * torch.rand(neurons, generator=generator))
        self.weight: Tensor
        self.theta: Tensor

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        if tuple(x.shape[2:]) != self.features:
            wanted = ", ".join(map(str, self.features))
            raise ShapeError(f"DiehlCook takes [T, B, {wanted}], it was given {tuple(x.shape)}.")
        neuron = ConductanceLIF(
            tau=100.0, tau_e=1.0, tau_i=2.0, reversal_e=0.0, reversal_i=-100.0, refractory=5.0,
            v_rest=-65.0, v_reset=-65.0, v_threshold=self.theta - 72.0,
        )  # fmt: skip
        layer = Recurrent(neuron, self.neurons, into="inhibitory", autapses=False).to(self.weight)
        layer.weight.requires_grad_(False).fill_(self.inhibition)
        drive = x.flatten(2) @ self.weight.T
        return layer(drive, torch.zeros_like(drive))


def assign_neurons(counts: Tensor, labels: Tensor, classes: int) -> Tensor:
    """The class of each neuron: the one at whose recordings it spikes most on average, int64 `[N]`. A silent neuron
    belongs to none, -1.

    Args:
        counts: spikes in each recording, `[B, N]`.
        labels: int64 `[B]`.
        classes: how many there are.
    """
    sums = counts.new_zeros(classes, counts.shape[1]).index_add_(0, labels, counts)
    means = sums / torch.bincount(labels, minlength=classes).clamp(min=1)[:, None]
    return torch.where(means.amax(0) > 0, means.argmax(0), -1)


def class_scores(counts: Tensor, assigned: Tensor, classes: int) -> Tensor:
    """Spikes of the neurons of a class by their number, `[B, classes]`; 0 for a class without neurons.

    Args:
        counts: `[B, N]`.
        assigned: classes of the neurons, from `assign_neurons`.
        classes: how many there are.
    """
    members = (assigned[:, None] == torch.arange(classes, device=assigned.device)).to(counts)
    return counts @ (members / members.sum(0).clamp(min=1))
