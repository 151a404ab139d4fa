"""The linear layer for binary spikes."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from spikenet.errors import ShapeError
from spikenet.kernels.synapse import spike_linear

__all__ = ["SpikingLinear"]


class SpikingLinear(nn.Linear):
    """`torch.nn.Linear` for inputs of 0 and 1: `y = x W^T + b`.

    For the backward pass it keeps its input at one bit a spike, where `nn.Linear` keeps 16 to 64. On a CUDA device
    float32 products run on bfloat16 tensor cores, in which spikes are exact: the output is the sum of three products
    with the bfloat16 parts of `W`, the weight gradient likewise with those of the output's gradient, the input
    gradient a sum of six. Their errors are of the size of a float32 product's.
    Half-precision weights, float64 and the CPU take torch's own product.

    Args:
        in_features: K, the size of the last axis of the input.
        out_features: N, the size of the last axis of the output.
        bias: learn an additive bias.
        device: where the weights are made.
        dtype: of the weights, and of the input.

    Shape:
        `[*leading, K]` -> `[*leading, N]`, as `[T, B, K]` -> `[T, B, N]`.

    Raises:
        ArgumentError: if an input is neither 0 nor 1. On a CUDA device that is not waited for: a device-side assertion
            fails, and the next call that waits for the device raises a `RuntimeError`.
        ShapeError, DtypeError, DeviceError: if the input does not go with the weights.
    """

    def forward(self, x: Tensor) -> Tensor:
        """The layer at every leading index."""
        if x.ndim == 0 or x.shape[-1] != self.in_features:
            raise ShapeError(f"SpikingLinear takes [..., {self.in_features}], got {tuple(x.shape)}")
        weight: Tensor = self.weight
        bias: Tensor | None = self.bias
        if torch.is_autocast_enabled(x.device.type) and x.dtype != torch.float64:
            half = torch.get_autocast_dtype(x.device.type)
            x, weight, bias = x.to(half), weight.to(half), None if bias is None else bias.to(half)
        rows = x.shape[:-1].numel()
        return spike_linear(x.reshape(rows, self.in_features), weight, bias).view(*x.shape[:-1], self.out_features)
