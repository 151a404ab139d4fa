"""The maximum over 3x3 pixels at a stride of 2, channels last, in Triton. Importing this module imports triton.

`chosen` holds for each output which of its nine pixels was the largest, 0 to 8. A pixel lies in up to four windows, so
that its gradient is a sum of four at most, without atomics.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from spikenet.kernels.launch import Launch, Plans, on_its_device

PIXELS, CHANNELS = 32, 64  # of a tile
_launches: Plans[Launch] = Plans()


def forward(x: Tensor) -> tuple[Tensor, Tensor]:
    """The maxima, and which pixels they were, uint8."""
    x = x.contiguous()
    number, height, width, channels = x.shape
    sides = -(-height // 2), -(-width // 2)
    y = x.new_empty((number, *sides, channels))
    chosen = x.new_empty(y.shape, dtype=torch.uint8)
    _run(_forward, (x, y, chosen), number * sides[0] * sides[1], height, width, channels)
    return y, chosen


def backward(gy: Tensor, chosen: Tensor, height: int, width: int) -> Tensor:
    """The gradient of x."""
    number, channels = len(gy), gy.shape[-1]
    gx = gy.new_empty((number, height, width, channels))
    _run(_backward, (gy.contiguous(), chosen, gx), number * height * width, height, width, channels)
    return gx


def _run(
    kernel: object, tensors: tuple[Tensor, Tensor, Tensor], pixels: int, height: int, width: int, channels: int
) -> None:
    grid, numbers = (-(-pixels // PIXELS), -(-channels // CHANNELS)), (pixels, height, width, channels)
    key = id(kernel), tensors[0].dtype, tensors[0].device, numbers
    launch = _launches.at(key, lambda: Launch(kernel, grid, numbers, (PIXELS, CHANNELS), num_warps=4))
    on_its_device(launch, tensors[0], *tensors)


@triton.jit
def _forward(x, y, chosen, pixels, H, W, C, M: tl.constexpr, N: tl.constexpr):  # type: ignore[no-untyped-def]
    pixel = tl.program_id(0) * M + tl.arange(0, M)
    channel = tl.program_id(1) * N + tl.arange(0, N)
    inside = (pixel < pixels)[:, None] & (channel < C)[None, :]
    wide, high = (W + 1) // 2, (H + 1) // 2
    column, row, entry = pixel % wide, pixel // wide % high, pixel // (wide * high)
    best = tl.full([M, N], float("-inf"), tl.float32)
    which = tl.full([M, N], 255, tl.int32)
    for tap in tl.static_range(9):
        i, j = 2 * row - 1 + tap // 3, 2 * column - 1 + tap % 3
        there = inside & ((i >= 0) & (i < H) & (j >= 0) & (j < W))[:, None]
        place = ((entry * H + i) * W + j)[:, None] * C + channel[None, :]
        value = tl.load(x + place, mask=there, other=float("-inf")).to(tl.float32)
        larger = there & ((value > best) | (value != value) | (which == 255))
        best, which = tl.where(larger, value, best), tl.where(larger, tap, which)
    place = pixel[:, None] * C + channel[None, :]
    tl.store(y + place, best, mask=inside)
    tl.store(chosen + place, which.to(tl.uint8), mask=inside)


@triton.jit
def _backward(gy, chosen, gx, pixels, H, W, C, M: tl.constexpr, N: tl.constexpr):  # type: ignore[no-untyped-def]
    pixel = tl.program_id(0) * M + tl.arange(0, M)
    channel = tl.program_id(1) * N + tl.arange(0, N)
    inside = (pixel < pixels)[:, None] & (channel < C)[None, :]
    column, row, entry = pixel % W, pixel // W % H, pixel // (W * H)
    wide, high = (W + 1) // 2, (H + 1) // 2
    total = tl.zeros([M, N], tl.float32)
    for window in tl.static_range(4):  # below and above, left and right; of an even row or column both are one
        i, j = (row + window // 2) // 2, (column + window % 2) // 2
        there = (i < high) & (j < wide)
        there = there & ((row % 2 == 1) | (window // 2 == 0)) & ((column % 2 == 1) | (window % 2 == 0))
        tap = (row - 2 * i + 1) * 3 + column - 2 * j + 1
        place = ((entry * high + i) * wide + j)[:, None] * C + channel[None, :]
        here = inside & there[:, None]
        mine = here & (tl.load(chosen + place, mask=here, other=255).to(tl.int32) == tap[:, None])
        total += tl.load(gy + place, mask=mine, other=0.0).to(tl.float32)
    tl.store(gx + pixel[:, None] * C + channel[None, :], total, mask=inside)
