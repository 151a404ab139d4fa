"""Three-factor rules: what spikes would change waits in an eligibility until a third signal decides."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from spikenet.errors import ArgumentError, ShapeError, StateError
from spikenet.events import EventTensor
from spikenet.kernels.plasticity import trace
from spikenet.learning.spike_rule import SpikeRule, TraceState, bring_in, parts, told
from spikenet.learning.stdp import STDP
from spikenet.learning.synapses import Synapses, synapses

__all__ = ["EligibilityState", "RewardSTDP", "ThreeFactor"]

_PAIRS = STDP(a_plus=0.1, a_minus=0.15)


class EligibilityState(NamedTuple):
    """Traces of the spikes, the eligibility `[B, *weight.shape]`, and the modulator after a step, `[B]` or `[B, O]`."""

    traces: TraceState
    eligibility: Tensor
    modulator: Tensor


@dataclass(frozen=True, kw_only=True)
class ThreeFactor:
    """A rule of spikes times a modulator: reward, surprise, error or attention, for all neurons or one each.

        tau_eligibility e' = -e + what `rule` would add to the weight
        tau_modulator   m' = -m + what is given as `modulator`                (at tau_modulator = 0 it is m itself)
        w' = lr m e,    w stays within the rule's bounds

    In steps: both decay by exp(-dt/tau) and take what comes, then w <- w + lr dt sum over the batch of m e. Every entry
    of the batch has an eligibility of its own. A modulator of mean 0, such as reward less its mean, leaves weights
    where reward does not depend on the spikes.

    R-max, the policy gradient of neurons that fire with probability `p = sigmoid((u - v_threshold) / width)` and whose
    potential `u` decays with `tau`, is this with `post - p` for outgoing spikes and the reward as modulator:

        ThreeFactor(rule=STDP(a_plus=1 / width, a_minus=0.0, tau_plus=tau, w_min=-math.inf, w_max=math.inf))

    so that e gathers (S_post - p) / width times the input filtered like `u`.

    Args:
        rule: what the spikes do; its bounds and `dt` hold.
        tau_eligibility, tau_modulator: time constants, in the unit of `dt`; infinite for no decay.
        lr: learning rate, per unit of time.

    Raises:
        ArgumentError: for time constants that are negative, an eligibility's that is 0, or a rate that is not finite.

    Source: Frémaux and Gerstner, Frontiers in Neural Circuits 9, 2016; R-max is their equation for escape noise.
    """

    rule: SpikeRule
    tau_eligibility: float = 1000.0
    tau_modulator: float = 0.0
    lr: float = 1.0

    def __post_init__(self) -> None:
        if not (self.tau_eligibility > 0 and self.tau_modulator >= 0 and math.isfinite(self.lr)):
            raise ArgumentError(
                f"{type(self).__name__} needs tau_eligibility > 0, tau_modulator >= 0 and a finite lr, got "
                f"{self.tau_eligibility}, {self.tau_modulator}, {self.lr}"
            )

    def init(self, pre: Tensor, post: Tensor, weight: Tensor | nn.Module, modulator: Tensor) -> EligibilityState:
        """The state of silence, for one step of spikes `[B, ...]` on each side and of the modulator."""
        between = synapses(weight)
        eligibility = between.weight.new_zeros(len(pre), *between.weight.shape)
        return EligibilityState(self.rule.init(pre, post, weight), eligibility, torch.zeros_like(modulator))

    def step(
        self,
        pre: Tensor,
        post: Tensor,
        weight: Tensor | nn.Module,
        modulator: Tensor,
        state: EligibilityState | None = None,
    ) -> EligibilityState:
        """One step, `[B, ...]`: changes `weight` in place and returns the state; see `run`."""
        return self.run(pre[None], post[None], weight, modulator[None], state)

    def run(
        self,
        pre: Tensor | EventTensor,
        post: Tensor | EventTensor,
        weight: Tensor | nn.Module,
        modulator: Tensor,
        state: EligibilityState | None = None,
    ) -> EligibilityState:
        """Learn from a sequence: changes `weight` in place and returns the state after it.

        Args:
            pre, post, weight: as for `SpikeRule.run`.
            modulator: the third factor, `[T, B]` for all neurons or `[T, B, O]` for each (a channel of a convolution).
            state: where the sequence goes on; none begins in silence.

        Raises:
            ShapeError, DtypeError, DeviceError: for tensors that do not go together.
            StateError: for the state of others.
        """
        between = synapses(weight)
        bring_in(between.weight, self.rule.w_min, self.rule.w_max)
        pre, post = (told(v, between.weight) for v in (pre, post))
        between.check(pre, post)
        given = self._given(modulator, pre, between)
        if state is None:
            state = self.init(
                pre.new_zeros(pre.shape[1:]), post.new_zeros(post.shape[1:]), weight, given.new_zeros(given.shape[1:])
            )
        self._check(state, given, between)
        eligibility, change = state.eligibility.clone(), self.rule.change
        change = change._replace(decay=math.exp(-self.rule.dt / self.tau_eligibility))
        traces, m = state.traces, state.modulator
        for some in parts(pre, post, between):
            factors, traces = self.rule.factors(pre[some], post[some], between, traces)
            now, m = self._modulator(given[some], m)
            third = (now if now.ndim == 3 else now[..., None]) * (self.lr * self.rule.dt)
            third = third.expand(-1, -1, between.shape[0])
            between.update(factors, change, eligibility, third)
        return EligibilityState(traces, eligibility, m)

    def _modulator(self, given: Tensor, before: Tensor) -> tuple[Tensor, Tensor]:
        """The modulator in every step, and after the last."""
        if self.tau_modulator == 0:
            return given, given[-1]
        left, last = trace(given, before, math.exp(-self.rule.dt / self.tau_modulator), False)
        return left + given, last

    def _given(self, modulator: Tensor, pre: Tensor, between: Synapses) -> Tensor:
        shape = tuple(pre.shape[:2])
        if tuple(modulator.shape) not in (shape, (*shape, between.shape[0])):
            raise ShapeError(
                f"{type(self).__name__}: the modulator of {shape[0]} steps and {shape[1]} entries is [T, B] or "
                f"[T, B, {between.shape[0]}], got {tuple(modulator.shape)}"
            )
        return modulator.detach().to(pre)

    def _check(self, state: EligibilityState, given: Tensor, between: Synapses) -> None:
        wanted = (given.shape[1], *between.weight.shape), tuple(given.shape[1:])
        found = tuple(state.eligibility.shape), tuple(state.modulator.shape)
        if wanted != found:
            raise StateError(
                f"{type(self).__name__}: eligibility and modulator {wanted} are needed, the state has {found}"
            )


@dataclass(frozen=True, kw_only=True)
class RewardSTDP(ThreeFactor):
    """Reward-modulated STDP: dopamine, which jumps with each reward and fades, makes of past pairings weights.

        c' = -c / tau_eligibility + STDP at each pair of spikes
        d' = -d / tau_modulator + reward
        w' = lr c d

    A pair that would add c0 at time 0 and a reward d0 at time t together add
    `lr c0 d0 exp(-t / tau_eligibility) / (1 / tau_eligibility + 1 / tau_modulator)`.

    Args:
        rule, tau_eligibility, tau_modulator, lr: see `ThreeFactor`; times are in ms here. The reward is `modulator`.

    Source: Izhikevich, Cerebral Cortex 17, 2007.
    """

    rule: SpikeRule = _PAIRS
    tau_eligibility: float = 1000.0
    tau_modulator: float = 200.0
    lr: float = 1e-3
