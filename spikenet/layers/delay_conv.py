"""Convolutions over features whose every synapse has a delay, learned."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from spikenet.errors import ArgumentError
from spikenet.kernels.delay import Bump, one_tap
from spikenet.layers.delay import Delayed

__all__ = ["DelayConv1d", "DelayConv2d"]


class _DelayConv(Delayed):
    space: int
    padding_mode = "zeros"

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, ...],
        taps: int,
        *,
        stride: int | tuple[int, ...] = 1,
        padding: int | tuple[int, ...] = 0,
        dilation: int | tuple[int, ...] = 1,
        groups: int = 1,
        elements: int = 1,
        kernel: Bump | str = "gauss",
        sigma: float = 0.23,
        per: str = "synapse",
        extend: int = 0,
        bias: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        if groups < 1 or in_channels % groups or out_channels % groups:
            raise ArgumentError(f"groups must divide {in_channels} and {out_channels} channels, got {groups}")
        self_size = self._sizes("kernel_size", kernel_size, 1)
        rest: dict[str, Any] = {"extend": extend, "bias": bias, "device": device, "dtype": dtype}
        shape = (out_channels, in_channels // groups, *self_size)
        super().__init__(shape, taps, elements=elements, kernel=kernel, sigma=sigma, per=per, **rest)
        self.in_channels, self.out_channels, self.groups, self.kernel_size = (
            in_channels,
            out_channels,
            groups,
            self_size,
        )
        self.stride = self._sizes("stride", stride, 1)
        self.padding = self._sizes("padding", padding, 0)
        self.dilation = self._sizes("dilation", dilation, 1)

    def _sizes(self, name: str, value: Any, least: int) -> tuple[int, ...]:
        sizes = tuple(value) if isinstance(value, tuple | list) else (value,) * self.space
        if len(sizes) != self.space or any(not hasattr(n, "__index__") or n < least for n in sizes):
            raise ArgumentError(f"{type(self).__name__}: {name} is {self.space} whole numbers >= {least}, got {value}")
        return sizes

    def _wanted(self) -> tuple[int | None, ...]:
        return (self.in_channels, *(None,) * self.space)

    def _undelayed(self, options: dict[str, Any]) -> nn.Module:
        kind: Any = (nn.Conv1d, nn.Conv2d)[self.space - 1]
        sizes = self.kernel_size, self.stride, self.padding, self.dilation, self.groups, self.bias is not None
        return kind(self.in_channels, self.out_channels * self.elements, *sizes, **options)

    def _through(self, x: Tensor, first: int, steps: int, most: float) -> Tensor:
        """Time is one more axis of the convolution, with the latest tap first."""
        if self.training:
            self.clamp_()
            k = self.synapses()
        else:
            k = one_tap(self.weight, self.rounded(), self.taps)
        k = k.to(x.dtype).flip(-1).movedim(-1, 2)
        before, after = self.taps - 1 - first, steps + first - len(x)
        volume = functional.pad(x, (0, 0) * (x.ndim - 1) + (before, after)).movedim(0, 2)
        bias = None if self.bias is None else self.bias.to(x.dtype)
        if self.space == 1:
            y = functional.conv2d(
                volume, k, bias, (1, *self.stride), (0, *self.padding), (1, *self.dilation), self.groups
            )
        else:
            y = functional.conv3d(
                volume, k, bias, (1, *self.stride), (0, *self.padding), (1, *self.dilation), self.groups
            )
        return y.movedim(2, 0).contiguous()


class DelayConv1d(_DelayConv):
    """A convolution over one feature axis, at every step, whose every synapse has a delay of its own.

        y[t, b, o, x] = bias[o] + sum_c sum_n sum_k weight[o, c, n, k] sum_d g(d; delay[o, c, n, k], sigma)
                        input[t - d, b, c, stride x + dilation n - padding]

    Kernels `g`, training, rounding in evaluation, clamping, chunks and streams as in `DelayLinear`. It runs as torch's
    convolution with time as one more axis, at any density, and all taps are gone through in evaluation too; a part of a
    sequence agrees with the whole up to rounding, since torch may add up another shape in another order.

    Args:
        in_channels, out_channels, kernel_size, stride, padding, dilation, groups: as for `torch.nn.Conv1d`; `padding`
            in numbers, of zeros.
        taps, elements, kernel, sigma, per, extend, bias, device, dtype: as for `DelayLinear`; an "input" or "output" is
            a channel.

    Attributes:
        weight: `[out, in / groups, kernel_size, elements]`.
        delay: of the same shape, or with 1 for the axes that share it.

    Shape:
        `[T, B, C, L]` (dense, or events) -> `[T + extend, B, N, L']`; state `inputs` `[taps - 1, B, C, L]`.

    Raises:
        As `DelayLinear`.
    """

    space = 1


class DelayConv2d(_DelayConv):
    """A convolution over two feature axes, at every step, whose every synapse has a delay of its own.

    `DelayConv1d` with one more axis: the arguments are those of `torch.nn.Conv2d`, `weight` is
    `[out, in / groups, kh, kw, elements]`.

    Shape:
        `[T, B, C, H, W]` (dense, or events) -> `[T + extend, B, N, H', W']`; state `inputs` `[taps - 1, B, C, H, W]`.
    """

    space = 2
