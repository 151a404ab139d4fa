"""From a trained ANN to an SNN: activations become integrate-and-fire neurons with calibrated thresholds."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from spikenet import layers
from spikenet.errors import ArgumentError, ShapeError, UnknownNameError
from spikenet.neurons import IF

__all__ = ["QuantizedReLU", "fold_batch_norm", "to_spiking"]

_WEIGHTED = (nn.Linear, nn.Conv1d, nn.Conv2d)
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, layers.ChannelNorm)
_LINEAR = (nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.Flatten, nn.Identity, nn.Dropout)


class QuantizedReLU(nn.Module):
    """The rate of an integrate-and-fire neuron after `levels` steps of the same input, as an activation to train with.

        y = (v_threshold / levels) clip(floor(levels x / v_threshold + 1/2), 0, levels)

    which is `v_threshold` times the rate of `IF(v_threshold, v_reset=None, v_rest=v_threshold / 2)`. Gradients pass the
    floor as if it were not there, and reach `v_threshold`, which is learned.

    Args:
        levels: number of steps for which it is exact.
        v_threshold: to start from.

    Raises:
        ArgumentError: for levels that are no whole number above 0.

    Source: Bu et al., "Optimal ANN-SNN conversion for high-accuracy and ultra-low-latency spiking neural networks",
    ICLR 2022, eq. 12.
    """

    def __init__(self, levels: int = 8, v_threshold: float = 4.0) -> None:
        super().__init__()
        if not hasattr(levels, "__index__") or levels < 1:
            raise ArgumentError(f"QuantizedReLU.levels must be a whole number above 0, got {levels!r}")
        self.levels = levels
        self.v_threshold = nn.Parameter(torch.tensor(float(v_threshold)))

    def forward(self, x: Tensor) -> Tensor:
        share = x * self.levels / self.v_threshold + 0.5
        whole = share + (share.floor() - share).detach()
        return whole.clamp(0, self.levels) * self.v_threshold / self.levels

    def extra_repr(self) -> str:
        return f"levels={self.levels}, v_threshold={self.v_threshold.item():g}"


def fold_batch_norm(net: nn.Sequential) -> nn.Sequential:
    """A copy of a sequence with each batch norm folded into the linear layer or convolution before it.

        weight' = weight g / std        bias' = (bias - mean) g / std + b

    with the running statistics: in evaluation the copy computes the same, up to rounding. Inner `nn.Sequential`s are
    laid out flat, and dropout is left out.

    Args:
        net: layers one after the other.

    Raises:
        ArgumentError: for a batch norm that follows something else, or that keeps no running statistics.
    """
    flat: list[nn.Module] = []
    for layer in _flat(net):
        if not isinstance(layer, _NORMS):
            flat.append(copy.deepcopy(layer))
        elif not flat or not isinstance(flat[-1], _WEIGHTED):
            before = type(flat[-1]).__name__ if flat else "nothing"
            raise ArgumentError(
                f"{type(layer).__name__} follows {before}; a norm folds into a weighted layer before it"
            )
        else:
            _fold(flat[-1], layer)
    return nn.Sequential(*flat).train(net.training)


def _flat(net: nn.Module) -> Iterator[nn.Module]:
    for layer in net.children():
        if type(layer).forward is nn.Sequential.forward:
            yield from _flat(layer)
        elif not isinstance(layer, nn.Dropout | nn.Identity):
            yield layer


@torch.no_grad()
def _fold(layer: nn.Linear | nn.Conv1d | nn.Conv2d, norm: nn.BatchNorm1d | nn.BatchNorm2d) -> None:
    if norm.running_mean is None or norm.running_var is None:
        raise ArgumentError(f"{type(norm).__name__} keeps no running statistics, so it cannot be folded")
    gain = torch.rsqrt(norm.running_var + norm.eps)
    gain, shift = (gain * norm.weight, norm.bias) if norm.affine else (gain, torch.zeros_like(gain))
    bias = torch.zeros_like(gain) if layer.bias is None else layer.bias
    layer.weight.mul_(gain.view(-1, *(1,) * (layer.weight.ndim - 1)))
    layer.bias = nn.Parameter((bias - norm.running_mean) * gain + shift)


def to_spiking(net: nn.Sequential, examples: Tensor, *, percentile: float = 100.0) -> nn.Sequential:
    """A spiking copy of a trained ANN: `nn.ReLU` and `QuantizedReLU` become `IF` neurons with a soft reset.

    A neuron that gets the same input x for T steps and starts half-way to its threshold sends
    `clip(floor(T x / v_threshold + 1/2), 0, T)` spikes. The threshold of a channel is the percentile of its activations
    on `examples`, or that of a `QuantizedReLU`; it moves into the weights that follow, so that spikes stay 0 and 1.
    Batch norms are folded first. The mean over time ends the network:

        to_spiking(ann, examples)(x.expand(8, *x.shape[1:]))            x [1, B, *features], 8 steps

    Args:
        net: layers of `[T, B, *features]` one after the other, the last of them weighted. Pooling must be by the mean:
            a maximum of spikes is not one of rates.
        examples: `[1, N, *features]`, inputs of the training part.
        percentile: of the activations above 0, over examples and space; 100 is their maximum.

    Raises:
        UnknownNameError: for a layer that cannot be converted.
        ArgumentError: for a percentile that is none, or a last layer without weights.
        ShapeError: for examples of more than one step.

    Source: Rueckauer et al., "Conversion of continuous-valued deep networks to efficient event-driven networks",
    Frontiers in Neuroscience 11, 2017 (percentiles, soft reset); Bu et al., ICLR 2022 (the start).
    """
    if not 0 < percentile <= 100:
        raise ArgumentError(f"percentile must lie above 0 and be 100 at most, got {percentile}")
    if len(examples) != 1:
        raise ShapeError(f"examples are [1, N, *features], one step, got {tuple(examples.shape)}")
    flat, x = list(fold_batch_norm(net).eval()), examples
    if not flat or not isinstance(flat[-1], _WEIGHTED):
        raise ArgumentError("the last layer must have weights, which take the threshold of the neurons before it")
    spiking: list[nn.Module] = []
    gain: Tensor | None = None  # the thresholds of the neurons before, channel by channel
    with torch.no_grad():
        for layer in flat:
            x = layer(x)
            if isinstance(layer, nn.ReLU | QuantizedReLU):
                gain = _threshold(layer, x, percentile)
                spiking.append(_neuron(gain, x))
            elif isinstance(layer, _WEIGHTED):
                spiking.append(_scaled(layer, gain))
                gain = None
            elif isinstance(layer, _LINEAR):
                spiking.append(layer)
            else:
                raise UnknownNameError("layer of an ANN to convert", type(layer).__name__, _names())
    return nn.Sequential(*spiking, layers.MeanReadout()).eval()


def _names() -> list[str]:
    return [kind.__name__ for kind in (nn.ReLU, QuantizedReLU, *_WEIGHTED, *_LINEAR, *_NORMS)]


def _threshold(layer: nn.Module, x: Tensor, percentile: float) -> Tensor:
    """The threshold of each channel, of activations `[1, N, C, ...]`."""
    if isinstance(layer, QuantizedReLU):
        return layer.v_threshold.detach().expand(x.shape[2]).clone()
    each = x.flatten(3).movedim(2, 0).flatten(1) if x.ndim > 3 else x[0].T
    highest = torch.stack([_percentile(channel[channel > 0], percentile) for channel in each])
    return torch.where(highest > 0, highest, torch.ones_like(highest))


def _percentile(values: Tensor, percentile: float) -> Tensor:
    if not len(values):
        return values.new_zeros(())
    rank = max(1, round(percentile / 100 * len(values)))
    return values.kthvalue(rank).values


def _neuron(threshold: Tensor, x: Tensor) -> IF:
    own = threshold.view(-1, *(1,) * (x.ndim - 3))
    return IF(own, None, v_rest=own / 2)


def _scaled(layer: nn.Module, gain: Tensor | None) -> nn.Module:
    """The layer, for spikes of 1 in the place of activations of `gain`."""
    if gain is None:
        return layer
    weight: Tensor = layer.weight  # type: ignore[assignment]
    groups = int(getattr(layer, "groups", 1))
    if groups > 1:
        gain = gain.view(groups, 1, -1).expand(-1, len(weight) // groups, -1).flatten(0, 1)
        weight.mul_(gain.view(*gain.shape, *(1,) * (weight.ndim - 2)))
    else:
        each = gain.repeat_interleave(weight.shape[1] // len(gain))  # a flattened channel covers several inputs
        weight.mul_(each.view(1, -1, *(1,) * (weight.ndim - 2)))
    return layer
