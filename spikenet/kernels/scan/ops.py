"""The linear recurrence as a torch operator, with a fake, autograd and the table of backends.

Its backward pass is the same recurrence the other way round: with `lam[t] = gh[t] + a lam[t+1]`,

    gx[t] = lam[t]        ga = sum_t lam[t] h[t-1]        gh0 = a lam[0]

so the operator takes a direction, is its own derivative, and can be differentiated any number of times.

The reference and Numba go through the steps in order and agree to the last bit. A parallel scan multiplies powers
of `a` instead and rounds differently (the contract class "time-mixing"). Either way a term passes through at most
`2T + 1` roundings, so that every backend lies within `(2T + 1) 2^-24 S[t]` of the exact value (float64: 2^-53),
with `S[t] = sum_s |a|^(t-s) |x[s]| + |a|^(t+1) |h0|`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from spikenet.errors import DtypeError, ShapeError
from spikenet.kernels.backends import Implementation, Operation, anywhere, lazily, on_processor
from spikenet.kernels.triton_device import why_not_on

REAL = {torch.float64: torch.float64}  # what a dtype is computed in, if not in float32
_DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)


def _reference(x: Tensor, a: Tensor, h0: Tensor, reverse: bool) -> Tensor:
    rows, h = [], h0
    for x_t in (x.flip(0) if reverse else x).to(h0.dtype):
        h = a * h + x_t
        rows.append(h)
    return torch.stack(rows[::-1] if reverse else rows)


def _triton_why_not(x: Tensor, *_: Any) -> str | None:
    if x.dtype == torch.float64:
        return "the Triton kernels compute in float32, and the input is torch.float64"
    return why_not_on(x)


SCAN = Operation(
    "linear_scan",
    Implementation("triton", _triton_why_not, lazily("spikenet.kernels.scan.triton_kernel", "run")),
    Implementation("numba", on_processor, lazily("spikenet.kernels.scan.numba_kernel", "run")),
    Implementation("reference", anywhere, _reference),
)

_library = torch.library.Library("spikenet", "FRAGMENT")
_library.define("linear_scan(Tensor x, Tensor a, Tensor h0, bool reverse) -> Tensor")


def _forward(x: Tensor, a: Tensor, h0: Tensor, reverse: bool) -> Tensor:
    if x.numel() == 0:
        return _fake(x, a, h0, reverse)
    return SCAN(x, a, h0, reverse, size=x.numel())


def _fake(x: Tensor, a: Tensor, h0: Tensor, reverse: bool) -> Tensor:
    return x.new_empty(x.shape, dtype=h0.dtype)


class _Scan(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, a: Tensor, h0: Tensor, reverse: bool) -> Tensor:
        with torch._C._AutoDispatchBelowAutograd():
            h = torch.ops.spikenet.linear_scan(x, a, h0, reverse)
        ctx.save_for_backward(a, *((h, h0) if ctx.needs_input_grad[1] else ()))
        ctx.reverse, ctx.dtype = reverse, x.dtype
        return h

    @staticmethod
    def backward(ctx: Any, gh: Tensor) -> tuple[Tensor, Tensor | None, Tensor, None]:
        a, *saved = ctx.saved_tensors
        if len(gh) == 0:
            zero = torch.zeros_like(a)
            return gh.to(ctx.dtype), zero, zero, None
        lam = torch.ops.spikenet.linear_scan(gh, a, torch.zeros_like(a), not ctx.reverse)
        first = lam[-1] if ctx.reverse else lam[0]
        ga = None
        if saved:
            h, h0 = saved
            later, earlier = (lam[:-1], h[1:]) if ctx.reverse else (lam[1:], h[:-1])
            ga = (later * earlier).sum(0) + first * h0
        return lam.to(ctx.dtype), ga, a * first, None


def _autograd(x: Tensor, a: Tensor, h0: Tensor, reverse: bool) -> Tensor:
    if torch.is_grad_enabled() and any(t.requires_grad for t in (x, a, h0)):
        return _Scan.apply(x, a, h0, reverse)
    with torch._C._AutoDispatchBelowAutograd():
        return torch.ops.spikenet.linear_scan(x, a, h0, reverse)


_library.impl("linear_scan", _forward, "CompositeExplicitAutograd")
_library.impl("linear_scan", _autograd, "Autograd")
torch.library.register_fake("spikenet::linear_scan", _fake, lib=_library)


def linear_scan(x: Tensor, a: Tensor, h0: Tensor) -> tuple[Tensor, Tensor]:
    """The recurrence `h[t] = a h[t-1] + x[t]`, `h[-1] = h0`, with gradients for all three.

    Args:
        x: `[T, *lanes]`, float32, float64, float16 or bfloat16.
        a: broadcastable to `[*lanes]`.
        h0: broadcastable to `[*lanes]`.

    Returns:
        `h` `[T, *lanes]` and its last step `[*lanes]` (`h0` if T is 0), in float32 (float64 for float64 `x`).

    Raises:
        DtypeError: if `x` is of another dtype.
        ShapeError: if `a` or `h0` does not broadcast against the lanes.
    """
    if x.dtype not in _DTYPES:
        raise DtypeError(f"linear_scan takes floating-point input of 16, 32 or 64 bits, got {x.dtype}")
    real, lanes = REAL.get(x.dtype, torch.float32), x.shape[1:]
    flat_a, flat_h0 = (_flat(name, v, lanes).to(real) for name, v in (("a", a), ("h0", h0)))
    h = torch.ops.spikenet.linear_scan(x.reshape(len(x), lanes.numel()), flat_a, flat_h0, False)
    return h.view(x.shape), (h[-1] if len(x) else flat_h0).view(lanes)


def _flat(name: str, value: Tensor, lanes: torch.Size) -> Tensor:
    shape = (1,) * (len(lanes) - value.ndim) + tuple(value.shape)
    if len(shape) > len(lanes) or any(a not in (1, b) for a, b in zip(shape, lanes, strict=True)):
        raise ShapeError(
            f"linear_scan: {name} of shape {tuple(value.shape)} does not broadcast against the lanes {tuple(lanes)}"
        )
    return value.expand(lanes).reshape(-1)
