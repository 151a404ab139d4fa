"""Spike times as a differentiable function of weights, delays and earlier spike times, exactly.

Neurons are leaky integrators of exponential currents (`tm V' = -V + I`, `ts I' = -I`); a spike of source m reaches
neuron n after `delay[n, m]`, where `I += weight[n, m]`; where V reaches the threshold the neuron spikes, and V is 0.
Backwards in time, from nothing after the last spike,

    tm lV' = -lV,    ts lI' = lV - lI
    at a spike k of neuron n:      lV <- lV + (th lV + E_k) / (I - th)
        E_k = dL/dt_k + sum_j w_jn (lV_j - lI_j)(t_k + d_jn)      over the neurons j that hear it
    of an arrival at t by m -> n:  dL/dw_nm -= ts lI_n(t),    dL/dd_nm = dL/dt_arrival = w_nm (lV_n - lI_n)(t)

Wunderlich and Pehle, "Event-based backpropagation can compute exact gradients for spiking neural networks", Scientific
Reports 11, 2021; with delays Mészáros, Knight and Nowotny, "Efficient event-based delay learning in spiking neural
networks", arXiv 2501.07331, and Göltz et al., "DelGrad", arXiv 2404.19165.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from spikenet.errors import ArgumentError, BackendError, DeviceError, DtypeError, ShapeError
from spikenet.kernels.backends import Implementation, Operation, anywhere, lazily, on_processor
from spikenet.kernels.eventprop import reference

_NUMBA = "spikenet.kernels.eventprop.numba_backend"
FORWARD = Operation(
    "eventprop",
    Implementation("numba", on_processor, lazily(_NUMBA, "forward")),
    Implementation("reference", anywhere, reference.forward),
)
GRADIENTS = Operation(
    "the gradients of eventprop",
    Implementation("numba", on_processor, lazily(_NUMBA, "gradients")),
    Implementation("reference", anywhere, reference.gradients),
)


class Constants(NamedTuple):
    """What is not learned: times in the unit of the spike times."""

    tau_mem: float = 20.0
    tau_syn: float = 5.0
    threshold: float = 1.0
    grazing: float = 1e-3  # I - th counts as at least this part of th in a gradient
    t_end: float = math.inf
    most: int = 1000  # spikes of a neuron


class _EventProp(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, times: Tensor, weight: Tensor, delay: Tensor, constants: Constants) -> Tensor:
        tau = constants.tau_mem, constants.tau_syn
        spikes, currents = FORWARD(
            times, weight, delay, tau, constants.threshold, constants.t_end, constants.most, size=times.numel()
        )
        if spikes.shape[2] > constants.most:
            raise ArgumentError(
                f"eventprop: a neuron spikes more than {constants.most} times; smaller weights, an end of time (t_end) "
                "or a higher limit (most) would do"
            )
        ctx.save_for_backward(times, weight, delay, spikes, currents)
        ctx.constants = constants
        return spikes.to(weight.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():
            raise BackendError("eventprop has no second derivative: call backward without create_graph=True")
        times, weight, delay, spikes, currents = ctx.saved_tensors
        c = ctx.constants
        gradients = GRADIENTS(
            times, weight, delay, spikes, currents, grad, (c.tau_mem, c.tau_syn), c.threshold, c.grazing
        )
        gt, gw, gd = (g.to(a.dtype) for g, a in zip(gradients, (times, weight, delay), strict=True))
        return gt, gw, gd, None


def eventprop(times: Tensor, weight: Tensor, delay: Tensor, constants: Constants) -> Tensor:
    """Spike times `[B, N, S]` of N neurons, each row ascending and filled up with infinity; S is the most that any has,
    and 1 at least. First derivatives for `times`, `weight` and `delay`.

    Args:
        times: spike times of M inputs, `[B, M, K]`, each row ascending and filled up with infinity.
        weight: `[N, M]`; or `[N, M + N]`, and the neurons hear each other through the columns from M on.
        delay: 0 or more, of the same shape.
        constants: the rest.

    Computed in float64 and returned in the weights' dtype.

    Raises:
        ArgumentError: for times that are NaN or do not ascend, weights or delays that are not finite, negative delays,
            or a neuron that spikes more than `most` times.
        ShapeError, DtypeError, DeviceError: if the three do not go together.
        BackendError: for a second derivative.
    """
    _check(times, weight, delay)
    return _EventProp.apply(times, weight, delay, constants)


def _check(times: Tensor, weight: Tensor, delay: Tensor) -> None:
    if times.ndim != 3 or weight.ndim != 2 or weight.shape[1] - times.shape[1] not in (0, len(weight)):
        raise ShapeError(
            f"spike times [B, M, K] and weights [N, M] or [N, M + N] wanted, got {tuple(times.shape)} and "
            f"{tuple(weight.shape)}"
        )
    if weight.shape != delay.shape:
        raise ShapeError(f"a delay for every weight wanted, {tuple(weight.shape)}, got {tuple(delay.shape)}")
    for name, other in (("times", times), ("delays", delay)):
        if not other.is_floating_point():
            raise DtypeError(f"the {name} must be floating-point, got {other.dtype}; {name}.double() would do")
        if other.device != weight.device:
            raise DeviceError(f"the {name} are on {other.device}, the weights on {weight.device}; move one of them")
    if bool((times.isnan() | (times == -math.inf)).any()):
        raise ArgumentError("spike times must be finite, or infinity for no spike; got NaN or -infinity")
    if bool((times[..., 1:] < times[..., :-1]).any()):
        raise ArgumentError("spike times must ascend, with infinity after the last; times.sort(-1).values would do")
    if not bool(weight.isfinite().all() and delay.isfinite().all() and (delay >= 0).all()):
        raise ArgumentError(f"weights and delays must be finite and delays 0 or more, got {delay.detach()}, {weight}")
