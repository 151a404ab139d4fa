"""Readouts: from an output sequence `[T, B, *classes]` to one answer `[B, *classes]`.

Each accumulates step by step in a fixed order, so that a stream's answer so far is, to the last bit, that of
the sequence so far. `lengths` `[B]` ends each entry's sequence before T.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from spikenet.errors import DtypeError, ShapeError, StateError
from spikenet.neurons import Neuron
from spikenet.neurons.carry import carrier
from spikenet.neurons.surrogate import Identity

__all__ = ["LastReadout", "MaxReadout", "MeanReadout", "SoftmaxSumReadout"]


class _Sum(Neuron):
    state = {"total": 0.0}
    emit = Identity()

    def charge(self, s: Any, x: Any, d: Any, p: Any) -> dict[str, Any]:
        return {"total": s.total + x.x}

    def fire(self, h: Any, p: Any) -> Any:
        return h.total

    def reset(self, h: Any, z: Any, p: Any) -> dict[str, Any]:
        return {"total": h.total}


class _Readout(nn.Module):
    """Accumulates over time; carries what it has while a stream runs."""

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """`x` `[T, B, *classes]` -> `[B, *classes]`, over the first `lengths[b]` steps of entry b."""
        name = type(self).__name__
        if not x.is_floating_point():
            raise DtypeError(f"{name} takes floating-point input, got {x.dtype}; convert it with x.float()")
        if x.ndim < 2 or len(x) == 0:
            raise ShapeError(f"{name} takes [T, B, *classes] with at least one step, got {tuple(x.shape)}")
        running = carrier()
        if running is None:
            return self.answer(*self.accumulate(x, None, lengths), lengths).to(x.dtype)
        if lengths is not None:
            raise StateError(f"{name}: `lengths` has no meaning in a stream, whose entries all go on")
        key, carried = running.take(self, x)
        total, steps = self.accumulate(x, carried, None)
        running.put(key, (total, steps))
        running.collapse()
        return self.answer(total, steps, None).to(x.dtype)

    def accumulate(self, x: Tensor, carried: Any, lengths: Tensor | None) -> tuple[Any, int]:
        """What is kept after `x`, and the number of steps so far."""
        raise NotImplementedError

    def answer(self, total: Any, steps: int, lengths: Tensor | None) -> Tensor:
        """The readout's value from what was kept."""
        raise NotImplementedError


class _Summing(_Readout):
    def __init__(self) -> None:
        super().__init__()
        self.sum = _Sum()

    def accumulate(self, x: Tensor, carried: Any, lengths: Tensor | None) -> tuple[Any, int]:
        state, steps = carried or (None, 0)
        _, state = self.sum.run(_ended(self.each(x), lengths, 0.0), state)
        return state, steps + len(x)

    def each(self, x: Tensor) -> Tensor:
        """What is accumulated of each step."""
        return x

    def answer(self, total: Any, steps: int, lengths: Tensor | None) -> Tensor:
        return total.total


class MeanReadout(_Summing):
    """`(1/T) sum_t x[t]`: for spikes, the firing rate."""

    def answer(self, total: Any, steps: int, lengths: Tensor | None) -> Tensor:
        if lengths is None:
            return total.total / steps
        return total.total / lengths.to(total.total).view(-1, *(1,) * (total.total.ndim - 1))


class MaxReadout(_Readout):
    """`max_t x[t]`; steps that tie share the gradient."""

    def accumulate(self, x: Tensor, carried: Any, lengths: Tensor | None) -> tuple[Any, int]:
        highest = _ended(x, lengths, float("-inf")).amax(0)
        before, steps = carried or (highest, 0)
        return torch.maximum(before, highest), steps + len(x)

    def answer(self, total: Any, steps: int, lengths: Tensor | None) -> Tensor:
        return total


class SoftmaxSumReadout(_Summing):
    """`sum_t softmax(x[t])` over the last axis (Hammouamri et al., ICLR 2024)."""

    def each(self, x: Tensor) -> Tensor:
        return x.softmax(-1)


class LastReadout(_Readout):
    """`x[T - 1]`, or `x[lengths[b] - 1]` of each entry."""

    def accumulate(self, x: Tensor, carried: Any, lengths: Tensor | None) -> tuple[Any, int]:
        steps = (carried[1] if carried else 0) + len(x)
        if lengths is None:
            return x[-1], steps
        _checked(x, lengths)
        return x[lengths.to(x.device) - 1, torch.arange(x.shape[1], device=x.device)], steps

    def answer(self, total: Any, steps: int, lengths: Tensor | None) -> Tensor:
        return total


def _checked(x: Tensor, lengths: Tensor) -> None:
    fits = lengths.shape == x.shape[1:2] and not lengths.is_floating_point()
    if not fits or bool(((lengths < 1) | (lengths > len(x))).any()):
        raise ShapeError(f"lengths must be {x.shape[1]} numbers from 1 to {len(x)}, got {lengths.tolist()}")


def _ended(x: Tensor, lengths: Tensor | None, fill: float) -> Tensor:
    """`x` with `fill` in the steps past each entry's end."""
    if lengths is None:
        return x
    _checked(x, lengths)
    past = torch.arange(len(x), device=x.device)[:, None] >= lengths.to(x.device)[None]
    return x.masked_fill(past.view(*past.shape, *(1,) * (x.ndim - 2)), fill)
