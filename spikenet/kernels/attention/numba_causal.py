"""Causal linear attention in Numba: step by step, with the state in the first-level cache. Importing this module
imports numba.

Whatever is 0 is passed over, so that spikes cost additions of whole rows. Sums go in ascending order of the entries.
Both passes of the backward direction keep what they carry in the layout in which its rows are added up:

    from the front   S^T; gradient of q
    from the end     the adjoint R and R^T; gradients of v and k, and of the decay
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np
import torch
from torch import Tensor

from spikenet.kernels import buffers
from spikenet.kernels.threads import over_lanes

NOTHING = np.zeros((0, 0, 1))


def forward(
    q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor | None, state: Tensor | None, scale: float
) -> tuple[Tensor, Tensor, Tensor]:
    """The output, the last state, and the first and the last together `[2, B, H, D, E]`."""
    real = torch.float64 if v.dtype == torch.float64 else torch.float32
    states = torch.zeros((2, *q.shape[1:], v.shape[-1]), dtype=real)
    if state is not None:
        states[:] = state
    out = buffers.empty(tuple(v.shape), real)
    last = states[1].flatten(0, 1).numpy()
    kernel: Any = _forward
    arrays = (*_rows(real, q, k, v), _factors(log_decay, real), last, _flat(out))
    _over_heads(q, v, lambda start, stop: kernel(*arrays, scale, start, stop))
    return out.to(v.dtype), states[1].clone(), states


def backward(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    log_decay: Tensor | None,
    states: Tensor,
    go: Tensor,
    g_last: Tensor | None,
    scale: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """The gradients of q, k, v, the log-decay (empty if there is none) and the first state."""
    real = states.dtype
    gq, gk, gv = (buffers.empty(tuple(u.shape), real) for u in (q, k, v))
    adjoint = torch.zeros_like(states[0]) if g_last is None else g_last.to(real).clone()
    g = q.new_zeros(0, dtype=real) if log_decay is None else torch.zeros_like(log_decay, dtype=real)
    gg = NOTHING.astype(states.numpy().dtype) if log_decay is None else _flat(g)
    first, last = (s.flatten(0, 1).contiguous().numpy() for s in states)
    inputs = *_rows(real, q, k, v, go), _factors(log_decay, real)
    carried = adjoint.flatten(0, 1).numpy()
    front: Any = _from_the_front
    end: Any = _from_the_end

    def both(start: int, stop: int) -> None:
        front(*inputs[1:], first, _flat(gq), scale, start, stop)
        end(*inputs, last, carried, _flat(gq), _flat(gk), _flat(gv), gg, scale, start, stop)

    _over_heads(q, v, both)
    return gq.to(q.dtype), gk.to(k.dtype), gv.to(v.dtype), g, adjoint


def _over_heads(q: Tensor, v: Tensor, kernel: Callable[[int, int], None]) -> None:
    over_lanes(kernel, q.shape[1] * q.shape[2], 1, q.numel() * v.shape[-1] // 8)


def _flat(x: Tensor) -> np.ndarray:
    """`[T, B H, ...]` of what is contiguous."""
    return x.flatten(1, 2).numpy()


def _rows(real: torch.dtype, *tensors: Tensor) -> list[np.ndarray]:
    return [u.detach().to(real).contiguous().flatten(1, 2).numpy() for u in tensors]


def _factors(log_decay: Tensor | None, real: torch.dtype) -> np.ndarray:
    """The decays `[T, B H, 1 or D]`, none of them for none."""
    if log_decay is None:
        return np.zeros((0, 0, 1), torch.empty(0, dtype=real).numpy().dtype)
    return log_decay.detach().exp().contiguous().flatten(1, 2).numpy()


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _add(total: np.ndarray, x: float, row: np.ndarray) -> None:
    for i in range(len(total)):
        total[i] += x * row[i]


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _fade_rows(state: np.ndarray, decay: np.ndarray) -> None:
    for d in range(len(state)):
        row, x = state[d], decay[d if len(decay) > 1 else 0]
        for e in range(len(row)):
            row[e] *= x


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _fade_columns(turned: np.ndarray, decay: np.ndarray) -> None:
    for e in range(len(turned)):
        row = turned[e]
        if len(decay) > 1:
            for d in range(len(row)):
                row[d] *= decay[d]
        else:
            for d in range(len(row)):
                row[d] *= decay[0]


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _forward(
    q: np.ndarray,  # [T, N, D]
    k: np.ndarray,
    v: np.ndarray,  # [T, N, E]
    decay: np.ndarray,  # [T or 0, N, 1 or D]
    states: np.ndarray,  # [N, D, E], the first, then the last
    out: np.ndarray,
    scale: float,
    start: int,
    stop: int,
) -> None:
    factor = q.dtype.type(scale)
    for n in range(start, stop):
        state = states[n]
        for t in range(len(q)):
            if len(decay):
                _fade_rows(state, decay[t, n])
            row, new, key, query = out[t, n], v[t, n], k[t, n], q[t, n]
            row[:] = 0
            for d in range(len(key)):
                if key[d] != 0:
                    _add(state[d], key[d], new)
                if query[d] != 0:
                    _add(row, query[d], state[d])
            row *= factor


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _from_the_front(
    k: np.ndarray,
    v: np.ndarray,
    go: np.ndarray,
    decay: np.ndarray,
    first: np.ndarray,
    gq: np.ndarray,
    scale: float,
    start: int,
    stop: int,
) -> None:
    factor = k.dtype.type(scale)
    for n in range(start, stop):
        turned = first[n].T.copy()  # [E, D]
        for t in range(len(k)):
            if len(decay):
                _fade_columns(turned, decay[t, n])
            row, key, value, grad = gq[t, n], k[t, n], v[t, n], go[t, n]
            row[:] = 0
            for e in range(len(value)):
                if value[e] != 0:
                    _add(turned[e], value[e], key)
                if grad[e] != 0:
                    _add(row, grad[e], turned[e])
            row *= factor


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _from_the_end(
    q: np.ndarray,
    k: np.ndarray,
    v: np.ndarray,
    go: np.ndarray,
    decay: np.ndarray,
    last: np.ndarray,
    adjoints: np.ndarray,  # of the last states, then of the first
    gq: np.ndarray,
    gk: np.ndarray,
    gv: np.ndarray,
    gg: np.ndarray,  # [T or 0, N, 1 or D]
    scale: float,
    start: int,
    stop: int,
) -> None:
    factor = q.dtype.type(scale)
    later = np.zeros(q.shape[2])  # what a log-decay scales, summed from the end
    for n in range(start, stop):
        adjoint = adjoints[n]
        turned = adjoint.T.copy()
        for d in range(len(adjoint)):
            later[d] = (adjoint[d] * last[n, d]).sum()
        for t in range(len(q) - 1, -1, -1):
            key_row, value_row, query, key, value = gk[t, n], gv[t, n], q[t, n], k[t, n], v[t, n]
            grad = factor * go[t, n]
            key_row[:] = 0
            value_row[:] = 0
            for d in range(len(key)):
                if query[d] != 0:
                    _add(adjoint[d], query[d], grad)
                if key[d] != 0:
                    _add(value_row, key[d], adjoint[d])
            for e in range(len(value)):
                _add(turned[e], grad[e], query)
                if value[e] != 0:
                    _add(key_row, value[e], turned[e])
            if len(decay):
                for d in range(len(key)):
                    later[d] += query[d] * gq[t, n, d] - key[d] * key_row[d]
                    gg[t, n, d if gg.shape[2] > 1 else 0] += later[d]
                _fade_rows(adjoint, decay[t, n])
                _fade_columns(turned, decay[t, n])
