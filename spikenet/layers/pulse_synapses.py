"""Synapses of superconducting (single-flux-quantum) circuits: a pulse passes whole or not at all, by chance."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spikenet.errors import ArgumentError, ShapeError

__all__ = ["PulseSynapses"]


class PulseSynapses(nn.Module):
    """Synapses that let thermal noise decide whether a pulse passes; a bias current sets the odds, and is the weight.

        count[o] = sum_i sign[o, i] phi[o, i] x[i],    phi = 1 with probability p = sigmoid(current), else 0

    A pulse has no size, so a weight is a probability, and inhibition a line of its own: `sign` is wiring and not
    learned. `current` is in units of the noise's width around the current at which half of the pulses pass. The
    neuron behind is any that counts: `LIF(tau=1.0, v_threshold=k)` fires where k pulses meet within a clock cycle.

    The gradient is that of the mean count, `sum sign p x`; the logistic form and this estimator are our reading.

    Args:
        in_features, out_features: sizes.
        sign: +1, -1 or 0 (no synapse), `[out, in]`; all +1 by default.
        current: to start from, in the shape `[out, in]` or one that expands to it.

    Shape:
        Pulses `[T, B, in]` -> counts `[T, B, out]`. Takes `T x B x out x in` numbers.

    Raises:
        ArgumentError: for a sign other than these. ShapeError: for signs or currents of another shape.

    Source: Krylov, Edwards, Friedman and Friedman, "Harnessing stochasticity for superconductive multi-layer
    spike-rate-coded neuromorphic networks", Neuromorphic Computing and Engineering 2024, arXiv 2311.10721: a synapse
    that passes a pulse with a probability set by its bias current.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        sign: Tensor | None = None,
        current: float | Tensor = 0.0,
    ) -> None:
        super().__init__()
        shape, real = (out_features, in_features), torch.get_default_dtype()
        sign = torch.ones(shape) if sign is None else sign
        if tuple(sign.shape) != shape:
            raise ShapeError(f"PulseSynapses needs signs {shape}, got {tuple(sign.shape)}")
        if not bool(torch.isin(sign, sign.new_tensor([-1, 0, 1])).all()):
            raise ArgumentError("PulseSynapses: a pulse counts +1, -1 or 0, got other signs")
        start = torch.as_tensor(current, dtype=real)
        try:
            start = start.expand(shape).clone()
        except RuntimeError:
            raise ShapeError(f"PulseSynapses needs currents {shape}, got {tuple(start.shape)}") from None
        self.register_buffer("sign", sign.to(real))
        self.current = nn.Parameter(start)
        self.sign: Tensor

    @property
    def probability(self) -> Tensor:
        """With which a pulse passes, `[out, in]`."""
        return self.current.sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        p = self.probability
        mean = F.linear(x, self.sign * p)
        with torch.no_grad():
            passed = torch.rand(*x.shape[:-1], *p.shape, dtype=x.dtype, device=x.device) < p
            counts = torch.einsum("...oi,oi,...i->...o", passed.to(x.dtype), self.sign, x)
        return counts + (mean - mean.detach())

    def extra_repr(self) -> str:
        out_features, in_features = self.current.shape
        return f"in_features={in_features}, out_features={out_features}"
