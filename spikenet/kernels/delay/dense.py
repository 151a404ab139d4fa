"""Products of a sequence with delayed taps, one matrix product a tap: the reference, and the way for dense input.

y[s] = sum_d x[s + first - d] K[d]^T        x is 0 before its first step and after its last
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor


def forward(x: Tensor, k: Tensor, first: int, steps: int) -> Tensor:
    """y `[steps, B, N]` for x `[T, B, M]` and K `[N, M, D]`."""
    y = x.new_zeros(steps, x.shape[1], len(k))
    for d, now, then in _overlaps(k.shape[2], first, len(x), steps):
        y[now].flatten(0, 1).addmm_(x[then].flatten(0, 1), k[:, :, d].t())
    return y


def gradient_of_input(grad: Tensor, k: Tensor, first: int, steps: int) -> Tensor:
    """The gradient of x `[steps, B, M]` from that of y."""
    gx = grad.new_zeros(steps, grad.shape[1], k.shape[1])
    for d, now, then in _overlaps(k.shape[2], first, steps, len(grad)):
        gx[then].flatten(0, 1).addmm_(grad[now].flatten(0, 1), k[:, :, d])
    return gx


def gradient_of_taps(x: Tensor, grad: Tensor, first: int, taps: int) -> Tensor:
    """The gradient of K `[N, M, taps]` from that of y."""
    gk = grad.new_zeros(taps, grad.shape[2], x.shape[2])
    for d, now, then in _overlaps(taps, first, len(x), len(grad)):
        torch.mm(grad[now].flatten(0, 1).t(), x[then].flatten(0, 1), out=gk[d])
    return gk.permute(1, 2, 0).contiguous()


def _overlaps(taps: int, first: int, steps_in: int, steps_out: int) -> Iterator[tuple[int, slice, slice]]:
    """Each tap, with the output steps that it reaches and the input steps that they come from."""
    for d in range(taps):
        start, stop = max(0, d - first), min(steps_out, steps_in + d - first)
        if start < stop:
            yield d, slice(start, stop), slice(start + first - d, stop + first - d)
