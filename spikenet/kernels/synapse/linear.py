"""`y = s W^T + b` for binary spikes `s`, as torch operators with fakes and autograd.

What is kept of the spikes for `gW = G^T s` is one bit each. On a CUDA device large float32 products run on bfloat16
tensor cores: spikes are exact in bfloat16, and a float32 matrix is split in three (see `split`). Elsewhere, in other
precisions and with the backend "reference" forced, they are torch's own.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from spikenet.errors import BackendError, DeviceError, DtypeError, ShapeError
from spikenet.kernels.backends import forced
from spikenet.kernels.synapse.pack import pack, unpack
from spikenet.kernels.synapse.split import (
    product_of_both,
    product_of_exact,
    product_with_exact,
    split_bfloat16,
    transposed,
)

_library = torch.library.Library("spikenet", "FRAGMENT")
_library.define("spike_linear(Tensor spikes, Tensor weight, Tensor? bias) -> (Tensor, Tensor)")
_library.define(
    "spike_linear_backward(Tensor words, Tensor weight, Tensor grad, bool wants_spikes, bool wants_weight) "
    "-> (Tensor, Tensor)"
)


LARGE = 1 << 34  # multiplications and additions from which splitting pays for its launches


def _splits(like: Tensor, weight: Tensor) -> bool:
    large = len(like) * weight.numel() >= LARGE
    return large and like.is_cuda and like.dtype == torch.float32 and forced() != "reference"


def _forward(spikes: Tensor, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor]:
    with torch.autocast(spikes.device.type, enabled=False):
        return _product(spikes, weight, bias)


def _product(spikes: Tensor, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor]:
    words = pack(spikes)
    if not _splits(spikes, weight):
        return functional.linear(spikes, weight, bias), words
    y = product_of_exact(unpack(words, spikes.shape, torch.bfloat16), transposed(split_bfloat16(weight)))
    return y if bias is None else y.add_(bias), words


def _backward(
    words: Tensor, weight: Tensor, grad: Tensor, wants_spikes: bool, wants_weight: bool
) -> tuple[Tensor, Tensor]:
    with torch.autocast(grad.device.type, enabled=False):
        return _products_back(words, weight, grad, wants_spikes, wants_weight)


def _products_back(
    words: Tensor, weight: Tensor, grad: Tensor, wants_spikes: bool, wants_weight: bool
) -> tuple[Tensor, Tensor]:
    shape = (len(grad), weight.shape[1])
    none = grad.new_empty(0)
    if not _splits(grad, weight):
        gx = grad @ weight if wants_spikes else none
        return gx, grad.t() @ unpack(words, shape, grad.dtype) if wants_weight else none
    parts = split_bfloat16(grad)
    gx = product_of_both(parts, split_bfloat16(weight)) if wants_spikes else none
    if not wants_weight:
        return gx, none
    return gx, product_with_exact(transposed(parts), unpack(words, shape, torch.bfloat16))


def _fake_forward(spikes: Tensor, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor]:
    words = spikes.new_empty((spikes.numel() + 7) // 8, dtype=torch.uint8)
    return spikes.new_empty(spikes.shape[0], weight.shape[0]), words


def _fake_backward(
    words: Tensor, weight: Tensor, grad: Tensor, wants_spikes: bool, wants_weight: bool
) -> tuple[Tensor, Tensor]:
    gx = grad.new_empty(grad.shape[0], weight.shape[1]) if wants_spikes else grad.new_empty(0)
    return gx, torch.empty_like(weight) if wants_weight else grad.new_empty(0)


class _SpikeLinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, spikes: Tensor, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor]:
        with torch._C._AutoDispatchBelowAutograd():
            y, words = torch.ops.spikenet.spike_linear(spikes, weight, bias)
        ctx.save_for_backward(words if ctx.needs_input_grad[1] else words.new_empty(0), weight)
        ctx.mark_non_differentiable(words)
        return y, words

    @staticmethod
    def backward(ctx: Any, grad: Tensor, _: Any) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        if torch.is_grad_enabled():
            raise BackendError("spike_linear has no second derivative: call backward without create_graph=True")
        words, weight = ctx.saved_tensors
        wants_spikes, wants_weight, wants_bias = ctx.needs_input_grad
        gx, gw = torch.ops.spikenet.spike_linear_backward(words, weight, grad, wants_spikes, wants_weight)
        return gx if wants_spikes else None, gw if wants_weight else None, grad.sum(0) if wants_bias else None


def _autograd(spikes: Tensor, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor]:
    if torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in (spikes, weight, bias)):
        return _SpikeLinear.apply(spikes, weight, bias)
    with torch._C._AutoDispatchBelowAutograd():
        return torch.ops.spikenet.spike_linear(spikes, weight, bias)


_library.impl("spike_linear", _forward, "CompositeExplicitAutograd")
_library.impl("spike_linear_backward", _backward, "CompositeExplicitAutograd")
_library.impl("spike_linear", _autograd, "Autograd")
torch.library.register_fake("spikenet::spike_linear", _fake_forward, lib=_library)
torch.library.register_fake("spikenet::spike_linear_backward", _fake_backward, lib=_library)


def spike_linear(spikes: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`spikes @ weight.T + bias`, with first derivatives for all three.

    Args:
        spikes: `[M, K]`, every value 0 or 1.
        weight: `[N, K]`, of the spikes' dtype and device.
        bias: `[N]`, of the same dtype and device, or None.

    Autocast has no effect: the product and its derivatives have the dtype of the spikes.

    Raises:
        ArgumentError: if a value of `spikes` is neither 0 nor 1 (on a CUDA device: see `pack`).
        ShapeError, DtypeError, DeviceError: if the three do not go together.
    """
    if spikes.ndim != 2 or spikes.shape[1] != weight.shape[1]:
        raise ShapeError(f"spike_linear takes [M, {weight.shape[1]}], got {tuple(spikes.shape)}")
    if bias is not None and bias.shape != weight.shape[:1]:
        raise ShapeError(f"spike_linear takes a bias of shape {tuple(weight.shape[:1])}, got {tuple(bias.shape)}")
    for name, other in (("weight", weight), ("bias", bias)):
        if other is None:
            continue
        if spikes.dtype != other.dtype:
            raise DtypeError(f"the spikes are {spikes.dtype}, the {name} {other.dtype}; convert one of them")
        if spikes.device != other.device:
            raise DeviceError(f"the spikes are on {spikes.device}, the {name} on {other.device}; move one of them")
    return torch.ops.spikenet.spike_linear(spikes, weight, bias)[0]
