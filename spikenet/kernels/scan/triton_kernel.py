"""The linear recurrence in Triton: a parallel scan within a tile of time steps, tiles in sequence.

Importing this module imports triton.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

STEPS, LANES = 32, 32  # of a tile


def run(x: Tensor, a: Tensor, h0: Tensor, reverse: bool) -> Tensor:
    """See `ops.linear_scan`. `x` may be strided."""
    steps, lanes = x.shape
    h = torch.empty((steps, lanes), dtype=torch.float32, device=x.device)
    grid = (triton.cdiv(lanes, LANES),)
    a, h0 = a.contiguous(), h0.contiguous()
    _scan[grid](x, a, h0, h, steps, lanes, x.stride(0), x.stride(1), reverse, STEPS, LANES, num_warps=2)
    return h


@triton.jit
def _then(a1, b1, a2, b2):  # type: ignore[no-untyped-def]
    """`h -> a1 h + b1`, then `h -> a2 h + b2`."""
    return a1 * a2, a2 * b1 + b2


@triton.jit
def _scan(  # type: ignore[no-untyped-def]
    x,
    a,
    h0,
    h,
    steps,
    lanes,
    stride_t,
    stride_n,
    REVERSE: tl.constexpr,
    STEPS: tl.constexpr,
    LANES: tl.constexpr,
):
    lane = tl.program_id(0) * LANES + tl.arange(0, LANES)
    inside = lane < lanes
    factor = tl.load(a + lane, mask=inside, other=0.0)
    carried = tl.load(h0 + lane, mask=inside, other=0.0)
    k = tl.arange(0, STEPS)
    factors = tl.broadcast_to(factor[None, :], (STEPS, LANES))
    for first in range(0, steps, STEPS):
        step = first + k
        here = (step < steps)[:, None] & inside[None, :]
        t = (steps - 1 - step if REVERSE else step).to(tl.int64)
        column = lane[None, :].to(tl.int64)
        row = tl.load(x + t[:, None] * stride_t + column * stride_n, mask=here, other=0.0).to(tl.float32)
        power, inner = tl.associative_scan((factors, row), 0, _then)
        value = power * carried[None, :] + inner
        tl.store(h + t[:, None] * lanes + column, value, mask=here)
        carried = tl.sum(tl.where((k == STEPS - 1)[:, None], value, 0.0), axis=0)
