"""The Tempotron: neurons that decide by whether they spike, and learn from the time of their highest potential."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from spikenet.errors import ArgumentError, ShapeError
from spikenet.events import EventTensor
from spikenet.kernels.plasticity import trace
from spikenet.learning.spike_rule import told

__all__ = ["Decision", "Tempotron"]


class Decision(NamedTuple):
    """Whether each neuron spiked, `[B, O]`; its highest potential and when it was reached (in steps, perhaps between
    two); and that potential's gradient for the weights of each, `[B, O, I]`."""

    fired: Tensor
    highest: Tensor
    when: Tensor
    gradient: Tensor


@dataclass(frozen=True, kw_only=True)
class Tempotron:
    """Classify spike patterns by one spike or none.

        V(t) = sum_i w_i sum over spikes t_i < t of K(t - t_i),   K(s) = V0 (exp(-s / tau) - exp(-s / tau_s))

    with V0 such that K's peak is 1. The neuron fires if V reaches the threshold; what comes later is then shunted. At
    an error the weights move by `lr` along the gradient of the highest V: up where a neuron should have fired, down
    where it should not.

        fired = rule.run(spikes, wanted, weight)

    Args:
        tau, tau_s: time constants of membrane and synapse, in the unit of `dt`; here ms.
        v_threshold: where a neuron fires.
        lr: step size of a batch's summed change.
        dt: length of a step.

    Raises:
        ArgumentError: unless tau > tau_s > 0, and threshold, `lr` and `dt` are above 0.

    Source: Gütig and Sompolinsky, Nature Neuroscience 9, 2006.
    """

    tau: float = 15.0
    tau_s: float = 3.75
    v_threshold: float = 1.0
    lr: float = 1e-2
    dt: float = 1.0

    def __post_init__(self) -> None:
        numbers = self.v_threshold, self.lr, self.dt
        if not (math.inf > self.tau > self.tau_s > 0) or not all(0 < v < math.inf for v in numbers):
            raise ArgumentError(
                "Tempotron needs tau > tau_s > 0, and v_threshold, lr and dt above 0, got "
                f"{self.tau}, {self.tau_s}, {numbers}"
            )

    @property
    def peak(self) -> float:
        """The time after a spike at which K is 1."""
        return self.tau * self.tau_s / (self.tau - self.tau_s) * math.log(self.tau / self.tau_s)

    @property
    def v0(self) -> float:
        """K's factor."""
        return 1.0 / (math.exp(-self.peak / self.tau) - math.exp(-self.peak / self.tau_s))

    def run(self, pre: Tensor | EventTensor, wanted: Tensor, weight: Tensor) -> Tensor:
        """Learn from a batch of patterns: changes `weight` in place; returns who fired before that, bool `[B, O]`.

        Args:
            pre: spikes `[T, B, I]`, of any dtype.
            wanted: who should fire, bool `[B, O]`.
            weight: `[O, I]`, float32 or float64.

        Raises:
            ShapeError: for tensors that do not go together.
        """
        made = self.decide(pre, weight)
        if wanted.shape != made.fired.shape or wanted.dtype != torch.bool:
            raise ShapeError(
                f"Tempotron: wanted is bool {tuple(made.fired.shape)}, got {wanted.dtype} {tuple(wanted.shape)}"
            )
        sign = wanted.to(weight) - made.fired.to(weight)
        weight.detach().add_(torch.einsum("bo,boi->oi", sign, made.gradient), alpha=self.lr)
        return made.fired

    def decide(self, pre: Tensor | EventTensor, weight: Tensor) -> Decision:
        """What the neurons do with patterns `[T, B, I]`, and how their highest potential hangs on the weights."""
        w, spikes = weight.detach(), told(pre, weight)
        if w.ndim != 2 or spikes.ndim != 3 or spikes.shape[2] != w.shape[1] or len(spikes) == 0:
            raise ShapeError(
                f"Tempotron needs spikes [T, B, I] of one step or more and weights [O, I], got {tuple(spikes.shape)} "
                f"and {tuple(w.shape)}"
            )
        slow, fast = (self._filtered(spikes, tau) for tau in (self.tau, self.tau_s))
        potential = self.v0 * ((slow - fast) @ w.T)
        over = potential >= self.v_threshold
        fired = over.any(0)
        first = over.to(torch.uint8).argmax(0)
        when = torch.where(fired, first, potential.argmax(0))
        slow_then, fast_then = (_at(v, when) for v in (slow, fast))
        later = torch.where(fired, self._rest(slow_then, fast_then, w), torch.zeros_like(potential[0]))
        s, f = (v * torch.exp(-later / tau)[..., None] for v, tau in ((slow_then, self.tau), (fast_then, self.tau_s)))
        gradient = self.v0 * (s - f)
        return Decision(fired, (gradient * w).sum(-1), when + later / self.dt, gradient)

    def potential(self, pre: Tensor | EventTensor, weight: Tensor) -> Tensor:
        """V `[T, B, O]` without threshold and shunting."""
        spikes = told(pre, weight)
        return self.v0 * ((self._filtered(spikes, self.tau) - self._filtered(spikes, self.tau_s)) @ weight.detach().T)

    def _filtered(self, spikes: Tensor, tau: float) -> Tensor:
        before, _ = trace(spikes, torch.zeros_like(spikes[0]), math.exp(-self.dt / tau), False)
        return before + spikes

    def _rest(self, slow: Tensor, fast: Tensor, weight: Tensor) -> Tensor:
        """How long after its first crossing a shunted potential A exp(-s/tau) - B exp(-s/tau_s) is highest."""
        a, b = ((v * weight).sum(-1) for v in (slow, fast))
        ratio = (b * self.tau / (a * self.tau_s)).clamp(min=1.0)
        return torch.where(a > 0, self.tau * self.tau_s / (self.tau - self.tau_s) * ratio.log(), torch.zeros_like(a))


def _at(x: Tensor, when: Tensor) -> Tensor:
    """`x` `[T, B, I]` at steps `[B, O]` -> `[B, O, I]`."""
    return x[when, torch.arange(x.shape[1], device=x.device)[:, None]]
