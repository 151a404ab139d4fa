"""A sequence through delayed taps, as a torch operator with a fake, autograd and the table of backends.

    y[s, b, i] = sum_j sum_d K[i, j, d] x[s + first - d, b, j]        x is 0 before its first step and after its last

so that `first` steps of x may lie before the first output. With g the gradient of y:

    gx[t, b, j] = sum_i sum_d K[i, j, d] g[t - first + d, b, i]
    gK[i, j, d] = sum_t sum_b x[t, b, j] g[t - first + d, b, i]

On the CPU output and gK go by the events of x while at most `most` of its entries are other than 0, and gx by the taps
that are other than 0 while these are few; otherwise each is one matrix product a tap. On a CUDA device they are
products over all taps in one kernel.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from spikenet.errors import BackendError, DeviceError, DtypeError, ShapeError
from spikenet.kernels.backends import Implementation, Operation, anywhere, forced, lazily, on_processor
from spikenet.kernels.delay import dense
from spikenet.kernels.delay.construct import laid_out
from spikenet.kernels.triton_device import why_not_on

CROSSOVER = (
    0.18  # density of x up to which its events are faster on the CPU; measured at 256 inputs and outputs, 25 taps
)
FEW = 0.5  # part of the taps up to which only those other than 0 are read; measured likewise
DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)


def real(dtype: torch.dtype) -> torch.dtype:
    """What a dtype is summed in."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def exactly(x: Tensor) -> AbstractContextManager[Any]:
    """Without autocast, which takes its time to be turned off."""
    kind = x.device.type
    return torch.autocast(kind, enabled=False) if torch.is_autocast_enabled(kind) else nullcontext()


def _silent(x: Tensor, most: float) -> bool:
    """Whether to go by events: always, where the backend is forced."""
    return forced() is not None or most >= 1.0 or int(x.count_nonzero()) <= most * x.numel()


def _reference(x: Tensor, k: Tensor, first: int, steps: int, most: float) -> Tensor:
    wide = real(x.dtype)
    return dense.forward(x.to(wide), k.to(wide), first, steps).to(x.dtype)


def _reference_input(grad: Tensor, k: Tensor, first: int, steps: int) -> Tensor:
    wide = real(grad.dtype)
    return dense.gradient_of_input(grad.to(wide), k.to(wide), first, steps).to(grad.dtype)


def _reference_taps(x: Tensor, grad: Tensor, first: int, taps: int, most: float) -> Tensor:
    wide = real(x.dtype)
    return dense.gradient_of_taps(x.to(wide), grad.to(wide), first, taps)


def _numba(x: Tensor, k: Tensor, first: int, steps: int, most: float) -> Tensor:
    if not _silent(x, most):
        return _reference(x, k, first, steps, most)
    from spikenet.kernels.delay import numba_events

    wide = real(x.dtype)
    return numba_events.forward(x.to(wide), k.to(wide), first, steps).to(x.dtype)


def _numba_input(grad: Tensor, k: Tensor, first: int, steps: int) -> Tensor:
    from spikenet.kernels.delay import numba_terms

    wide = real(grad.dtype)
    terms = numba_terms.of_taps(k.to(wide), first, FEW if forced() is None else 1.0)
    if terms is None:
        return _reference_input(grad, k, first, steps)
    return numba_terms.sums(grad.to(wide), terms, first, steps).to(grad.dtype)


def _numba_taps(x: Tensor, grad: Tensor, first: int, taps: int, most: float) -> Tensor:
    if not _silent(x, most):
        return _reference_taps(x, grad, first, taps, most)
    from spikenet.kernels.delay import numba_events

    wide = real(x.dtype)
    return numba_events.gradient_of_taps(x.to(wide), grad.to(wide), first, taps)


def triton_why_not(x: Tensor, *_: Any) -> str | None:
    """Why the Triton kernels cannot run on `x`, or None."""
    if x.dtype == torch.float64:
        return "the Triton kernels compute in float32, and the input is torch.float64"
    return why_not_on(x)


def _operation(name: str, function: str, numba: Any, reference: Any) -> Operation:
    return Operation(
        name,
        Implementation("triton", triton_why_not, lazily("spikenet.kernels.delay.triton_conv", function)),
        Implementation("numba", on_processor, numba),
        Implementation("reference", anywhere, reference),
    )


FORWARD = _operation("delay_conv", "forward", _numba, _reference)
OF_INPUT = _operation("the input gradient of delay_conv", "gradient_of_input", _numba_input, _reference_input)
OF_TAPS = _operation("the tap gradient of delay_conv", "gradient_of_taps", _numba_taps, _reference_taps)

_library = torch.library.Library("spikenet", "FRAGMENT")
_library.define("delay_conv(Tensor x, Tensor k, int first, int steps, float most) -> Tensor")
_library.define(
    "delay_conv_backward(Tensor x, Tensor k, Tensor grad, int first, int taps, int steps, float most, bool wants_x, "
    "bool wants_k) -> (Tensor, Tensor)"
)


def forward(x: Tensor, k: Tensor, first: int, steps: int, most: float) -> Tensor:
    with exactly(x):
        if x.numel() == 0 or k.numel() == 0 or steps == 0:
            return x.new_zeros(steps, x.shape[1], len(k))
        return FORWARD(x, k, first, steps, most, size=x.numel())


