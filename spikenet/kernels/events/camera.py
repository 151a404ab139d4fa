"""The inner loop of the event camera, on plain integer arrays. Importing this module imports numba."""

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
    events: np.ndarray,  # int64 [capacity, 4]: receives t, x, y, p; events past the capacity are only counted
) -> int:
    """Follow every pixel's reference from frame to frame and return the number of events; see ``events/camera.py``."""
    frames, height, width = level.shape
    reference = level[0].copy()
    last = np.full((height, width), time[0] - refractory, np.int64)
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
