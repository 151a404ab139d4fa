"""The convolution that pays for events."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from spikenet.errors import ArgumentError, DtypeError, ShapeError
from spikenet.events import EventTensor
from spikenet.kernels.synapse import convolution_crossover, event_conv2d, sparse_conv2d
from spikenet.layers.event_linear import at_precision
from spikenet.layers.fold import Folded
from spikenet.neurons.carry import carrier

__all__ = ["EventConv2d"]


class EventConv2d(Folded, nn.Conv2d):
    """`torch.nn.Conv2d` at every time step, at a cost in proportion to the events and the outputs that are written.

    Each event adds its `kh kw` vectors of output channels to the outputs that it reaches, in ascending order of the
    input. The weight gradient costs what the events cost. Results are those of `nn.Conv2d` up to rounding.

    Above a measured density (`spikenet.kernels.synapse.crossover`) torch's convolution of dense frames is faster and is
    taken. Below it a part of a sequence gives the bits of the whole; a `Stream`, which sees parts, always goes by the
    events. So does a forced backend other than the reference, and the reference never does.

    Args:
        in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias, device, dtype: as for
            `torch.nn.Conv2d`; `padding` in numbers, and it pads zeros.

    Shape:
        An `EventTensor` or a dense tensor `[T, B, C, H, W]` -> `[T, B, N, H', W']`, contiguous, in the dtype of the
        weights. On a CUDA device dense input takes torch's convolution.

    Raises:
        ArgumentError: for a padding mode, or padding that is given by name.
        ShapeError, DtypeError, DeviceError: if the input does not go with the weights.
        BackendError: for a second derivative.
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: Any, stride: Any = 1, padding: Any = 0, **rest: Any
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, **rest)
        if isinstance(padding, str) or self.padding_mode != "zeros":
            raise ArgumentError(
                f"EventConv2d pads zeros, by a number or a pair of them; got padding {padding!r}, {self.padding_mode}"
            )

    def forward(self, x: EventTensor | Tensor) -> Tensor:
        """The layer at every step and batch entry."""
        if len(x.shape) != 5 or x.shape[2] != self.in_channels:
            raise ShapeError(f"EventConv2d takes [T, B, {self.in_channels}, H, W], got {tuple(x.shape)}")
        weight, bias = at_precision(x.device, self.weight, self.bias)
        outputs, whole = len(weight) // self.groups, carrier() is None
        most = convolution_crossover(outputs, x.device, isinstance(x, Tensor)) if whole else 1.0
        geometry: dict[str, Any] = {name: getattr(self, name) for name in ("stride", "padding", "dilation", "groups")}
        if isinstance(x, EventTensor):
            size = x.features[1:]
            y = event_conv2d(x.indptr, x.indices, x.values, weight, bias, size=size, **geometry, most=most)
        elif x.is_floating_point():
            y = sparse_conv2d(at_precision(x.device, x.flatten(0, 1))[0], weight, bias, **geometry, most=most)
        else:
            raise DtypeError(f"EventConv2d takes events or a floating-point tensor, got {x.dtype}")
        return y.unflatten(0, tuple(x.shape[:2]))
