"""Linear attention with spiking queries and keys among the tokens of a window."""

from __future__ import annotations

from torch import Tensor, nn

from spikenet.errors import ArgumentError, ShapeError
from spikenet.kernels.attention import windowed_attention
from spikenet.layers.channels import LinearNorm, MakeNeuron, transformer_lif
from spikenet.layers.fold import Conv2d
from spikenet.layers.rotary import rotate, turns

__all__ = ["SpikingLinearAttention"]


class SpikingLinearAttention(nn.Module):
    """Normalised linear attention in windows of the map; queries and keys are spikes, values the input itself.

        q, k = LIF(BN(W x))                     phi(u) = ELU(u) + 1: 1 without a spike, 2 with one
        y_n = sum_m (R phi(q_n) . R phi(k_m)) x_m / (sum_m phi(q_n) . phi(k_m))  +  DWConv3x3(x)_n

    over the tokens m of the window of n, head by head. The rotation R turns pairs of features by an angle that grows
    with the token's row (first half of the pairs) or column (second half), so that a product depends on the distance
    alone; the sum below the line is without it.

    Args:
        dim: D, features of a token.
        heads: number of heads; D / heads is a multiple of 4.
        window: side of the square windows, a divisor of H and W.
        neuron: makes a neuron from its threshold.

    Shape:
        `[T, B, H, W, D]` -> the same.

    Raises:
        ArgumentError: if the heads do not fit the width. ShapeError: if the windows do not fit the map.

    Source: Chen et al., "SpikMamba", ACM MM Asia 2024, as in its code.
    """

    turns: Tensor

    def __init__(self, dim: int, heads: int = 8, window: int = 8, neuron: MakeNeuron = transformer_lif) -> None:
        super().__init__()
        if heads < 1 or window < 1 or dim % (4 * heads):
            raise ArgumentError(
                f"SpikingLinearAttention wants a width that is a multiple of 4 times the heads and windows of 1 or "
                f"more, got {dim=}, {heads=}, {window=}."
            )
        self.heads, self.window = heads, window
        self.project, self.lif = LinearNorm(dim, 2 * dim), neuron(1.0)
        self.local = Conv2d(dim, dim, 3, padding=1, groups=dim)
        self.register_buffer("turns", turns(window, window, dim // heads), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[2:4]
        if height % self.window or width % self.window:
            raise ShapeError(f"windows of {self.window} do not divide a map of {height} x {width}")
        q, k = self.project.then(self.lif, x).chunk(2, -1)
        y = windowed_attention(self._split(q), self._split(k), self._split(x), self.window**2, rotate=self._rotate)
        return self._join(y, height, width) + self.local(x.movedim(-1, 2)).movedim(2, -1)

    def _split(self, x: Tensor) -> Tensor:
        """`[T, B, H, W, D]` -> `[T, B, heads, N, d]`, the tokens of a window next to each other."""
        side = self.window
        x = x.unflatten(3, (-1, side)).unflatten(2, (-1, side)).transpose(3, 4)
        return x.flatten(2, 5).unflatten(-1, (self.heads, -1)).transpose(2, 3)

    def _join(self, x: Tensor, height: int, width: int) -> Tensor:
        side = self.window
        x = x.transpose(2, 3).flatten(3).unflatten(2, (height // side, width // side, side, side))
        return x.transpose(3, 4).flatten(4, 5).flatten(2, 3)

    def _rotate(self, x: Tensor) -> Tensor:
        """Each pair of neighbouring features, a complex number, times `turns` `[window tokens, d / 2]`."""
        return rotate(x, self.turns)
