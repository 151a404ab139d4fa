"""Packing and unpacking in Triton. Importing this module imports triton."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

WORDS = 512  # of a program


def pack(spikes: Tensor) -> tuple[Tensor, Tensor]:
    """See `pack.pack`."""
    count = spikes.numel()
    words = torch.empty(triton.cdiv(count, 8), dtype=torch.uint8, device=spikes.device)
    binary = torch.ones(1, dtype=torch.int32, device=spikes.device)
    _pack[(triton.cdiv(words.numel(), WORDS),)](spikes.contiguous(), words, binary, count, WORDS)
    return words, binary


def unpack(words: Tensor, count: int, dtype: torch.dtype) -> Tensor:
    """See `pack.unpack`."""
    spikes = torch.empty(count, dtype=dtype, device=words.device)
    _unpack[(triton.cdiv(words.numel(), WORDS),)](words, spikes, count, WORDS)
    return spikes


@triton.jit
def _pack(spikes, words, binary, count, WORDS: tl.constexpr):  # type: ignore[no-untyped-def]
    word = tl.program_id(0).to(tl.int64) * WORDS + tl.arange(0, WORDS)
    bit = tl.arange(0, 8)
    entry = word[:, None] * 8 + bit[None, :]
    value = tl.load(spikes + entry, mask=entry < count, other=0.0)
    spike = value == 1.0
    kept = tl.sum(spike.to(tl.int32) << bit[None, :], axis=1)
    tl.store(words + word, kept.to(tl.uint8), mask=word * 8 < count)
    other = tl.sum((~(spike | (value == 0.0))).to(tl.int32))
    tl.store(binary, 0, mask=other > 0)


@triton.jit
def _unpack(words, spikes, count, WORDS: tl.constexpr):  # type: ignore[no-untyped-def]
    word = tl.program_id(0).to(tl.int64) * WORDS + tl.arange(0, WORDS)
    bit = tl.arange(0, 8)
    entry = word[:, None] * 8 + bit[None, :]
    kept = tl.load(words + word, mask=word * 8 < count, other=0).to(tl.int32)
    spike = (kept[:, None] >> bit[None, :]) & 1
    tl.store(spikes + entry, spike.to(tl.float32).to(spikes.dtype.element_ty), mask=entry < count)
