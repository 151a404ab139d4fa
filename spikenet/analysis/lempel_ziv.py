"""Lempel-Ziv complexity: how many phrases a spike train is made of, and the entropy rate that follows from it."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable

import torch
from torch import Tensor

from spikenet.errors import ArgumentError, ShapeError

__all__ = ["lempel_ziv", "lempel_ziv_rate"]


def lempel_ziv(sequence: Iterable[Hashable]) -> int:
    """Phrases of the exhaustive parsing: each is the shortest one that did not occur before its own last symbol.

    `0001101001000101` is `0|001|10|100|1000|101`, of complexity 6. An unfinished last phrase counts.

    Args:
        sequence: symbols of at most 256 kinds: a string, bytes, numbers.

    Raises:
        ArgumentError: for more kinds of symbols.

    Source: Lempel and Ziv, "On the complexity of finite sequences", IEEE Transactions on Information Theory 22, 1976.
    """
    code: dict[Hashable, int] = {}
    symbols = [code.setdefault(symbol, len(code)) for symbol in sequence]
    if len(code) > 256:
        raise ArgumentError(f"lempel_ziv tells 256 symbols apart, got {len(code)}; count them in fewer levels")
    return _phrases(bytes(symbols))


def lempel_ziv_rate(spikes: Tensor) -> Tensor:
    """Entropy rate of each train by its complexity, `c log2(T) / T` bits a step: for long ergodic trains the entropy.

    Args:
        spikes: `[T, ...]` with at least two steps, anything but 0 is a spike.

    Returns:
        float64 `[...]`.

    Raises:
        ShapeError: for less than two steps.

    Source: Lempel and Ziv 1976; Ziv, IEEE Transactions on Information Theory 24, 1978.
    """
    if spikes.ndim < 1 or len(spikes) < 2:
        raise ShapeError(f"lempel_ziv_rate needs spikes [T, ...] of two steps or more, got {tuple(spikes.shape)}")
    steps, shape = len(spikes), spikes.shape[1:]
    trains = (spikes != 0).to("cpu", torch.uint8).reshape(steps, shape.numel()).T.numpy()
    counts = [_phrases(train.tobytes()) for train in trains]
    return torch.tensor(counts, dtype=torch.float64).view(shape) * (math.log2(steps) / steps)


def _phrases(text: bytes) -> int:
    """Search for ever longer starts of what is left; `find` looks at everything before the last symbol."""
    count, start, length = 0, 0, len(text)
    while start < length:
        end = start + 1
        while end <= length and text.find(text[start:end], 0, end - 1) >= 0:
            end += 1
        count, start = count + 1, end
    return count
