"""Linear readouts that learn from their own error, step by step: the delta rule and recursive least squares."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from spikenet.errors import ArgumentError, ShapeError, StateError

__all__ = ["DeltaRule", "DeltaState", "LeastSquaresState", "RecursiveLeastSquares"]


class DeltaState(NamedTuple):
    """The eligibility of every feature after a step, `[B, I]`."""

    eligibility: Tensor


@dataclass(frozen=True, kw_only=True)
class DeltaRule:
    """The error-modulated, attention-gated three-factor rule of a linear readout:

        z[t] = W r[t]                                           output
        e[t] = decay e[t-1] + r[t],  decay = exp(-dt / tau_eligibility)       (e = r at tau_eligibility = 0)
        W <- W + lr sum over the batch of gate[t] (y[t] - z[t]) e[t]^T

    Online (the default) every step sees the weights that the one before left. Offline the whole call runs with its
    first weights, and the summed change is made at its end: a call is a trial.

    Args:
        lr: learning rate, per step.
        tau_eligibility: time constant of the features' eligibility, in the unit of `dt`.
        online: see above.
        dt: length of a step.

    Raises:
        ArgumentError: for a rate that is not finite or times that cannot be.

    Source: Widrow and Hoff, 1960; with an eligibility and a gate, Frémaux and Gerstner, Frontiers in Neural Circuits 9,
    2016.
    """

    lr: float = 1e-3
    tau_eligibility: float = 0.0
    online: bool = True
    dt: float = 1.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.lr) and self.tau_eligibility >= 0 and 0 < self.dt < math.inf):
            raise ArgumentError(
                f"DeltaRule needs a finite lr, tau_eligibility >= 0 and dt > 0, got {self.lr}, {self.tau_eligibility}, "
                f"{self.dt}"
            )

    def run(
        self,
        features: Tensor,
        target: Tensor,
        weight: Tensor,
        state: DeltaState | None = None,
        gate: Tensor | None = None,
    ) -> tuple[Tensor, DeltaState]:
        """Read out a sequence while learning: changes `weight` in place.

        Args:
            features: r, `[T, B, I]`.
            target: y, `[T, B, O]`.
            weight: W, `[O, I]`.
            state: where the sequence goes on.
            gate: `[T, B]` or `[T, B, O]`; none stands for 1.

        Returns:
            The output z `[T, B, O]`, each step's before it is learned from, and the state.

        Raises:
            ShapeError, StateError: for tensors that do not go together.
        """
        weight, features, target = _fitting(weight, features, target)
        attention = _gate(gate, target)
        e = features.new_zeros(features.shape[1:]) if state is None else state.eligibility
        if e.shape != features.shape[1:]:
            raise StateError(f"DeltaRule: features {tuple(features.shape)} do not go on from {tuple(e.shape)}")
        decay = math.exp(-self.dt / self.tau_eligibility) if self.tau_eligibility else 0.0
        output, total = torch.zeros_like(target), torch.zeros_like(weight)
        for t, r in enumerate(features):
            output[t] = r @ weight.T
            e = decay * e + r
            error = attention[t] * (target[t] - output[t])
            (weight if self.online else total).addmm_(error.T, e, alpha=self.lr)
        if not self.online:
            weight += total
        return output, DeltaState(e.clone())

    def step(
        self,
        features: Tensor,
        target: Tensor,
        weight: Tensor,
        state: DeltaState | None = None,
        gate: Tensor | None = None,
    ) -> tuple[Tensor, DeltaState]:
        """One step, `[B, I]` and `[B, O]`; see `run`."""
        output, state = self.run(features[None], target[None], weight, state, None if gate is None else gate[None])
        return output[0], state


class LeastSquaresState(NamedTuple):
    """P, the inverse of the features' regularised correlation matrix, `[I, I]`."""

    inverse: Tensor


