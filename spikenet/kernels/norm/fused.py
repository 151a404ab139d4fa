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
from spikenet.kernels.backends import Implementation, Operation, anywhere, lazily
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
    it, and its gradient is zero.
    """

    weight: Tensor
    bias: Tensor
    mean: Tensor
    var: Tensor
    momentum: float
    eps: float
    offset: Tensor | None = None


def _why_not(
    norm: Norm,
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
    if y.dtype == torch.float64 or norm.weight.dtype != torch.float32:
        return f"the Triton kernels compute in float32, got {y.dtype} and weights of {norm.weight.dtype}"
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
    first = [s.as_strided((1,), (1,)) for s in state]
    weight, bias, mean, var, momentum, eps, offset = norm
    call = _autograd if _plain(y) else torch.ops.spikenet.norm_neuron
    return call(y, weight, bias, offset, mean, var, program, first, params, momentum, eps)[0], [], []


def _apart(norm: Norm, program: str, inputs: Sequence[Tensor], *values: Any) -> Any:
    (y,) = inputs
    weight, bias, mean, var, momentum, eps, offset = norm
    y = y if offset is None else y + offset
    x = functional.batch_norm(y.flatten(0, -2), mean, var, weight, bias, True, momentum, eps)
    return scan(program, [x.view(y.shape)], *values)


FUSED = Operation(
    "norm_scan",
    Implementation("triton", _why_not, _run),
    Implementation("numba", anywhere, _apart),  # `scan` looks for its own backend
    Implementation("reference", anywhere, _apart),
)


class _NormNeuron(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, y: Tensor, weight: Tensor, bias: Tensor, offset: Tensor | None, *values: Any) -> Any:
        z, moments = _below_autograd(y, weight, bias, offset, *values)
        ctx.save_for_backward(y, weight, moments)
        ctx.values = values[2:5]
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(moments)
        return z, moments

    @staticmethod
    def backward(ctx: Any, gz: Tensor | None, _: Any) -> Any:
        if torch.is_grad_enabled():
            raise BackendError("norm_scan has no second derivative: call grad or backward without create_graph=True")
        if gz is None:
            return (None,) * 11
        y, weight, moments = ctx.saved_tensors
        run = _backward if _plain(gz) else torch.ops.spikenet.norm_neuron_backward
        of_y, of_channels = run(y, weight, *ctx.values, moments, gz)
        of_weight, of_bias, of_offset, *_ = of_channels.unbind()
        return of_y, of_weight, of_bias, of_offset if ctx.needs_input_grad[3] else None, *(None,) * 7


def _below_autograd(y: Tensor, *values: Any) -> Any:
    if _plain(y):
        return _forward(y, *values)
    with torch._C._AutoDispatchBelowAutograd():
        return torch.ops.spikenet.norm_neuron(y, *values)


def _autograd(
    y: Tensor, weight: Tensor, bias: Tensor, offset: Tensor | None, mean: Tensor, var: Tensor, *values: Any
) -> Any:
    learned = [t for t in (y, weight, bias, offset) if t is not None]
    refuse_forward_mode("norm_scan", learned)
    torch.autograd.graph.increment_version((mean, var))
    given = y, weight, bias, offset, mean, var, *values
    if torch.is_grad_enabled() and any(t.requires_grad for t in learned):
        return _NormNeuron.apply(*given)
    return _below_autograd(*given)


def _forward(
    y: Tensor,
    weight: Tensor,
    bias: Tensor,
    offset: Tensor | None,
    mean: Tensor,
    var: Tensor,
    program: str,
    *values: Any,
) -> tuple[Tensor, Tensor]:
    return _triton_forward(registered(program), y, weight, bias, offset, mean, var, *values)


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
        norm: the norm; its running statistics are changed.
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
