"""Convolutions over features whose every synapse has a delay, learned."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from spikenet.errors import ArgumentError
from spikenet.kernels.delay import Bump, delay_taps, one_tap
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
        if self.training:
            self.clamp_()
        if not steps:  # which torch's convolution refuses
            return x.new_zeros(0, x.shape[1], self.out_channels, *self._places(x))
        if self.training:
            return self._convolved(x, self.synapses(), first, steps)
        if x.is_cuda:  # a product over all taps there, and patches would only add to it
            return self._convolved(x, one_tap(self.weight, self.rounded(), self.taps), first, steps)
        return self._by_synapses(x, first, steps)

    def _convolved(self, x: Tensor, k: Tensor, first: int, steps: int) -> Tensor:
        """Time is one more axis of the convolution, with the latest tap first."""
        k = k.to(x.dtype).flip(-1).movedim(-1, 2)
        before, after = self.taps - 1 - first, steps + first - len(x)
        volume = functional.pad(x, (0, 0) * (x.ndim - 1) + (before, after)).movedim(0, 2)
        bias = None if self.bias is None else self.bias.to(x.dtype)
        convolve = functional.conv2d if self.space == 1 else functional.conv3d
        options = (1, *self.stride), (0, *self.padding), (1, *self.dilation), self.groups
        return convolve(volume, k, bias, *options).movedim(2, 0).contiguous()

    def _by_synapses(self, x: Tensor, first: int, steps: int) -> Tensor:
        """A linear layer of one tap a synapse at every place, of the patch that the kernel covers."""
        patches = functional.pad(x, [p for size in reversed(self.padding) for p in (size, size)])
        for axis, (size, dilation, stride) in enumerate(zip(self.kernel_size, self.dilation, self.stride, strict=True)):
            patches = patches.unfold(3 + axis, dilation * (size - 1) + 1, stride)[..., ::dilation]
        patches = patches.movedim(2, 2 + self.space).flatten(2 + self.space).flatten(1, 1 + self.space)
        grouped = self.groups, self.out_channels // self.groups, -1, self.elements
        weight, delay = self.weight.reshape(grouped), self.delay.expand(self.weight.shape).reshape(grouped)
        each, name = zip(patches.chunk(self.groups, -1), weight, delay, strict=True), f"{type(self).__name__}.delay"
        parts = [delay_taps(p, w, d, self.taps, first, steps, name) for p, w, d in each]
        y = parts[0] if self.groups == 1 else torch.cat(parts, -1)
        places = self._places(x)
        y = y.unflatten(1, (x.shape[1], math.prod(places))).mT.unflatten(3, places)
        return y.contiguous() if self.bias is None else y + self.bias.to(y.dtype).view(-1, *(1,) * self.space)

    def _places(self, x: Tensor) -> tuple[int, ...]:
        """The sizes of the output."""
        axes = zip(x.shape[3:], self.padding, self.dilation, self.kernel_size, self.stride, strict=True)
        return tuple((size + 2 * p - d * (k - 1) - 1) // s + 1 for size, p, d, k, s in axes)


class DelayConv1d(_DelayConv):
    """A convolution over one feature axis, at every step, whose every synapse has a delay of its own.

        y[t, b, o, x] = bias[o] + sum_c sum_n sum_k weight[o, c, n, k] sum_d g(d; delay[o, c, n, k], sigma)
                        input[t - d, b, c, stride x + dilation n - padding]

    Kernels `g`, training, rounding in evaluation, clamping, chunks and streams as in `DelayLinear`. In training it runs
    as torch's convolution with time as one more axis, at any density; a part of a sequence then agrees with the whole
    up to rounding, since torch may add up another shape in another order. In evaluation on the CPU it is the linear
    layer's sum of one tap a synapse at every place, to the bit; on a CUDA device all taps are gone through.

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

    Raises as `DelayLinear` does.
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
