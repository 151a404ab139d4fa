"""The camera's inner loop against the equations in fractions, pixel by pixel, with nothing in common but the rule."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from spikenet.kernels.events.camera import cross_levels


def slow_pixel(level, time, rise, fall, slack, refractory):
    """One pixel: levels the reference may step to, by the line between two frames."""
    reference, last, events = Fraction(int(level[0])), None, []
    for k in range(len(level) - 1):
        begin, end = Fraction(int(level[k])), Fraction(int(level[k + 1]))
        if begin == end:
            continue
        sign = 1 if end > begin else -1
        stride = int(rise[k] if sign > 0 else fall[k])
        while sign * (end - (reference + sign * stride)) >= -slack:
            reference += sign * stride
            share = min(max((reference - begin) / (end - begin), 0), 1)
            t = int(time[k]) + (share * int(time[k + 1] - time[k])).__floor__()
            if last is None or t - last >= refractory:
                events.append((t, (sign + 1) // 2))
                last = t
    return events


@pytest.mark.parametrize("refractory", [0, 40, 700])
@pytest.mark.parametrize("seed", range(3))
def test_every_pixel_follows_the_equations(seed, refractory):
    generator = np.random.default_rng(seed)
    shape = (15, 3, 4)
    level = generator.integers(-900, 900, shape).cumsum(0)
    level[5] = level[6]  # an interval without change
    time = np.cumsum(generator.integers(1, 400, 15))
    rise, fall = generator.integers(80, 400, (2, 14, 3, 4))
    room = np.full((5000, 4), -1)
    reference, last = level[0].copy(), np.full((3, 4), time[0] - refractory)
    count = cross_levels(level, time, rise, fall, 3, refractory, reference, last, room)
    assert 0 < count < len(room)
    assert (room[count:] == -1).all()
    for y in range(3):
        for x in range(4):
            mine = room[:count][(room[:count, 1] == x) & (room[:count, 2] == y)]
            expected = slow_pixel(level[:, y, x], time, rise[:, y, x], fall[:, y, x], 3, refractory)
            assert [(t, p) for t, _, _, p in mine.tolist()] == expected


def test_a_full_buffer_only_counts():
    level = np.array([[[0]], [[1000]]])
    strides = np.full((1, 1, 1), 100)
    room = np.full((4, 4), -1)
    zeros = np.zeros((2, 1, 1), np.int64)
    assert cross_levels(level, np.array([0, 100]), strides, strides, 0, 0, *zeros.copy(), room) == 10
    assert room[:, 0].tolist() == [10, 20, 30, 40]
    assert cross_levels(level, np.array([0, 100]), strides, strides, 0, 0, *zeros, room[:0]) == 10
