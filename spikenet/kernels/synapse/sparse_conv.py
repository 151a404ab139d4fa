"""`torch.nn.functional.conv2d` for frames that are mostly zeros: compressed to events where that is faster.

The counterpart of `sparse_linear`: on the CPU, up to `most` of entries other than 0, output, weight and bias gradient
are those of `event_conv2d`; above it, and elsewhere, they are torch's. The gradient of `x` always is.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from spikenet.errors import BackendError, ShapeError
from spikenet.kernels.backends import Implementation, Operation, anywhere, on_processor
from spikenet.kernels.synapse.event_conv import check_convolution, geometry_of, gradient_of_input, gradient_of_weight
from spikenet.kernels.synapse.event_linear import real
from spikenet.kernels.synapse.geometry import Geometry, Pair
from spikenet.kernels.synapse.sparse_linear import check_alike, most_now


def _reference(x: Tensor, weight: Tensor, bias: Tensor | None, most: float, geometry: Geometry) -> Tensor:
    _, _, _, stride, padding, dilation, groups = geometry
    return functional.conv2d(x, weight, bias, stride, padding, dilation, groups).contiguous()


def _reference_gradients(
    x: Tensor, grad: Tensor, most: float, wants_bias: bool, geometry: Geometry
) -> tuple[Tensor, Tensor]:
    return gradient_of_weight(x, grad, geometry), grad.sum((0, 2, 3))


def _numba(x: Tensor, weight: Tensor, bias: Tensor | None, most: float, geometry: Geometry) -> Tensor:
    from spikenet.kernels.synapse import numba_compress, numba_event_conv

    events = numba_compress.compress(x.flatten(1).to(real(x.dtype)), most_now(most))
    if events is None:
        return _reference(x, weight, bias, most, geometry)
    return numba_event_conv.forward(*events, weight, bias, geometry)


def _numba_gradients(
    x: Tensor, grad: Tensor, most: float, wants_bias: bool, geometry: Geometry
) -> tuple[Tensor, Tensor]:
    from spikenet.kernels.synapse import numba_compress, numba_event_conv

    events = numba_compress.compress(x.flatten(1).to(real(x.dtype)), most_now(most))
    if events is None:
        return _reference_gradients(x, grad, most, wants_bias, geometry)
    return numba_event_conv.gradients(*events, grad, wants_bias, geometry)


FORWARD = Operation(
    "sparse_conv2d",
    Implementation("numba", on_processor, _numba),
    Implementation("reference", anywhere, _reference),
)
GRADIENTS = Operation(
    "the weight gradient of sparse_conv2d",
    Implementation("numba", on_processor, _numba_gradients),
    Implementation("reference", anywhere, _reference_gradients),
)

_library = torch.library.Library("spikenet", "FRAGMENT")
_REST = "int[] stride, int[] padding, int[] dilation, int groups, float most"
_library.define("sparse_conv2d(Tensor x, Tensor weight, Tensor? bias, " + _REST + ") -> Tensor")
_library.define(
    "sparse_conv2d_backward(Tensor x, Tensor weight, Tensor grad, "
    + _REST
    + ", bool wants_x, bool wants_weight, bool wants_bias) -> (Tensor, Tensor, Tensor)"
)


def _forward(x: Tensor, weight: Tensor, bias: Tensor | None, *rest: Any) -> Tensor:
    *shape, most = rest
    geometry = geometry_of(weight, x.shape[2:], *shape)
    with torch.autocast(x.device.type, enabled=False):
        if x.numel() == 0:
            return x.new_zeros(len(x), len(weight), *geometry.out)
        return FORWARD(x, weight, bias, most, geometry)


def _backward(x: Tensor, weight: Tensor, grad: Tensor, *rest: Any) -> tuple[Tensor, Tensor, Tensor]:
    *shape, most, wants_x, wants_weight, wants_bias = rest
    geometry = geometry_of(weight, x.shape[2:], *shape)
    if grad.numel() == 0:
        return torch.zeros_like(x), torch.zeros_like(weight), weight.new_zeros(len(weight))
    with torch.autocast(x.device.type, enabled=False):
        gx = gradient_of_input(weight, grad, geometry) if wants_x else grad.new_empty(0)
        if not wants_weight and not wants_bias:
            return gx, grad.new_empty(0), grad.new_empty(0)
        return gx, *GRADIENTS(x, grad, most, wants_bias, geometry)


def _fake_forward(x: Tensor, weight: Tensor, bias: Tensor | None, *rest: Any) -> Tensor:
    return x.new_empty(x.shape[0], weight.shape[0], *geometry_of(weight, x.shape[2:], *rest[:-1]).out)


def _fake_backward(x: Tensor, weight: Tensor, grad: Tensor, *rest: Any) -> tuple[Tensor, Tensor, Tensor]:
    wants_x, wants_weight, wants_bias = rest[-3:]
    some = wants_weight or wants_bias
    gw, gb = grad.new_empty(weight.shape if some else 0), grad.new_empty(weight.shape[0] if some else 0)
    return grad.new_empty(x.shape if wants_x else 0), gw, gb


class _SparseConv2d(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, *rest: Any) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.rest = rest
        with torch._C._AutoDispatchBelowAutograd():
            return torch.ops.spikenet.sparse_conv2d(x, weight, bias, *rest)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():
            raise BackendError("sparse_conv2d has no second derivative: call backward without create_graph=True")
        wants = ctx.needs_input_grad[:3]
        gradients = torch.ops.spikenet.sparse_conv2d_backward(*ctx.saved_tensors, grad, *ctx.rest, *wants)
        wanted = (g if wants_it else None for g, wants_it in zip(gradients, wants, strict=True))
        return *wanted, *(None for _ in ctx.rest)


def _autograd(x: Tensor, weight: Tensor, bias: Tensor | None, *rest: Any) -> Tensor:
    if torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in (x, weight, bias)):
        return _SparseConv2d.apply(x, weight, bias, *rest)
    with torch._C._AutoDispatchBelowAutograd():
        return torch.ops.spikenet.sparse_conv2d(x, weight, bias, *rest)


_library.impl("sparse_conv2d", _forward, "CompositeExplicitAutograd")
_library.impl("sparse_conv2d_backward", _backward, "CompositeExplicitAutograd")
_library.impl("sparse_conv2d", _autograd, "Autograd")
torch.library.register_fake("spikenet::sparse_conv2d", _fake_forward, lib=_library)
torch.library.register_fake("spikenet::sparse_conv2d_backward", _fake_backward, lib=_library)


def sparse_conv2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    stride: Pair = (1, 1),
    padding: Pair = (0, 0),
    dilation: Pair = (1, 1),
    groups: int = 1,
    most: float = 1.0,
) -> Tensor:
    """The convolution of frames `[R, C, H, W]`, with first derivatives for `x`, `weight` and `bias`.

    Args:
        x: floating-point, mostly zeros.
        weight, bias: of the same dtype and device.
        stride, padding, dilation, groups: as in `torch.nn.functional.conv2d`, in pairs; zeros are padded.
        most: the part of entries other than 0 above which the frames are convolved as they are.

    Returns:
        `[R, N, H', W']`, contiguous.

    Raises:
        ShapeError, ArgumentError, DtypeError, DeviceError: if these do not go together.
    """
    if x.ndim != 4 or weight.ndim != 4 or x.shape[1] != weight.shape[1] * groups:
        raise ShapeError(
            f"sparse_conv2d takes [R, C, H, W] and [N, C / {groups}, kh, kw], got {tuple(x.shape)} and "
            f"{tuple(weight.shape)}"
        )
    check_alike(x, {"weight": weight, "bias": bias})
    check_convolution(weight, bias, x.shape[2:], stride, padding, dilation, groups)
    rest = (list(stride), list(padding), list(dilation), groups, most)
    return torch.ops.spikenet.sparse_conv2d(x, weight, bias, *rest)
