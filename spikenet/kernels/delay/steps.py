"""Delayed synapses from a population to itself, where what is sent in a step follows from what is heard in it.

    heard[b, i] = sum_j sum_d K[i, j, d] sent[last - d, b, j]        in the step after `last`

For one tap a synapse, outside of autograd, each is read once on the CPU; otherwise a step sends through all taps.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from spikenet.kernels.backends import Implementation, Operation, anywhere, on_processor
from spikenet.kernels.delay.conv import real
from spikenet.kernels.delay.taps import one_tap, rounded


class Steps(Protocol):
    """What a population hears, `[B, N]`, in the next step, and how it sends in it."""

    def heard(self) -> Tensor: ...

    def send(self, z: Tensor) -> None: ...


class Products:
    """Steps after silence through K `[N, M, taps]`, one matrix product each, with derivatives.

    Args:
        like: a step that is sent, `[B, M]`.
        k: on its device and in its dtype.
    """

    def __init__(self, like: Tensor, k: Tensor) -> None:
        self._k = k.permute(1, 2, 0).flatten(1)
        self._later = [like.new_zeros(len(like), len(k))] * k.shape[2]

    def heard(self) -> Tensor:
        return self._later[0]

    def send(self, z: Tensor) -> None:
        """The product reads a tensor of its own: with its arguments' alignment it may sum in another order."""
        first = self._later[0]
        arriving = (z.clone() @ self._k).unflatten(1, (len(self._later), first.shape[1])).unbind(1)
        later = [*self._later[1:], torch.zeros_like(first)]
        self._later = [a + b for a, b in zip(later, arriving, strict=True)]


def _numba(like: Tensor, weight: Tensor, tap: Tensor, taps: int) -> Steps:
    from spikenet.kernels.delay import numba_steps

    return numba_steps.Steps(like, weight.to(real(like.dtype)), tap, taps)


def _reference(like: Tensor, weight: Tensor, tap: Tensor, taps: int) -> Steps:
    return Products(like, one_tap(weight, tap, taps).to(like.dtype))


STEPS = Operation(
    "delay_steps",
    Implementation("numba", on_processor, _numba),
    Implementation("reference", anywhere, _reference),
    Implementation("triton", anywhere, _reference),  # a matrix product
)


def delay_steps(like: Tensor, weight: Tensor, delay: Tensor, taps: int, name: str) -> Steps:
    """Steps after silence through synapses of one tap each, without derivatives.

    Args:
        like: a step that is sent, `[B, M]`.
        weight: `[N, M, elements]`.
        delay: in steps, `[N, M, elements]` or with 1 for what shares it; as `rounded` takes it.
        taps: the number of taps.
        name: what the delays are called in an error.

    Raises:
        ArgumentError: for a delay that is not finite.
    """
    return STEPS(like, weight.detach(), rounded(delay.detach(), taps, name).expand(weight.shape), taps)
