"""`SpikeRule`: weights that change where spikes are, by traces of the spikes on their two sides."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from spikenet.errors import ArgumentError, DeviceError, ShapeError, StateError
from spikenet.events import EventTensor
from spikenet.kernels.plasticity import Change, trace
from spikenet.learning.synapses import Factors, Synapses, synapses

__all__ = ["Pairing", "SpikeRule", "TraceState"]

AT_ONCE = 1 << 22  # numbers of one factor that are held at a time


class Pairing(NamedTuple):
    """What a rule makes of spikes that come together; `SpikeRule` says how."""

    tau_pre: float
    tau_post: float
    plus: float = 0.0
    minus: float = 0.0
    triplet_plus: float = 0.0
    triplet_minus: float = 0.0
    tau_pre_slow: float = math.inf
    tau_post_slow: float = math.inf
    nearest: bool = False
    target: float = 0.0
    mu_plus: float = 0.0
    mu_minus: float = 0.0


class TraceState(NamedTuple):
    """The traces after a step, `[B, ...]` as the spikes they follow; a slow one only where the rule reads it."""

    pre: Tensor
    post: Tensor
    pre_slow: Tensor | None
    post_slow: Tensor | None


@dataclass(frozen=True, kw_only=True)
class SpikeRule(ABC):
    """A rule that reads spikes and their traces: the one engine of pair, triplet and trace-target rules.

    In every step, with `x`, `x_slow` the traces of the spikes that come in, `y`, `y_slow` of those that go out:

        all traces decay
        incoming spike:    w <- w - F-(w) y (minus + triplet_minus x_slow),          then x, x_slow take the spike
        outgoing spike:    w <- w + F+(w) (x - target) (plus + triplet_plus y_slow), then y, y_slow take the spike
        F+(w) = (w_max - w)^mu_plus,  F-(w) = (w - w_min)^mu_minus,  and w stays within w_min to w_max

    A trace takes a spike by adding it (all-to-all) or by becoming it (nearest neighbour). Within a step what comes in
    comes first, as in a layer: a neuron that an input makes spike at once pairs with it, at a difference of 0. Each of
    the two changes is summed over the batch, and spikes of another size than 1 count as so many. A rule is a
    description; it holds no state:

        state = rule.run(pre, post, layer)          # [T, B, ...]: changes the layer's weight, in place
        state = rule.run(pre, post, layer, state)   # and goes on
        state = rule.step(pre_t, post_t, layer, state)

    Parts of a sequence, or single steps, give what the whole gives, to the last bit. As all pairs of one step count as
    potentiation, steps should be short beside the time constants where a balance of the two is fine: independent
    trains meet `tau + dt / 2` of the one and `tau - dt / 2` of the other.

    Args:
        w_min, w_max: bounds; either may be infinite where its exponent is 0. Weights outside are brought in.
        dt: length of a step, in the unit of the rule's time constants.

    Raises:
        ArgumentError: for a time constant, `dt` or exponent that cannot be, or bounds that do not go together.
    """

    w_min: float = 0.0
    w_max: float = 1.0
    dt: float = 1.0

    @abstractmethod
    def pairing(self) -> Pairing:
        """The rule's constants."""

    def __post_init__(self) -> None:
        p, name = self.pairing(), type(self).__name__
        taus = p.tau_pre, p.tau_post, p.tau_pre_slow, p.tau_post_slow
        if not (all(tau > 0 for tau in taus) and 0 < self.dt < math.inf):
            raise ArgumentError(f"{name}: time constants and dt must be above 0, got {taus} and dt={self.dt}")
        amounts = p.plus, p.minus, p.triplet_plus, p.triplet_minus, p.target
        if not all(math.isfinite(a) for a in amounts):
            raise ArgumentError(f"{name}: all amplitudes must be finite, got {amounts}")
        if not self.w_min < self.w_max:
            raise ArgumentError(f"{name} needs w_min < w_max, got {self.w_min} and {self.w_max}")
        for mu, bound, what in ((p.mu_plus, self.w_max, "w_max"), (p.mu_minus, self.w_min, "w_min")):
            if not 0 <= mu < math.inf or (mu > 0 and math.isinf(bound)):
                raise ArgumentError(
                    f"{name}: an exponent must be 0 or more, and above 0 needs {what}, got {mu}, {bound}"
                )

    @property
    def change(self) -> Change:
        """The constants of the kernels."""
        p = self.pairing()
        return Change(self.w_min, self.w_max, p.mu_plus, p.mu_minus)

    def init(self, pre: Tensor, post: Tensor, weight: Tensor | nn.Module) -> TraceState:
        """The state of silence, for one step of spikes `[B, ...]` on each side."""
        return self._silence(pre[None], post[None], synapses(weight).weight)

    def step(
        self, pre: Tensor, post: Tensor, weight: Tensor | nn.Module, state: TraceState | None = None
    ) -> TraceState:
        """One step, `[B, ...]`: changes `weight` in place and returns the state; see `run`."""
        return self.run(pre[None], post[None], weight, state)

    def run(
        self,
        pre: Tensor | EventTensor,
        post: Tensor | EventTensor,
        weight: Tensor | nn.Module,
        state: TraceState | None = None,
    ) -> TraceState:
        """Learn from a sequence: changes `weight` in place and returns the state after it.

        Args:
            pre: incoming spikes `[T, B, ...]`, of any dtype.
            post: outgoing spikes `[T, B, ...]`.
            weight: `[O, I]`, dense or of compressed rows (`torch.sparse_csr`), or a `torch.nn.Linear`, between
                `[T, B, I]` and `[T, B, O]`; or a `Conv1d` or `Conv2d`.
            state: where the sequence goes on; none begins in silence.

        Raises:
            ShapeError, DtypeError, DeviceError: for spikes and weights that do not go together.
            StateError: for the state of other spikes.
        """
        between = synapses(weight)
        bring_in(between.weight, self.w_min, self.w_max)
        pre, post = (told(v, between.weight) for v in (pre, post))
        between.check(pre, post)
        state = self._silence(pre, post, between.weight) if state is None else state
        for some in parts(pre, post, between):
            factors, state = self.factors(pre[some], post[some], between, state)
            between.update(factors, self.change)
        return state

    def factors(self, pre: Tensor, post: Tensor, between: Synapses, state: TraceState) -> tuple[Factors, TraceState]:
        """What the kernels multiply, and the traces after these steps."""
        p = self.pairing()
        x, x_last = self._trace(pre, state.pre, p.tau_pre, p.nearest)
        y, y_last = self._trace(post, state.post, p.tau_post, p.nearest)
        gain, loss, slow_pre, slow_post = post * p.plus, pre * p.minus, state.pre_slow, state.post_slow
        if p.triplet_plus:
            slow, slow_post = self._trace(post, slow_post, p.tau_post_slow, p.nearest)
            gain = post * (p.plus + p.triplet_plus * slow)
        if p.triplet_minus:
            slow, slow_pre = self._trace(pre, slow_pre, p.tau_pre_slow, p.nearest)
            loss = pre * (p.minus + p.triplet_minus * slow)
        x = torch.where(pre != 0, pre, x) if p.nearest else x + pre  # what comes in comes first
        made = Factors(between.rows(gain), between.columns(x) - p.target, between.rows(y), between.columns(loss))
        return made, TraceState(x_last, y_last, slow_pre, slow_post)

    def _trace(self, spikes: Tensor, start: Tensor | None, tau: float, nearest: bool) -> tuple[Tensor, Tensor]:
        if start is None or start.shape != spikes.shape[1:] or start.dtype != spikes.dtype:
            found = "no trace" if start is None else f"a trace {start.dtype} {tuple(start.shape)}"
            raise StateError(
                f"{type(self).__name__} needs the state of spikes {spikes.dtype} {tuple(spikes.shape[1:])}, got {found}"
            )
        return trace(spikes, start, math.exp(-self.dt / tau), nearest)

    def _silence(self, pre: Tensor, post: Tensor, weight: Tensor) -> TraceState:
        p = self.pairing()
        x, y = (torch.zeros(v.shape[1:], dtype=weight.dtype, device=weight.device) for v in (pre, post))
        slow_pre = torch.zeros_like(x) if p.triplet_minus else None
        return TraceState(x, y, slow_pre, torch.zeros_like(y) if p.triplet_plus else None)


def bring_in(weight: Tensor, low: float, high: float) -> None:
    """Bring weights outside the bounds back to them."""
    if low > -math.inf or high < math.inf:
        weight.clamp_(low, high)


def told(spikes: Tensor | EventTensor, weight: Tensor) -> Tensor:
    """Spikes of any kind in the weights' dtype."""
    if spikes.device != weight.device:
        raise DeviceError(f"the spikes are on {spikes.device}, the weights on {weight.device}; both must be on one")
    if isinstance(spikes, EventTensor):
        return spikes.to_dense(weight.dtype)
    if spikes.ndim < 3:
        raise ShapeError(f"a rule reads spikes [T, B, ...] (step: [B, ...]), got {tuple(spikes.shape)}")
    return spikes.detach().to(weight.dtype)


def parts(pre: Tensor, post: Tensor, between: Synapses) -> Iterator[slice]:
    """Stretches of time whose factors are not too large to hold."""
    entries = post[0, :, 0].numel() if len(post) and post.shape[2] else 1
    steps = max(1, AT_ONCE // max(1, entries * sum(between.shape)))
    yield from (slice(first, first + steps) for first in range(0, len(pre), steps))
