"""A synapse at every delay between each pair: kernels over space and time, the connections of HD-SNN."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from spikenet.events import EventTensor
from spikenet.kernels.delay import delay_conv
from spikenet.layers.delay import DelayLinear
from spikenet.layers.delay_conv import DelayConv2d

__all__ = ["DelayBank", "DelayBankConv2d"]


class _Bank:
    """A layer with delays whose elements stand at the delays 0, 1, .. taps - 1, for good."""

    weight: nn.Parameter
    delay: nn.Parameter
    bias: nn.Parameter | None
    taps: int

    def reset_parameters(self) -> None:
        """Weights and bias of 0: a logistic regression has no symmetry to break."""
        nn.init.zeros_(self.weight)
        if self.bias is not None:
            nn.init.zeros_(self.bias)
        self.delay.requires_grad_(False)
        with torch.no_grad():
            self.delay.copy_(torch.arange(self.taps))

    def clamp_(self) -> None:
        """Nothing: the delays stay where they are."""

    def synapses(self) -> Tensor:
        """K, `[out, in, *offsets, taps]`: the weights themselves."""
        return self.weight


class DelayBank(_Bank, DelayLinear):
    """A linear layer with a synapse at every delay: each pair of neurons is connected `taps` times.

        y[t, b, i] = bias[i] + sum_j sum_d weight[i, j, d] x[t - d, b, j]        d = 0 .. taps - 1

    With a logistic function after it and binary cross-entropy as the loss this is the HD-SNN of Perrinet (ICANN 2023):
    `weight` is the evidence that a spike, d steps ago, gives for what the neuron stands for. Most synapses can be
    pruned afterwards, `torch.nn.utils.prune.l1_unstructured(layer, "weight", amount)`, which leaves heterogeneous
    delays.

    Args:
        in_features, out_features, taps, extend, bias, device, dtype: as for `DelayLinear`.

    Attributes:
        weight: `[out, in, taps]`, 0 at first.
        bias: `[out]`, 0 at first, or None.

    Shape, errors, chunks, streams and events as for `DelayLinear`; training and evaluation compute the same.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        taps: int,
        *,
        extend: int = 0,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(
            in_features,
            out_features,
            taps,
            elements=taps,
            kernel="v0",
            per="shared",
            extend=extend,
            bias=bias,
            device=device,
            dtype=dtype,
        )

    def _of_events(self, x: EventTensor) -> None:
        """None: its taps are all there, and none is rounded."""

    def _through(self, x: Tensor, first: int, steps: int, most: float) -> Tensor:
        y = delay_conv(x, self.weight.to(x.dtype), first, steps, most)
        return y if self.bias is None else y + self.bias.to(y.dtype)


class DelayBankConv2d(_Bank, DelayConv2d):
    """A convolution over space and time: at every offset of the kernel a synapse at every delay.

        y[t, b, o, y, x] = bias[o] + sum_c sum_m sum_n sum_d weight[o, c, m, n, d] input[t - d, b, c, y', x']

    with `y', x'` as for `torch.nn.Conv2d`: `DelayBank` for images, the layer of Grimaldi and Perrinet (Biological
    Cybernetics 117, 2023).

    Args:
        in_channels, out_channels, kernel_size, taps, stride, padding, dilation, groups, extend, bias, device, dtype:
            as for `DelayConv2d`.

    Attributes:
        weight: `[out, in / groups, kh, kw, taps]`, 0 at first.
        bias: `[out]`, 0 at first, or None.

    Shape, errors, chunks, streams and events as for `DelayConv2d`; training and evaluation compute the same.
    """

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
        extend: int = 0,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(
            in_channels,
            out_channels,
            kernel_size,
            taps,
            stride=stride,
            padding=padding,
            dilation=dilation,
            groups=groups,
            elements=taps,
            kernel="v0",
            per="shared",
            extend=extend,
            bias=bias,
            device=device,
            dtype=dtype,
        )
