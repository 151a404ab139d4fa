"""How the Triton kernels cut a sequence: chunks of one matrix product, segments of one program."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

CHUNK = 64  # tokens of one matrix product
PROGRAMS = 256  # wanted, some two a multiprocessor: segments are as long as they leave


def power_of_two(n: int) -> int:
    """The first that is not below `n`."""
    return 1 << max(n - 1, 0).bit_length()


class Segments(NamedTuple):
    """Sizes of a call; `length` counts the chunks of a segment."""

    steps: int
    batch: int
    heads: int
    width: int
    values: int
    length: int

    @property
    def number(self) -> int:
        return -(-self.steps // (self.length * CHUNK))

    @property
    def grid(self) -> tuple[int, int]:
        return self.number, self.batch * self.heads


def segments(q: Tensor, v: Tensor) -> Segments:
    """The fewest chunks a segment that leave no more than about `PROGRAMS` programs."""
    chunks, wanted = -(-len(q) // CHUNK), max(1, PROGRAMS // (q.shape[1] * q.shape[2]))
    steps, batch, heads, width = q.shape
    return Segments(steps, batch, heads, width, v.shape[-1], power_of_two(-(-chunks // wanted)))


def blocks(width: int, values: int) -> tuple[int, int]:
    """A head's width and that of its values as the kernels pad them."""
    return max(16, power_of_two(width)), max(16, power_of_two(values))


def kept_as(dtype: torch.dtype, tokens: int) -> torch.dtype:
    """The type that holds every count of up to `tokens`: `dtype` itself if it can."""
    exact = {torch.bfloat16: 256, torch.float16: 2048}
    return dtype if tokens <= exact.get(dtype, 0) else torch.float32


def kept_shapes(q: Tensor, v: Tensor) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Of `k^T v`, and of what is kept of queries, keys and values in float32: a byte each, and 16 that say of a head
    whether these are all."""
    steps, batch, heads, tokens, width = q.shape
    room = tokens * (2 * width + v.shape[-1]) + 16 if q.dtype == torch.float32 else 0
    return (steps, batch, heads, width, v.shape[-1]), (steps, batch, heads, room)


def tiled(x: Tensor) -> Tensor:
    """`x` `[T, B, H, N, D]` if its rows are whole and steps follow each other like batch entries; else a copy."""
    return x if _is_tiled(x) else x.contiguous()


def like(x: Tensor) -> Tensor:
    """Room for what has the shape of `x`: laid out as `x` where that is dense and `tiled`."""
    made = torch.empty_like(x)
    return made if _is_tiled(made) else torch.empty_like(x, memory_format=torch.contiguous_format)


def _is_tiled(x: Tensor) -> bool:
    steps, batch, _, _, width = x.shape
    one_by_one = min(steps, batch) == 1 or x.stride(0) == batch * x.stride(1)
    return one_by_one and (x.stride(-1) == 1 or width == 1)


def row_strides(x: Tensor) -> tuple[int, int, int]:
    """Of what is `tiled`, between tokens, between batch entries, which go on from step to step, and between heads."""
    return x.stride(3), x.stride(1 if x.shape[1] > 1 else 0), x.stride(2)
