"""From a loss to the signal that a score-function emission learns from."""

from __future__ import annotations

import torch
from torch import Tensor

from spikenet.errors import ShapeError

__all__ = ["minimum_variance_baseline", "score_loss"]


def score_loss(spikes: Tensor, losses: Tensor, baseline: Tensor | float = 0.0) -> Tensor:
    """A number whose gradient to every spike is `(L - baseline) / B`: what `ScoreFunction` turns into a gradient.

    Take the losses of what the spikes led to, without a gradient (they are detached here), and add this to what else
    is minimised; with several stochastic layers, each layer's spikes get it and none passes a gradient to the next.
    Its value means nothing. Bengio, Leonard and Courville, arXiv 1308.3432, 2013.

    Args:
        spikes: `[T, B, *features]`, from a neuron with a `ScoreFunction` emission.
        losses: one loss a sample, `[B]`.
        baseline: subtracted from the losses, broadcast against the spikes; any that does not depend on a sample's own
            spikes keeps the estimate unbiased.

    Raises:
        ShapeError: if there is not one loss a sample.
    """
    signal = _per_sample(losses, spikes) - baseline
    return (spikes * signal).sum() / spikes.shape[1]


def minimum_variance_baseline(spikes: Tensor, probability: Tensor, losses: Tensor) -> Tensor:
    """`E[(z - p)^2 L] / E[(z - p)^2]` over the batch: the baseline of least variance, for each step and neuron.

    Args:
        spikes, probability: `[T, B, *features]`.
        losses: one loss a sample, `[B]`.

    Returns:
        `[T, 1, *features]`; the mean loss where no unit could have done otherwise.

    Raises:
        ShapeError: if there is not one loss a sample.
    """
    weight, loss = (spikes - probability).detach() ** 2, _per_sample(losses, spikes)
    total = weight.sum(dim=1, keepdim=True)
    mean = (weight * loss).sum(dim=1, keepdim=True) / total
    return torch.where(total > 0, mean, loss.mean())


def _per_sample(losses: Tensor, spikes: Tensor) -> Tensor:
    if losses.shape != spikes.shape[1:2]:
        raise ShapeError(
            f"a score needs one loss a sample: spikes {tuple(spikes.shape)} want losses of shape "
            f"{tuple(spikes.shape[1:2])}, got {tuple(losses.shape)}"
        )
    return losses.detach().view(1, -1, *[1] * (spikes.ndim - 2))
