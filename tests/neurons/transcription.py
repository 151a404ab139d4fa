"""The equations of LIF and IF once more, written from their papers in float64 with autograd: a truth of the tests.

Other families have their `Step` beside their tests.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import NamedTuple

import torch
from torch import Tensor

Slope = Callable[[Tensor], Tensor]


def atan_slope(alpha: float) -> Slope:
    return lambda u: alpha / 2 / (1 + (math.pi / 2 * alpha * u) ** 2)


def sigmoid_slope(alpha: float) -> Slope:
    return lambda u: alpha * torch.sigmoid(alpha * u) * torch.sigmoid(-alpha * u)


def fast_sigmoid_slope(alpha: float) -> Slope:
    return lambda u: (1 + alpha * u.abs()) ** -2


def triangle_slope(alpha: float) -> Slope:
    return lambda u: alpha * (1 - alpha * u.abs()).clamp(min=0)


def rectangle_slope(alpha: float) -> Slope:
    return lambda u: alpha * (u.abs() < 0.5 / alpha).double()


def bell(u: Tensor, mean: float, width: float) -> Tensor:
    """The normal density."""
    return torch.exp(-(((u - mean) / width) ** 2) / 2) / (width * math.sqrt(2 * math.pi))


def gaussian_slope(alpha: float) -> Slope:
    return lambda u: bell(u, 0.0, 1 / alpha)


def multi_gaussian_slope(sigma: float = 0.5, h: float = 0.15, s: float = 6.0, gamma: float = 0.5) -> Slope:
    def slope(u: Tensor) -> Tensor:
        near, right, left = bell(u, 0.0, sigma), bell(u, sigma, s * sigma), bell(u, -sigma, s * sigma)
        return gamma * ((1 + h) * near - h * right - h * left)

    return slope


def slayer_slope(alpha: float = 5.0, c: float = 0.4) -> Slope:
    return lambda u: c * alpha / (2 * torch.exp(alpha * u.abs()))


class _Heaviside(torch.autograd.Function):
    @staticmethod
    def forward(ctx, u, slope):  # type: ignore[no-untyped-def]
        ctx.save_for_backward(slope)
        return (u >= 0).to(u)

    @staticmethod
    def backward(ctx, grad):  # type: ignore[no-untyped-def]
        return grad * ctx.saved_tensors[0], None


class Fire:
    """The spike where `u >= 0`, with a given slope as its derivative; keeps every `u` and every spike."""

    def __init__(self, slope: Slope) -> None:
        self.slope = slope
        self.distances: list[Tensor] = []
        self.spikes: list[Tensor] = []

    def __call__(self, u: Tensor, gate: Tensor | float = 1.0) -> Tensor:
        z = _Heaviside.apply(u, self.slope(u.detach())) * gate
        self.distances.append(u)
        self.spikes.append(z)
        return z


# step(state, x, parameters, fire) -> next state: one time step, written from the paper.
Step = Callable[[SimpleNamespace, Tensor, SimpleNamespace, Fire], dict[str, Tensor]]


class Run(NamedTuple):
    """Spikes and distances to the threshold [T, ...], and the last state."""

    spikes: Tensor
    distances: Tensor
    state: dict[str, Tensor]


def run(step: Step, x: Tensor, state: dict[str, Tensor], params: dict[str, Tensor], slope: Slope) -> Run:
    """All steps. Parameters come per step [T, ...], so that the gradients to them are the single terms."""
    fire = Fire(slope)
    for x_t, *values in zip(x, *params.values(), strict=True):
        p = SimpleNamespace(**dict(zip(params, values, strict=True)))
        state = step(SimpleNamespace(**state), x_t, p, fire)
    return Run(torch.stack(fire.spikes), torch.stack(fire.distances), state)


@dataclass
class Case:
    """One way to configure a leaky (`leak`) or perfect integrate-and-fire neuron."""

    leak: bool = True
    soft: bool = False
    unreset: bool = False
    decay_input: bool = True
    exact_decay: bool = False
    detach_reset: bool = False

    def charge(self, v: Tensor, x: Tensor, p: SimpleNamespace) -> Tensor:
        if not self.leak:
            return v + x
        if self.exact_decay:
            keep = torch.exp(-1 / p.tau)
            return p.v_rest + (v - p.v_rest) * keep + x * (1 - keep if self.decay_input else 1)
        if self.decay_input:
            return v + (p.v_rest - v + x) / p.tau
        return v + (p.v_rest - v) / p.tau + x

    def reset(self, h: Tensor, z: Tensor, p: SimpleNamespace) -> Tensor:
        gate = z.detach() if self.detach_reset else z
        if self.unreset:
            return h
        return h - gate * p.v_threshold if self.soft else (1 - gate) * h + gate * p.v_reset

    def __call__(self, s: SimpleNamespace, x: Tensor, p: SimpleNamespace, fire: Fire) -> dict[str, Tensor]:
        h = self.charge(s.v, x, p)
        return {"v": self.reset(h, fire(h - p.v_threshold), p)}
