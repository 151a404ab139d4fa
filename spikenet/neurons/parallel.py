"""Neurons without reset, which need no loop over time: the PSN family, and the leaky neuron by parallel scan.

They mix time steps and so are modules of their own, not `Neuron`s: there is no step. Their spikes come from the
same function as every neuron's, so that every surrogate works.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from spikenet.errors import ArgumentError, DtypeError, ShapeError, StateError
from spikenet.kernels.scan import linear_scan
from spikenet.neurons.base import Neuron
from spikenet.neurons.carry import carrier
from spikenet.neurons.surrogate import Surrogate

__all__ = ["PSN", "MaskedPSN", "ParallelLIF", "SlidingPSN"]


class _Threshold(Neuron):
    """Spikes where its input is not below 0; no state."""

    def charge(self, s: Any, x: Any, d: Any, p: Any) -> dict[str, Any]:
        return {"u": x.x}

    def fire(self, h: Any, p: Any) -> Any:
        return h.u

    def reset(self, h: Any, z: Any, p: Any) -> dict[str, Any]:
        return {}


class _TimeMixing(nn.Module):
    """Checks the input, and turns potentials into spikes of the input's dtype."""

    def __init__(self, surrogate: Surrogate | str) -> None:
        super().__init__()
        self.spike = _Threshold(surrogate=surrogate)

    def fire(self, u: Tensor, like: Tensor) -> Tensor:
        """The spikes of `u`, the distance to the threshold."""
        return self.spike(u).to(like.dtype)

    def check(self, x: Tensor) -> None:
        """Refuse what is not `[T, B, *features]` of floating point."""
        name = type(self).__name__
        if not isinstance(x, Tensor) or not x.is_floating_point():
            found = getattr(x, "dtype", type(x).__name__)
            raise DtypeError(f"{name} takes floating-point input [T, B, *features], got {found}")
        if x.ndim < 2:
            raise ShapeError(f"{name} takes [T, B, *features], got a tensor of shape {tuple(x.shape)}")


