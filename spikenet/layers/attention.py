"""Attention without softmax, for spikes: self-attention, query-key masks, and spike-driven self-attention.

Each takes `[T, B, *space, D]` and returns what is to be added to it. With `shortcut="sew"` it takes spikes or sums of
spikes and ends in a neuron; with `"membrane"` it begins with one and ends in batch norm.
"""

from __future__ import annotations

import functools
from typing import Literal

from torch import Tensor, nn

from spikenet.errors import ArgumentError
from spikenet.kernels.attention import qk_channel, qk_token, spiking_attention_lif
from spikenet.layers.channels import LinearNorm, MakeNeuron, Shortcut, check_shortcut, transformer_lif
from spikenet.neurons.carry import carrier

__all__ = ["QKAttention", "SpikeDrivenSelfAttention", "SpikingSelfAttention"]


class _Attention(nn.Module):
    """`widths` are the outputs of the projection that is made of the input: q, k and perhaps v."""

    def __init__(
        self, dim: int, heads: int, widths: tuple[int, ...], shortcut: Shortcut, bias: bool, neuron: MakeNeuron
    ) -> None:
        super().__init__()
        check_shortcut(shortcut)
        if heads < 1 or any(width % heads for width in widths):
            raise ArgumentError(f"{type(self).__name__}: {heads} heads do not divide widths of {widths} evenly.")
        self.heads, self.widths = heads, widths
        self.lif_in = neuron(1.0) if shortcut == "membrane" else nn.Identity()
        self.project = LinearNorm(dim, sum(widths), bias)
        self.lif = neuron(1.0)
        self.lif_attention = neuron(0.5)
        self.out = LinearNorm(widths[-1], dim)
        self.lif_out = neuron(1.0) if shortcut == "sew" else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        parts = self.project.then(self.lif, self.lif_in(x.flatten(2, -2))).split(self.widths, -1)
        attended = self.attend(*(part.unflatten(-1, (self.heads, -1)).transpose(2, 3) for part in parts))
        return self.out.then(self.lif_out, attended.transpose(2, 3).flatten(3)).view(x.shape)

    def attend(self, *parts: Tensor) -> Tensor:
        """From spikes of the projections `[T, B, heads, N, d]` to spikes of that shape."""
        raise NotImplementedError


class SpikingSelfAttention(_Attention):
    """Self-attention of spikes (SSA).

        q, k, v = LIF(BN(W x))                              spikes, in heads of d = D / heads
        a = LIF_0.5(scale q (k^T v)) = LIF_0.5(scale (q k^T) v)
        f(x) = LIF(BN(W_o a))                               shortcut="sew"
        f(x) = BN(W_o a), with LIF(x) in the place of x     shortcut="membrane"

    Of the two orders, which agree to the last bit for spikes, the one with fewer operations runs; where there is a
    kernel for product and neuron together, neither scores nor sums are written out.

    Args:
        dim: D, features of a token.
        heads: number of heads.
        scale: factor of the product: 0.125 for pictures, 0.25 for CIFAR10-DVS.
        shortcut: where the neurons stand, see `Shortcut`.
        bias: of the projections to q, k and v; the one back has one always.
        value_ratio: width of v over D.
        neuron: makes a neuron from its threshold.

    Shape:
        `[T, B, *space, D]` -> the same.

    Raises:
        ArgumentError: if the heads do not divide the widths.

    Source: Zhou et al., "Spikformer", ICLR 2023, section 3.3; with a membrane shortcut Fang et al., "Spiking
    Transformers need high-frequency information", NeurIPS 2025.
    """

    def __init__(
        self,
        dim: int,
        heads: int = 8,
        scale: float = 0.125,
        shortcut: Shortcut = "sew",
        bias: bool = False,
        value_ratio: int = 1,
        neuron: MakeNeuron = transformer_lif,
    ) -> None:
        super().__init__(dim, heads, (dim, dim, value_ratio * dim), shortcut, bias, neuron)
        self.scale = scale

    def attend(self, *parts: Tensor) -> Tensor:
        q, k, v = parts
        by = functools.partial(spiking_attention_lif, q, k, self.scale)
        running = carrier()
        if running is None:
            return self.lif_attention._scan([v], None, by=by)[0]
        key, state = running.take(self.lif_attention, v)
        spikes, state, _ = self.lif_attention._scan([v], state, final=True, by=by)
        running.put(key, state)
        return spikes


class QKAttention(_Attention):
    """A mask of the keys by the queries' row or column sums; no v, and cost O(N D).

        q, k = LIF(BN(W x))
        a = LIF_0.5(sum over a head's channels of q)  [N, 1]      over="token"
        a = LIF_0.5(sum over the tokens of q)         [1, d]      over="channel"
        f(x) = LIF(BN(W_o (a * k)))                               shortcut="sew"
        f(x) = BN(W_o (a * k)), with LIF(x) in the place of x     shortcut="membrane"

    Args:
        dim: D, features of a token.
        heads: number of heads.
        over: what is masked, whole tokens of a head or whole channels.
        shortcut: where the neurons stand, see `Shortcut`.
        bias: of the projections to q and k; the one back has one always.
        neuron: makes a neuron from its threshold.

    Shape:
        `[T, B, *space, D]` -> the same.

    Raises:
        ArgumentError: if the heads do not divide the width, or for another `over`.

    Source: Zhou et al., "QKFormer", NeurIPS 2024, section 3.2.
    """

    def __init__(
        self,
        dim: int,
        heads: int = 8,
        over: Literal["token", "channel"] = "token",
        shortcut: Shortcut = "sew",
        bias: bool = False,
        neuron: MakeNeuron = transformer_lif,
    ) -> None:
        if over not in ("token", "channel"):
            raise ArgumentError(f"QKAttention: over is 'token' or 'channel', got {over!r}.")
        super().__init__(dim, heads, (dim, dim), shortcut, bias, neuron)
        self.over = over

    def attend(self, *parts: Tensor) -> Tensor:
        q, k = parts
        return (qk_token if self.over == "token" else qk_channel)(q, k, self.lif_attention)


class SpikeDrivenSelfAttention(_Attention):
    """Self-attention of masks and additions alone (SDSA), cost O(N D).

        q, k, v = LIF(BN(W x))
        g = LIF_0.5(sum over the tokens of k * v)        a gate for each channel
        f(x) = LIF(BN(W_o (g * q)))                      shortcut="sew"
        f(x) = BN(W_o (g * q)), with LIF(x) for x        shortcut="membrane"

    Heads make no difference, for every channel has its own gate.

    Args:
        dim: D, features of a token.
        shortcut: where the neurons stand, see `Shortcut`.
        bias: of the projections to q, k and v; the one back has one always.
        neuron: makes a neuron from its threshold.

    Shape:
        `[T, B, *space, D]` -> the same.

    Source: Yao et al., "Spike-driven Transformer", NeurIPS 2023, section 3.3.
    """

    def __init__(
        self, dim: int, shortcut: Shortcut = "membrane", bias: bool = False, neuron: MakeNeuron = transformer_lif
    ) -> None:
        super().__init__(dim, 1, (dim, dim, dim), shortcut, bias, neuron)

    def attend(self, *parts: Tensor) -> Tensor:
        q, k, v = parts
        return self.lif_attention((k * v).sum(-2, keepdim=True)) * q
