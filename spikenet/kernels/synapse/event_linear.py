"""`y[r] = b + sum_e values[e] W[:, indices[e]]` over the events `e` of row `r`, at a cost in proportion to the events.

The rows' events are compressed: row `r` has the events `indptr[r]` to `indptr[r + 1] - 1`. The gradients are

    gW[:, i] = sum_r v gy[r]   over the events (r, i, v)        gb = sum_r gy[r]        gvalues[e] = gy[r] . W[:, i]

Each output is one sum in the order of the row's events, so that it does not depend on the rows beside it: a part of a
sequence gives the bits of the whole. Gradients are summed in one order, too, in every run. The reference is the dense
product; it also serves above `most`, the density from which it is faster (see `crossover`).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from spikenet.errors import BackendError, DeviceError, DtypeError, ShapeError
from spikenet.kernels.backends import Implementation, Operation, anywhere, forced, lazily, on_processor
from spikenet.kernels.triton_device import why_not_on

DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)


def real(dtype: torch.dtype) -> torch.dtype:
    """What a dtype is computed in."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def rows_of(indptr: Tensor, events: int) -> Tensor:
    """The row of each event."""
    row = torch.arange(len(indptr) - 1, device=indptr.device)
    return row.repeat_interleave(indptr.diff(), output_size=events)


def dense(indptr: Tensor, indices: Tensor, values: Tensor, inputs: int, dtype: torch.dtype) -> Tensor:
    """The events as a matrix `[R, K]`; events of one place add up."""
    x = torch.zeros(len(indptr) - 1, inputs, dtype=values.dtype, device=values.device)
    return x.index_put_((rows_of(indptr, len(indices)), indices.long()), values, accumulate=True).to(dtype)


