"""From pictures to tokens: what comes before the blocks of a spiking Transformer."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from spikenet.errors import ArgumentError
from spikenet.layers.channels import (
    ChannelsLast,
    ConvNorm,
    MakeNeuron,
    Residual,
    Shortcut,
    SpikePool,
    branch,
    transformer_lif,
)

__all__ = ["RelativePosition", "SpikingPatchSplitting"]


class RelativePosition(Residual):
    """A position code made of each token's neighbourhood.

        x + LIF(BN(Conv3x3(x)))          shortcut="sew"
        x + BN(Conv3x3(LIF(x)))          shortcut="membrane"

    Args:
        dim: channels.
        shortcut: where the neuron stands, see `Shortcut`.
        neuron: makes a neuron from its threshold.

    Shape:
        `[T, B, H, W, D]` -> the same, the input included.

    Source: Zhou et al., "Spikformer", ICLR 2023; Yao et al., "Spike-driven Transformer", NeurIPS 2023.
    """

    def __init__(self, dim: int, shortcut: Shortcut = "sew", neuron: MakeNeuron = transformer_lif) -> None:
        super().__init__(*branch(shortcut, neuron, ConvNorm(dim, dim)))


class SpikingPatchSplitting(nn.Sequential):
    """Four convolutions to D/8, D/4, D/2 and D channels, some with pooling, and a relative position code.

        stage: Conv3x3 -> BN -> LIF -> max pool          pool_before_neuron=False, as in the authors' code
               Conv3x3 -> BN -> max pool -> LIF          pool_before_neuron=True

    With `shortcut="membrane"` the last stage has no neuron, and the blocks that follow begin with one.

    Args:
        channels: of the input.
        dim: D, a multiple of 8.
        pool: which of the four stages halve height and width.
        pool_before_neuron: pool potentials instead of spikes; at one time step there is no difference.
        shortcut: where the neurons stand, see `Shortcut`.
        neuron: makes a neuron from its threshold.

    Shape:
        `[T, B, C, H, W]` -> `[T, B, H', W', D]`.

    Raises:
        ArgumentError: if D is no multiple of 8, or for other than four stages.

    Source: Zhou et al., "Spikformer", ICLR 2023, section 3.2.
    """

    def __init__(
        self,
        channels: int,
        dim: int,
        pool: Sequence[bool] = (True, True, True, True),
        pool_before_neuron: bool = False,
        shortcut: Shortcut = "sew",
        neuron: MakeNeuron = transformer_lif,
    ) -> None:
        if dim % 8 or len(pool) != 4:
            raise ArgumentError(
                f"SpikingPatchSplitting takes a width that is a multiple of 8 and four choices of pooling, "
                f"got {dim} and {tuple(pool)}."
            )
        widths = (channels, dim // 8, dim // 4, dim // 2, dim)
        layers: list[nn.Module] = [ChannelsLast()]
        for number, pooled in enumerate(pool):
            last = number == 3 and shortcut == "membrane"
            inside = pooled and (pool_before_neuron or last)
            layers.append(ConvNorm(widths[number], widths[number + 1], pool=inside))
            layers += [] if last else [neuron(1.0)]
            layers += [SpikePool()] if pooled and not inside else []
        super().__init__(*layers, RelativePosition(dim, shortcut, neuron))
