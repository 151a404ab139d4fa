"""Packing and unpacking in Numba, on the bits of the floating-point numbers. Importing this module imports numba."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import torch
from torch import Tensor

from spikenet.kernels import buffers
from spikenet.kernels.threads import over_lanes

BLOCK = 1 << 13  # words in the smallest range of a thread
ROW = 512  # words worked on at a time: their spikes stay in the first-level cache
_BITS = {2: torch.uint16, 4: torch.uint32, 8: torch.uint64}


def pack(spikes: Tensor) -> tuple[Tensor, Tensor]:
    """See `pack.pack`."""
    flat = _bits(spikes.contiguous().view(-1))
    words = buffers.empty((-(-flat.size // 8),), torch.uint8)
    binary = np.ones(1, np.uint8)
    kernel: Any = _pack
    one = _one(spikes.dtype)
    magnitude = type(one)(np.iinfo(one.dtype).max >> 1)

    def some(start: int, stop: int) -> None:
        kernel(flat, words.numpy(), binary, one, magnitude, start, stop)

    over_lanes(some, words.numel(), BLOCK, flat.size)
    return words, torch.from_numpy(binary)


def unpack(words: Tensor, count: int, dtype: torch.dtype) -> Tensor:
    """See `pack.unpack`."""
    spikes = buffers.empty((count,), dtype)
    kernel: Any = _unpack

    def some(start: int, stop: int) -> None:
        kernel(words.numpy(), _bits(spikes), _one(dtype), start, stop)

    over_lanes(some, words.numel(), BLOCK, count)
    return spikes


def _bits(x: Tensor) -> np.ndarray:
    return x.view(_BITS[x.dtype.itemsize]).numpy()


def _one(dtype: torch.dtype) -> Any:
    """The bits of 1.0."""
    return _bits(torch.ones(1, dtype=dtype))[0]


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _pack(
    flat: np.ndarray,  # the numbers' bits, [N]
    words: np.ndarray,  # uint8 [ceil(N / 8)], written
    binary: np.ndarray,  # uint8 [1], set to 0 if a number is neither 0 nor 1
    one: int,
    magnitude: int,  # all bits but the sign
    start: int,  # words of this call
    stop: int,
) -> None:
    seen = np.zeros(8 * ROW, np.uint8)  # a row's spikes, a byte each, read eight at a time
    eights = seen.view(np.uint64)
    for first in range(start, stop, ROW):
        last = min(first + ROW, stop)
        numbers = flat[8 * first : 8 * last]
        others = 0
        for n in range(numbers.size):
            spike = numbers[n] == one
            seen[n] = spike
            others |= (not spike) & ((numbers[n] & magnitude) != 0)
        if others:
            binary[0] = 0
        for n in range(numbers.size, 8 * (last - first)):
            seen[n] = 0
        for j in range(last - first):  # the product leaves byte i's lowest bit in bit 56 + i
            words[first + j] = (eights[j] * np.uint64(0x0102040810204080)) >> np.uint64(56)


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _unpack(
    words: np.ndarray,  # uint8 [ceil(N / 8)]
    flat: np.ndarray,  # the numbers' bits, [N], written
    one: int,
    start: int,  # words of this call
    stop: int,
) -> None:
    whole = min(stop, flat.size // 8)
    for j in range(start, whole):
        for i in range(8):
            flat[8 * j + i] = one if (words[j] >> i) & 1 else 0
    for n in range(8 * whole, min(8 * stop, flat.size)):
        flat[n] = one if (words[n // 8] >> (n % 8)) & 1 else 0