def gradients(
    x: Tensor, k: Tensor, grad: Tensor, first: int, taps: int, steps: int, most: float, wants_x: bool, wants_k: bool
) -> tuple[Tensor, Tensor]:
    """x may be empty unless the gradient of K is wanted, and K unless that of x is."""
    with exactly(grad):
        gx, gk = grad.new_empty(0), k.new_empty(0)
        if wants_x:
            shape = steps, grad.shape[1], k.shape[1]
            some = grad.numel() and k.numel() and steps
            gx = OF_INPUT(grad, k, first, steps, size=grad.numel()) if some else grad.new_zeros(shape)
        if wants_k:
            shape = grad.shape[2], x.shape[2], taps
            some = grad.numel() and x.numel() and taps
            gk = OF_TAPS(x, grad, first, taps, most, size=x.numel()).to(k.dtype) if some else k.new_zeros(shape)
        return gx, laid_out(gk) if wants_k else gk


def _fake(x: Tensor, k: Tensor, first: int, steps: int, most: float) -> Tensor:
    return x.new_empty(steps, x.shape[1], k.shape[0])


def _fake_backward(
    x: Tensor, k: Tensor, grad: Tensor, first: int, taps: int, steps: int, most: float, wants_x: bool, wants_k: bool
) -> tuple[Tensor, Tensor]:
    gx = grad.new_empty((steps, grad.shape[1], k.shape[1]) if wants_x else 0)
    gk = laid_out(k.new_empty(grad.shape[2], x.shape[2], taps)) if wants_k else k.new_empty(0)
    return gx, gk


class _Conv(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, k: Tensor, first: int, steps: int, most: float) -> Tensor:
        wants_x, wants_k = ctx.needs_input_grad[:2]  # what the other's gradient needs alone is kept: K is large
        ctx.save_for_backward(x if wants_k else x.new_empty(0), k if wants_x else k.new_empty(0))
        ctx.sizes = first, k.shape[2], len(x), most
        with torch._C._AutoDispatchBelowAutograd():
            return torch.ops.spikenet.delay_conv(x, k, first, steps, most)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():
            raise BackendError("delay_conv has no second derivative: call backward without create_graph=True")
        wants_x, wants_k = ctx.needs_input_grad[:2]
        gx, gk = torch.ops.spikenet.delay_conv_backward(*ctx.saved_tensors, grad, *ctx.sizes, wants_x, wants_k)
        return gx if wants_x else None, gk if wants_k else None, None, None, None


def _autograd(x: Tensor, k: Tensor, first: int, steps: int, most: float) -> Tensor:
    if torch.is_grad_enabled() and (x.requires_grad or k.requires_grad):
        return _Conv.apply(x, k, first, steps, most)
    with torch._C._AutoDispatchBelowAutograd():
        return torch.ops.spikenet.delay_conv(x, k, first, steps, most)


_library.impl("delay_conv", forward, "CompositeExplicitAutograd")
_library.impl("delay_conv_backward", gradients, "CompositeExplicitAutograd")
_library.impl("delay_conv", _autograd, "Autograd")
torch.library.register_fake("spikenet::delay_conv", _fake, lib=_library)
torch.library.register_fake("spikenet::delay_conv_backward", _fake_backward, lib=_library)


def delay_conv(x: Tensor, k: Tensor, first: int, steps: int, most: float = CROSSOVER) -> Tensor:
    """`y` `[steps, B, N]` as above, with first derivatives for `x` and `k`.

    Args:
        x: `[T, B, M]`.
        k: K, `[N, M, D]`, on the same device, of the same dtype; or in float32 for an x in half precision.
        first: the input step at the first output, 0 to D - 1.
        steps: of the output, from `T - first` on.
        most: the density of x above which products are dense; sums then go in another order. From 1 on they never are.

    Half precision is summed in float32.

    Raises:
        ShapeError, DtypeError, DeviceError: if the arguments do not go together.
    """
    check(x, {"k": k}, first, steps, k.shape[-1])
    return torch.ops.spikenet.delay_conv(x, k, first, steps, float(most))


def check_synapses(x: Tensor, weight: Tensor, delay: Tensor, first: int, steps: int, taps: int) -> None:
    """Raise unless a sequence, weights `[N, M, elements]` and the delays that broadcast against them go together."""
    check(x, {"weight": weight}, first, steps, taps, cast=True)
    if delay.ndim != 3 or any(d not in (1, w) for d, w in zip(delay.shape, weight.shape, strict=True)):
        raise ShapeError(
            f"delays that broadcast against weights {tuple(weight.shape)} wanted, got {tuple(delay.shape)}"
        )
    if not delay.is_floating_point():
        raise DtypeError(f"delays must be of a floating dtype, got {delay.dtype}; .float() would do")
    if delay.device != x.device:
        raise DeviceError(f"x is on {x.device}, the delays on {delay.device}; move one of them")


def check(x: Tensor, others: dict[str, Tensor], first: int, steps: int, taps: int, cast: bool = False) -> None:
    """Raise unless a sequence, its synapses `[N, M, ...]` (of any floating dtype, if `cast`) and the steps asked for go
    together."""
    for name, other in others.items():
        if x.ndim != 3 or other.ndim != 3 or x.shape[2] != other.shape[1]:
            raise ShapeError(f"x [T, B, M] and {name} [N, M, ...] wanted, got {tuple(x.shape)}, {tuple(other.shape)}")
        if x.dtype not in DTYPES or other.dtype not in (DTYPES if cast else (x.dtype, real(x.dtype))):
            raise DtypeError(f"x is {x.dtype}, {name} {other.dtype}; both must be of one floating dtype")
        if x.device != other.device:
            raise DeviceError(f"x is on {x.device}, {name} on {other.device}; move one of them")
    if not 0 <= first < taps or steps < len(x) - first:
        raise ShapeError(
            f"the outputs must cover the input and {taps} taps: 0 <= first < {taps} and steps >= {len(x)} - first, "
            f"got first = {first}, steps = {steps}"
        )
