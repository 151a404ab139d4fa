"""From pictures to tokens: what comes before the blocks of a spiking Transformer."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from spikenet.errors import ArgumentError
from spikenet.layers.channels import (
    Chain,
    ChannelsLast,
    ConvNorm,
    MakeNeuron,
    Residual,
    Shortcut,
    SpikePool,
    Sum,
    branch,
    check_shortcut,
    transformer_lif,
)

__all__ = ["PatchMerging", "RelativePosition", "SpikingConvStem", "SpikingPatchSplitting"]


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


class SpikingPatchSplitting(Chain):
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
        _check_stages("SpikingPatchSplitting", dim, pool)
        check_shortcut(shortcut)
        widths = (channels, dim // 8, dim // 4, dim // 2, dim)
        layers: list[nn.Module] = [ChannelsLast()]
        for number, pooled in enumerate(pool):
            last = number == 3 and shortcut == "membrane"
            inside = pooled and (pool_before_neuron or last)
            layers.append(ConvNorm(widths[number], widths[number + 1], pool=inside))
            layers += [] if last else [neuron(1.0)]
            layers += [SpikePool()] if pooled and not inside else []
        super().__init__(*layers, RelativePosition(dim, shortcut, neuron))


class SpikingConvStem(Chain):
    """Four strided convolutions to D/8, D/4, D/2 and D channels, each followed by a residual pair that widens and
    narrows, and a relative position code. The order of layers is this library's: that of Spikformer V2 is not public.

        stage: y = LIF(BN(Conv3x3(x)));  y + LIF(BN(Conv3x3(LIF(BN(Conv1x1(y))))))

    Args:
        channels: of the input.
        dim: D, a multiple of 8.
        halve: in which of the four stages the first convolution strides.
        ratio: width inside of the pair over the stage's.
        neuron: makes a neuron from its threshold.

    Shape:
        `[T, B, C, H, W]` -> `[T, B, H', W', D]`.

    Raises:
        ArgumentError: if D is no multiple of 8, or for other than four stages.

    Source: after Zhou et al., "Spikformer V2", arXiv 2401.02020 (a stem with supplementary convolutions).
    """

    def __init__(
        self,
        channels: int,
        dim: int,
        halve: Sequence[bool] = (True, True, True, True),
        ratio: int = 2,
        neuron: MakeNeuron = transformer_lif,
    ) -> None:
        _check_stages("SpikingConvStem", dim, halve)
        layers: list[nn.Module] = [ChannelsLast()]
        inputs = channels
        for halved, width in zip(halve, (dim // 8, dim // 4, dim // 2, dim), strict=True):
            pair = ConvNorm(width, ratio * width, 1), ConvNorm(ratio * width, width)
            layers += [ConvNorm(inputs, width, stride=2 if halved else 1), neuron(1.0)]
            layers += [Residual(*branch("sew", neuron, *pair))]
            inputs = width
        super().__init__(*layers, RelativePosition(dim, neuron=neuron))


def _check_stages(name: str, dim: int, stages: Sequence[bool]) -> None:
    if dim % 8 or len(stages) != 4:
        raise ArgumentError(
            f"{name} takes a width that is a multiple of 8 and a choice to halve for each of four stages, "
            f"got {dim} and {tuple(stages)}."
        )


class PatchMerging(Chain):
    """Half the height and width and other channels, by two convolutions and a shortcut of one.

        LIF(BN(Conv3x3(LIF(pool(BN(Conv3x3(x))))))) + LIF(BN(Conv1x1(x)))              shortcut="sew"
        BN(Conv3x3(LIF(pool(BN(Conv3x3(s)))))) + BN(Conv1x1(s)), s = LIF(x)            shortcut="membrane"

    The shortcut halves the map by the stride of its convolution, or with `pool_shortcut` by a maximum behind its norm,
    which keeps high frequencies.

    Args:
        inputs, outputs: channels.
        shortcut: where the neurons stand, see `Shortcut`.
        pool_shortcut: pool in the shortcut too.
        neuron: makes a neuron from its threshold.

    Shape:
        `[T, B, H, W, C]` -> `[T, B, H / 2, W / 2, C']`, odd sides rounded up.

    Source: Zhou et al., "QKFormer", NeurIPS 2024, section 3.4 (`sew`); Fang et al., "Spiking Transformers need
    high-frequency information", NeurIPS 2025 (`membrane` with `pool_shortcut`).
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        shortcut: Shortcut = "sew",
        pool_shortcut: bool = False,
        neuron: MakeNeuron = transformer_lif,
    ) -> None:
        check_shortcut(shortcut)
        post, pre = ([neuron(1.0)], []) if shortcut == "sew" else ([], [neuron(1.0)])
        main = [ConvNorm(inputs, outputs, pool=True), neuron(1.0), ConvNorm(outputs, outputs), *post]
        strided = ConvNorm(inputs, outputs, 1, 1 if pool_shortcut else 2, pool=pool_shortcut)
        skip = [strided, *([neuron(1.0)] if shortcut == "sew" else [])]
        super().__init__(*pre, Sum(Chain(*main), Chain(*skip)))
