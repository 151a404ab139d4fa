"""Delayed products by the events of a mostly silent sequence, in Numba. Importing this module imports numba.

The events of a batch entry and an input, in order of time, share the taps of that input, `[D, N]`, which stay in the
first-level cache: each output step adds the rows of the events that it is still to hear. Every sum goes by input, then
by the time of the event, whatever the number of threads and whatever part of a sequence is given.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from torch import Tensor

from spikenet.kernels import buffers
from spikenet.kernels.threads import over_lanes

INPUTS = 8  # of the smallest range of a thread, for the taps
TILE = 1 << 20  # bytes of output that a thread keeps at hand, if they hold a batch entry


def forward(x: Tensor, k: Tensor, first: int, steps: int) -> Tensor:
    """See `conv.delay_conv`; x and K in float32 or float64."""
    batch, outputs = x.shape[1], len(k)
    y = buffers.empty((steps, batch, outputs), x.dtype)
    entries = _entries(steps * outputs * x.itemsize, batch)
    arrays = x.detach().contiguous().numpy(), k.detach().permute(1, 2, 0).contiguous().numpy(), y.numpy()
    run: Any = _forward

    def some(start: int, stop: int) -> None:
        run(*arrays, first, entries, start, stop)

    over_lanes(some, batch, entries, y.numel())
    return y


def gradient_of_taps(x: Tensor, grad: Tensor, first: int, taps: int) -> Tensor:
    """See `conv.delay_conv`: the gradient of K."""
    inputs, outputs = x.shape[2], grad.shape[2]
    gk = buffers.empty((inputs, taps, outputs), x.dtype)
    padded = len(grad) + 2 * (taps - 1)
    entries = _entries(padded * outputs * x.itemsize, x.shape[1])
    arrays = x.detach().contiguous().numpy(), grad.detach().contiguous().numpy(), gk.numpy()
    run: Any = _gradient_of_taps

    def some(start: int, stop: int) -> None:
        run(*arrays, first, entries, start, stop)

    over_lanes(some, inputs, INPUTS, grad.numel())
    return gk.permute(2, 0, 1).contiguous()


def _entries(size: int, batch: int) -> int:
    """Batch entries worked on together, of that many bytes each."""
    return max(1, min(batch, TILE // max(size, 1)))


@numba.njit(nogil=True, cache=True, error_model="numpy")
def listed(
    x: np.ndarray,  # [T, B, M]
    b: int,  # the first batch entry, of begins.size / inputs
    j: int,  # the first input
    inputs: int,
    begins: np.ndarray,  # int64 [inputs * entries + 1], written
    time: np.ndarray,  # int32, written
    value: np.ndarray,  # written
) -> None:
    """The events of some batch entries and inputs: by input, entry, time."""
    entries = (begins.size - 1) // inputs
    count = np.zeros((entries, inputs), np.int32)
    for t in range(x.shape[0]):
        for e in range(entries):
            row, so_far = x[t, b + e, j : j + inputs], count[e]
            for i in range(inputs):
                so_far[i] += np.int32(row[i] != 0)
    begins[0] = 0
    for i in range(inputs):
        for e in range(entries):
            begins[i * entries + e + 1] = begins[i * entries + e] + count[e, i]
    for t in range(x.shape[0]):
        for e in range(entries):
            row = x[t, b + e, j : j + inputs]
            for i in range(inputs):
                if row[i] != 0:
                    at = begins[i * entries + e]
                    begins[i * entries + e] = at + 1
                    time[at], value[at] = t, row[i]
    for i in range(begins.size - 1, 0, -1):  # each has moved on to the next one's begin
        begins[i] = begins[i - 1]
    begins[0] = 0


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _forward(
    x: np.ndarray,  # [T, B, M]
    k: np.ndarray,  # [M, D, N]
    y: np.ndarray,  # [S, B, N], written
    first: int,
    entries: int,  # worked on together
    start: int,  # batch entries of this call
    stop: int,
) -> None:
    steps, outputs, inputs, taps = y.shape[0], y.shape[2], x.shape[2], k.shape[1]
    time = np.empty(entries * inputs * x.shape[0], np.int32)
    value = np.empty(time.size, x.dtype)
    sums = np.empty((entries, steps, outputs), y.dtype)
    flat = sums.reshape(entries, steps * outputs)
    taps_of = k.reshape(inputs, taps * outputs)
    for b in range(start, stop, entries):
        n = min(entries, stop - b)
        begins = np.empty(n * inputs + 1, np.int64)
        listed(x, b, 0, inputs, begins, time, value)
        sums[:n] = 0.0
        for j in range(inputs):
            for e in range(n):
                if begins[j * n + e] < begins[j * n + e + 1]:
                    _hear(flat[e], taps_of[j], time, value, begins[j * n + e], begins[j * n + e + 1], first, outputs)
        for s in range(steps):
            for e in range(n):
                y[s, b + e] = sums[e, s]


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _hear(
    y: np.ndarray,  # [S * N]
    k: np.ndarray,  # [D * N]
    time: np.ndarray,
    value: np.ndarray,
    lo: int,
    last: int,
    first: int,
    outputs: int,
) -> None:
    """The events `lo` to `last - 1`, in stretches of steps that hear the same ones."""
    steps, taps = y.size // outputs, k.size // outputs
    s, hi, end = max(0, time[lo] - first), lo, min(steps, time[last - 1] - first + taps)
    while s < end:
        while lo < last and time[lo] - first + taps <= s:
            lo += 1
        while hi < last and time[hi] - first <= s:
            hi += 1
        stop = end
        if lo < hi:
            stop = min(stop, time[lo] - first + taps)
        if hi < last:
            stop = min(stop, time[hi] - first)
        if lo < hi:
            _add(y[s * outputs : stop * outputs], k, time, value, lo, hi, s + first, outputs)
        s = stop


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _add(
    total: np.ndarray,
    k: np.ndarray,
    time: np.ndarray,
    value: np.ndarray,
    e: int,
    hi: int,
    now: int,
    outputs: int,
) -> None:
    """`total += sum of value[e] k[now - time[e]]`, in order, as one by one."""
    size = total.size
    while e + 4 <= hi:
        p0, p1 = (now - time[e]) * outputs, (now - time[e + 1]) * outputs
        p2, p3 = (now - time[e + 2]) * outputs, (now - time[e + 3]) * outputs
        k0, k1, k2, k3 = k[p0 : p0 + size], k[p1 : p1 + size], k[p2 : p2 + size], k[p3 : p3 + size]
        v0, v1, v2, v3 = value[e], value[e + 1], value[e + 2], value[e + 3]
        for o in range(size):
            total[o] = total[o] + v0 * k0[o] + v1 * k1[o] + v2 * k2[o] + v3 * k3[o]
        e += 4
    if e + 2 <= hi:
        p0, p1 = (now - time[e]) * outputs, (now - time[e + 1]) * outputs
        k0, k1 = k[p0 : p0 + size], k[p1 : p1 + size]
        v0, v1 = value[e], value[e + 1]
        for o in range(size):
            total[o] = total[o] + v0 * k0[o] + v1 * k1[o]
        e += 2
    if e < hi:
        p0, v0 = (now - time[e]) * outputs, value[e]
        k0 = k[p0 : p0 + size]
        for o in range(size):
            total[o] += v0 * k0[o]


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _gradient_of_taps(
    x: np.ndarray,  # [T, B, M]
    grad: np.ndarray,  # [S, B, N]
    gk: np.ndarray,  # [M, D, N], written
    first: int,
    entries: int,  # worked on together
    start: int,  # inputs of this call
    stop: int,
) -> None:
    steps, batch, outputs, taps, own = grad.shape[0], grad.shape[1], grad.shape[2], gk.shape[1], stop - start
    time = np.empty(entries * own * x.shape[0], np.int32)
    value = np.empty(time.size, x.dtype)
    heard = np.zeros((entries, steps + 2 * (taps - 1), outputs), grad.dtype)  # silent before and after
    gk[start:stop] = 0.0
    for b in range(0, batch, entries):
        n = min(entries, batch - b)
        begins = np.empty(n * own + 1, np.int64)
        listed(x, b, start, own, begins, time, value)
        for s in range(steps):
            for e in range(n):
                heard[e, taps - 1 + s] = grad[s, b + e]
        for j in range(own):
            for e in range(n):
                _tell(gk[start + j], heard[e], time, value, begins[j * n + e], begins[j * n + e + 1], taps - 1 - first)


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _tell(
    gk: np.ndarray, heard: np.ndarray, time: np.ndarray, value: np.ndarray, e: int, last: int, shift: int
) -> None:
    """`gk[d] += sum of value[e] heard[time[e] + shift + d]`, in order, as one by one."""
    taps, size = gk.shape
    while e + 4 <= last:
        t0, t1, t2, t3 = time[e] + shift, time[e + 1] + shift, time[e + 2] + shift, time[e + 3] + shift
        v0, v1, v2, v3 = value[e], value[e + 1], value[e + 2], value[e + 3]
        for d in range(taps):
            total, h0, h1, h2, h3 = gk[d], heard[t0 + d], heard[t1 + d], heard[t2 + d], heard[t3 + d]
            for o in range(size):
                total[o] = total[o] + v0 * h0[o] + v1 * h1[o] + v2 * h2[o] + v3 * h3[o]
        e += 4
    while e < last:
        t0, v0 = time[e] + shift, value[e]
        for d in range(taps):
            total, h0 = gk[d], heard[t0 + d]
            for o in range(size):
                total[o] += v0 * h0[o]
        e += 1
