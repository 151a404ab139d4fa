"""Delayed synapses of one tap each, as at inference: a torch operator with a fake, autograd and the table of backends.

    y[s, b, i] = sum_j sum_k weight[i, j, k] x[s + first - round(delay[i, j, k]), b, j]

On the CPU each synapse is read once, and there are no taps to go through; spikes go in groups whose sum is looked up,
other numbers one by one, with the same bits. On a CUDA device it is a product over all taps, for the tensor cores. The
gradients are those of `conv` for taps that are `weight` at the rounded delay and 0 elsewhere.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from spikenet.errors import ArgumentError, BackendError
from spikenet.kernels.backends import Implementation, Operation, anywhere, forced, on_processor
from spikenet.kernels.delay import conv, dense
from spikenet.kernels.delay.construct import silent_taps
from spikenet.kernels.delay.conv import check_synapses, real, triton_why_not
from spikenet.kernels.dynamics import may_be_bound

KNOWN = 1024  # delays on CUDA devices that are known to be finite

_known: dict[int, int] = {}  # their places and versions


def rounded(delay: Tensor, taps: int, name: str) -> Tensor:
    """The tap of each delay, int64, 0 to taps - 1; a tie goes where the reference's position would go.

    Raises:
        ArgumentError: for a delay that is not finite, with the parameter's name. While a CUDA graph is captured nothing
            can be looked at; its warm-up was.
    """
    return torch.ops.spikenet.rounded_delays(delay, taps, name)


def _rounded(delay: Tensor, taps: int, name: str) -> Tensor:
    half, wide = taps - 1 - taps // 2, delay.detach().to(real(delay.dtype))
    if wide.device.type == "cpu":  # past torch's threads, which spin on in the way of the kernel's
        numbers = wide.numpy()
        if not np.isfinite(numbers).all():
            refuse_unbounded(delay, name)
        return torch.from_numpy((half - np.rint(half - numbers)).clip(0, taps - 1).astype(np.int64))
    refuse_unbounded(delay, name)
    return (half - (half - wide).round()).clamp(0, taps - 1).long()


def refuse_unbounded(delay: Tensor, name: str) -> None:
    """Raise for a delay that is not finite; on a CUDA device, where to look is to wait, once a version."""
    if delay.is_cuda:
        place, version = delay.data_ptr(), -1 if delay.is_inference() else delay._version
        if _known.get(place) == version != -1 or torch.cuda.is_current_stream_capturing():
            return
    finite = delay.isfinite()
    if not bool(finite.all()):
        raise ArgumentError(
            f"{name} has {int((~finite).sum())} of {delay.numel()} delays that are not finite, such as "
            f"{float(delay[~finite][0])}: they have no tap. Finite delays, in steps, would do"
        )
    if delay.is_cuda:
        if len(_known) >= KNOWN:
            _known.clear()
        _known[place] = version


def one_tap(weight: Tensor, tap: Tensor, taps: int) -> Tensor:
    """K `[N, M, taps]`: `weight` at `tap`, and 0 elsewhere."""
    return silent_taps(weight, taps).scatter_add_(-1, tap, weight)


def _reference(x: Tensor, weight: Tensor, delay: Tensor, taps: int, first: int, steps: int, name: str) -> Tensor:
    wide, tap = real(x.dtype), _rounded(delay, taps, name).expand(weight.shape)
    return dense.forward(x.to(wide), one_tap(weight.to(wide), tap, taps), first, steps).to(x.dtype)


def _numba(x: Tensor, weight: Tensor, delay: Tensor, taps: int, first: int, steps: int, name: str) -> Tensor:
    from spikenet.kernels.delay import numba_taps

    wide, tap = real(x.dtype), _rounded(delay, taps, name).expand(weight.shape)
    return numba_taps.forward(x.to(wide), weight.to(wide), tap, taps, first, steps).to(x.dtype)


def _triton(x: Tensor, weight: Tensor, delay: Tensor, taps: int, first: int, steps: int, name: str) -> Tensor:
    """Where delays could not be looked at, what hears one that is not finite is not a number."""
    from spikenet.kernels.delay import triton_taps

    refuse_unbounded(delay, name)
    return triton_taps.forward(x, weight.float(), delay.float().expand(weight.shape), taps, first, steps)


FORWARD = Operation(
    "delay_taps",
    Implementation("triton", triton_why_not, _triton),
    Implementation("numba", on_processor, _numba),
    Implementation("reference", anywhere, _reference),
)

_library = torch.library.Library("spikenet", "FRAGMENT")
_library.define("rounded_delays(Tensor delay, int taps, str name) -> Tensor")
_library.define("delay_taps(Tensor x, Tensor weight, Tensor delay, int taps, int first, int steps, str name) -> Tensor")


def _forward(x: Tensor, weight: Tensor, delay: Tensor, taps: int, first: int, steps: int, name: str) -> Tensor:
    if x.numel() == 0 or weight.numel() == 0 or steps == 0:
        return x.new_zeros(steps, x.shape[1], len(weight))
    with conv.exactly(x):
        return FORWARD(x, weight, delay, taps, first, steps, name, size=x.numel())


def _fake(x: Tensor, weight: Tensor, delay: Tensor, taps: int, first: int, steps: int, name: str) -> Tensor:
    return x.new_empty(steps, x.shape[1], weight.shape[0])


class _Taps(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, delay: Tensor, *rest: Any) -> Tensor:
        ctx.save_for_backward(x, weight, delay)
        ctx.taps, ctx.first, _, ctx.name = rest
        with torch._C._AutoDispatchBelowAutograd():
            return torch.ops.spikenet.delay_taps(x, weight, delay, *rest)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():
            raise BackendError("delay_taps has no second derivative: call backward without create_graph=True")
        x, weight, delay = ctx.saved_tensors
        wants_x, wants_weight = ctx.needs_input_grad[:2]
        tap = rounded(delay, ctx.taps, ctx.name).expand(weight.shape)
        k = one_tap(weight.to(real(x.dtype)), tap, ctx.taps)
        sizes = ctx.first, ctx.taps, len(x), 1.0
        gx, gk = torch.ops.spikenet.delay_conv_backward(x, k, grad, *sizes, wants_x, wants_weight)
        gw = gk.gather(-1, tap).to(weight.dtype) if wants_weight else None
        return gx if wants_x else None, gw, *[None] * 5


def _autograd(x: Tensor, weight: Tensor, delay: Tensor, *rest: Any) -> Tensor:
    if torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad):
        return _Taps.apply(x, weight, delay, *rest)
    if may_be_bound((x,)):
        return _forward(x, weight, delay, *rest)
    with torch._C._AutoDispatchBelowAutograd():
        return torch.ops.spikenet.delay_taps(x, weight, delay, *rest)


_library.impl("rounded_delays", _rounded, "CompositeExplicitAutograd")
_library.impl("delay_taps", _forward, "CompositeExplicitAutograd")
_library.impl("delay_taps", _autograd, "Autograd")
torch.library.register_fake(
    "spikenet::rounded_delays", lambda delay, taps, name: torch.empty_like(delay, dtype=torch.int64), lib=_library
)
torch.library.register_fake("spikenet::delay_taps", _fake, lib=_library)


def delay_taps(x: Tensor, weight: Tensor, delay: Tensor, taps: int, first: int, steps: int, name: str) -> Tensor:
    """`y` `[steps, B, N]` as above, with first derivatives for `x` and `weight`.

    Args:
        x: `[T, B, M]`.
        weight: `[N, M, elements]`, of any floating dtype.
        delay: in steps, `[N, M, elements]` or with 1 for what shares it; as `rounded` takes it.
        taps: the number of taps, D.
        first: the input step at the first output, 0 to D - 1.
        steps: of the output, from `T - first` on.
        name: what the delays are called in an error.

    Half precision is summed in float32.

    Raises:
        ShapeError, DtypeError, DeviceError: if the arguments do not go together.
        ArgumentError: for a delay that is not finite.
    """
    check_synapses(x, weight, delay, first, steps, taps)
    arguments = x, weight, delay, taps, first, steps, name
    return _autograd(*arguments) if may_be_bound((x,)) else torch.ops.spikenet.delay_taps(*arguments)


def delay_taps_of_events(
    rows: tuple[Tensor, Tensor, Tensor],
    shape: tuple[int, int, int],
    weight: Tensor,
    delay: Tensor,
    taps: int,
    first: int,
    steps: int,
    name: str,
) -> Tensor | None:
    """`delay_taps` for a sequence in compressed rows, or None where it has to be made dense.

    A CPU that looks sums up takes single spikes in float32 as they are, without derivatives, and gives the bits of the
    dense sequence.

    Args:
        rows: where each row of features begins, `[T B + 1]`, their indices and their values.
        shape: T, B and M.
        weight, delay, taps, first, steps, name: as for `delay_taps`.
    """
    indptr, indices, values = rows
    watched = torch.is_grad_enabled() and (weight.requires_grad or values.requires_grad)
    if watched or values.device.type != "cpu" or forced() not in (None, "numba") or not may_be_bound((values,)):
        return None
    from spikenet.kernels.delay import numba_taps

    if 0 in shape or not numba_taps.finds(weight.dtype, steps, shape[1]) or not (values.numpy() == 1).all():
        return None
    tap = rounded(delay.detach(), taps, name).expand(weight.shape)
    return numba_taps.forward_of_spikes(indptr, indices, shape, weight.detach(), tap, taps, first, steps)
