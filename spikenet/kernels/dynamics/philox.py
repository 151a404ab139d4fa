"""Random numbers from a counter: Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC11).

A draw depends on (seed; lane, step, draw) alone, so that chunks equal the whole, the backward pass can redraw,
and no generator state is shared between threads. This is the plain version on int64 tensors.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
WEYL = (0x9E3779B9, 0xBB67AE85)
ROUNDS = 10
MASK = 0xFFFFFFFF


def _multiply(a: int, b: Tensor) -> tuple[Tensor, Tensor]:
    """High and low 32 bits of a 32 x 32 bit product; int64 wraps modulo 2^64, and the mask undoes the sign."""
    product = a * b
    return (product >> 32) & MASK, product & MASK


def philox(seed: Tensor, counter: tuple[Tensor, Tensor, Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Four 32-bit words (in int64) for one 64-bit `seed` and a counter of four 32-bit words."""
    c0, c1, c2, c3 = counter
    k0, k1 = seed & MASK, (seed >> 32) & MASK
    for _ in range(ROUNDS):
        high0, low0 = _multiply(MULTIPLIERS[0], c0)
        high1, low1 = _multiply(MULTIPLIERS[1], c2)
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0
        k0, k1 = (k0 + WEYL[0]) & MASK, (k1 + WEYL[1]) & MASK
    return c0, c1, c2, c3


def draw(kind: str, seed: Tensor, step: Tensor, lanes: Tensor, index: int, dtype: torch.dtype) -> Tensor:
    """One draw a lane at one step: "uniform" on (0, 1), an odd multiple of 2^-24, or "normal" (Box-Muller)."""
    ones = torch.ones_like(lanes)
    words = philox(seed, (lanes & MASK, ones * (step & MASK), ones * ((step >> 32) & MASK), ones * index))
    u = _open_interval(words[0], dtype)
    if kind == "uniform":
        return u
    return torch.sqrt(-2.0 * torch.log(u)) * torch.cos(2.0 * math.pi * _open_interval(words[1], dtype))


def _open_interval(word: Tensor, dtype: torch.dtype) -> Tensor:
    """23 bits as an odd multiple of 2^-24: exact in float32, never 0 or 1."""
    return ((word >> 9) * 2 + 1).to(dtype) * 2.0**-24
