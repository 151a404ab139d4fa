"""Event by event on the CPU, in float64: the forward pass from a queue of events, the adjoint from spike to spike."""

from __future__ import annotations

import heapq
import math
from typing import Any

import numba
import numpy as np
import torch
from torch import Tensor

from spikenet.kernels.threads import over_lanes

ROOM = 8  # spikes a neuron, to begin with
STEPS = 80  # of the root search: enough where every one of them halves the bracket
EXACT = 4e-16  # where it ends, as a part of the time
SPIKE = -1  # the source of a neuron's own spike in the queue, where it comes before the arrivals of its time


def forward(
    times: Tensor, weight: Tensor, delay: Tensor, tau: tuple[float, float], threshold: float, t_end: float, most: int
) -> tuple[Tensor, Tensor]:
    """Spikes and currents `[B, N, S]`; `S > most` says that a neuron spikes more often, and they are not whole."""
    room = min(ROOM, most)
    while True:
        spikes, currents, count = _simulated(times, weight, delay, (*tau, threshold, t_end), room)
        needed = int(count.max(initial=0))
        if needed <= room or room == most:
            width = max(needed, 1)  # of neurons that never spike, too, there is a first spike: at infinity
            return torch.from_numpy(spikes[..., :width].copy()), torch.from_numpy(currents[..., :width].copy())
        room = min(2 * room, most)


