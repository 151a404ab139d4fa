"""How the Triton kernels cut a sequence: chunks of one matrix product, segments of one program."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

CHUNK = 64  # tokens of one matrix product
PROGRAMS = 1024  # wanted: segments are as long as they leave


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
    def count(self) -> int:
        return -(-self.steps // (self.length * CHUNK))

    @property
    def grid(self) -> tuple[int, int]:
        return self.count, self.batch * self.heads


def segments(q: Tensor, v: Tensor) -> Segments:
    """The fewest chunks a segment that leave no more than about `PROGRAMS` programs."""
    chunks, wanted = -(-len(q) // CHUNK), max(1, PROGRAMS // (q.shape[1] * q.shape[2]))
    return Segments(*q.shape, v.shape[-1], power_of_two(-(-chunks // wanted)))


def blocks(width: int, values: int) -> dict[str, int]:
    """A head's width and that of its values as the kernels pad them."""
    return {"DP": max(16, power_of_two(width)), "EP": max(16, power_of_two(values))}
