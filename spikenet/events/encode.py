"""From real numbers to spikes."""

from __future__ import annotations

from math import prod

import torch
from torch import Tensor

from spikenet.errors import ArgumentError, DtypeError, ShapeError


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
    fine = torch.promote_types(rates.dtype, torch.float32)  # half draws are too coarse for small rates
    draws = torch.rand(steps, *rates.shape, generator=generator, dtype=fine, device=rates.device)
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


def delta(signal: Tensor, theta: float) -> Tensor:
    """Send on delta: a spike for each step of ``theta`` that the signal has moved up or down since the last one
    (Miskowicz, Sensors 6, 2006). With the reference ``r``, at first ``signal[0]``,

        n[t] = trunc((signal[t] - r) / theta),    r <- r + n[t] theta,

    so ``signal[0] + theta * n.cumsum(0)`` is the signal to within ``theta``.

    Args:
        signal: finite, a float tensor ``[T, B, ...]``; worked through in float64.
        theta: distance between two levels, in units of the signal.

    Returns:
        Signed numbers of spikes (+ up, - down; 0 in the first step) in the dtype of ``signal``, ``[T, B, ...]``.
    """
    _check_finite("signal", signal)
    _check_axes("signal", signal, 1)
    if not 0 < theta < float("inf"):
        raise ArgumentError(f"theta wants a finite number above 0, received {theta}")
    moved = (signal.double() - signal[:1].double()) / theta  # in levels, so that r stays a whole number
    level, spikes = moved.new_zeros(moved.shape[1:]), torch.empty_like(signal)
    for t, here in enumerate(moved):
        change = (here - level).trunc()
        spikes[t] = change
        level = level + change
    return spikes


def population(values: Tensor, neurons: int, low: float = 0.0, high: float = 1.0, gamma: float = 1.5) -> Tensor:
    """Population code: overlapping Gaussian receptive fields (Bohte, Kok and La Poutré, Neurocomputing 48, 2002).

    Neuron ``i`` of ``n`` (from 1) answers with

        exp(-(value - mu_i)^2 / (2 sigma^2)),
        mu_i = low + (2 i - 3) / 2 * (high - low) / (n - 2),    sigma = (high - low) / (gamma (n - 2)).

    The answers lie within 0 to 1, for `latency` (as in the paper: the strongest first) or `poisson` to make spikes of.

    Args:
        values: finite, a float tensor of any shape.
        neurons: receptive fields of each value, 3 or more.
        low: lower end of the values.
        high: upper end of the values.
        gamma: how narrow the fields are; the paper takes 1 to 2.

    Returns:
        Answers in the dtype of ``values``, ``[..., neurons]``.
    """
    _check_finite("values", values)
    if neurons < 3 or not low < high or not gamma > 0:
        raise ArgumentError(
            f"population wants 3 neurons or more, low below high and gamma above 0, "
            f"received {neurons}, {low}, {high} and {gamma}"
        )
    spacing = (high - low) / (neurons - 2)
    centre = low + (torch.arange(neurons, device=values.device, dtype=torch.float64) - 0.5) * spacing
    distance = (values.unsqueeze(-1).double() - centre) * (gamma / spacing)
    return (-distance.square() / 2).exp().to(values.dtype)


def rank_order(values: Tensor, steps: int) -> Tensor:
    """Rank order code: the largest value of a batch entry spikes first, the next largest one step later, and so on
    (Thorpe and Gautrais, Computational Neuroscience: Trends in Research, 1998).

    Of equal values the one with the lower flat index spikes first, so no two spike together.

    Args:
        values: finite, a float tensor ``[B, ...]``.
        steps: number of time steps ``T``; values that rank at ``T`` or later (from 0) do not spike.

    Returns:
        0 and 1 in the dtype of ``values``, ``[T, B, ...]``: one spike a step and batch entry until all have spiked.
    """
    _check_finite("values", values)
    _check_axes("values", values, 2)
    _check_steps(steps)
    order = values.flatten(1).argsort(dim=1, descending=True, stable=True)[:, :steps]
    spikes = torch.zeros(steps, *order.shape[:1], prod(values.shape[1:]), dtype=values.dtype, device=values.device)
    spikes[: order.shape[1]].scatter_(2, order.t().unsqueeze(2), 1)
    return spikes.view(steps, *values.shape)


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
    _check_steps(steps)
    _check_float(name, values)
    if not bool(((values >= 0) & (values <= 1)).all()):
        raise ArgumentError(f"{name} wants finite numbers within 0 to 1, received {values.min():g} to {values.max():g}")


def _check_finite(name: str, values: Tensor) -> None:
    _check_float(name, values)
    if not bool(values.isfinite().all()):
        raise ArgumentError(f"{name} wants finite numbers, received {values.min():g} to {values.max():g}")


def _check_float(name: str, values: Tensor) -> None:
    if not values.is_floating_point():
        raise DtypeError(f"{name} wants a float tensor, received {values.dtype}; convert integers to floats first")


def _check_axes(name: str, values: Tensor, least: int) -> None:
    if values.ndim < least:
        raise ShapeError(f"{name} wants {least} dimensions or more, received shape {tuple(values.shape)}")


def _check_steps(steps: int) -> None:
    if steps < 1:
        raise ArgumentError(f"steps wants 1 or more, received {steps}")
