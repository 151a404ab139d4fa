"""Batch norms that take their statistics over whole batches, whatever the number of processes that share them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.autograd.function import once_differentiable
from torch.nn.modules.batchnorm import _BatchNorm

__all__ = ["SyncedNorm", "synced_norms"]


class SyncedNorm(_BatchNorm):
    """What a batch norm becomes during `synced_norms`: a base behind its own, in the place of torch's `forward`.

        mean, var = of the parts of all processes        y = w (x - mean) / sqrt(var + eps) + b

    `counts` says whether this process's part belongs to the batch.
    """

    counts = True

    def forward(self, x: Tensor) -> Tensor:
        if not self.training and self.running_mean is not None:
            return super().forward(x)
        self._check_input_dim(x)
        real = torch.promote_types(x.dtype, torch.float32)
        mean, var, number = self._moments(x.to(real))
        if self.track_running_stats:
            self._track(mean.detach(), var.detach() * number / (number - 1).clamp(min=1))
        scale = (var + self.eps).rsqrt() * (1.0 if self.weight is None else self.weight)
        shift = -mean * scale + (0.0 if self.bias is None else self.bias)
        shape = [1, -1] + [1] * (x.ndim - 2)
        return torch.addcmul(shift.to(real).view(shape), x.to(real), scale.to(real).view(shape)).to(x.dtype)

    def _moments(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Mean, biased variance and number of the values of a channel, in float64."""
        axes, number = [0, *range(2, x.ndim)], self.counts * (x.numel() // x.shape[1])
        var, mean = (u.double() for u in torch.var_mean(x, axes, correction=0))
        sums = torch.cat([number * mean, number * (var + mean.square()), mean.new_full((1,), number)])
        mean, square, number = _Sum.apply(sums).split((x.shape[1], x.shape[1], 1))
        mean, square = mean / number, square / number
        return mean, (square - mean.square()).clamp(min=0.0), number

    @torch.no_grad()
    def _track(self, mean: Tensor, var: Tensor) -> None:
        tracked: Any = self.num_batches_tracked
        tracked.add_(1)
        share = 1.0 / tracked if self.momentum is None else self.momentum
        running: Any = self.running_mean, self.running_var
        for kept, now in zip(running, (mean, var), strict=True):
            kept.copy_(kept + share * (now - kept))


class _Sum(torch.autograd.Function):
    """The sum over all processes; its gradient is the sum of theirs."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        x = x.clone()
        distributed.all_reduce(x)
        return x

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        gradient = gradient.clone()
        distributed.all_reduce(gradient)
        return gradient


@contextmanager
def synced_norms(network: nn.Module) -> Iterator[list[SyncedNorm]]:
    """The batch norms of `network`, those of torch and layers made of them, take whole batches' statistics meanwhile.

    They keep their names, parameters and layouts: a class made of their own and `SyncedNorm` takes the place of theirs,
    in which `SyncedNorm` comes right behind torch's norm.
    """
    kinds = {m: type(m) for m in network.modules() if isinstance(m, _BatchNorm) and not isinstance(m, nn.SyncBatchNorm)}
    for norm, kind in kinds.items():
        norm.__class__ = type(kind.__name__, (kind, SyncedNorm), {"__module__": kind.__module__})
    try:
        yield list(kinds)  # type: ignore[arg-type]
    finally:
        for norm, kind in kinds.items():
            norm.__class__ = kind
            vars(norm).pop("counts", None)
