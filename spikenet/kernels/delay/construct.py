"""The taps of delayed synapses, as a torch operator with a fake, autograd and the table of backends.

    K[i, j, d] = sum_k weight[i, j, k] g(d; delay[i, j, k], sigma[i, j, k])        d = 0 .. taps - 1

with `g` a bump (see `bump`). With `v` the bump's values, `S` their sum plus 1e-7 and `gK` the gradient of K,

    g weight[k] = sum_d gK[d] g[d]        g delay[k] = weight[k] sum_d gK[d] (g[d] sum(v') - v'[d]) / S

(without the sums where the bump is not normalised); sigma has no gradient. A Gaussian is cut where it falls below half
a unit in the last place of its height (2^-24, 2^-53 in float64): at a small sigma few taps are other than 0.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from spikenet.errors import BackendError
from spikenet.kernels.backends import Implementation, Operation, anywhere, lazily, on_processor
from spikenet.kernels.delay.bump import BUMPS, TINY, Bump
from spikenet.kernels.triton_device import why_not_on


def _parts(delay: Tensor, sigma: Tensor, shape: Bump, taps: int) -> tuple[Tensor, Tensor, Tensor]:
    """Distances, widths and values, `[..., taps]`."""
    at = torch.arange(taps, device=delay.device, dtype=delay.dtype)
    u, s = at - delay.unsqueeze(-1), shape.width(sigma).unsqueeze(-1)
    return u, s, shape.value(u, s)


def spread(weight: Tensor, delay: Tensor, sigma: Tensor, shape: Bump, taps: int) -> Tensor:
    """K in plain torch, differentiable by autograd, for any bump."""
    _, _, value = _parts(delay, sigma, shape, taps)
    g = value / (value.sum(-1, keepdim=True) + TINY) if shape.normalised else value
    return (weight.unsqueeze(-1) * g).sum(-2)


def _reference(weight: Tensor, delay: Tensor, sigma: Tensor, kernel: str, taps: int) -> Tensor:
    return spread(weight, delay, sigma, BUMPS[kernel], taps)


def _reference_gradients(
    weight: Tensor, delay: Tensor, sigma: Tensor, kernel: str, grad: Tensor
) -> tuple[Tensor, Tensor]:
    shape, gk = BUMPS[kernel], grad.unsqueeze(-2)
    u, s, value = _parts(delay, sigma, shape, grad.shape[-1])
    slope = shape.slope(u, s)
    if not shape.normalised:
        return (gk * value).sum(-1), -weight * (gk * slope).sum(-1)
    total = value.sum(-1, keepdim=True) + TINY
    g = value / total
    return (gk * g).sum(-1), weight * (gk * (g * slope.sum(-1, keepdim=True) - slope) / total).sum(-1)


def _triton_why_not(weight: Tensor, *_: Any) -> str | None:
    if weight.dtype == torch.float64:
        return "the Triton kernels compute in float32, and the weights are torch.float64"
    return why_not_on(weight)


_NUMBA, _TRITON = "spikenet.kernels.delay.numba_construct", "spikenet.kernels.delay.triton_construct"
FORWARD = Operation(
    "delay_kernel",
    Implementation("triton", _triton_why_not, lazily(_TRITON, "forward")),
    Implementation("numba", on_processor, lazily(_NUMBA, "forward")),
    Implementation("reference", anywhere, _reference),
)
GRADIENTS = Operation(
    "the gradient of delay_kernel",
    Implementation("triton", _triton_why_not, lazily(_TRITON, "gradients")),
    Implementation("numba", on_processor, lazily(_NUMBA, "gradients")),
    Implementation("reference", anywhere, _reference_gradients),
)

_library = torch.library.Library("spikenet", "FRAGMENT")
_library.define("delay_kernel(Tensor weight, Tensor delay, Tensor sigma, str kernel, int taps) -> Tensor")
_library.define(
    "delay_kernel_backward(Tensor weight, Tensor delay, Tensor sigma, str kernel, Tensor grad) -> (Tensor, Tensor)"
)


def forward(weight: Tensor, delay: Tensor, sigma: Tensor, kernel: str, taps: int) -> Tensor:
    return laid_out(FORWARD(weight, delay, sigma, kernel, taps))


def silent_taps(weight: Tensor, taps: int) -> Tensor:
    """K of zeros for weights `[*synapses, elements]`, laid out so."""
    synapses = weight.shape[:-1]
    if weight.is_cuda:
        return weight.new_zeros(taps, *synapses).movedim(0, -1)
    return weight.new_zeros(*synapses, taps)


def laid_out(k: Tensor) -> Tensor:
    """On a CUDA device with the taps as the slowest axis in memory, for products over taps; elsewhere contiguous."""
    return k.movedim(-1, 0).contiguous().movedim(0, -1) if k.is_cuda else k.contiguous()


def gradients(weight: Tensor, delay: Tensor, sigma: Tensor, kernel: str, grad: Tensor) -> tuple[Tensor, Tensor]:
    return GRADIENTS(weight, delay, sigma, kernel, grad)


def _fake(weight: Tensor, delay: Tensor, sigma: Tensor, kernel: str, taps: int) -> Tensor:
    return laid_out(weight.new_empty(*weight.shape[:-1], taps))


def _fake_backward(weight: Tensor, delay: Tensor, sigma: Tensor, kernel: str, grad: Tensor) -> tuple[Tensor, Tensor]:
    return weight.new_empty(weight.shape), weight.new_empty(weight.shape)


class _Kernel(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weight: Tensor, delay: Tensor, sigma: Tensor, kernel: str, taps: int) -> Tensor:
        ctx.save_for_backward(weight, delay, sigma)
        ctx.kernel = kernel
        with torch._C._AutoDispatchBelowAutograd():
            return torch.ops.spikenet.delay_kernel(weight, delay, sigma, kernel, taps)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():
            raise BackendError("delay_kernel has no second derivative: call backward without create_graph=True")
        gw, gd = torch.ops.spikenet.delay_kernel_backward(*ctx.saved_tensors, ctx.kernel, grad)
        return gw, gd, None, None, None


def _autograd(weight: Tensor, delay: Tensor, sigma: Tensor, kernel: str, taps: int) -> Tensor:
    if torch.is_grad_enabled() and (weight.requires_grad or delay.requires_grad):
        return _Kernel.apply(weight, delay, sigma, kernel, taps)
    with torch._C._AutoDispatchBelowAutograd():
        return torch.ops.spikenet.delay_kernel(weight, delay, sigma, kernel, taps)


_library.impl("delay_kernel", forward, "CompositeExplicitAutograd")
_library.impl("delay_kernel_backward", gradients, "CompositeExplicitAutograd")
_library.impl("delay_kernel", _autograd, "Autograd")
torch.library.register_fake("spikenet::delay_kernel", _fake, lib=_library)
torch.library.register_fake("spikenet::delay_kernel_backward", _fake_backward, lib=_library)


def delay_kernel(weight: Tensor, delay: Tensor, sigma: Tensor, shape: Bump, taps: int) -> Tensor:
    """K `[*synapses, taps]`, with gradients for `weight` and `delay`.

    Args:
        weight: `[*synapses, elements]`.
        delay: in steps, broadcastable to the weight's shape.
        sigma: likewise.
        shape: the bump; one that is not of `BUMPS` runs in plain torch.
        taps: the number of taps, D.

    Computed in float32 (float64 for float64 weights) and returned in the weight's dtype.
    """
    real = torch.float64 if weight.dtype == torch.float64 else torch.float32
    w, d, s = weight.to(real), delay.to(real).expand(weight.shape), sigma.to(real).expand(weight.shape)
    if BUMPS.get(shape.name) == shape:
        return torch.ops.spikenet.delay_kernel(w, d, s, shape.name, taps).to(weight.dtype)
    return spread(w, d, s, shape, taps).to(weight.dtype)
