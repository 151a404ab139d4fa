"""What keeps neurons active while their weights learn: adaptive thresholds, and weights of one sum."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from spikenet.errors import ArgumentError, ShapeError
from spikenet.kernels.plasticity import trace

__all__ = ["ThresholdAdaptation", "normalize_weights"]


@dataclass(frozen=True, kw_only=True)
class ThresholdAdaptation:
    """An amount by which every neuron's threshold lies higher the more it has spiked:

        theta[t] = exp(-dt / tau) theta[t-1] + increment sum over the batch of z[t]

    Args:
        increment: rise per spike.
        tau: time constant, in the unit of `dt`; may be infinite.
        dt: length of a step.

    Raises:
        ArgumentError: for an increment that is not finite or times that are not above 0.

    Source: Diehl and Cook, Frontiers in Computational Neuroscience 9, 2015; the defaults are those of their code, in mV
    and ms.
    """

    increment: float = 0.05
    tau: float = 1e7
    dt: float = 1.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.increment) and self.tau > 0 and 0 < self.dt < math.inf):
            raise ArgumentError(
                "ThresholdAdaptation needs a finite increment, tau > 0 and dt > 0, got "
                f"{self.increment}, {self.tau}, {self.dt}"
            )

    def run(self, spikes: Tensor, theta: Tensor) -> Tensor:
        """The thresholds' rise after a sequence of spikes `[T, B, ...]`, from `theta` `[...]`.

        Raises:
            ShapeError: if the two do not go together.
        """
        if spikes.shape[2:] != theta.shape or spikes.ndim < 2:
            raise ShapeError(f"spikes [T, B, {tuple(theta.shape)}] are needed, got {tuple(spikes.shape)}")
        rises = spikes.detach().to(theta).sum(1) * self.increment
        return trace(rises, theta, math.exp(-self.dt / self.tau), False)[1]

    def step(self, spikes: Tensor, theta: Tensor) -> Tensor:
        """After one step `[B, ...]`; see `run`."""
        return self.run(spikes[None], theta)


def normalize_weights(weight: Tensor, total: float, dim: int = 1) -> None:
    """Scale weights, in place, so that those along `dim` add up to `total` in magnitude; zeros stay.

    Args:
        weight: `[O, I]`; `dim=1` gives every neuron that hears the same sum of inputs.
        total: what `sum |w|` becomes, above 0.

    Raises:
        ArgumentError: for another total.

    Source: Diehl and Cook, Frontiers in Computational Neuroscience 9, 2015.
    """
    if not 0 < total < math.inf:
        raise ArgumentError(f"normalize_weights needs a finite total above 0, got {total}")
    with torch.no_grad():
        sums = weight.abs().sum(dim, keepdim=True)
        weight *= torch.where(sums > 0, total / sums, torch.ones_like(sums))
