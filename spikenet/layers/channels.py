"""Layers over the last axis, and the order of neurons and connections: what the blocks of spiking Transformers share.

Features are the last axis of `[T, B, *space, D]`: tokens `[T, B, N, D]` and maps `[T, B, H, W, D]` alike, so that a
linear layer is a 1x1 convolution, and a convolution runs in torch's channels-last layout without a copy.
"""

from __future__ import annotations

import functools
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Any, Literal, get_args

from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.module import _has_any_global_hook

from spikenet.errors import ArgumentError, UnknownNameError
from spikenet.kernels.norm import Norm, bind_norm, norm_scan
from spikenet.kernels.pool import max_pool
from spikenet.kernels.triton_device import why_not_on
from spikenet.layers.fold import BatchNorm2d, Conv2d
from spikenet.neurons import LIF, Neuron
from spikenet.neurons.carry import carrier
from spikenet.neurons.surrogate import sigmoid

__all__ = [
    "Chain",
    "ChannelNorm",
    "ChannelsLast",
    "ConvNorm",
    "LinearNorm",
    "MakeNeuron",
    "MeanOverSpace",
    "Residual",
    "Shortcut",
    "SpikePool",
    "Sum",
    "branch",
    "check_shortcut",
    "transformer_lif",
]

Shortcut = Literal["sew", "membrane"]
"""`sew`: neurons behind their connections, so that spikes are added and the shortcut carries whole numbers (Fang et
al., NeurIPS 2021). `membrane`: neurons before their connections, so that every connection receives spikes and the
shortcut carries potentials (Hu et al., IEEE TNNLS 2024)."""

MakeNeuron = Callable[[float], Neuron]
"""From a threshold to a neuron."""


def transformer_lif(v_threshold: float = 1.0, tau: float = 2.0) -> LIF:
    """The neuron of the spiking vision Transformers: hard reset, which gradients do not see, and a sigmoid surrogate
    of slope 4."""
    return LIF(tau, v_threshold, detach_reset=True, surrogate=sigmoid(4.0))


