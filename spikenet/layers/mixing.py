"""The other halves of spiking Transformer blocks: feed-forward layers and depth-wise convolutions."""

from __future__ import annotations

from torch import Tensor, nn

from spikenet.layers.channels import Chain, ConvNorm, LinearNorm, MakeNeuron, Shortcut, branch, transformer_lif

__all__ = ["DepthwiseMixing", "FeedForward"]


class FeedForward(nn.Module):
    """Two linear layers with batch norm and neurons, each token by itself.

        f(x) = LIF(BN(W2 LIF(BN(W1 x))))            shortcut="sew"
        f(x) = BN(W2 LIF(BN(W1 LIF(x))))            shortcut="membrane"
        f(x) = h + BN(W2 LIF(x + h)), h = BN(W1 LIF(x))     shortcut="membrane", ratio=1

    Args:
        dim: D, features of a token.
        ratio: width of the hidden layer over D.
        shortcut: where the neurons stand, see `Shortcut`.
        neuron: makes a neuron from its threshold.

    Shape:
        `[T, B, *space, D]` -> the same; what is returned is to be added to the input.

    Source: Zhou et al., "Spikformer", ICLR 2023; with a membrane shortcut Yao et al., "Spike-driven Transformer",
    NeurIPS 2023, whose code adds the shortcut inside where both widths are equal.
    """

    def __init__(
        self, dim: int, ratio: float = 4.0, shortcut: Shortcut = "sew", neuron: MakeNeuron = transformer_lif
    ) -> None:
        super().__init__()
        hidden = int(dim * ratio)
        self.widen = Chain(*branch(shortcut, neuron, LinearNorm(dim, hidden)))
        self.narrow = Chain(*branch(shortcut, neuron, LinearNorm(hidden, dim)))
        self.inner = shortcut == "membrane" and hidden == dim

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.widen(x)
        return hidden + self.narrow(x + hidden) if self.inner else self.narrow(hidden)


class DepthwiseMixing(Chain):
    """A depth-wise convolution of spikes, which mixes neighbouring tokens and keeps high frequencies.

        f(x) = BN(DWConv(LIF(x)))                   shortcut="membrane"
        f(x) = LIF(BN(DWConv(x)))                   shortcut="sew"

    Args:
        dim: channels.
        kernel: side of the kernel.
        shortcut: where the neuron stands, see `Shortcut`.
        neuron: makes a neuron from its threshold.

    Shape:
        `[T, B, H, W, D]` -> the same; what is returned is to be added to the input.

    Source: Fang et al., "Spiking Transformers need high-frequency information", NeurIPS 2025.
    """

    def __init__(
        self, dim: int, kernel: int = 3, shortcut: Shortcut = "membrane", neuron: MakeNeuron = transformer_lif
    ) -> None:
        super().__init__(*branch(shortcut, neuron, ConvNorm(dim, dim, kernel, groups=dim, bias=True)))
