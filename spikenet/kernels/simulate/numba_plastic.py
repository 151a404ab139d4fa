"""The end of a step of plastic projections, compiled; see `plastic`. Importing this module imports numba."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np


@numba.njit(nogil=True, error_model="numpy", inline="always")
def _bounded(room: float, mu: float) -> float:
    if mu == 1:
        return room
    return room**mu


@numba.njit(nogil=True, error_model="numpy")
def learn(
    t: int,
    stretch: int,
    shard: int,
    shards: int,
    delay: np.ndarray,
    offsets: np.ndarray,
    targets: np.ndarray,
    weights: np.ndarray,
    ids: np.ndarray,
    counts: np.ndarray,
    begins: np.ndarray,
    plastic: Any,  # `Learning.arguments`
) -> None:
    """Change the weights of one thread's synapses by what arrived and what spiked at step t."""
    (places, constants, y, y_slow, x, slow_before, slow, modulator) = plastic[:8]
    (pulse, owner, heard_begins, heard, heard_pre, heard_delay, shift, own, eligibility) = plastic[8:]
    slots, history, classes = x.shape[0], counts.shape[0], delay.size
    for n in range(places.shape[0]):
        p, c = places[n], constants[n]
        first_row, pre, pre_at, group, first_post_row, post, post_at = p[0], p[1], p[2], p[3], p[4], p[5], p[6]
        nearest, third = p[7] != 0, p[8] != 0
        decay_pre, decay_pre_slow, decay_post, decay_post_slow = c[0], c[1], c[2], c[3]
        plus, minus, triplet_plus, triplet_minus, target = c[4], c[5], c[6], c[7], c[8]
        low, high, mu_plus, mu_minus = c[9], c[10], c[11], c[12]
        decay_eligibility, decay_modulator, modulation = c[13], c[14], c[15]
        # Traces of the rows, as late as all threads know the spikes.
        u = t - stretch
        if u >= 0:
            now, before, left = x[u % slots], x[(u - 1 + slots) % slots], slow_before[u % slots]
            for i in range(pre_at, pre_at + pre):
                now[i] = before[i] * decay_pre
                left[i] = slow[i] * decay_pre_slow
                slow[i] = left[i]
            for each in range(begins.size):
                for j in range(begins[each], begins[each] + counts[u % history, each]):
                    i = np.int64(ids[u % history, j]) - first_row
                    if 0 <= i < pre:
                        now[pre_at + i] = 1 if nearest else now[pre_at + i] + 1
                        slow[pre_at + i] = 1 if nearest else slow[pre_at + i] + 1
        for q in range(own[n, 0], own[n, 1]):
            y[q] *= decay_post
            y_slow[q] *= decay_post_slow
        if third:
            for s in range(owner.size):
                if owner[s] == n + 1:
                    eligibility[s] *= decay_eligibility
        # What arrives.
        for k in range(classes):
            u = t - delay[k]
            if u < 0:
                continue
            left = slow_before[u % slots]
            for each in range(begins.size):
                for j in range(begins[each], begins[each] + counts[u % history, each]):
                    i = np.int64(ids[u % history, j]) - first_row
                    if not 0 <= i < pre:
                        continue
                    place = np.uint64(first_row + i) * np.uint64(classes) + np.uint64(k)
                    loss = minus + triplet_minus * left[pre_at + i]
                    for s in range(offsets[place], offsets[place + np.uint64(1)]):
                        if owner[s] == n + 1:
                            fall = y[np.int64(targets[s]) + shift[n]] * loss
                            if mu_minus != 0:
                                fall *= _bounded(weights[s] - low, mu_minus)
                            if third:
                                eligibility[s] -= fall
                            else:
                                weights[s] = min(max(weights[s] - fall, low), high)
        # Who spikes.
        each = group * shards + shard
        for j in range(begins[each], begins[each] + counts[t % history, each]):
            q = np.int64(ids[t % history, j]) - first_post_row
            if not 0 <= q < post:
                continue
            q += post_at
            gain = plus + triplet_plus * y_slow[q]
            for h in range(heard_begins[q], heard_begins[q + 1]):
                s = heard[h]
                rise = gain * (x[(t - heard_delay[h]) % slots, heard_pre[h]] - target)
                if mu_plus != 0:
                    rise *= _bounded(high - weights[s], mu_plus)
                if third:
                    eligibility[s] += rise
                else:
                    weights[s] = min(max(weights[s] + rise, low), high)
        for j in range(begins[each], begins[each] + counts[t % history, each]):
            q = np.int64(ids[t % history, j]) - first_post_row
            if 0 <= q < post:
                q += post_at
                y[q] = 1 if nearest else y[q] + 1
                y_slow[q] = 1 if nearest else y_slow[q] + 1
        if third:
            modulator[n] = modulator[n] * decay_modulator + pulse[n]
            pulse[n] = 0
            amount = modulator[n] * modulation
            if amount != 0:
                for s in range(owner.size):
                    if owner[s] == n + 1:
                        weights[s] = min(max(weights[s] + amount * eligibility[s], low), high)
