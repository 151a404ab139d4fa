"""From real numbers to spikes."""

from __future__ import annotations

import torch
from torch import Tensor

from spikenet.errors import ArgumentError, DtypeError


def poisson(rates: Tensor, steps: int, generator: torch.Generator | None = None) -> Tensor:
    """Rate code: in every step a spike with probability ``rate``, independently: a Poisson process in short steps.

    Args:
        rates: spikes per step, ``[B, ...]``, a float tensor within 0 to 1.
        steps: number of time steps ``T``.
        generator: source of the draws, on the device of ``rates``; none means torch's own.

    Returns:
        0 and 1 in the dtype of ``rates``, ``[T, B, ...]``.
    """
    _check_unit("rates", rates, steps)
    draws = torch.rand(steps, *rates.shape, generator=generator, dtype=rates.dtype, device=rates.device)
    return (draws < rates).to(rates.dtype)


def latency(values: Tensor, steps: int) -> Tensor:
    """Time-to-first-spike code: one spike at step ``round((1 - value) * (T - 1))``; the value 0 never spikes.

    Args:
        values: intensities, ``[B, ...]``, a float tensor within 0 to 1.
        steps: number of time steps ``T``.

    Returns:
        0 and 1 in the dtype of ``values``, ``[T, B, ...]``.
    """
    _check_unit("values", values, steps)
    first = ((1 - values.float()) * (steps - 1)).round()
    time = torch.arange(steps, device=values.device).view(-1, *[1] * values.ndim)
    return ((time == first) & (values > 0)).to(values.dtype)


def expand(counts: Tensor, maximum: int) -> Tensor:
    """Several spikes a step as binary steps: the first ``c`` of each step's ``maximum`` are 1, the rest 0.

    A linear map of ``counts`` is the mean of what it makes of a step's binary ones: exactly so wherever sums and ``1 /
    maximum`` are exact, as with weights that are small whole numbers and a power of two.

    Args:
        counts: ``c / maximum`` with whole ``c``, ``[T, B, ...]``, as `spikenet.neurons.MultiSpikeLIF` gives them.
        maximum: the most spikes in one step, ``D``.

    Returns:
        0 and 1 in the dtype of ``counts``, ``[T * D, B, ...]``; the binary steps of one step follow one another.

    Raises:
        ArgumentError: if a value is no whole number of spikes, or ``maximum`` is below 1.
        DtypeError: if ``counts`` is not a float tensor.
    """
    if maximum < 1:
        raise ArgumentError(f"maximum wants 1 or more, received {maximum}")
    _check_unit("counts", counts, 1)
    whole = (counts.double() * maximum).round()
    if not bool(((whole / maximum).to(counts.dtype) == counts).all()):
        raise ArgumentError(f"counts wants multiples of 1/{maximum}; was this made with another maximum?")
    order = torch.arange(maximum, device=counts.device).view(1, -1, *[1] * (counts.ndim - 1))
    return (order < whole.unsqueeze(1)).to(counts.dtype).flatten(0, 1)


def _check_unit(name: str, values: Tensor, steps: int) -> None:
    if steps < 1:
        raise ArgumentError(f"steps wants 1 or more, received {steps}")
    if not values.is_floating_point():
        raise DtypeError(f"{name} wants a float tensor, received {values.dtype}; scale integers to 0..1 first")
    if not bool(((values >= 0) & (values <= 1)).all()):
        raise ArgumentError(f"{name} wants finite numbers within 0 to 1, received {values.min():g} to {values.max():g}")
