"""Synapses that fail: a linear map whose every connection releases by chance, and the neuron that sums them up.

Synapse i of a neuron carries `w_i Q_i phi_i x_i`: release `phi_i` succeeds with probability `s_i`, its amplitude `Q_i`
is uniform on (0, 1), all independent. Levy and Baxter, "Energy-efficient neuronal computation via quantal synaptic
failures", Journal of Neuroscience 22, 2002. That `s` and the threshold are learned, and how, is our reading.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spikenet.errors import ArgumentError
from spikenet.kernels.dynamics import evaluate
from spikenet.neurons.emission import Bernoulli, ScaledStraightThrough
from spikenet.neurons.meta import LEAST_VARIANCE
from spikenet.neurons.surrogate import gaussian

__all__ = ["LevyBaxter", "ProbabilisticSynapses"]

_PROBIT = ScaledStraightThrough(gaussian(1.0))


class ProbabilisticSynapses(nn.Module):
    """Mean and variance of what unreliable synapses deliver: the inputs of `MomentLevyBaxter` and its kin.

        mean = sum_i w_i x_i s_i / 2,    variance = sum_i w_i^2 x_i^2 (s_i / 3 - s_i^2 / 4),    s = sigmoid(release)

    Args:
        in_features, out_features: sizes.
        release: release probability `s` to start from, within 0 to 1; learned, in the shape given: `()`, `[in]`,
            `[out, 1]` or `[out, in]`.

    Shape:
        `[T, B, in_features]` -> two of `[T, B, out_features]`.

    Raises:
        ArgumentError: if a release probability does not lie between 0 and 1.
    """

    def __init__(self, in_features: int, out_features: int, release: float | Tensor = 0.5) -> None:
        super().__init__()
        s = torch.as_tensor(release, dtype=torch.get_default_dtype())
        if not bool(((s > 0) & (s < 1)).all()):
            raise ArgumentError(f"{type(self).__name__}: release must lie between 0 and 1, got {release}")
        self.weight = nn.Parameter(nn.Linear(in_features, out_features, bias=False).weight.detach())
        self.release = nn.Parameter(s.logit())

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        s, w = self.release.sigmoid(), self.weight
        return F.linear(x, w * s / 2), F.linear(x * x, w * w * (s / 3 - s * s / 4))

    def sample(self, x: Tensor) -> Tensor:
        """Synaptic sums with every synapse drawn, from torch's generator. Takes `B x out x in` numbers at a time."""
        return torch.stack([self._sums(x_t) for x_t in x]) if len(x) else x.new_empty(*x.shape[:-1], len(self.weight))

    def extra_repr(self) -> str:
        out_features, in_features = self.weight.shape
        return f"in_features={in_features}, out_features={out_features}"

    @torch.no_grad()
    def _sums(self, x: Tensor) -> Tensor:
        s = self.release.sigmoid()
        luck = torch.rand(len(x), *self.weight.shape, dtype=x.dtype, device=x.device)
        delivered = torch.where(luck < s, luck / s, 0.0)  # below s, luck / s is uniform on (0, 1)
        return torch.einsum("boi,oi,bi->bo", delivered, self.weight, x)


class LevyBaxter(nn.Module):
    """Levy-Baxter neurons, every synapse drawn: a neuron fires where its synaptic sum reaches the threshold.

        z = 1 if sum_i w_i Q_i phi_i x_i >= g else 0,    s = sigmoid(release),    g = softplus(threshold)

    The backward pass takes the sum as normal: with `u = (mean - g) / sqrt(variance)` and `P(z = 1) = Phi(u)`, `u` has
    the slope that the estimator gives the spikes drawn, and `w`, `s`, `g` and `x` learn through `u`.

    Args:
        in_features, out_features, release: as in `ProbabilisticSynapses`.
        threshold: `g` to start from, above 0; learned, in the shape given: `()` or `[out]`.
        emission: the estimator, with the link `gaussian(1.0)`, which is `Phi`.

    Shape:
        `[T, B, in_features]` -> `[T, B, out_features]`.

    Raises:
        ArgumentError: if a threshold is not above 0, or the emission is graded.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        release: float | Tensor = 0.5,
        threshold: float | Tensor = 1.0,
        *,
        emission: Bernoulli = _PROBIT,
    ) -> None:
        super().__init__()
        self.synapses = ProbabilisticSynapses(in_features, out_features, release)
        g = torch.as_tensor(threshold, dtype=torch.get_default_dtype())
        if not bool((g > 0).all()):
            raise ArgumentError(f"{type(self).__name__}: threshold must be above 0, got {threshold}")
        if not (isinstance(emission, Bernoulli) and emission.binary):
            raise ArgumentError(f"{type(self).__name__} fires or does not; it cannot take the emission {emission}")
        self.threshold = nn.Parameter(g.expm1().log())
        self.emission = emission

    def forward(self, x: Tensor) -> Tensor:
        mean, variance = self.synapses(x)
        g = F.softplus(self.threshold)
        u = (mean - g) / variance.clamp(min=LEAST_VARIANCE).sqrt()
        z = (self.synapses.sample(x) >= g).to(u.dtype)
        return z + (u - u.detach()) * self._slope(u.detach(), z)

    def _slope(self, u: Tensor, z: Tensor) -> Tensor:
        """dz/du where `z` was drawn: the lowest coin makes a spike at any probability, the highest at none below 1."""

        def slope(u: Any, coin: Any, alpha: Any) -> Any:
            return self.emission.slope(u, SimpleNamespace(coin=coin), alpha)

        return evaluate(slope, u=u, coin=(1.0 - z) * (1.0 - 2.0**-24), alpha=u.new_tensor(self.emission.alpha))

    def extra_repr(self) -> str:
        return f"emission={self.emission}"
