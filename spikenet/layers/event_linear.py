"""The linear layer that pays for events."""

from __future__ import annotations

from math import prod

import torch
from torch import Tensor, nn

from spikenet.errors import DtypeError, ShapeError
from spikenet.events import EventTensor
from spikenet.kernels.synapse import event_linear, linear_crossover, sparse_linear
from spikenet.neurons.carry import carrier

__all__ = ["EventLinear"]


class EventLinear(nn.Linear):
    """`torch.nn.Linear` at a cost in proportion to the events: `y[t, b] = bias + sum of values[e] W[:, indices[e]]`.

    The sum goes over the events of step `t` and entry `b`, in ascending order of the input. The gradients of `W` and of
    the values, too, cost what the events cost. Results are `nn.Linear`'s up to rounding.

    Above a measured density (`spikenet.kernels.synapse.crossover`) the dense product is faster and is taken. Below it a
    part of a sequence gives the bits of the whole; a `Stream`, which sees parts, always goes by the events. So does a
    forced backend other than the reference, and the reference never does.

    Args:
        in_features: K, the number of input features in all.
        out_features: N.
        bias: learn an additive bias.
        device: where the weights are made.
        dtype: of the weights, and of dense input.

    Shape:
        An `EventTensor` `[T, B, *features]`, whose features are K in all, or a dense `[*leading, K]` that is mostly
        zeros, of any values -> `[T, B, N]` or `[*leading, N]`, in the dtype of the weights. On a CUDA device dense
        input takes the dense product.

    Raises:
        ShapeError, DtypeError, DeviceError: if the input does not go with the weights.
        BackendError: for a second derivative.
    """

    def forward(self, x: EventTensor | Tensor) -> Tensor:
        """The layer at every step and batch entry."""
        weight, bias = at_precision(x.device, self.weight, self.bias)
        whole = carrier() is None
        most = linear_crossover(len(weight), x.device, isinstance(x, Tensor)) if whole else 1.0
        if isinstance(x, EventTensor):
            if prod(x.features) != self.in_features:
                raise ShapeError(f"EventLinear takes {self.in_features} features in all, got {x}")
            return event_linear(x.indptr, x.indices, x.values, weight, bias, most).view(x.T, x.batch, len(weight))
        if not x.is_floating_point():
            raise DtypeError(f"EventLinear takes events or a floating-point tensor, got {x.dtype}")
        if x.ndim == 0 or x.shape[-1] != self.in_features:
            raise ShapeError(f"EventLinear takes [..., {self.in_features}], got {tuple(x.shape)}")
        (x,) = at_precision(x.device, x)
        rows = x.shape[:-1].numel()
        y = sparse_linear(x.reshape(rows, self.in_features), weight, bias, most)
        return y.view(*x.shape[:-1], self.out_features)


def at_precision(device: torch.device, *tensors: Tensor | None) -> list[Tensor]:
    """The tensors in autocast's dtype where it is on, but for float64."""
    if not torch.is_autocast_enabled(device.type):
        return list(tensors)  # type: ignore[arg-type]
    half = torch.get_autocast_dtype(device.type)
    return [t if t is None or t.dtype == torch.float64 else t.to(half) for t in tensors]  # type: ignore[misc]
