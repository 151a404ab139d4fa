"""Delayed synapses as they are trained: each spread over the taps by its bump, and the sequence through them, as one
torch operator with a fake, autograd and the table of backends.

The equations are those of `construct` and `conv`. Taps are made for some outputs at a time and not kept: where the
gradient of the input wants them, they are made again, unless the backend finds that they take little.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from spikenet.errors import BackendError, ShapeError
from spikenet.kernels.backends import Implementation, Operation, anywhere, forced, lazily, on_processor
from spikenet.kernels.delay import construct, conv
from spikenet.kernels.delay.bump import BUMPS, Bump
from spikenet.kernels.delay.conv import CROSSOVER, check_synapses, real, triton_why_not
from spikenet.kernels.dynamics import may_be_bound
from spikenet.kernels.launch import Plans

LARGEST = 40_000_000  # bytes of taps that are made at a time
TOGETHER = 128  # outputs, of which that is a multiple (of a product's depth: else it hears of its neighbours)


def some(outputs: int, size: int) -> Iterator[slice]:
    """Outputs of that many bytes of taps each, as many at a time as are not too large."""
    at_once = max(TOGETHER, LARGEST // max(1, size) // TOGETHER * TOGETHER)
    for start in range(0, outputs, at_once):
        yield slice(start, min(start + at_once, outputs))


def _parts(x: Tensor, weight: Tensor, taps: int) -> Iterator[slice]:
    return some(len(weight), real(x.dtype).itemsize * taps * weight.shape[1])


def _forward(
    x: Tensor, weight: Tensor, delay: Tensor, sigma: Tensor, kernel: str, taps: int, first: int, steps: int, most: float
) -> Tensor:
    spread = sigma.expand(weight.shape)
    parts = []
    for n in _parts(x, weight, taps):
        k = construct.forward(weight[n], delay[n], spread[n], kernel, taps)
        parts.append(conv.forward(x, k, first, steps, most))
    return parts[0] if len(parts) == 1 else torch.cat(parts, -1)


def _gradients(
    x: Tensor,
    weight: Tensor,
    delay: Tensor,
    sigma: Tensor,
    grad: Tensor,
    kernel: str,
    taps: int,
    first: int,
    steps: int,
    most: float,
    wants: tuple[bool, bool],
) -> tuple[Tensor, Tensor, Tensor]:
    gx, gw, gd, spread = grad.new_empty(0), [weight[:0]], [weight[:0]], sigma.expand(weight.shape)
    for n in some(len(weight), real(grad.dtype).itemsize * taps * weight.shape[1]):
        own, k = (weight[n], delay[n], spread[n]), weight.new_empty(0)
        if wants[0]:
            k = construct.forward(*own, kernel, taps)
        some_gx, gk = conv.gradients(x, k, grad[..., n], first, taps, steps, most, *wants)
        if wants[0]:
            gx = gx.add_(some_gx) if n.start else some_gx
        if wants[1]:
            for all_, one in zip((gw, gd), construct.gradients(*own, kernel, gk), strict=True):
                all_.append(one)
    return gx, torch.cat(gw), torch.cat(gd)


_TRITON = "spikenet.kernels.delay.triton_training"
FORWARD = Operation(
    "delay_bumps",
    Implementation("triton", triton_why_not, lazily(_TRITON, "forward"), lazily(_TRITON, "bind")),
    Implementation("numba", on_processor, _forward),
    Implementation("reference", anywhere, _forward),
)
GRADIENTS = Operation(
    "the gradients of delay_bumps",
    Implementation("triton", triton_why_not, lazily(_TRITON, "gradients")),
    Implementation("numba", on_processor, _gradients),
    Implementation("reference", anywhere, _gradients),
)

_library = torch.library.Library("spikenet", "FRAGMENT")
_library.define(
    "delay_bumps(Tensor x, Tensor weight, Tensor delay, Tensor sigma, str kernel, int taps, int first, int steps, "
    "float most) -> Tensor"
)
_library.define(
    "delay_bumps_backward(Tensor x, Tensor weight, Tensor delay, Tensor sigma, Tensor grad, str kernel, int taps, "
    "int first, int steps, float most, bool wants_x, bool wants_synapses) -> (Tensor, Tensor, Tensor)"
)


def _whole(weight: Tensor, delay: Tensor, sigma: Tensor, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """In the dtype of the sums, a delay for every weight."""
    wide = real(x.dtype)
    weight, delay, sigma = (v if v.dtype == wide else v.to(wide) for v in (weight, delay, sigma))
    return weight, delay if delay.shape == weight.shape else delay.expand(weight.shape), sigma


def _run(x: Tensor, weight: Tensor, delay: Tensor, sigma: Tensor, kernel: str, taps: int, *sizes: Any) -> Tensor:
    first, steps, most = sizes
    if x.numel() == 0 or weight.numel() == 0 or steps == 0:
        return x.new_zeros(steps, x.shape[1], len(weight))
    synapses = _whole(weight, delay, sigma, x)
    return FORWARD(x, *synapses, kernel, taps, first, steps, most, size=x.numel())


def _run_backward(
    x: Tensor,
    weight: Tensor,
    delay: Tensor,
    sigma: Tensor,
    grad: Tensor,
    kernel: str,
    taps: int,
    first: int,
    steps: int,
    most: float,
    *wants: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """x may be empty unless the gradients of the synapses are wanted."""
    if grad.numel() == 0 or weight.numel() == 0 or steps == 0:
        gx = grad.new_zeros(steps, grad.shape[1], weight.shape[1])
        return gx, torch.zeros_like(weight), torch.zeros_like(delay)
    synapses = _whole(weight, delay, sigma, grad)
    gx, gw, gd = GRADIENTS(x, *synapses, grad, kernel, taps, first, steps, most, wants, size=grad.numel())
    return _like(gx, gw, gd, weight, delay)


def _like(gx: Tensor, gw: Tensor, gd: Tensor, weight: Tensor, delay: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Of the synapses as they were given."""
    if gd.numel() and delay.shape != weight.shape:
        gd = gd.sum_to_size(delay.shape)
    return gx, gw.to(weight.dtype), gd.to(delay.dtype)