def _simulated(times: Tensor, weight: Tensor, delay: Tensor, numbers: tuple[float, ...], room: int) -> list[np.ndarray]:
    batch, neurons = len(times), len(weight)
    together = neurons if weight.shape[1] > times.shape[1] else 1  # neurons that hear each other
    shape = batch, neurons, room + 1  # one more than is kept shows that there is one more
    found = [np.full(shape, np.inf), np.zeros(shape), np.zeros((batch, neurons), np.int64)]
    kernel: Any = _forward
    inputs = [_array(a) for a in (times, weight, delay)]

    def some(start: int, stop: int) -> None:
        kernel(*inputs, *numbers, together, *found, start, stop)

    over_lanes(some, batch * neurons // together if neurons else 0, 1, times.numel() * neurons)
    return found


def gradients(
    times: Tensor,
    weight: Tensor,
    delay: Tensor,
    spikes: Tensor,
    currents: Tensor,
    grad: Tensor,
    tau: tuple[float, float],
    threshold: float,
    grazing: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of times, weight and delay from that of the spikes."""
    lam_v, lam_i = np.zeros(spikes.shape), np.zeros(spikes.shape)
    found = [np.zeros(a.shape) for a in (times, weight, delay)]
    t, w, d, z, i, g = (_array(a) for a in (times, weight, delay, spikes, currents, grad))
    at_spikes: Any = _adjoint_at_spikes
    of_synapses: Any = _of_synapses
    of_times: Any = _of_times
    size = times.numel() * len(weight)
    over_lanes(
        lambda a, b: at_spikes(t.shape[1], w, d, z, i, g, *tau, threshold, grazing, lam_v, lam_i, a, b), len(z), 1, size
    )
    over_lanes(lambda a, b: of_synapses(t, w, d, z, *tau, lam_v, lam_i, *found[1:], a, b), len(w), 1, size)
    over_lanes(lambda a, b: of_times(t, w, d, z, *tau, lam_v, lam_i, found[0], a, b), len(z), 1, size)
    return torch.from_numpy(found[0]), torch.from_numpy(found[1]), torch.from_numpy(found[2])


def _array(a: Tensor) -> np.ndarray:
    return a.detach().double().contiguous().numpy()


@numba.njit(nogil=True, cache=True, error_model="numpy", inline="always")
def _rise(s: float, tau_mem: float, tau_syn: float) -> float:
    """V after s from V = 0 and I = 1: ts/(tm - ts) (exp(-s/tm) - exp(-s/ts)), for tm = ts too."""
    slow = max(tau_mem, tau_syn)
    x = s * (min(tau_mem, tau_syn) - slow) / (tau_mem * tau_syn)  # 0 or less
    return math.exp(-s / slow) * s / tau_mem * (math.expm1(x) / x if x != 0.0 else 1.0)


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _until_spike(v: float, i: float, tau_mem: float, tau_syn: float, threshold: float) -> float:
    """How long from V = v < threshold and I = i to the threshold; infinity if it is never crossed.

    V rises while I > V, to its one maximum, where I = V. So the crossing, if there is one, lies before the maximum, and
    a Newton step that leaves the bracket is replaced by its middle.
    """
    if not i > threshold:
        return np.inf
    below = i * tau_syn + v * (tau_mem - tau_syn)
    if not below > 0.0:
        return np.inf  # V rises for ever, to 0
    y = (tau_mem - tau_syn) * (i - v) / below
    high = tau_mem * tau_syn * (i - v) / below * (math.log1p(y) / y if y != 0.0 else 1.0)
    if not i * math.exp(-high / tau_syn) > threshold:
        return np.inf
    low, s = 0.0, 0.5 * high
    for _ in range(STEPS):
        volt = v * math.exp(-s / tau_mem) + i * _rise(s, tau_mem, tau_syn)
        if volt < threshold:
            low = s
        else:
            high = s
        step = (volt - threshold) * tau_mem / (i * math.exp(-s / tau_syn) - volt)
        if abs(step) <= EXACT * s or high - low <= EXACT * high:
            break
        s -= step
        if not low < s < high:
            s = 0.5 * (low + high)
    return s


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _forward(
    times: np.ndarray,  # [B, M, K], each row ascending, filled up with infinity
    weight: np.ndarray,  # [N, M] or, where the neurons hear each other, [N, M + N]
    delay: np.ndarray,  # of the same shape
    tau_mem: float,
    tau_syn: float,
    threshold: float,
    t_end: float,
    together: int,  # neurons of a lane
    spikes: np.ndarray,  # [B, N, S + 1] of infinity, written
    currents: np.ndarray,  # [B, N, S + 1], written: I just before each spike
    count: np.ndarray,  # [B, N] of 0, written: spikes, at most S + 1, where the lane ends
    start: int,  # lanes of this call
    stop: int,
) -> None:
    inputs, sources, neurons, room = times.shape[1], weight.shape[1], len(weight), spikes.shape[2]
    volt, current, now = np.zeros(neurons), np.zeros(neurons), np.zeros(neurons)
    version = np.zeros(neurons, np.int64)
    length = times.shape[2]
    size = inputs * length
    due, order, heard = np.empty((together, size)), np.empty((together, size), np.int64), np.zeros(together, np.int64)
    for lane in range(start, stop):
        b, first = divmod(lane * together, neurons)
        queue = [(np.inf, SPIKE, 0, 0)]  # time, source, neuron, version; typed by its one entry
        for n in range(first, first + together):
            volt[n], current[n], version[n] = 0.0, 0.0, 0
            arrivals = (times[b] + delay[n, :inputs].copy().reshape(inputs, 1)).reshape(-1)
            order[n - first] = np.argsort(arrivals)
            due[n - first] = arrivals[order[n - first]]
            heard[n - first] = 0
            if size > 0:
                queue.append((due[n - first, 0], order[n - first, 0] // length, n, 0))
        heapq.heapify(queue)
        while True:
            t, source, n, told = heapq.heappop(queue)
            if not t <= t_end or t == np.inf:
                break
            if source == SPIKE and told != version[n]:
                continue  # foretold before something else arrived
            if version[n] > 0:
                s = t - now[n]
                volt[n] = volt[n] * math.exp(-s / tau_mem) + current[n] * _rise(s, tau_mem, tau_syn)
                current[n] *= math.exp(-s / tau_syn)
            now[n] = t
            version[n] += 1
            if source == SPIKE:
                k = count[b, n]
                spikes[b, n, k], currents[b, n, k], volt[n] = t, current[n], 0.0
                count[b, n] += 1
                if count[b, n] == room:
                    break
                for j in range(neurons if sources > inputs else 0):
                    heapq.heappush(queue, (t + delay[j, inputs + n], inputs + n, j, 0))
            else:
                current[n] += weight[n, source]
                if source < inputs:  # only the next of its inputs waits in the queue
                    heard[n - first] += 1
                    k = heard[n - first]
                    if k < size:
                        heapq.heappush(queue, (due[n - first, k], order[n - first, k] // length, n, 0))
            s = _until_spike(volt[n], current[n], tau_mem, tau_syn, threshold)
            if s < np.inf:
                heapq.heappush(queue, (t + s, SPIKE, n, version[n]))


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _adjoint(
    t: float, spikes: np.ndarray, lam_v: np.ndarray, lam_i: np.ndarray, tau_mem: float, tau_syn: float
) -> tuple[float, float]:
    """lV and lI of a neuron at t, from those before its next spike `[S]`: tm lV' = -lV, ts lI' = lV - lI, backwards."""
    k = np.searchsorted(spikes, t, side="right")
    if k == len(spikes) or spikes[k] == np.inf:
        return 0.0, 0.0
    s = spikes[k] - t
    rise = _rise(s, tau_mem, tau_syn) * tau_mem / tau_syn
    return lam_v[k] * math.exp(-s / tau_mem), lam_i[k] * math.exp(-s / tau_syn) + lam_v[k] * rise


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _adjoint_at_spikes(
    inputs: int,  # M
    weight: np.ndarray,  # [N, M] or [N, M + N]
    delay: np.ndarray,  # of the same shape
    spikes: np.ndarray,  # [B, N, S]
    currents: np.ndarray,  # [B, N, S]
    grad: np.ndarray,  # [B, N, S]
    tau_mem: float,
    tau_syn: float,
    threshold: float,
    grazing: float,
    lam_v: np.ndarray,  # [B, N, S], written: the adjoint just before each spike
    lam_i: np.ndarray,
    start: int,  # batch entries of this call
    stop: int,
) -> None:
    _, neurons, room = spikes.shape
    for b in range(start, stop):
        order = np.argsort(spikes[b].copy().reshape(-1))[::-1]
        for flat in order:
            n, k = divmod(flat, room)
            t = spikes[b, n, k]
            if t == np.inf:
                continue
            v, i = _adjoint(t, spikes[b, n], lam_v[b, n], lam_i[b, n], tau_mem, tau_syn)
            due = grad[b, n, k]
            for j in range(neurons if weight.shape[1] > inputs else 0):
                at = t + delay[j, inputs + n]
                to_v, to_i = _adjoint(at, spikes[b, j], lam_v[b, j], lam_i[b, j], tau_mem, tau_syn)
                due += weight[j, inputs + n] * (to_v - to_i)
            slope = max(currents[b, n, k] - threshold, grazing * threshold)
            lam_v[b, n, k] = v + (threshold * v + due) / slope
            lam_i[b, n, k] = i


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _of_synapses(
    times: np.ndarray,  # [B, M, K]
    weight: np.ndarray,  # [N, M] or [N, M + N]
    delay: np.ndarray,  # of the same shape
    spikes: np.ndarray,  # [B, N, S]
    tau_mem: float,
    tau_syn: float,
    lam_v: np.ndarray,  # [B, N, S]
    lam_i: np.ndarray,
    gw: np.ndarray,  # of the weight's shape, written
    gd: np.ndarray,
    start: int,  # neurons of this call
    stop: int,
) -> None:
    inputs = times.shape[1]
    for n in range(start, stop):
        for m in range(weight.shape[1]):
            for b in range(len(times)):
                heard = times[b, m] if m < inputs else spikes[b, m - inputs]
                for t in heard:
                    if t == np.inf:
                        break
                    v, i = _adjoint(t + delay[n, m], spikes[b, n], lam_v[b, n], lam_i[b, n], tau_mem, tau_syn)
                    gw[n, m] -= tau_syn * i
                    gd[n, m] += weight[n, m] * (v - i)


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _of_times(
    times: np.ndarray,  # [B, M, K]
    weight: np.ndarray,  # [N, M] or [N, M + N]
    delay: np.ndarray,  # of the same shape
    spikes: np.ndarray,  # [B, N, S]
    tau_mem: float,
    tau_syn: float,
    lam_v: np.ndarray,  # [B, N, S]
    lam_i: np.ndarray,
    gt: np.ndarray,  # [B, M, K], written
    start: int,  # batch entries of this call
    stop: int,
) -> None:
    for b in range(start, stop):
        for m in range(times.shape[1]):
            for k in range(times.shape[2]):
                t = times[b, m, k]
                if t == np.inf:
                    break
                for n in range(len(weight)):
                    v, i = _adjoint(t + delay[n, m], spikes[b, n], lam_v[b, n], lam_i[b, n], tau_mem, tau_syn)
                    gt[b, m, k] += weight[n, m] * (v - i)
