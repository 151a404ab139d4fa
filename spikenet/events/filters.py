"""Noise filters on recordings: each takes a stream and returns the events that it keeps, in their order."""

from __future__ import annotations

import torch

from spikenet.errors import ArgumentError
from spikenet.events.stream import EventStream


def refractory_filter(stream: EventStream, period_us: int) -> EventStream:
    """Let each pixel rest: an event goes if it comes less than ``period_us`` after the pixel's last kept event.

    Both polarities of a pixel share its rest.

    Args:
        stream: events ascending in time.
        period_us: shortest time between two events of a pixel, in microseconds.

    Errors: ArgumentError for a negative period or a stream out of order.
    """
    from spikenet.kernels.events.filters import after_rest

    _check("refractory_filter", stream, period_us)
    width, height, _ = stream.sensor
    kept = after_rest(stream.t.numpy(), stream.x.numpy(), stream.y.numpy(), width, height, period_us)
    return stream.take(torch.from_numpy(kept))


def background_activity_filter(stream: EventStream, dt_us: int) -> EventStream:
    """Keep what has company: an event stays if one of the eight pixels around it fired at most ``dt_us`` before it.

    Noise fires alone, edges do not (T. Delbruck, Frame-free dynamic digital vision, Symposium on Secure-Life
    Electronics, 2008). Events that are not kept still support their neighbours; a pixel does not support itself.

    Args:
        stream: events ascending in time.
        dt_us: how long an event supports its neighbours, in microseconds.

    Errors: ArgumentError for a negative time or a stream out of order.
    """
    from spikenet.kernels.events.filters import supported

    _check("background_activity_filter", stream, dt_us)
    width, height, _ = stream.sensor
    kept = supported(stream.t.numpy(), stream.x.numpy(), stream.y.numpy(), width, height, dt_us)
    return stream.take(torch.from_numpy(kept))


def hot_pixel_filter(stream: EventStream, deviations: float | None = None, rate_hz: float | None = None) -> EventStream:
    """Take out pixels that fire too much, with all their events. One of two rules says what is too much:

    - ``deviations``: a pixel with more events than ``mean + deviations * std`` over all pixels of the sensor, the
      silent ones included (``std`` of the population);
    - ``rate_hz``: a pixel whose events, its first apart, come at more than this rate: ``(n - 1) / duration``.

    Both polarities of a pixel count together; the order of events does not matter.

    Errors: ArgumentError unless exactly one rule is given, with a number of 0 or more.
    """
    given = [limit for limit in (deviations, rate_hz) if limit is not None]
    if len(given) != 1 or not given[0] >= 0:
        raise ArgumentError(
            f"hot_pixel_filter wants either deviations or rate_hz, 0 or more; received {deviations} and {rate_hz}"
        )
    pixel = stream.y.long() * stream.sensor.width + stream.x
    counts = torch.bincount(pixel, minlength=stream.sensor.width * stream.sensor.height).double()
    if deviations is not None:
        most = counts.mean() + deviations * counts.std(correction=0)
    else:
        most = 1 + torch.tensor(given[0] * stream.duration / 1e6, dtype=torch.float64)
    return stream.take((counts <= most)[pixel])


def _check(name: str, stream: EventStream, amount_us: int) -> None:
    if amount_us < 0:
        raise ArgumentError(f"{name} wants a time of 0 or more microseconds, received {amount_us}")
    if bool((stream.t.diff() < 0).any()):
        raise ArgumentError(f"{name} wants events in ascending time; stream.sorted() has them")
