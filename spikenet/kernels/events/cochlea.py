"""The loops of the cochlea over time, on plain arrays. Importing this module imports numba."""

from __future__ import annotations

import math

import numba
import numpy as np


@numba.njit(cache=True)
def hair_cells(
    velocity: np.ndarray,  # float32 [T, C]: of the membrane; receives each sample's spike probability
    state: np.ndarray,  # float64 [3, C]: transmitter in the pool, the cleft and the store; advanced
    constants: tuple[float, float, float, float, float, float, float, float, float],
    dt: float,  # seconds
) -> None:
    """Euler steps of Meddis's hair cell, all channels at once; the equations are in ``events/cochlea.py``."""
    a, b, g, y, l, r, x, h, m = constants  # noqa: E741 - the names of the equations
    steps, channels = velocity.shape
    for t in range(steps):
        for c in range(channels):
            drive = max(velocity[t, c] + a, 0.0)
            pool, cleft, store = state[0, c], state[1, c], state[2, c]
            ejected = dt * g * drive / (drive + b) * pool
            reprocessed = dt * x * store
            state[0, c] = max(pool + dt * y * max(m - pool, 0.0) - ejected + reprocessed, 0.0)
            state[1, c] = max(cleft + ejected - dt * (l + r) * cleft, 0.0)
            state[2, c] = max(store + dt * r * cleft - reprocessed, 0.0)
            velocity[t, c] = h * dt * state[1, c]


@numba.njit(cache=True)
def nerve(probability: np.ndarray, uniform: np.ndarray, fibres: int, dead: int) -> np.ndarray:
    """Spikes of equal fibres in each sample, uint8 ``[T]``.

    Each fibre that has not fired in the ``dead - 1`` samples before fires with the sample's probability. Fibres are
    independent and alike, so the number that fires is binomial over those that are ready: one uniform number a sample,
    put through the inverse of that distribution, gives the same law as one draw a fibre.
    """
    counts = np.zeros(len(probability), np.uint8)
    ready = fibres
    for t in range(len(probability)):
        if t >= dead:
            ready += counts[t - dead]
        p = min(probability[t], 1.0)
        if uniform[t] < ready * p:  # the chance of a spike at all is below this
            counts[t] = _binomial(uniform[t], ready, p)
            ready -= counts[t]
    return counts


@numba.njit(cache=True)
def _binomial(u: float, n: int, p: float) -> int:
    """The largest k with ``u < P(X >= k)``, X binomial over n trials."""
    if p >= 1.0:
        return n
    mass = math.exp(n * math.log1p(-p))
    above = -math.expm1(n * math.log1p(-p))  # P(X >= k + 1)
    k = 0
    while u < above and k < n:
        mass *= (n - k) / (k + 1) * p / (1.0 - p)
        above -= mass
        k += 1
    return k


@numba.njit(cache=True)
def bushy_cell(
    counts: np.ndarray,  # uint8 [T]: input spikes
    decay: float,  # of the membrane in one sample
    decay_syn: float,  # of the synaptic current in one sample
    weight: float,  # what a current of 1 adds to the membrane in one sample
    dead: int,  # samples from a spike to the first that may spike again
) -> np.ndarray:
    """Samples in which a leaky integrate-and-fire neuron with threshold 1 spikes, int64 ``[E]``."""
    spikes = np.empty(len(counts) // max(dead, 1) + 1, np.int64)
    found, current, v, free = 0, 0.0, 0.0, 0
    for t in range(len(counts)):
        current = current * decay_syn + counts[t]
        if t < free:
            continue
        v = v * decay + weight * current
        if v >= 1.0:
            spikes[found], v, free = t, 0.0, t + dead
            found += 1
    return spikes[:found]
