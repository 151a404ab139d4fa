"""`y = x W^T + b` for dense `x` that is mostly zeros: compressed to events where that is faster.

On the CPU the density is measured in a pass over `x`. Up to `most` of entries other than 0, output, weight and bias
gradient are those of `event_linear`; above it, and elsewhere, they are torch's dense products. The gradient of `x`,
which is owed where `x` is 0 too, always is.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from spikenet.errors import BackendError, DeviceError, DtypeError, ShapeError
from spikenet.kernels.backends import Implementation, Operation, anywhere, forced, on_processor
from spikenet.kernels.synapse.event_linear import DTYPES, real


def _reference(x: Tensor, weight: Tensor, bias: Tensor | None, most: float) -> Tensor:
    return functional.linear(x, weight, bias)


def _reference_gradients(x: Tensor, grad: Tensor, most: float) -> tuple[Tensor, Tensor]:
    return grad.t() @ x, grad.sum(0)


def _numba(x: Tensor, weight: Tensor, bias: Tensor | None, most: float) -> Tensor:
    from spikenet.kernels.synapse import numba_compress, numba_event_linear

    events = numba_compress.compress(x.to(real(x.dtype)), most_now(most))
    if events is None:
        return _reference(x, weight, bias, most)
    return numba_event_linear.forward(*events, weight, bias)


def _numba_gradients(x: Tensor, grad: Tensor, most: float) -> tuple[Tensor, Tensor]:
    from spikenet.kernels.synapse import numba_compress, numba_event_linear

    events = numba_compress.compress(x.to(real(x.dtype)), most_now(most))
    if events is None:
        return _reference_gradients(x, grad, most)
    return numba_event_linear.gradients(*events, grad, (grad.shape[1], x.shape[1]))


def most_now(most: float) -> float:
    """The density up to which a kernel goes by events: any, if it is forced."""
    return most if forced() is None else 1.0


FORWARD = Operation(
    "sparse_linear",
    Implementation("numba", on_processor, _numba),
    Implementation("reference", anywhere, _reference),
)
GRADIENTS = Operation(
    "the weight gradient of sparse_linear",
    Implementation("numba", on_processor, _numba_gradients),
    Implementation("reference", anywhere, _reference_gradients),
)

_library = torch.library.Library("spikenet", "FRAGMENT")
_library.define("sparse_linear(Tensor x, Tensor weight, Tensor? bias, float most) -> Tensor")
_library.define(
    "sparse_linear_backward(Tensor x, Tensor weight, Tensor grad, float most, bool wants_x, bool wants_weight) "
    "-> (Tensor, Tensor, Tensor)"
)


def _forward(x: Tensor, weight: Tensor, bias: Tensor | None, most: float) -> Tensor:
    with torch.autocast(x.device.type, enabled=False):
        if x.numel() == 0 or len(weight) == 0:
            return _reference(x, weight, bias, most)
        return FORWARD(x, weight, bias, most)


def _backward(
    x: Tensor, weight: Tensor, grad: Tensor, most: float, wants_x: bool, wants_weight: bool
) -> tuple[Tensor, Tensor, Tensor]:
    with torch.autocast(x.device.type, enabled=False):
        gx = grad @ weight if wants_x else grad.new_empty(0)
        if not wants_weight:
            return gx, grad.new_empty(0), grad.new_empty(0)
        if x.numel() == 0 or len(weight) == 0:
            return gx, *_reference_gradients(x, grad, most)
        return gx, *GRADIENTS(x, grad, most)


def _fake_forward(x: Tensor, weight: Tensor, bias: Tensor | None, most: float) -> Tensor:
    return x.new_empty(x.shape[0], weight.shape[0])


def _fake_backward(
    x: Tensor, weight: Tensor, grad: Tensor, most: float, wants_x: bool, wants_weight: bool
) -> tuple[Tensor, Tensor, Tensor]:
    gw = grad.new_empty(weight.shape if wants_weight else 0)
    gb = grad.new_empty(weight.shape[0] if wants_weight else 0)
    return grad.new_empty(x.shape if wants_x else 0), gw, gb


class _SparseLinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, most: float) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.most = most
        with torch._C._AutoDispatchBelowAutograd():
            return torch.ops.spikenet.sparse_linear(x, weight, bias, most)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():
            raise BackendError("sparse_linear has no second derivative: call backward without create_graph=True")
        wants_x, wants_weight, wants_bias, _ = ctx.needs_input_grad
        gx, gw, gb = torch.ops.spikenet.sparse_linear_backward(
            *ctx.saved_tensors, grad, ctx.most, wants_x, wants_weight or wants_bias
        )
        return gx if wants_x else None, gw if wants_weight else None, gb if wants_bias else None, None


def _autograd(x: Tensor, weight: Tensor, bias: Tensor | None, most: float) -> Tensor:
    if torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in (x, weight, bias)):
        return _SparseLinear.apply(x, weight, bias, most)
    with torch._C._AutoDispatchBelowAutograd():
        return torch.ops.spikenet.sparse_linear(x, weight, bias, most)


_library.impl("sparse_linear", _forward, "CompositeExplicitAutograd")
_library.impl("sparse_linear_backward", _backward, "CompositeExplicitAutograd")
_library.impl("sparse_linear", _autograd, "Autograd")
torch.library.register_fake("spikenet::sparse_linear", _fake_forward, lib=_library)
torch.library.register_fake("spikenet::sparse_linear_backward", _fake_backward, lib=_library)


def sparse_linear(x: Tensor, weight: Tensor, bias: Tensor | None = None, most: float = 1.0) -> Tensor:
    """`x @ weight.T + bias`, with first derivatives for all three.

    Args:
        x: `[R, K]`, floating-point, mostly zeros.
        weight: W, `[N, K]`, of the same dtype and device.
        bias: b, `[N]`, likewise, or None.
        most: the part of entries other than 0 above which the dense product is taken.

    Where W is infinite, 0 in a dense product gives NaN; left out, it gives nothing.

    Raises:
        ShapeError, DtypeError, DeviceError: if the three do not go together.
    """
    if x.ndim != 2 or weight.ndim != 2 or x.shape[1] != weight.shape[1]:
        raise ShapeError(f"sparse_linear takes [R, K] and [N, K], got {tuple(x.shape)} and {tuple(weight.shape)}")
    if bias is not None and bias.shape != weight.shape[:1]:
        raise ShapeError(f"sparse_linear takes a bias of shape {tuple(weight.shape[:1])}, got {tuple(bias.shape)}")
    check_alike(x, {"weight": weight, "bias": bias})
    return torch.ops.spikenet.sparse_linear(x, weight, bias, most)


def check_alike(x: Tensor, parameters: dict[str, Tensor | None]) -> None:
    """Raise unless input and parameters have one floating dtype and one device."""
    for name, other in parameters.items():
        if other is None:
            continue
        if x.dtype != other.dtype or x.dtype not in DTYPES:
            raise DtypeError(f"the input is {x.dtype}, the {name} {other.dtype}; both must be of one floating dtype")
        if x.device != other.device:
            raise DeviceError(f"the input is on {x.device}, the {name} on {other.device}; move one of them")
