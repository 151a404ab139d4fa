"""The inner loops of the event cameras, on plain arrays. Importing this module imports numba."""

from __future__ import annotations

import numba
import numpy as np


@numba.njit(cache=True)
def cross_levels(
    level: np.ndarray,  # int64 [N, H, W]: log intensity of each frame in whole units
    time: np.ndarray,  # int64 [N]: microseconds
    rise: np.ndarray,  # int64 [N - 1, H, W]: ON threshold of each pixel in each interval, in the same units
    fall: np.ndarray,  # int64 [N - 1, H, W]: OFF threshold
    slack: int,  # a level counts as reached from this many units before it
    refractory: int,  # microseconds
    reference: np.ndarray,  # int64 [H, W]: the last level that each pixel reached; advanced
    last: np.ndarray,  # int64 [H, W]: the time of each pixel's last event; advanced
    events: np.ndarray,  # int64 [capacity, 4]: receives t, x, y, p; events past the capacity are only counted
) -> int:
    """Follow every pixel's reference from frame to frame and return the number of events; see ``events/camera.py``."""
    frames, height, width = level.shape
    count = 0
    for k in range(frames - 1):
        span = time[k + 1] - time[k]
        for y in range(height):
            for x in range(width):
                begin, end = level[k, y, x], level[k + 1, y, x]
                if begin == end:
                    continue
                up = end > begin
                change = end - begin if up else begin - end
                stride = rise[k, y, x] if up else fall[k, y, x]
                sign = 1 if up else -1
                travelled = sign * (reference[y, x] - begin) + stride
                while travelled <= change + slack:
                    t = time[k] + min(max(travelled, 0), change) * span // change
                    reference[y, x] += sign * stride
                    travelled += stride
                    if t - last[y, x] < refractory:
                        continue
                    last[y, x] = t
                    if count < events.shape[0]:
                        events[count, 0], events[count, 1], events[count, 2] = t, x, y
                        events[count, 3] = 1 if up else 0
                    count += 1
    return count


@numba.njit(cache=True)
def compare_levels(
    level: np.ndarray,  # float64 [H, W]: log intensity at the interval's end
    start: int,  # microseconds
    span: int,  # microseconds
    theta: np.ndarray,  # float64 [2, H, W]: OFF and ON threshold of each pixel
    shot: np.ndarray,  # float64 [2, H, W]: chance of a noise event in the interval, OFF and ON
    uniform: np.ndarray,  # float64 [H, W]: the draws for it
    refractory: int,  # microseconds
    reference: np.ndarray,  # float64 [H, W]: advanced
    last: np.ndarray,  # int64 [H, W]: the time of each pixel's last event; advanced
    events: np.ndarray,  # int64 [capacity, 4]: receives t, x, y, p; has room for all
) -> int:
    """Compare every pixel with its reference once and return the number of events; see ``events/v2e.py``."""
    height, width = level.shape
    count = 0
    for y in range(height):
        for x in range(width):
            change = level[y, x] - reference[y, x]
            p = 1 if change > 0 else 0
            due = int(abs(change) / theta[p, y, x] + 1e-6)  # one short by a rounding is whole
            shown = 0  # noise events
            noise, noise_p = _noise(uniform[y, x], shot[0, y, x], shot[1, y, x], span)
            for number in range(1, due + 1):
                t = number * span // due
                if 0 < noise <= t:
                    shown = _send(start + noise, x, y, noise_p, refractory, last, events, count)
                    count, noise = count + shown, 0
                if _send(start + t, x, y, p, refractory, last, events, count):
                    count += 1
                    reference[y, x] += theta[p, y, x] if p else -theta[p, y, x]
            if noise > 0:
                shown = _send(start + noise, x, y, noise_p, refractory, last, events, count)
                count += shown
            if shown:
                reference[y, x] = level[y, x]
    return count


@numba.njit(cache=True)
def _noise(u: float, off: float, on: float, span: int) -> tuple[int, int]:
    """Microseconds into the interval of a noise event, 1 to span, or 0 for none, and its polarity; one uniform draw
    decides on the event and, given one, on its time."""
    if u < off:
        return 1 + min(int(u / off * span), span - 1), 0
    if 1.0 - u < on:
        return 1 + min(int((1.0 - u) / on * span), span - 1), 1
    return 0, 0


@numba.njit(cache=True)
def _send(t: int, x: int, y: int, p: int, refractory: int, last: np.ndarray, events: np.ndarray, count: int) -> int:
    """Write an event unless its pixel is refractory; 1 if it was written."""
    if t - last[y, x] < refractory:
        return 0
    last[y, x] = t
    events[count, 0], events[count, 1], events[count, 2], events[count, 3] = t, x, y, p
    return 1
