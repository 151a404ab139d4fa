"""Batch norm over the last axis, in training, and the neuron that follows it, in one pass over the time steps.

`norm_scan` stands in the place of `dynamics.scan`: the neuron's input is the normalised one. On CUDA devices the
normalised potentials are neither written nor kept: both directions make them again from the norm's input. Elsewhere,
and for what the kernels do not do, it is torch's batch norm and then `scan`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from spikenet.errors import BackendError, ShapeError
from spikenet.kernels.backends import Implementation, Operation, anywhere, forced, lazily
from spikenet.kernels.dynamics import scan
from spikenet.kernels.dynamics.ops import _plain, refuse_forward_mode, registered
from spikenet.kernels.operators import define
from spikenet.kernels.triton_device import why_not_on

LONGEST = 16  # time steps whose states a program holds in registers

_triton_forward = lazily("spikenet.kernels.norm.triton_norm", "forward")
_triton_backward = lazily("spikenet.kernels.norm.triton_norm", "backward")


class Norm(NamedTuple):
    """A batch norm over C channels, all `[C]`: its weights, and the running statistics that a call moves on.

    `mean` and `var` become `(1 - momentum) mean + momentum m`, where m is the mean (or the variance, corrected by
    n / (n - 1)) of the n numbers of a channel.

    `offset` is a bias that was left out of y. The norm takes it away again, so that the running mean alone learns of
    it, and its gradient is zero. `calls`, an int64, counts the calls.
    """

    weight: Tensor
    bias: Tensor
    mean: Tensor
    var: Tensor
    momentum: float
    eps: float
    offset: Tensor | None = None
    calls: Tensor | None = None


def _why_not(norm: Norm, *scanned: Any) -> str | None:
    return _why_not_behind(norm.weight.dtype, *scanned)


def _why_not_behind(
    weights: torch.dtype,
    program: str,
    inputs: Sequence[Tensor],
    state: Sequence[Tensor],
    params: Sequence[Tensor],
    spans: Sequence[int],
    rng: Tensor | None,
    final: bool,
    trace: bool,
) -> str | None:
    y = inputs[0]
    if len(inputs) != 1 or rng is not None or final or trace:
        return "the Triton kernels take neurons of one input, draw nothing and keep no states"
    if y.dtype == torch.float64 or weights != torch.float32:
        return f"the Triton kernels compute in float32, got {y.dtype} and weights of {weights}"
    if len(y) > LONGEST:
        return f"the Triton kernels take up to {LONGEST} steps, got {len(y)}"
    if y.numel() >= 2**31 * len(y):
        return f"the Triton kernels take fewer than 2^31 lanes, and the input has {y.numel() // len(y)}"
    if any(p.requires_grad for p in (*state, *params)):
        return "the Triton kernels have no gradients for states and parameters"
    if any(p.numel() > 1 for p in params) or any(any(s.stride()) and s.numel() > 1 for s in state):
        return "the Triton kernels take one value of every state and parameter for all neurons"
    return why_not_on(y)


def _run(norm: Norm, program: str, inputs: Sequence[Tensor], *values: Any) -> Any:
    (y,), (state, params, *_) = inputs, values
    if _plain(y):
        return NormBound(program, _single(state), params)(norm, y)[0], [], []
    if norm.calls is not None:
        norm.calls.add_(1)
    weight, bias, mean, var, momentum, eps, offset, _ = norm
    given = y, weight, bias, offset, mean, var, program, _single(state), params, momentum, eps
    return torch.ops.spikenet.norm_neuron(*given)[0], [], []


def _single(state: Sequence[Tensor]) -> list[Tensor]:
    """The one value that all neurons share."""
    return [s.as_strided((1,), (1,)) for s in state]


def _apart(norm: Norm, program: str, inputs: Sequence[Tensor], *values: Any) -> Any:
    (y,) = inputs
    weight, bias, mean, var, momentum, eps, offset, calls = norm
    y = y if offset is None else y + offset
    if calls is not None:
        calls.add_(1)
    x = functional.batch_norm(y.flatten(0, -2), mean, var, weight, bias, True, momentum, eps)
    return scan(program, [x.view(y.shape)], *values)


FUSED = Operation(
    "norm_scan",
    Implementation("triton", _why_not, _run),
    Implementation("numba", anywhere, _apart),  # `scan` looks for its own backend
    Implementation("reference", anywhere, _apart),
)


class NormBound:
    """A program with values that stay as they are, behind any norm: the short way past every lookup.

    Args:
        program: its key from `register`; it draws nothing.
        state: one value each, `[1]`.
        params: as `scan` takes them.
    """

    def __init__(self, program: str, state: Sequence[Tensor], params: Sequence[Tensor]) -> None:
        self.program, self.values = program, (state, params)

    def __call__(self, norm: Norm, y: Tensor) -> tuple[Tensor, Tensor]:
        """The output, and the moments that the backward pass takes."""
        learned = [t for t in (y, norm.weight, norm.bias, norm.offset) if t is not None]
        refuse_forward_mode("norm_scan", learned)
        torch.autograd.graph.increment_version([t for t in (norm.mean, norm.var, norm.calls) if t is not None])
        if torch.is_grad_enabled() and any([t.requires_grad for t in learned]):  # noqa: C419 - a list is faster
            both: tuple[Tensor, Tensor] = _NormNeuron.apply(self, norm, y, norm.weight, norm.bias, norm.offset)
            return both
        return self.forward(norm, y)

    def forward(self, norm: Norm, y: Tensor) -> tuple[Tensor, Tensor]:
        if _plain(y):
            return _triton_forward(registered(self.program), y, norm, *self.values)
        weight, bias, mean, var, momentum, eps, offset, _ = norm
        with torch._C._AutoDispatchBelowAutograd():
            given = y, weight, bias, offset, mean, var, self.program, *self.values, momentum, eps
            return torch.ops.spikenet.norm_neuron(*given)

    def backward(self, y: Tensor, weight: Tensor, moments: Tensor, gz: Tensor) -> tuple[Tensor, Tensor]:
        run = _backward if _plain(gz) else torch.ops.spikenet.norm_neuron_backward
        return run(y, weight, self.program, *self.values, moments, gz)


class _NormNeuron(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, bound: NormBound, norm: Norm, y: Tensor, weight: Tensor, bias: Tensor, offset: Tensor | None
    ) -> Any:
        z, moments = bound.forward(norm, y)
        ctx.save_for_backward(y, weight, moments)
        ctx.bound = bound
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(moments)
        return z, moments

    @staticmethod
    def backward(ctx: Any, gz: Tensor | None, _: Any) -> Any:
        if torch.is_grad_enabled():
            raise BackendError("norm_scan has no second derivative: call grad or backward without create_graph=True")
        if gz is None:
            return (None,) * 6
        of_y, of_channels = ctx.bound.backward(*ctx.saved_tensors, gz)
        of_weight, of_bias, of_offset, *_ = of_channels.unbind()
        return None, None, of_y, of_weight, of_bias, of_offset if ctx.needs_input_grad[5] else None


def bind_norm(
    program: str,
    inputs: Sequence[Tensor],
    state: Sequence[Tensor],
    params: Sequence[Tensor],
    spans: Sequence[int],
    weights: torch.dtype,
    channels: int,
) -> NormBound | None:
    """A `NormBound` for inputs like these, where `norm_scan` would run in Triton behind a norm with so many `weights`
    of that dtype, else None."""
    (y,) = inputs
    reason = _why_not_behind(weights, program, inputs, state, params, spans, None, False, False)
    if reason or forced() not in (None, "triton") or y.shape[-1] != channels or y.numel() <= channels:
        return None
    return NormBound(program, _single(state), params)


def _autograd(
    y: Tensor,
    weight: Tensor,
    bias: Tensor,
    offset: Tensor | None,
    mean: Tensor,
    var: Tensor,
    program: str,
    state: Sequence[Tensor],
    params: Sequence[Tensor],
    momentum: float,
    eps: float,
) -> Any:
    return NormBound(program, state, params)(Norm(weight, bias, mean, var, momentum, eps, offset), y)


def _forward(
    y: Tensor,
    weight: Tensor,
    bias: Tensor,
    offset: Tensor | None,
    mean: Tensor,
    var: Tensor,
    program: str,
    state: Sequence[Tensor],
    params: Sequence[Tensor],
    momentum: float,
    eps: float,
) -> tuple[Tensor, Tensor]:
    return _triton_forward(registered(program), y, Norm(weight, bias, mean, var, momentum, eps, offset), state, params)


def _backward(y: Tensor, weight: Tensor, program: str, *values: Any) -> tuple[Tensor, Tensor]:
    return _triton_backward(registered(program), y, weight, *values)


def _fake(y: Tensor, weight: Tensor, *_: Any) -> tuple[Tensor, Tensor]:
    z = torch.empty_like(y, memory_format=torch.contiguous_format)
    return z, weight.new_empty((4, len(weight)))


def _fake_backward(y: Tensor, weight: Tensor, *_: Any) -> tuple[Tensor, Tensor]:
    gy = torch.empty_like(y, memory_format=torch.contiguous_format)
    return gy, weight.new_empty((5, len(weight)))


define(
    "norm_neuron(Tensor y, Tensor weight, Tensor bias, Tensor? offset, Tensor(a!) mean, Tensor(b!) var, str program, "
    "Tensor[] state, Tensor[] params, float momentum, float eps) -> (Tensor, Tensor)",
    _forward,
    _fake,
    _autograd,
)
define(
    "norm_neuron_backward(Tensor y, Tensor weight, str program, Tensor[] state, Tensor[] params, Tensor moments, "
    "Tensor gz) -> (Tensor, Tensor)",
    _backward,
    _fake_backward,
)


def norm_scan(
    norm: Norm,
    program: str,
    inputs: Sequence[Tensor],
    state: Sequence[Tensor],
    params: Sequence[Tensor],
    spans: Sequence[int],
    rng: Tensor | None,
    final: bool,
    trace: bool,
) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    """A neuron behind a batch norm in training: `scan` of

        x = weight (y - mean(y)) / sqrt(var(y) + eps) + bias

    with statistics over all axes but the last, and gradients for y, the norm's weights and offset, states and
    parameters.

    For a neuron of `spikenet.neurons` with one input: `neuron._scan([y], None, by=partial(norm_scan, norm))`.

    Args:
        norm: the norm; its running statistics and number of calls are changed.
        program, state, params, spans, rng, final, trace: as `dynamics.scan` takes them, for lanes `[..., C]`.
        inputs: y `[T, ..., C]` alone.

    Returns:
        What `dynamics.scan` returns.

    Raises:
        ShapeError: if y has other channels, or a channel has a single number.
    """
    y, channels = inputs[0], len(norm.weight)
    if y.shape[-1] != channels or y.numel() <= channels:
        raise ShapeError(
            f"norm_scan takes [T, ..., {channels}] with two numbers or more of each channel, got {tuple(y.shape)}"
        )
    return FUSED(norm, program, inputs, state, params, spans, rng, final, trace)
