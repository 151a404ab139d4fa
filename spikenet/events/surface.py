"""Recordings as surfaces: what the latest events looked like, and events spread over neighbouring time bins."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from spikenet.errors import ArgumentError
from spikenet.events.entries import collect
from spikenet.events.stream import EventStream
from spikenet.events.tensor import EventTensor


def time_surface(
    streams: EventStream | Sequence[EventStream], dt_us: int, steps: int, tau_us: float, origin_us: int = 0
) -> Tensor:
    """The exponential time surface at the end of each step (HOTS: Lagorce et al., IEEE TPAMI 39, 2017).

    With ``t_k = origin_us + (k + 1) * dt_us`` and ``t_last`` the time of the latest event of address ``a`` before
    ``t_k``, however long ago,

        S[k, a] = exp(-(t_k - t_last) / tau_us),    0 where there was none.

    An address never forgets, so this is dense. (HOTS reads a surface at each event; here time is on a grid.)

    Args:
        streams: one recording, or the recordings of a batch, all from one sensor; the order of events does not matter.
        dt_us: length of a step in microseconds.
        steps: number of steps ``T``.
        tau_us: time constant of the decay in microseconds.
        origin_us: the time at which step 0 begins.

    Returns:
        float32 ``[T, B, *sensor.shape]`` within 0 to 1.

    Errors: ArgumentError for a value that cannot work.
    """
    if dt_us < 1 or steps < 0 or not tau_us > 0:
        raise ArgumentError(
            f"time_surface wants dt_us of 1 or more, steps of 0 or more and tau_us above 0, "
            f"received {dt_us}, {steps} and {tau_us}"
        )
    batch = [streams] if isinstance(streams, EventStream) else streams
    whole, entry = EventStream.concat(batch), _entries(batch)
    size = whole.sensor.size
    step = torch.div(whole.t - origin_us, dt_us, rounding_mode="floor").clamp_(0, steps)
    order = step.argsort(stable=True)
    address, time = (entry * size + whole.address())[order], whole.t[order].double()
    share = torch.bincount(step, minlength=steps + 1).tolist()
    last = torch.full((len(batch) * size,), -torch.inf, dtype=torch.float64)
    surface = torch.zeros(steps, len(batch) * size)
    for k, (where, when) in enumerate(zip(address.split(share)[:steps], time.split(share)[:steps], strict=True)):
        last.scatter_reduce_(0, where, when, "amax")
        surface[k] = ((last - (origin_us + (k + 1) * dt_us)) / tau_us).exp_()
    return surface.view(steps, len(batch), *whole.sensor.shape)


def voxel_grid(streams: EventStream | Sequence[EventStream], bins: int, signed: bool) -> EventTensor:
    """Events spread over time bins by linear interpolation (Zhu, Yuan, Chaney and Daniilidis, CVPR 2019).

    With ``t0`` and ``tN`` the times of a recording's first and last event, event ``i`` at ``a`` gives bin ``b``

        V[b, a] = sum_i p_i max(0, 1 - |b - t*_i|),    t*_i = (bins - 1) (t_i - t0) / (tN - t0).

    Where all events share one time, ``t*`` is 0.

    Args:
        streams: one recording, or the recordings of a batch, all from one sensor; the order of events does not matter.
        bins: number of bins, which become the time steps ``T``.
        signed: True gives the paper's grid: ``p_i`` is +1 for ON and -1 for OFF, and both fall on one channel. False
            counts every event as +1, each polarity on its own channel.

    Returns:
        Weights, shape ``(bins, B, *sensor.shape)``, with one polarity instead of two if ``signed``.

    Errors: ArgumentError for ``bins`` below 1, or for ``signed`` without two polarities.
    """
    batch = [streams] if isinstance(streams, EventStream) else streams
    whole, entry = EventStream.concat(batch), _entries(batch)
    if bins < 1 or (signed and whole.sensor.polarities != 2):
        raise ArgumentError(
            f"voxel_grid wants 1 bin or more and, if signed, two polarities; received {bins} and {whole.sensor}"
        )
    sensor = whole.sensor._replace(polarities=1) if signed else whole.sensor
    address = whole.address().remainder(sensor.size)
    features = (1, sensor.height, sensor.width) if signed else sensor.shape
    sign = 2.0 * whole.p.double() - 1 if signed else torch.ones(len(whole), dtype=torch.float64)
    place = torch.cat([_place(stream.t, bins) for stream in batch])
    early = place.floor().clamp_(max=max(bins - 2, 0)).long()
    late = (early + 1).clamp_(max=bins - 1)
    share = place - early
    row = torch.cat([early, late]) * len(batch) + entry.repeat(2)
    values = torch.cat([sign * (1 - share), sign * share])
    lengths = torch.full((len(batch),), bins)
    return collect(row, address.repeat(2), values, (bins, len(batch), *features), lengths)


def _entries(batch: Sequence[EventStream]) -> Tensor:
    """The batch entry of each event of the streams, one after the other."""
    sizes = torch.tensor([len(stream) for stream in batch], dtype=torch.int64)
    return torch.arange(len(batch)).repeat_interleave(sizes)


def _place(t: Tensor, bins: int) -> Tensor:
    """``t*``: where on the bins each event of one recording falls, float64."""
    if not len(t):
        return t.double()
    first, span = t.min(), max(int(t.max() - t.min()), 1)
    return (t - first).double() * (bins - 1) / span
