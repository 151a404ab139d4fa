"""Event-driven linear products in Triton. Importing this module imports triton.

A program computes a row's outputs, or the weights of one input from the events of that input, sorted once a call; no
sum is left to chance, so that results are the same in every run.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from spikenet.kernels.synapse.event_linear import rows_of

OUTPUTS = 1024  # of a program at most, forward
COLUMNS = 128  # outputs of a program at most, for the weights
EVENTS = 16  # of a program at a time, for the weights
SEGMENT = 2048  # events of an input, on average, from which they are shared among programs
MOST = 1 << 10  # programs that share the events of one input


def forward(indptr: Tensor, indices: Tensor, values: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """See `event_linear`."""
    rows, outputs = len(indptr) - 1, len(weight)
    y = weight.new_empty(rows, outputs)
    columns, start_from = weight.t().contiguous(), weight if bias is None else bias.contiguous()
    block = min(OUTPUTS, triton.next_power_of_2(outputs))
    grid = (rows, triton.cdiv(outputs, block))
    arrays = indptr, indices.contiguous(), values.contiguous(), columns, start_from
    _forward[grid](*arrays, y, outputs, bias is not None, block, num_warps=_warps(block))
    return y


def gradients(
    indptr: Tensor, indices: Tensor, values: Tensor, grad: Tensor, features: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    """See `event_linear`: the gradients of weight and bias."""
    outputs, inputs = features
    begins, order = by_group(indices, inputs)
    row = rows_of(indptr, len(indices))[order]
    segments = min(max(1, len(indices) // (inputs * SEGMENT)), MOST)
    sums = torch.empty(segments, inputs, outputs, dtype=torch.float32, device=grad.device)
    block = min(COLUMNS, triton.next_power_of_2(outputs))
    grid = (inputs, triton.cdiv(outputs, block), segments)
    _gradients[grid](begins, row, values[order], grad.contiguous(), sums, inputs, outputs, segments, block, EVENTS)
    gw = (sums[0] if segments == 1 else sums.sum(0)).t().contiguous()
    return gw.to(grad.dtype), grad.sum(0, dtype=torch.float32).to(grad.dtype)


def of_values(indptr: Tensor, indices: Tensor, values: Tensor, weight: Tensor, grad: Tensor) -> Tensor:
    """See `event_linear`: the gradient of the values."""
    gv = torch.empty_like(values, memory_format=torch.contiguous_format)
    if len(indices):
        block = min(OUTPUTS, triton.next_power_of_2(len(weight)))
        row, columns = rows_of(indptr, len(indices)), weight.t().contiguous()
        arrays = row, indices.contiguous(), columns, grad.contiguous()
        _of_values[(len(indices),)](*arrays, gv, len(weight), block, num_warps=_warps(block))
    return gv


def by_group(group: Tensor, groups: int) -> tuple[Tensor, Tensor]:
    """Where each group's events begin once they are sorted by group, `[groups + 1]`, and their order (stable)."""
    ascending, order = group.sort(stable=True)
    return torch.searchsorted(ascending, torch.arange(groups + 1, device=group.device, dtype=group.dtype)), order


def _warps(block: int) -> int:
    return max(1, min(4, block // 128))


@triton.jit
def _forward(  # type: ignore[no-untyped-def]
    indptr, indices, values, columns, bias, y, outputs, BIAS: tl.constexpr, BLOCK: tl.constexpr
):
    r = tl.program_id(0).to(tl.int64)
    o = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    here = o < outputs
    total = tl.zeros((BLOCK,), tl.float32)
    if BIAS:
        total += tl.load(bias + o, mask=here, other=0.0).to(tl.float32)
    first, last = tl.load(indptr + r), tl.load(indptr + r + 1)
    for e in range(first, last):
        i = tl.load(indices + e).to(tl.int64)
        column = tl.load(columns + i * outputs + o, mask=here, other=0.0).to(tl.float32)
        total += tl.load(values + e) * column
    tl.store(y + r * outputs + o, total.to(y.dtype.element_ty), mask=here)


@triton.jit
def _gradients(  # type: ignore[no-untyped-def]
    begins, row, values, gy, sums, inputs, outputs, segments, BLOCK: tl.constexpr, EVENTS: tl.constexpr
):
    i, s = tl.program_id(0).to(tl.int64), tl.program_id(2).to(tl.int64)
    o = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    here = o < outputs
    begin, end = tl.load(begins + i), tl.load(begins + i + 1)
    share = (end - begin + segments - 1) // segments
    first = begin + s * share
    last = tl.minimum(first + share, end)
    total = tl.zeros((EVENTS, BLOCK), tl.float32)
    for k in range(first, last, EVENTS):
        e = k + tl.arange(0, EVENTS)
        r = tl.load(row + e, mask=e < last, other=0).to(tl.int64)
        v = tl.load(values + e, mask=e < last, other=0.0)
        g = tl.load(gy + r[:, None] * outputs + o[None, :], mask=(e < last)[:, None] & here[None, :], other=0.0)
        total += v[:, None] * g.to(tl.float32)
    tl.store(sums + (s * inputs + i) * outputs + o, tl.sum(total, axis=0), mask=here)


@triton.jit
def _of_values(row, indices, columns, gy, gv, outputs, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    e = tl.program_id(0).to(tl.int64)
    r, i = tl.load(row + e).to(tl.int64), tl.load(indices + e).to(tl.int64)
    total = tl.zeros((BLOCK,), tl.float32)
    for first in range(0, outputs, BLOCK):
        o = first + tl.arange(0, BLOCK)
        g = tl.load(gy + r * outputs + o, mask=o < outputs, other=0.0).to(tl.float32)
        total += g * tl.load(columns + i * outputs + o, mask=o < outputs, other=0.0).to(tl.float32)
    tl.store(gv + e, tl.sum(total, axis=0))
