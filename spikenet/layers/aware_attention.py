"""Attention of real queries and keys without softmax: aware of their norm or magnitude, or through a sigmoid.

Each takes potentials or sums of spikes, begins with a neuron, so that the projections receive spikes, and returns what
is to be added to its input (a membrane shortcut). Queries, keys and values are real numbers: for spikes the feature
maps would say nothing.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from spikenet.errors import ArgumentError
from spikenet.layers.channels import LinearNorm, MakeNeuron, transformer_lif
from spikenet.layers.fold import Conv2d
from spikenet.layers.rotary import rotate, turns

__all__ = ["MagnitudeAwareAttention", "NormAwareAttention", "SigmoidAttention"]

EPS = 1e-6


class _MapAttention(nn.Module):
    """`parts` projections of width D: q, k, v and perhaps a gate; `local` adds a depth-wise 5x5 convolution of v."""

    def __init__(self, dim: int, heads: int, parts: int, local: bool, neuron: MakeNeuron) -> None:
        super().__init__()
        unit = 4 if local else 1  # pairs of features turn with rows and columns
        if heads < 1 or dim % (unit * heads):
            raise ArgumentError(
                f"{type(self).__name__} wants a width that is a multiple of {unit} times the heads, got {dim=}, "
                f"{heads=}."
            )
        self.heads, self.parts = heads, parts
        self.lif, self.project = neuron(1.0), LinearNorm(dim, parts * dim)
        self.local = Conv2d(dim, dim, 5, padding=2, groups=dim) if local else None
        self.out = LinearNorm(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v, *gate = self.project(self.lif(x)).chunk(self.parts, -1)
        y = self.attend(self._split(q), self._split(k), self._split(v), x.shape[2:-1])
        y = y.transpose(2, 3).flatten(3).view(x.shape)
        if self.local is not None:
            y = y + self.local(v.movedim(-1, 2)).movedim(2, -1)
        return self.out(self.gated(y, *gate))

    def _split(self, x: Tensor) -> Tensor:
        """`[T, B, *space, D]` -> `[T, B, heads, N, d]`."""
        return x.flatten(2, -2).unflatten(-1, (self.heads, -1)).transpose(2, 3)

    def attend(self, q: Tensor, k: Tensor, v: Tensor, space: torch.Size) -> Tensor:
        """From q, k and v `[T, B, heads, N, d]` to their like."""
        raise NotImplementedError

    def gated(self, y: Tensor, *gate: Tensor) -> Tensor:
        return y


class MagnitudeAwareAttention(_MapAttention):
    """Linear attention that grows sharper with the queries' magnitude, as softmax does (MALA).

        q, k, v, o = BN(W LIF(x)),    phi(u) = ELU(u) + 1,    s = d^(-1/2)
        z_n = s phi(q_n) . mean_m phi(k_m)
        a_n = (1 + 1 / z_n) s / N sum_m (R phi(q_n) . R phi(k_m)) v_m - z_n mean_m v_m
        f(x) = BN(W_o ((a + DWConv5x5(v)) * o))

    head by head, over all N tokens m of a map. Without the rotation R (see `turns` of `spikenet.layers.rotary`, whose
    angles are those of MLLA) the weights of a token sum to 1; some are negative.

    Args:
        dim: D, features of a token.
        heads: number of heads; d = D / heads is a multiple of 4.
        neuron: makes a neuron from its threshold.

    Shape:
        `[T, B, H, W, D]` -> the same.

    Raises:
        ArgumentError: if the heads do not fit the width.

    Source: Fan et al., "Rectifying magnitude neglect in linear attention", ICCV 2025, arXiv 2507.00698, and its code.
    """

    def __init__(self, dim: int, heads: int = 8, neuron: MakeNeuron = transformer_lif) -> None:
        super().__init__(dim, heads, 4, True, neuron)

    def attend(self, q: Tensor, k: Tensor, v: Tensor, space: torch.Size) -> Tensor:
        scale = q.shape[-1] ** -0.5
        q, k = functional.elu(q) + 1, functional.elu(k) + 1
        z = scale * (q * k.mean(-2, keepdim=True)).sum(-1, keepdim=True)
        place = turns(space[0], space[1], q.shape[-1]).to(q.device)
        summed = rotate(q, place) @ (rotate(k, place).mT @ (v * (scale / v.shape[-2])))
        return (1 + 1 / (z + EPS)) * summed - z * v.mean(-2, keepdim=True)

    def gated(self, y: Tensor, *gate: Tensor) -> Tensor:
        return y * gate[0]


class NormAwareAttention(_MapAttention):
    """Linear attention whose feature map grows sharper with the queries' norm (NaLaFormer).

        q, k, v, g = BN(W LIF(x)),    p_n = 3 (1/2 + tanh |q_n|)
        phi(q_n) = [relu(q_n / |q_n|)^p_n, relu(-q_n / |q_n|)^p_n],    phi(k) = [relu(k^3), relu(-k^3)]
        a_n = sum_m (R phi(q_n) . R phi(k_m)) v_m / (sum_m phi(q_n) . phi(k_m))
        f(x) = BN(W_o (LN(a + DWConv5x5(v)) * SiLU(g)))

    head by head, over all N tokens m of a map. The rotation R (see `turns` of `spikenet.layers.rotary`) turns both
    halves of the features alike.

    Args:
        dim: D, features of a token.
        heads: number of heads; d = D / heads is a multiple of 4.
        neuron: makes a neuron from its threshold.

    Shape:
        `[T, B, H, W, D]` -> the same.

    Raises:
        ArgumentError: if the heads do not fit the width.

    Source: Meng et al., "NaLaFormer: norm-aware linear attention for Transformer models", arXiv 2506.21137, as in its
    code.
    """

    def __init__(self, dim: int, heads: int = 8, neuron: MakeNeuron = transformer_lif) -> None:
        super().__init__(dim, heads, 4, True, neuron)
        self.norm = nn.LayerNorm(dim)

    def attend(self, q: Tensor, k: Tensor, v: Tensor, space: torch.Size) -> Tensor:
        norm = q.square().sum(-1, keepdim=True).clamp(min=EPS**2).sqrt()
        power = 3 * (0.5 + norm.tanh())
        k, place = k * k * k, turns(space[0], space[1], q.shape[-1]).to(q.device)
        halves = [(functional.relu(sign * q / norm) ** power, functional.relu(sign * k)) for sign in (1, -1)]
        weight = sum((a * b.mean(-2, keepdim=True)).sum(-1, keepdim=True) for a, b in halves)
        q, k = (torch.cat([rotate(u, place) for u in us], -1) for us in zip(*halves, strict=True))
        return q @ (k.mT @ (v / v.shape[-2])) / (weight + EPS)

    def gated(self, y: Tensor, *gate: Tensor) -> Tensor:
        return self.norm(y) * functional.silu(gate[0])


class SigmoidAttention(_MapAttention):
    """Attention whose weights are sigmoids, each by itself.

        q, k, v = BN(W LIF(x))
        a_n = sum_m sigmoid(q_n . k_m / d^(1/2) - log N) v_m
        f(x) = BN(W_o a)

    head by head, over all N tokens m. The shift by log N lets the weights of a token sum to about 1 at the start.

    Args:
        dim: D, features of a token.
        heads: number of heads, d = D / heads.
        neuron: makes a neuron from its threshold.

    Shape:
        `[T, B, *space, D]` -> the same.

    Raises:
        ArgumentError: if the heads do not divide the width.

    Source: Ramapuram et al., "Theory, analysis, and best practices for sigmoid self-attention", arXiv 2409.04431.
    """

    def __init__(self, dim: int, heads: int = 8, neuron: MakeNeuron = transformer_lif) -> None:
        super().__init__(dim, heads, 3, False, neuron)

    def attend(self, q: Tensor, k: Tensor, v: Tensor, space: torch.Size) -> Tensor:
        scores = (q * q.shape[-1] ** -0.5) @ k.mT - math.log(max(k.shape[-2], 1))
        return scores.sigmoid() @ v