class ChannelNorm(nn.BatchNorm1d):
    """Batch norm of the last axis of `[T, B, *space, D]`, with statistics over all the others."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.flatten(0, -2)).view(x.shape)


class _Normed(nn.Sequential):
    """A connection that ends in `norm`."""

    norm: nn.BatchNorm1d | nn.BatchNorm2d

    def connect(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """What comes before the norm, channels last, and a bias that was left out of it."""
        raise NotImplementedError

    def then(self, neuron: nn.Module, x: Tensor) -> Tensor:
        """`neuron(self(x))`. In training norm and neuron are one operation, unless somebody listens in between."""
        norm = self.norm
        together = norm.training and x.numel() and carrier() is None and _usual(self) and _may_follow(neuron)
        if not together or _listened(self, norm, neuron):
            return neuron(self(x))
        y, offset = self.connect(x)
        weight, calls = norm.weight, norm.num_batches_tracked
        given = Norm(weight, norm.bias, norm.running_mean, norm.running_var, norm.momentum, norm.eps, offset, calls)  # type: ignore[arg-type]
        bound = neuron._bound([y], bind_norm, weight.dtype, len(weight))  # type: ignore[operator]
        if bound is not None:
            return bound(given, y)[0]
        return neuron._scan([y], None, by=functools.partial(norm_scan, given))[0]  # type: ignore[operator]


def _may_follow(neuron: nn.Module) -> bool:
    return isinstance(neuron, Neuron) and type(neuron).forward is Neuron.forward and len(neuron.inputs) == 1


def _usual(connection: _Normed) -> bool:
    """Whether the norm comes last, and is as it was made, with weights and running statistics."""
    norm = next(reversed(connection._modules.values()))
    known = type(norm) in (ChannelNorm, BatchNorm2d)
    return bool(known and norm.affine and norm.track_running_stats and norm.momentum is not None)


def _listened(*modules: nn.Module) -> bool:
    """Whether a hook waits for the call of one of them."""
    return _has_any_global_hook() or any(
        m._forward_hooks or m._forward_pre_hooks or m._backward_hooks or m._backward_pre_hooks for m in modules
    )


class Chain(nn.Sequential):
    """Layers one after the other; a batch norm and the neuron right behind it are one operation in training."""

    def forward(self, x: Tensor) -> Tensor:
        layers = deque(self)
        while layers:
            layer = layers.popleft()
            x = layer.then(layers.popleft(), x) if layers and isinstance(layer, _Normed) else layer(x)
        return x


class LinearNorm(_Normed):
    """A linear layer and batch norm, `[T, B, *space, K]` -> `[T, B, *space, N]`.

    Args:
        inputs: K.
        outputs: N.
        bias: of the linear layer.
    """

    def __init__(self, inputs: int, outputs: int, bias: bool = True) -> None:
        linear = nn.Linear(inputs, outputs, bias=bias)
        nn.init.trunc_normal_(linear.weight, std=0.02)
        if bias:
            nn.init.zeros_(linear.bias)
        super().__init__(OrderedDict(linear=linear, norm=ChannelNorm(outputs)))

    def connect(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        linear: Any = self.linear
        if type(linear) is not nn.Linear or linear.bias is None or why_not_on(x) or _listened(linear):
            return linear(x), None
        return functional.linear(x, linear.weight), linear.bias  # the bias's gradient would take another pass


class ConvNorm(_Normed):
    """A convolution, batch norm and perhaps pooling, `[T, B, H, W, C]` -> `[T, B, H', W', C']`.

    Args:
        inputs, outputs: channels.
        kernel: side of the kernel, which is odd and padded by half.
        stride: of the convolution.
        groups: of the channels.
        bias: of the convolution.
        pool: follow with a maximum over 3x3 at a stride of 2.

    Raises:
        ArgumentError: for an even kernel.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int = 3,
        stride: int = 1,
        groups: int = 1,
        bias: bool = False,
        pool: bool = False,
    ) -> None:
        if kernel < 1 or kernel % 2 == 0:
            raise ArgumentError(f"{type(self).__name__} pads an odd kernel by half, got one of {kernel} x {kernel}.")
        conv = Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, groups=groups, bias=bias)
        layers = OrderedDict(conv=conv, norm=BatchNorm2d(outputs))
        if pool:
            layers["pool"] = SpikePool()
        super().__init__(layers)

    def forward(self, x: Tensor) -> Tensor:
        conv, norm, *pool = self
        maps = norm(conv(x.movedim(-1, 2))).movedim(2, -1)
        return pool[0](maps) if pool else maps

    def connect(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        return self[0](x.movedim(-1, 2)).movedim(2, -1), None


class SpikePool(nn.Module):
    """A maximum over 3x3 at a stride of 2, of spikes the OR: `[T, B, H, W, C]` -> `[T, B, H', W', C]`."""

    def forward(self, x: Tensor) -> Tensor:
        return max_pool(x.flatten(0, 1)).unflatten(0, x.shape[:2])


class ChannelsLast(nn.Module):
    """`[T, B, C, H, W]` -> `[T, B, H, W, C]`."""

    def forward(self, x: Tensor) -> Tensor:
        return x.movedim(2, -1).contiguous()


class MeanOverSpace(nn.Module):
    """The mean over all tokens of each step, `[T, B, *space, D]` -> `[T, B, D]`."""

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(2, -2).mean(2)


class Residual(Chain):
    """`x + f(x)`, `f` the layers one after the other."""

    def forward(self, x: Tensor) -> Tensor:
        return x + super().forward(x)


class Sum(nn.Module):
    """`f(x) + g(x)`: two ways through which the input goes.

    Args:
        f, g: what is added.
    """

    def __init__(self, f: nn.Module, g: nn.Module) -> None:
        super().__init__()
        self.f, self.g = f, g

    def forward(self, x: Tensor) -> Tensor:
        return self.f(x) + self.g(x)


def check_shortcut(shortcut: str) -> None:
    """Refuse what is no `Shortcut` with an UnknownNameError."""
    if shortcut not in get_args(Shortcut):
        raise UnknownNameError("shortcut", shortcut, get_args(Shortcut))


def branch(shortcut: Shortcut, neuron: MakeNeuron, *connections: nn.Module) -> list[nn.Module]:
    """The connections with a neuron behind each (`sew`) or before each (`membrane`)."""
    check_shortcut(shortcut)
    pairs = [(connection, neuron(1.0)) for connection in connections]
    return [layer for pair in pairs for layer in (pair if shortcut == "sew" else reversed(pair))]