def _reference(indptr: Tensor, indices: Tensor, values: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return functional.linear(dense(indptr, indices, values, weight.shape[1], weight.dtype), weight, bias)


def _reference_gradients(
    indptr: Tensor, indices: Tensor, values: Tensor, grad: Tensor, features: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    return grad.t() @ dense(indptr, indices, values, features[1], grad.dtype), grad.sum(0)


def _reference_values(indptr: Tensor, indices: Tensor, values: Tensor, weight: Tensor, grad: Tensor) -> Tensor:
    return (grad @ weight)[rows_of(indptr, len(indices)), indices.long()].to(values.dtype)


def why_not_triton(indptr: Tensor, indices: Tensor, values: Tensor, *_: Any) -> str | None:
    """The Triton kernels compute in float32."""
    if values.dtype == torch.float64:
        return "the Triton kernels compute in float32, and the input is torch.float64"
    return why_not_on(values)


def _operation(name: str, function: str, reference: Any) -> Operation:
    return Operation(
        name,
        Implementation("triton", why_not_triton, lazily("spikenet.kernels.synapse.triton_event_linear", function)),
        Implementation("numba", on_processor, lazily("spikenet.kernels.synapse.numba_event_linear", function)),
        Implementation("reference", anywhere, reference),
    )


FORWARD = _operation("event_linear", "forward", _reference)
GRADIENTS = _operation("the weight gradient of event_linear", "gradients", _reference_gradients)
VALUES = _operation("the values' gradient of event_linear", "of_values", _reference_values)

_library = torch.library.Library("spikenet", "FRAGMENT")
_library.define(
    "event_linear(Tensor indptr, Tensor indices, Tensor values, Tensor weight, Tensor? bias, float most) -> Tensor"
)
_library.define(
    "event_linear_backward(Tensor indptr, Tensor indices, Tensor values, Tensor weight, Tensor grad, float most, "
    "bool wants_values, bool wants_weight) -> (Tensor, Tensor, Tensor)"
)


def run(operation: Operation, above: bool, *inputs: Any, size: int) -> Any:
    """The dense product if there are events `above` the crossover, unless a backend is forced; else the table's."""
    if above and forced() is None:
        return operation.implementations[-1].run(*inputs)
    return operation(*inputs, size=size)


def _above(indptr: Tensor, indices: Tensor, inputs: int, most: float) -> bool:
    return len(indices) > most * (len(indptr) - 1) * inputs


def _forward(
    indptr: Tensor, indices: Tensor, values: Tensor, weight: Tensor, bias: Tensor | None, most: float
) -> Tensor:
    shape = (len(indptr) - 1, len(weight))
    if 0 in shape:
        return weight.new_empty(shape)
    above = _above(indptr, indices, weight.shape[1], most)
    with torch.autocast(values.device.type, enabled=False):
        return run(FORWARD, above, indptr, indices, values, weight, bias, size=shape[0] * shape[1])


def _backward(
    indptr: Tensor,
    indices: Tensor,
    values: Tensor,
    weight: Tensor,
    grad: Tensor,
    most: float,
    wants_values: bool,
    wants_weight: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    if grad.numel() == 0 or weight.numel() == 0:
        return torch.zeros_like(values), torch.zeros_like(weight), grad.sum(0)
    above, events = _above(indptr, indices, weight.shape[1], most), (indptr, indices, values)
    gv, gw, gb = values.new_empty(0), weight.new_empty(0), weight.new_empty(0)
    with torch.autocast(values.device.type, enabled=False):
        if wants_weight:
            gw, gb = run(GRADIENTS, above, *events, grad, tuple(weight.shape), size=grad.numel())
        if wants_values:
            gv = run(VALUES, above, *events, weight, grad, size=grad.numel())
    return gv, gw, gb


def _fake_forward(
    indptr: Tensor, indices: Tensor, values: Tensor, weight: Tensor, bias: Tensor | None, most: float
) -> Tensor:
    return weight.new_empty(indptr.shape[0] - 1, weight.shape[0])


def _fake_backward(
    indptr: Tensor,
    indices: Tensor,
    values: Tensor,
    weight: Tensor,
    grad: Tensor,
    most: float,
    wants_values: bool,
    wants_weight: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    gw = weight.new_empty(weight.shape if wants_weight else 0)
    gb = weight.new_empty(weight.shape[0] if wants_weight else 0)
    return values.new_empty(values.shape if wants_values else 0), gw, gb


class _EventLinear(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        indptr: Tensor,
        indices: Tensor,
        values: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        most: float,
    ) -> Tensor:
        ctx.save_for_backward(indptr, indices, values, weight)
        ctx.most = most
        with torch._C._AutoDispatchBelowAutograd():
            return torch.ops.spikenet.event_linear(indptr, indices, values, weight, bias, most)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():
            raise BackendError("event_linear has no second derivative: call backward without create_graph=True")
        _, _, wants_values, wants_weight, wants_bias, _ = ctx.needs_input_grad
        gv, gw, gb = torch.ops.spikenet.event_linear_backward(
            *ctx.saved_tensors, grad, ctx.most, wants_values, wants_weight or wants_bias
        )
        gv, gw, gb = gv if wants_values else None, gw if wants_weight else None, gb if wants_bias else None
        return None, None, gv, gw, gb, None


def _autograd(
    indptr: Tensor, indices: Tensor, values: Tensor, weight: Tensor, bias: Tensor | None, most: float
) -> Tensor:
    if torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in (values, weight, bias)):
        return _EventLinear.apply(indptr, indices, values, weight, bias, most)
    with torch._C._AutoDispatchBelowAutograd():
        return torch.ops.spikenet.event_linear(indptr, indices, values, weight, bias, most)


_library.impl("event_linear", _forward, "CompositeExplicitAutograd")
_library.impl("event_linear_backward", _backward, "CompositeExplicitAutograd")
_library.impl("event_linear", _autograd, "Autograd")
torch.library.register_fake("spikenet::event_linear", _fake_forward, lib=_library)
torch.library.register_fake("spikenet::event_linear_backward", _fake_backward, lib=_library)


def event_linear(
    indptr: Tensor, indices: Tensor, values: Tensor, weight: Tensor, bias: Tensor | None = None, most: float = 1.0
) -> Tensor:
    """The product of compressed rows of events with `weight`, with first derivatives for `values`, `weight`, `bias`.

    Args:
        indptr: where each row begins and the last one ends, int64 `[R + 1]`, from 0 to E.
        indices: the input of each event, int32 `[E]`, 0 to K - 1.
        values: the weight of each event, floating `[E]`; float32 in the product (float64 for float64 weights).
        weight: W, `[N, K]`; float32, float64, float16 or bfloat16.
        bias: b, `[N]`, of the same dtype, or None.
        most: the density `E / (R K)` above which the dense product is taken; sums then go in another order.

    Returns:
        y, `[R, N]`, in the weight's dtype; half precision is summed in float32.

    The content of `indptr` and `indices` is not read to check it: an `EventTensor` has done so. Where W is infinite,
    an input without an event gives nothing, and 0 in a dense product gives NaN.

    Raises:
        ShapeError, DtypeError, DeviceError: if the five do not go together.
    """
    check(indptr, indices, values, {"weight": weight, "bias": bias})
    if weight.ndim != 2 or (bias is not None and bias.shape != weight.shape[:1]):
        got = [None if t is None else tuple(t.shape) for t in (weight, bias)]
        raise ShapeError(f"event_linear takes a weight [N, K] and a bias [N], got {got}")
    return torch.ops.spikenet.event_linear(indptr, indices, values.to(real(weight.dtype)), weight, bias, most)


def check(indptr: Tensor, indices: Tensor, values: Tensor, parameters: dict[str, Tensor | None]) -> None:
    """Raise unless compressed rows and parameters go together in dtype and device."""
    if indptr.ndim != 1 or len(indptr) == 0 or indices.ndim != 1 or values.shape != indices.shape:
        shapes = [tuple(t.shape) for t in (indptr, indices, values)]
        raise ShapeError(f"events are indptr [R + 1], indices [E] and values [E], got {shapes}")
    if indptr.dtype != torch.int64 or indices.dtype != torch.int32 or values.dtype not in DTYPES:
        got = [t.dtype for t in (indptr, indices, values)]
        raise DtypeError(f"events are int64 indptr, int32 indices and floating-point values, got {got}")
    given = {"indptr": indptr, "indices": indices} | {n: p for n, p in parameters.items() if p is not None}
    for name, other in given.items():
        if other.device != values.device:
            raise DeviceError(f"the values are on {values.device}, {name} on {other.device}; move one of them")
    dtypes = {p.dtype for p in parameters.values() if p is not None}
    if len(dtypes) != 1 or not dtypes <= set(DTYPES):
        raise DtypeError(f"weight and bias are of one floating-point dtype, got {sorted(map(str, dtypes))}")
