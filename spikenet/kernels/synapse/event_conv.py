"""Two-dimensional convolution of events: each event adds its `kh kw` weight vectors to the outputs that it reaches.

    y[r, :, p] = b + sum_e values[e] W[:, c_e, tap(e, p)]        over the events `e` of row `r` that reach pixel `p`
    gW[:, c, k] = sum_e values[e] gy[r_e, :, p(e, k)]        gb = sum_(r, p) gy[r, :, p]
    gvalues[e] = sum_k gy[r_e, :, p(e, k)] . W[:, c_e, k]

Rows are compressed as in `event_linear`; the index of an event is `(c H + h) W + w`. Each output is one sum in the
order of the row's events, so that it does not depend on the rows beside it. The reference is torch's convolution of the
dense frames; it also serves above `most`, the density from which it is faster (see `crossover`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.grad import conv2d_input, conv2d_weight

from spikenet.errors import ArgumentError, BackendError, ShapeError
from spikenet.kernels.backends import Implementation, Operation, anywhere, lazily, on_processor
from spikenet.kernels.synapse.event_linear import check, dense, real, rows_of, run, why_not_triton
from spikenet.kernels.synapse.geometry import Geometry, Pair


def frames(indptr: Tensor, indices: Tensor, values: Tensor, geometry: Geometry, dtype: torch.dtype) -> Tensor:
    """The events as frames `[R, C, H, W]`."""
    inputs = geometry.channels * geometry.size[0] * geometry.size[1]
    return dense(indptr, indices, values, inputs, dtype).view(-1, geometry.channels, *geometry.size)


def _reference(
    indptr: Tensor, indices: Tensor, values: Tensor, weight: Tensor, bias: Tensor | None, geometry: Geometry
) -> Tensor:
    x = frames(indptr, indices, values, geometry, weight.dtype)
    _, _, _, stride, padding, dilation, groups = geometry
    return functional.conv2d(x, weight, bias, stride, padding, dilation, groups).contiguous()


def _reference_gradients(
    indptr: Tensor, indices: Tensor, values: Tensor, grad: Tensor, wants_bias: bool, geometry: Geometry
) -> tuple[Tensor, Tensor]:
    x = frames(indptr, indices, values, geometry, grad.dtype)
    return gradient_of_weight(x, grad, geometry), grad.sum((0, 2, 3))


def gradient_of_weight(x: Tensor, grad: Tensor, geometry: Geometry) -> Tensor:
    """torch's."""
    shape = (grad.shape[1], geometry.channels // geometry.groups, *geometry.kernel)
    _, _, _, stride, padding, dilation, groups = geometry
    return conv2d_weight(x, shape, grad, stride, padding, dilation, groups)


def gradient_of_input(weight: Tensor, grad: Tensor, geometry: Geometry) -> Tensor:
    """torch's."""
    shape = (len(grad), geometry.channels, *geometry.size)
    _, _, _, stride, padding, dilation, groups = geometry
    return conv2d_input(shape, weight, grad, stride, padding, dilation, groups)


def _reference_values(
    indptr: Tensor, indices: Tensor, values: Tensor, weight: Tensor, grad: Tensor, geometry: Geometry
) -> Tensor:
    gx = gradient_of_input(weight, grad, geometry).flatten(1)
    return gx[rows_of(indptr, len(indices)), indices.long()].to(values.dtype)


def _operation(name: str, function: str, reference: Any) -> Operation:
    return Operation(
        name,
        Implementation("triton", why_not_triton, lazily("spikenet.kernels.synapse.triton_event_conv", function)),
        Implementation("numba", on_processor, lazily("spikenet.kernels.synapse.numba_event_conv", function)),
        Implementation("reference", anywhere, reference),
    )


FORWARD = _operation("event_conv2d", "forward", _reference)
GRADIENTS = _operation("the weight gradient of event_conv2d", "gradients", _reference_gradients)
VALUES = _operation("the values' gradient of event_conv2d", "of_values", _reference_values)

_library = torch.library.Library("spikenet", "FRAGMENT")
_GEOMETRY = "int[] size, int[] stride, int[] padding, int[] dilation, int groups, float most"
_library.define(
    "event_conv2d(Tensor indptr, Tensor indices, Tensor values, Tensor weight, Tensor? bias, "
    + _GEOMETRY
    + ") -> Tensor"
)
_library.define(
    "event_conv2d_backward(Tensor indptr, Tensor indices, Tensor values, Tensor weight, Tensor grad, "
    + _GEOMETRY
    + ", bool wants_values, bool wants_weight, bool wants_bias) -> (Tensor, Tensor, Tensor)"
)


def geometry_of(weight: Tensor, size: Any, stride: Any, padding: Any, dilation: Any, groups: int) -> Geometry:
    """The convolution of frames of that size with `weight` `[N, C / groups, kh, kw]`."""
    size, kernel, stride, padding, dilation = (
        (p[0], p[1]) for p in (size, weight.shape[2:], stride, padding, dilation)
    )
    return Geometry(weight.shape[1] * groups, size, kernel, stride, padding, dilation, groups)


def _above(indptr: Tensor, indices: Tensor, geometry: Geometry, most: float) -> bool:
    return len(indices) > most * (len(indptr) - 1) * geometry.channels * geometry.size[0] * geometry.size[1]


def _forward(
    indptr: Tensor, indices: Tensor, values: Tensor, weight: Tensor, bias: Tensor | None, *rest: Any
) -> Tensor:
    *shape, most = rest
    geometry = geometry_of(weight, *shape)
    out = torch.Size((len(indptr) - 1, len(weight), *geometry.out))
    if out.numel() == 0:
        return weight.new_empty(out)
    above = _above(indptr, indices, geometry, most)
    with torch.autocast(values.device.type, enabled=False):
        return run(FORWARD, above, indptr, indices, values, weight, bias, geometry, size=out.numel())


def _backward(
    indptr: Tensor, indices: Tensor, values: Tensor, weight: Tensor, grad: Tensor, *rest: Any
) -> tuple[Tensor, Tensor, Tensor]:
    *shape, most, wants_values, wants_weight, wants_bias = rest
    geometry = geometry_of(weight, *shape)
    if grad.numel() == 0:
        return torch.zeros_like(values), weight.new_zeros(weight.shape), weight.new_zeros(len(weight))
    above, events = _above(indptr, indices, geometry, most), (indptr, indices, values)
    gv, gw, gb = values.new_empty(0), weight.new_empty(0), weight.new_empty(0)
    with torch.autocast(values.device.type, enabled=False):
        if wants_weight or wants_bias:
            gw, gb = run(GRADIENTS, above, *events, grad, wants_bias, geometry, size=grad.numel())
        if wants_values:
            gv = run(VALUES, above, *events, weight, grad, geometry, size=grad.numel())
    return gv, gw, gb


def _fake_forward(
    indptr: Tensor, indices: Tensor, values: Tensor, weight: Tensor, bias: Tensor | None, *rest: Any
) -> Tensor:
    return weight.new_empty((indptr.shape[0] - 1, weight.shape[0], *geometry_of(weight, *rest[:-1]).out))


def _fake_backward(
    indptr: Tensor, indices: Tensor, values: Tensor, weight: Tensor, grad: Tensor, *rest: Any
) -> tuple[Tensor, Tensor, Tensor]:
    wants_values, wants_weight, wants_bias = rest[-3:]
    some = wants_weight or wants_bias
    gw, gb = weight.new_empty(weight.shape if some else 0), weight.new_empty(weight.shape[0] if some else 0)
    return values.new_empty(values.shape if wants_values else 0), gw, gb


class _EventConv2d(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, indptr: Tensor, indices: Tensor, values: Tensor, weight: Tensor, bias: Tensor | None, *rest: Any
    ) -> Tensor:
        ctx.save_for_backward(indptr, indices, values, weight)
        ctx.rest = rest
        with torch._C._AutoDispatchBelowAutograd():
            return torch.ops.spikenet.event_conv2d(indptr, indices, values, weight, bias, *rest)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():
            raise BackendError("event_conv2d has no second derivative: call backward without create_graph=True")
        wants = ctx.needs_input_grad[2:5]
        gradients = torch.ops.spikenet.event_conv2d_backward(*ctx.saved_tensors, grad, *ctx.rest, *wants)
        wanted = (g if wants_it else None for g, wants_it in zip(gradients, wants, strict=True))
        return None, None, *wanted, *(None for _ in ctx.rest)


def _autograd(
    indptr: Tensor, indices: Tensor, values: Tensor, weight: Tensor, bias: Tensor | None, *rest: Any
) -> Tensor:
    if torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in (values, weight, bias)):
        return _EventConv2d.apply(indptr, indices, values, weight, bias, *rest)
    with torch._C._AutoDispatchBelowAutograd():
        return torch.ops.spikenet.event_conv2d(indptr, indices, values, weight, bias, *rest)