def _fake(x: Tensor, weight: Tensor, delay: Tensor, sigma: Tensor, kernel: str, taps: int, *sizes: Any) -> Tensor:
    return x.new_empty(sizes[1], x.shape[1], weight.shape[0])


def _fake_backward(
    x: Tensor, weight: Tensor, delay: Tensor, sigma: Tensor, grad: Tensor, kernel: str, taps: int, *rest: Any
) -> tuple[Tensor, Tensor, Tensor]:
    _, steps, _, wants_x, wants_synapses = rest
    gx = grad.new_empty((steps, grad.shape[1], weight.shape[1]) if wants_x else 0)
    if not wants_synapses:
        return gx, weight.new_empty(0), delay.new_empty(0)
    return gx, weight.new_empty(weight.shape), delay.new_empty(delay.shape)


class _Kind:
    """What is asked once of tensors of one kind: whether they go together, and what the backend binds to them."""

    def __init__(
        self, x: Tensor, weight: Tensor, delay: Tensor, sigma: Tensor, kernel: str, taps: int, first: int, steps: int
    ) -> None:
        check_synapses(x, weight, delay, first, steps, taps)
        some = x.numel() and weight.numel() and steps
        self.kernels: Any = FORWARD.bind(x, weight, kernel, taps, first, steps) if some else None
        wide = real(x.dtype)
        self.whole = delay.shape == weight.shape and all(v.dtype == wide for v in (weight, delay, sigma))

    def forward(
        self, x: Tensor, weight: Tensor, delay: Tensor, sigma: Tensor, keep: bool
    ) -> tuple[Tensor, Sequence[Any]]:
        """The output, and what is kept for the gradient of x, if `keep`."""
        own = (weight, delay, sigma) if self.whole else _whole(weight, delay, sigma, x)
        found: tuple[Tensor, Sequence[Any]] = self.kernels.forward(x, *own, keep)
        return found

    def gradients(
        self, x: Tensor, weight: Tensor, delay: Tensor, sigma: Tensor, grad: Tensor, kept: Sequence[Any], *wants: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        own = (weight, delay, sigma) if self.whole else _whole(weight, delay, sigma, grad)
        gx, gw, gd = self.kernels.gradients(x, *own, grad, kept, *wants)
        return (gx, gw, gd) if self.whole else _like(gx, gw, gd, weight, delay)


kinds: Plans[_Kind] = Plans()


class _Bumps(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, delay: Tensor, sigma: Tensor, kind: _Kind | None, sizes: tuple[Any, ...]
    ) -> Tensor:
        wants_x, wants_weight, wants_delay, *_ = ctx.needs_input_grad
        wants_synapses = wants_weight or wants_delay
        kept: Sequence[Any] = ()
        if kind is not None:
            y, kept = kind.forward(x, weight, delay, sigma, wants_x)
        elif may_be_bound((x,)):
            y = _run(x, weight, delay, sigma, *sizes)
        else:
            with torch._C._AutoDispatchBelowAutograd():
                y = torch.ops.spikenet.delay_bumps(x, weight, delay, sigma, *sizes)
        ctx.save_for_backward(x if wants_synapses else x.new_empty(0), weight, delay, sigma, *kept)
        ctx.kind, ctx.sizes, ctx.steps, ctx.wants = kind, sizes, x.shape[0], (wants_x, wants_synapses)
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():
            raise BackendError("delay_bumps has no second derivative: call backward without create_graph=True")
        x, weight, delay, sigma, *kept = ctx.saved_tensors
        plain = may_be_bound((grad,))
        if plain and ctx.kind is not None:
            gx, gw, gd = ctx.kind.gradients(x, weight, delay, sigma, grad, kept, *ctx.wants)
        else:
            run: Any = _run_backward if plain else torch.ops.spikenet.delay_bumps_backward
            kernel, taps, first, _, most = ctx.sizes
            gx, gw, gd = run(x, weight, delay, sigma, grad, kernel, taps, first, ctx.steps, most, *ctx.wants)
        needs = ctx.needs_input_grad
        return gx if needs[0] else None, gw if needs[1] else None, gd if needs[2] else None, None, None, None


def _autograd(
    x: Tensor, weight: Tensor, delay: Tensor, sigma: Tensor, *sizes: Any, kind: _Kind | None = None
) -> Tensor:
    if torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad or delay.requires_grad):
        return _Bumps.apply(x, weight, delay, sigma, kind, sizes)
    if kind is not None:
        return kind.forward(x, weight, delay, sigma, False)[0]
    with torch._C._AutoDispatchBelowAutograd():
        return torch.ops.spikenet.delay_bumps(x, weight, delay, sigma, *sizes)


