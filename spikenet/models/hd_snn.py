"""HD-SNN: motion from events by synapses at heterogeneous delays (Grimaldi and Perrinet, Biol. Cybern. 117, 2023)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from spikenet.errors import ShapeError
from spikenet.layers import DelayBankConv2d, ToDense
from spikenet.models.base import Network, picture

__all__ = ["HDSNN"]

SPREAD = 0.02  # of the initial weights: |.| has no slope at 0


class _Contrast(nn.Module):
    """ON less OFF events, `[T, B, 2, H, W]` -> `[T, B, 1, H, W]`."""

    def forward(self, x: Tensor) -> Tensor:
        return x[:, :, 1:] - x[:, :, :1]


class _Evidence(nn.Module):
    """`|x| + b`, with b for each class."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(classes))

    def forward(self, x: Tensor) -> Tensor:
        return x.abs() + self.bias[:, None, None]


class _FieldMean(nn.Module):
    """The mean over places, `[T, B, C, H, W]` -> `[T, B, C]`."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean((3, 4))


class HDSNN(Network):
    """Synapses at every offset and delay, whose sum at each place and step is the evidence for a class of motion.

        drive(c; t, y, x) = sum_d sum_m sum_n K[c, m, n, d] (ON - OFF)[t - d, y + m, x + n]
        evidence = |drive| + b_c,    P(c | t, y, x) = softmax_c(evidence)

    trained as a multinomial logistic regression at every place and step (`loss`). The answer of the whole field is the
    mean of the evidence over places and steps.

    In the paper each polarity has its kernel, and the evidence is the maximum over the events and the same events with
    the polarities swapped, `S * (ON + OFF) + |D * (ON - OFF)| + b` with S half the sum and D half the difference of the
    two kernels. Here K is D; S is left out, for the mean over the field of something linear only counts events, and
    tells no motion. Left out as well are the circular and conical masks of the kernels and the winner-take-all spikes.

    Called on an `EventTensor` or a dense `[T, B, 2, H, W]` (OFF, ON), returns logits `[B, classes]`.

    Args:
        in_shape: polarities (2), height and width of one step.
        classes: number of classes.
        taps: steps that a kernel looks back, the present one included; the paper has 21 of 1 ms.
        kernel_size: of the kernels, in pixels; the paper has 17.

    Raises:
        ShapeError: the input has other features, other than two polarities, or is smaller than a kernel.
    """

    body: nn.Sequential

    def __init__(self, in_shape: Sequence[int], classes: int, taps: int = 21, kernel_size: int = 17) -> None:
        if picture("HDSNN", in_shape) != 2 or min(in_shape[1:]) < kernel_size:
            raise ShapeError(
                f"HDSNN takes two polarities and at least {kernel_size} x {kernel_size} pixels, got {tuple(in_shape)}"
            )
        bank = DelayBankConv2d(1, classes, kernel_size, taps, bias=False)
        nn.init.normal_(bank.weight, std=SPREAD)
        body = nn.Sequential(ToDense(), _Contrast(), bank, _Evidence(classes), _FieldMean())
        super().__init__(in_shape, body, "mean")

    @property
    def bank(self) -> DelayBankConv2d:
        """The synapses; their `weight` is K, `[classes, 1, kernel_size, kernel_size, taps]`. Most of it can be pruned
        after training: `torch.nn.utils.prune.l1_unstructured(net.bank, "weight", amount)`."""
        return cast(DelayBankConv2d, self.body[2])

    def evidence(self, x: Tensor) -> Tensor:
        """The evidence at each place where a kernel fits, `[T, B, classes, H', W']`; the first `taps - 1` steps know
        less than a whole kernel's past."""
        return self.body[:-1](x)

    def loss(self, x: Tensor, labels: Tensor) -> Tensor:
        """Cross-entropy of `P(c | t, y, x)`, a mean over entries, places and the steps with a whole past.

        Args:
            x: events, `taps` steps or more, of any height and width that the kernels fit in.
            labels: what each entry shows throughout, int64 `[B]`.

        Raises:
            ShapeError: for fewer steps.
        """
        if x.shape[0] < self.bank.taps:
            raise ShapeError(f"HDSNN learns from steps with a whole past of {self.bank.taps}, got {x.shape[0]} steps.")
        evidence = self.evidence(x)[self.bank.taps - 1 :].movedim(2, 1)
        shape = len(evidence), *evidence.shape[2:]
        return functional.cross_entropy(evidence, labels[None, :, None, None].expand(shape))