_library.impl("event_conv2d", _forward, "CompositeExplicitAutograd")
_library.impl("event_conv2d_backward", _backward, "CompositeExplicitAutograd")
_library.impl("event_conv2d", _autograd, "Autograd")
torch.library.register_fake("spikenet::event_conv2d", _fake_forward, lib=_library)
torch.library.register_fake("spikenet::event_conv2d_backward", _fake_backward, lib=_library)


def event_conv2d(
    indptr: Tensor,
    indices: Tensor,
    values: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    size: Sequence[int],
    stride: Pair = (1, 1),
    padding: Pair = (0, 0),
    dilation: Pair = (1, 1),
    groups: int = 1,
    most: float = 1.0,
) -> Tensor:
    """The convolution of compressed rows of events, with first derivatives for `values`, `weight` and `bias`.

    Args:
        indptr, indices, values: as in `event_linear`; the inputs are `C H W` pixels, channels first.
        weight: `[N, C / groups, kh, kw]`; float32, float64, float16 or bfloat16.
        bias: `[N]`, of the same dtype, or None.
        size: (H, W) of the input.
        stride, padding, dilation, groups: as in `torch.nn.functional.conv2d`, in pairs; zeros are padded.
        most: the density above which the dense frames are convolved; sums then go in another order.

    Returns:
        `[R, N, H', W']`, contiguous, in the weight's dtype; half precision is summed in float32.

    Raises:
        ShapeError, ArgumentError, DtypeError, DeviceError: if these do not go together.
    """
    check(indptr, indices, values, {"weight": weight, "bias": bias})
    check_convolution(weight, bias, size, stride, padding, dilation, groups)
    rest = (list(size), list(stride), list(padding), list(dilation), groups, most)
    return torch.ops.spikenet.event_conv2d(indptr, indices, values.to(real(weight.dtype)), weight, bias, *rest)


def check_convolution(
    weight: Tensor,
    bias: Tensor | None,
    size: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
) -> None:
    """Raise unless there is such a convolution, with an output."""
    if weight.ndim != 4 or (bias is not None and bias.shape != weight.shape[:1]):
        got = [None if t is None else tuple(t.shape) for t in (weight, bias)]
        raise ShapeError(f"a convolution takes a weight [N, C / groups, kh, kw] and a bias [N], got {got}")
    if groups < 1 or len(weight) % groups or min(*stride, *dilation) < 1 or min(padding) < 0:
        raise ArgumentError(
            f"a convolution takes groups that divide its {len(weight)} outputs, stride and dilation from 1 and padding "
            f"from 0, got groups {groups}, {stride}, {dilation} and {padding}"
        )
    out = geometry_of(weight, size, stride, padding, dilation, groups).out
    if min(out) < 1:
        raise ShapeError(f"a kernel of {tuple(weight.shape[2:])} does not fit frames of {tuple(size)}: output {out}")