class PSN(_TimeMixing):
    """Parallel spiking neuron: a learned mixture of all time steps, then a threshold.

        h[t] = sum_s weight[t, s] x[s]           s[t] = 1 if h[t] >= v_threshold[t] else 0

    Every step sees every other, later ones too, and the number of steps is fixed: a `Stream` refuses it.

    Args:
        steps: T, the number of time steps of every input.
        surrogate: slope of the spike in the backward pass, or its name.

    Attributes:
        weight: `[T, T]`, learned; uniform on (-1/sqrt(T), 1/sqrt(T)) at first.
        v_threshold: `[T]`, learned; 1 at first.

    Shape:
        `[T, B, *features]` -> `[T, B, *features]`. Computed in float32 (float64 for float64 input).

    Raises:
        ShapeError: if an input has another number of steps.
        ArgumentError: if `steps` is below 1.

    Source: Fang et al., "Parallel spiking neurons with high efficiency and ability to learn long-term dependencies",
    NeurIPS 2023, arXiv 2304.12760.
    """

    def __init__(self, steps: int, *, surrogate: Surrogate | str = "atan") -> None:
        super().__init__(surrogate)
        self.steps = _at_least_one(self, "steps", steps)
        self.weight = nn.Parameter(_uniform((steps, steps), steps))
        self.v_threshold = nn.Parameter(torch.ones(steps))

    def mixing(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """The matrix `[T, T]` that mixes the steps, computed in `dtype`."""
        return self.weight.to(dtype)

    def forward(self, x: Tensor) -> Tensor:
        """The spikes of a whole sequence."""
        self.check(x)
        if len(x) != self.steps:
            raise ShapeError(
                f"{type(self).__name__} was made for T = {self.steps} steps, got an input of {len(x)}; "
                f"SlidingPSN and ParallelLIF take any length"
            )
        real = _real(x)
        flat = x.reshape(self.steps, x.shape[1:].numel()).to(real)
        with torch.autocast(x.device.type, enabled=False):  # spikes are decided in full precision
            u = torch.addmm(-self.v_threshold.to(real).unsqueeze(1), self.mixing(real), flat)
        return self.fire(u.view(x.shape), x)

    def extra_repr(self) -> str:
        return f"steps={self.steps}"


class MaskedPSN(PSN):
    """Masked parallel spiking neuron: PSN whose steps see only the `order` latest ones, themselves included.

        M[t, s] = 1 if t - order < s <= t else 0
        h[t] = sum_s (lambda_ M[t, s] + 1 - lambda_) weight[t, s] x[s]
        s[t] = 1 if h[t] >= v_threshold[t] else 0

    `lambda_` goes from 0 (PSN) to 1 (causal) while training: set it, as in `neuron.lambda_ = epoch / epochs`.

    Args:
        steps: T, the number of time steps of every input.
        order: k, how many steps a step sees.
        lambda_: the mask's strength at first, from 0 to 1.
        surrogate: slope of the spike in the backward pass, or its name.

    Shape:
        `[T, B, *features]` -> `[T, B, *features]`.

    Raises:
        ShapeError: if an input has another number of steps.
        ArgumentError: if `steps` or `order` is below 1, or `lambda_` not from 0 to 1.

    Source: Fang et al., NeurIPS 2023, arXiv 2304.12760.
    """

    mask: Tensor
    mask_strength: Tensor

    def __init__(self, steps: int, order: int, *, lambda_: float = 0.0, surrogate: Surrogate | str = "atan") -> None:
        super().__init__(steps, surrogate=surrogate)
        self.order = _at_least_one(self, "order", order)
        self.register_buffer("mask", torch.ones(steps, steps).tril().triu(1 - order), persistent=False)
        self.register_buffer("mask_strength", torch.zeros(()))
        self.lambda_ = lambda_

    @property
    def lambda_(self) -> float:
        """The mask's strength, from 0 to 1."""
        return self.mask_strength.item()

    @lambda_.setter
    def lambda_(self, value: float) -> None:
        if not 0 <= value <= 1:
            raise ArgumentError(f"MaskedPSN.lambda_ must lie from 0 to 1, got {value}")
        self.mask_strength.fill_(value)

    def mixing(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """The masked matrix `[T, T]`; no entry outside the band is left at `lambda_ = 1`."""
        return self.weight.to(dtype) * (self.mask_strength * self.mask + (1 - self.mask_strength))

    def extra_repr(self) -> str:
        return f"steps={self.steps}, order={self.order}, lambda_={self.lambda_:g}"


class SlidingState(NamedTuple):
    """The `order - 1` inputs before the next step, `[order - 1, B, *features]`, oldest first."""

    inputs: Tensor


class SlidingPSN(_TimeMixing):
    """Sliding parallel spiking neuron: one causal filter of `order` taps for all steps, then a threshold.

        h[t] = sum_i weight[i] x[t - order + 1 + i]       (i = 0 .. order - 1; x is 0 before the first step)
        s[t] = 1 if h[t] >= v_threshold else 0

    Any number of steps; chunks and streams give the same bits as the whole.

    Args:
        order: k, the number of taps.
        surrogate: slope of the spike in the backward pass, or its name.

    Attributes:
        weight: `[order]`, learned, the oldest step's first; (..., 1/4, 1/2, 1) at first.
        v_threshold: learned; 1 at first.

    Shape:
        `[T, B, *features]` -> `[T, B, *features]`; state `inputs` `[order - 1, B, *features]`. Computed in float32
        (float64 for float64 input).

    Raises:
        ArgumentError: if `order` is below 1.

    Source: Fang et al., NeurIPS 2023, arXiv 2304.12760.
    """

    State = SlidingState

    def __init__(self, order: int, *, surrogate: Surrogate | str = "atan") -> None:
        super().__init__(surrogate)
        self.order = _at_least_one(self, "order", order)
        self.weight = nn.Parameter(0.5 ** torch.arange(order - 1, -1, -1.0))
        self.v_threshold = nn.Parameter(torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        """The spikes of a whole sequence, or of a stream's next part."""
        return _carried(self, x)

    def run(self, x: Tensor, state: SlidingState | None = None) -> tuple[Tensor, SlidingState]:
        """A chunk `[T, B, *features]` from `state`; returns the spikes and the next state."""
        self.check(x)
        real = _real(x)
        shape = (self.order - 1, *x.shape[1:])
        before = x.new_zeros(shape, dtype=real) if state is None else _fitting(self, state, shape, x)
        known = torch.cat([before, x.to(real)])
        h = known[: len(x)] * self.weight[0].to(real)
        for i in range(1, self.order):  # in this order at any chunk size; a matrix product would round by its shape
            h = h + known[i : i + len(x)] * self.weight[i].to(real)
        return self.fire(h - self.v_threshold.to(real), x), SlidingState(known[len(x) :])

    def extra_repr(self) -> str:
        return f"order={self.order}"


class LeakyState(NamedTuple):
    """The potential after the last step, `[B, *features]`."""

    v: Tensor


class ParallelLIF(_TimeMixing):
    """Leaky neuron without reset, computed by a parallel scan over time.

        a = exp(-dt / tau)
        v[t] = a v[t-1] + b x[t]         b = 1 - a  (decay_input=True)   or   b = 1  (decay_input=False)
        s[t] = 1 if v[t] >= v_threshold else 0

    The exact solution of `tau dv/dt = -v + x` for an `x` that is constant over each step (`decay_input=True`). It is
    linear up to the threshold, so that a GPU works on many steps at once. Chunks and streams give the same bits as the
    whole on the CPU, and the same up to rounding on a GPU.

    Args:
        tau: membrane time constant, in the unit of `dt`. A number or tensor is fixed, an `nn.Parameter` learned;
            shapes `()`, per channel `[C, 1, 1]` or per neuron `[*features]`. So is `v_threshold`.
        v_threshold: potential from which the neuron fires, at every step.
        decay_input: scale the input by `1 - a`.
        surrogate: slope of the spike in the backward pass, or its name.
        dt: length of a time step.

    Shape:
        `[T, B, *features]` -> `[T, B, *features]`; state `v` `[B, *features]`, float32 (float64 for float64 input).

    Raises:
        ArgumentError: if `tau` or `dt` is not above 0.

    Source: Gerstner et al., "Neuronal Dynamics", Cambridge 2014, section 1.3, without the reset; the scan after
    Blelloch, "Prefix sums and their applications", CMU-CS-90-190, 1990.
    """

    State = LeakyState
    tau: Tensor
    v_threshold: Tensor

    def __init__(
        self,
        tau: float | Tensor = 2.0,
        v_threshold: float | Tensor = 1.0,
        *,
        decay_input: bool = True,
        surrogate: Surrogate | str = "atan",
        dt: float = 1.0,
    ) -> None:
        super().__init__(surrogate)
        if not (math.isfinite(dt) and dt > 0):
            raise ArgumentError(f"ParallelLIF.dt must be a finite number above 0, got {dt}")
        self.dt, self.decay_input = float(dt), decay_input
        _own(self, "tau", tau)
        _own(self, "v_threshold", v_threshold)
        if not bool((self.tau > 0).all()):
            raise ArgumentError(f"ParallelLIF.tau must lie above 0, got {self.tau.detach().min().item()}")

    def forward(self, x: Tensor) -> Tensor:
        """The spikes of a whole sequence, or of a stream's next part."""
        return _carried(self, x)

    def run(self, x: Tensor, state: LeakyState | None = None) -> tuple[Tensor, LeakyState]:
        """A chunk `[T, B, *features]` from `state`; returns the spikes and the next state."""
        self.check(x)
        real = _real(x)
        shape = tuple(x.shape[1:])
        before = x.new_zeros((), dtype=real) if state is None else _fitting(self, state, shape, x)
        self._fits("tau", x)
        self._fits("v_threshold", x)
        rate = -self.dt / self.tau.to(real)
        current = x.to(real) * -torch.expm1(rate) if self.decay_input else x
        v, last = linear_scan(current, rate.exp(), before)
        return self.fire(v - self.v_threshold.to(real), x), LeakyState(last)

    def _fits(self, name: str, x: Tensor) -> None:
        value, features = getattr(self, name), x.shape[2:]
        aligned = (1,) * (len(features) - value.ndim) + tuple(value.shape)
        if len(aligned) > len(features) or any(a not in (1, b) for a, b in zip(aligned, features, strict=True)):
            raise ShapeError(
                f"ParallelLIF.{name} of shape {tuple(value.shape)} does not broadcast against the features "
                f"{tuple(features)}"
            )

    def extra_repr(self) -> str:
        return f"tau={_shown(self.tau)}, v_threshold={_shown(self.v_threshold)}, dt={self.dt:g}"


def _carried(module: SlidingPSN | ParallelLIF, x: Tensor) -> Tensor:
    """Run from the start, or from where the stream that runs has left off."""
    running = carrier()
    if running is None:
        return module.run(x)[0]
    key, state = running.take(module, x)
    spikes, state = module.run(x, state)
    running.put(key, state)
    return spikes


def _fitting(module: Any, state: Any, shape: tuple[int, ...], x: Tensor) -> Tensor:
    """The state's tensor, if it goes with an input like `x`."""
    name = type(module).__name__
    if not isinstance(state, module.State):
        raise StateError(f"{name} takes a state of its own run, got {state!r:.80}")
    (value,) = state
    if tuple(value.shape) != shape or value.dtype != _real(x) or value.device != x.device:
        raise StateError(
            f"{name}: the state is {tuple(value.shape)} {value.dtype} on {value.device}, but the input needs "
            f"{shape} {_real(x)} on {x.device}; start a new state for another batch"
        )
    return value


def _real(x: Tensor) -> torch.dtype:
    """The precision of states and arithmetic."""
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def _at_least_one(module: nn.Module, name: str, value: int) -> int:
    if value < 1:
        raise ArgumentError(f"{type(module).__name__}.{name} must be at least 1, got {value}")
    return value


def _uniform(shape: tuple[int, ...], fan_in: int) -> Tensor:
    bound = fan_in**-0.5
    return torch.rand(shape) * (2 * bound) - bound


def _own(module: nn.Module, name: str, value: float | Tensor) -> None:
    """A parameter is learned; a number or tensor is kept as it is."""
    if isinstance(value, nn.Parameter):
        module.register_parameter(name, value)
    else:
        tensor = value if isinstance(value, Tensor) else torch.tensor(float(value))
        module.register_buffer(name, tensor.detach().clone())


def _shown(value: Tensor) -> str:
    return f"{value.item():g}" if value.numel() == 1 else f"{tuple(value.shape)}"
