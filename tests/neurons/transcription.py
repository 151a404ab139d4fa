"""The equations of LIF and IF once more, written from their papers in float64 with autograd: a truth of the tests."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

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


@dataclass
class Case:
    """One way to configure a leaky (`leak`) or perfect integrate-and-fire neuron."""

    leak: bool = True
    soft: bool = False
    decay_input: bool = True
    detach_reset: bool = False


def integrate(
    case: Case, x: Tensor, v: Tensor, tau: Tensor, v_threshold: Tensor, v_reset: Tensor, v_rest: Tensor, slope: Slope
) -> tuple[Tensor, Tensor, Tensor]:
    """Spikes, the distances to the threshold [T, ...] and the last potential. Parameters may vary per step [T, ...]."""
    spikes, distances = [], []
    per_step = [p.expand(x.shape) for p in (tau, v_threshold, v_reset, v_rest)]
    for x_t, tau_t, threshold_t, reset_t, rest_t in zip(x, *per_step, strict=True):
        if not case.leak:
            h = v + x_t
        elif case.decay_input:
            h = v + (rest_t - v + x_t) / tau_t
        else:
            h = v + (rest_t - v) / tau_t + x_t
        u = h - threshold_t
        z = _Heaviside.apply(u, slope(u.detach()))
        gate = z.detach() if case.detach_reset else z
        v = h - gate * threshold_t if case.soft else (1 - gate) * h + gate * reset_t
        spikes.append(z)
        distances.append(u)
    return torch.stack(spikes), torch.stack(distances), v