@dataclass(frozen=True, kw_only=True)
class RecursiveLeastSquares:
    """Recursive least squares, the rule of FORCE learning:

        k = P r / (forgetting + r^T P r)        P <- (P - k r^T P) / forgetting        P = I / ridge at first
        W <- W + (y - W r) k^T

    for one batch entry after the other in every step. Without forgetting the weights are at any time those of ridge
    regression on all that was seen, if they began at 0. FORCE makes such a step every few steps of its network.

    Args:
        ridge: penalty on the weights.
        forgetting: what the past counts after a step, in (0, 1].

    Raises:
        ArgumentError: for a penalty that is not above 0, or a factor outside (0, 1].

    Source: Sussillo and Abbott, Neuron 63, 2009; for spiking networks Nicola and Clopath, Nature Communications 8,
    2017. In float32 P loses its symmetry over thousands of steps; float64 weights are safer.
    """

    ridge: float = 1.0
    forgetting: float = 1.0

    def __post_init__(self) -> None:
        if not (0 < self.ridge < math.inf and 0 < self.forgetting <= 1):
            raise ArgumentError(
                f"RecursiveLeastSquares needs ridge > 0 and 0 < forgetting <= 1, got {self.ridge}, {self.forgetting}"
            )

    def run(
        self, features: Tensor, target: Tensor, weight: Tensor, state: LeastSquaresState | None = None
    ) -> tuple[Tensor, LeastSquaresState]:
        """Read out a sequence while learning: changes `weight` in place.

        Args:
            features: r, `[T, B, I]`.
            target: y, `[T, B, O]`.
            weight: W, `[O, I]`.
            state: where the sequence goes on.

        Returns:
            The output `W r` `[T, B, O]`, each entry's before it is learned from, and the state.

        Raises:
            ShapeError, StateError: for tensors that do not go together.
        """
        weight, features, target = _fitting(weight, features, target)
        inverse = torch.eye(weight.shape[1]).to(weight) / self.ridge if state is None else state.inverse
        if tuple(inverse.shape) != (weight.shape[1],) * 2:
            raise StateError(
                f"RecursiveLeastSquares: weights {tuple(weight.shape)} do not go on from P {inverse.shape}"
            )
        output = torch.zeros_like(target)
        for t, b in torch.cartesian_prod(torch.arange(len(features)), torch.arange(features.shape[1])).tolist():
            r = features[t, b]
            seen = inverse @ r
            gain = seen / (self.forgetting + r @ seen)
            output[t, b] = weight @ r
            weight.addr_(target[t, b] - output[t, b], gain)
            inverse = torch.addr(inverse, gain, seen, alpha=-1.0)
            if self.forgetting < 1:
                inverse = inverse / self.forgetting
        return output, LeastSquaresState(inverse)

    def step(
        self, features: Tensor, target: Tensor, weight: Tensor, state: LeastSquaresState | None = None
    ) -> tuple[Tensor, LeastSquaresState]:
        """One step, `[B, I]` and `[B, O]`; see `run`."""
        output, state = self.run(features[None], target[None], weight, state)
        return output[0], state


def _fitting(weight: Tensor, features: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The weights without a graph, and the sequences in their dtype."""
    sizes = (*features.shape[:2], *weight.shape[1:]), (*features.shape[:2], *weight.shape[:1])
    if weight.ndim != 2 or (tuple(features.shape), tuple(target.shape)) != sizes:
        raise ShapeError(
            f"a readout needs weights [O, I], features [T, B, I] and targets [T, B, O], got {tuple(weight.shape)}, "
            f"{tuple(features.shape)}, {tuple(target.shape)}"
        )
    return weight.detach(), features.detach().to(weight), target.detach().to(weight)


def _gate(gate: Tensor | None, target: Tensor) -> Tensor:
    if gate is None:
        return target.new_ones(()).expand(target.shape)
    if gate.shape not in (target.shape, target.shape[:2]):
        raise ShapeError(f"DeltaRule: a gate is [T, B] or [T, B, O], got {tuple(gate.shape)} for {tuple(target.shape)}")
    told = gate.to(target)
    return (told if told.ndim == 3 else told[..., None]).expand(target.shape)