_library.impl("delay_bumps", _run, "CompositeExplicitAutograd")
_library.impl("delay_bumps_backward", _run_backward, "CompositeExplicitAutograd")
_library.impl("delay_bumps", _autograd, "Autograd")
torch.library.register_fake("spikenet::delay_bumps", _fake, lib=_library)
torch.library.register_fake("spikenet::delay_bumps_backward", _fake_backward, lib=_library)


def delay_bumps(
    x: Tensor,
    weight: Tensor,
    delay: Tensor,
    sigma: Tensor,
    shape: Bump,
    taps: int,
    first: int,
    steps: int,
    most: float = CROSSOVER,
) -> Tensor:
    """`delay_conv` of x `[T, B, M]` with the taps of `delay_kernel`, with gradients for x, `weight` and `delay`.

    Args:
        weight: `[N, M, elements]`; `delay` broadcasts against it.
        x, first, steps, most: as for `delay_conv`.
        sigma, shape, taps: as for `delay_kernel`; sigma is one number, and a bump that is not of `BUMPS` has its taps
            made in plain torch, all at once.

    Raises:
        ShapeError, DtypeError, DeviceError: if the arguments do not go together.
        BackendError: for a second derivative.
    """
    if sigma.numel() != 1:
        raise ShapeError(f"delay_bumps takes one sigma for all synapses, got {tuple(sigma.shape)}")
    if BUMPS.get(shape.name) != shape:
        k = construct.delay_kernel(weight, delay, sigma, shape, taps)
        return conv.delay_conv(x, k.to(real(x.dtype)), first, steps, most)
    sizes = shape.name, taps, first, steps
    if not may_be_bound((x,)):
        check_synapses(x, weight, delay, first, steps, taps)
        return torch.ops.spikenet.delay_bumps(x, weight, delay, sigma, *sizes, float(most))
    tensors = x, weight, delay, sigma
    asked = forced(), x.dtype == torch.float32 and torch.backends.cuda.matmul.allow_tf32
    key = *((v.shape, v.dtype, v.device) for v in tensors), *sizes, *asked
    kind = kinds.at(key, lambda: _Kind(*tensors, *sizes))
    return _autograd(*tensors, *sizes, float(most), kind=kind if kind.kernels else None)
