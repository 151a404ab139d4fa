"""Spikformer V2 in style: a convolutional stem, and pre-training without labels by masking and reconstructing."""

from __future__ import annotations

import functools
import math
from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from spikenet.errors import ArgumentError
from spikenet.layers import FeedForward, SpikingConvStem, SpikingSelfAttention, ToDense, transformer_lif
from spikenet.models.base import Network, Readout, block, head, picture

__all__ = ["MaskedPretraining", "SpikformerV2"]


class SpikformerV2(Network):
    """Spikformer with `SpikingConvStem` in the place of patch splitting, made to be pre-trained with
    `MaskedPretraining`. The paper's code is not public; the stem is this library's, and no published size is claimed.

    Called on an `EventTensor` or a dense ``[T, B, C, H, W]``, returns logits ``[B, classes]``.

    Args:
        in_shape: ``(C, H, W)`` of one step.
        classes: number of classes.
        dim: features of a token, a multiple of 8.
        depth: number of blocks.
        heads: of the attention; they change no parameter.
        halve: which of the four stages of the stem halve height and width.
        scale: factor of the attention product.
        ratio: width of the hidden feed-forward layer over `dim`.
        tau: membrane time constant in steps.
        dropout: share of the features dropped before the last layer while training.
        readout: how the outputs become one answer.

    Raises:
        ShapeError: the data are not of the form ``(C, H, W)``, or the input has other features.

    Source: after Zhou et al., "Spikformer V2: join the high accuracy club on ImageNet with an SNN ticket", arXiv
    2401.02020.
    """

    def __init__(
        self,
        in_shape: Sequence[int],
        classes: int,
        dim: int = 64,
        depth: int = 2,
        heads: int = 4,
        halve: Sequence[bool] = (False, False, True, True),
        scale: float = 0.25,
        ratio: float = 4.0,
        tau: float = 2.0,
        dropout: float = 0.0,
        readout: Readout = "mean",
    ) -> None:
        channels, neuron = picture("SpikformerV2", in_shape), functools.partial(transformer_lif, tau=tau)
        layers: OrderedDict[str, nn.Module] = OrderedDict(dense=ToDense())
        layers["stem"] = SpikingConvStem(channels, dim, halve, neuron=neuron)
        for number in range(1, depth + 1):
            attention = SpikingSelfAttention(dim, heads, scale, neuron=neuron)
            layers[f"block{number}"] = block(attention=attention, mlp=FeedForward(dim, ratio, neuron=neuron))
        layers["out"] = head(dim, classes, dropout)
        super().__init__(in_shape, nn.Sequential(layers), readout)
        self.dim, self.patch = dim, 2 ** sum(halve)


class MaskedPretraining(nn.Module):
    """Hides patches of the input and asks for them: the loss of a masked autoencoder around a spiking encoder.

    All tokens enter the encoder's blocks, those of hidden patches as zeros; the mean over time goes through a small
    decoder with softmax attention, which is thrown away afterwards, to the pixels of each patch. The target is the
    input's mean over time, each patch normalised to mean 0 and variance 1; the loss is the mean squared error over the
    hidden patches. The stem's norms take their statistics over all positions, hidden ones too.

    Args:
        network: the encoder; it is trained in place.
        hide: share of the patches that is hidden.
        width: features of the decoder.
        depth: layers of the decoder.
        heads: of its attention.

    Shape:
        `[T, B, C, H, W]` -> the loss, a scalar.

    Raises:
        ArgumentError: if H or W is no multiple of the encoder's patch or the picture is a single one, `hide` is not
            between 0 and 1, or `width` is no multiple of 4 and of the heads.

    Source: after He et al., "Masked autoencoders", CVPR 2022, and the pre-training of Yao et al., IEEE TPAMI 47(4),
    2025.
    """

    def __init__(
        self, network: SpikformerV2, hide: float = 0.5, width: int = 64, depth: int = 1, heads: int = 4
    ) -> None:
        super().__init__()
        channels, height, side = network.features
        if height % network.patch or side % network.patch or not 0 < hide < 1:
            raise ArgumentError(
                f"MaskedPretraining wants a picture of whole patches of {network.patch} and a share to hide between "
                f"0 and 1, got {height} x {side} and {hide}."
            )
        self.network, self.hide = network, hide
        self.grid = height // network.patch, side // network.patch
        if self.grid == (1, 1) or width < 4 or width % 4 or heads < 1 or width % heads:
            raise ArgumentError(
                f"MaskedPretraining wants two patches or more and a width that is a multiple of 4 and of the heads, "
                f"got {self.grid[0]} x {self.grid[1]} patches, {width=} and {heads=}."
            )
        self.widen = nn.Sequential(nn.LayerNorm(network.dim), nn.Linear(network.dim, width))
        layer = nn.TransformerEncoderLayer(width, heads, 4 * width, 0.0, "gelu", batch_first=True, norm_first=True)
        self.decoder = nn.TransformerEncoder(layer, depth, nn.LayerNorm(width), enable_nested_tensor=False)
        self.pixels = nn.Linear(width, channels * network.patch**2)
        self.register_buffer("places", _places(*self.grid, width), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.draw(x.shape[1], x.device)
        error = (self.reconstruct(x, hidden) - self.target(x)).square().mean(-1)
        return (error * hidden).sum() / hidden.sum()

    def draw(self, batch: int, device: torch.device) -> Tensor:
        """Which patches are hidden, 0 or 1 `[B, N]`: the same number for every entry, at least one."""
        tokens = math.prod(self.grid)
        many = min(max(round(self.hide * tokens), 1), tokens - 1)
        order = torch.rand(batch, tokens, device=device).argsort(1)
        return (order < many).float()

    def reconstruct(self, x: Tensor, hidden: Tensor) -> Tensor:
        """The patches' normalised pixels `[B, N, C p p]`, from what `hidden` `[B, N]` leaves of them."""
        seen = (1 - hidden).to(x.dtype).unflatten(1, self.grid)
        mask = seen.repeat_interleave(self.network.patch, 1).repeat_interleave(self.network.patch, 2)
        body = self.network.body
        tokens = body.get_submodule("stem")(x * mask.unsqueeze(1)) * seen.unsqueeze(-1)
        for name, layer in body.named_children():
            tokens = layer(tokens) if name.startswith("block") else tokens
        return self.pixels(self.decoder(self.widen(tokens.mean(0).flatten(1, 2)) + self.places))

    def target(self, x: Tensor) -> Tensor:
        """The mean over time as normalised patches `[B, N, C p p]`."""
        patch = self.network.patch
        patches = functional.unfold(x.mean(0), patch, stride=patch).mT
        return functional.layer_norm(patches, patches.shape[-1:])


def _places(height: int, width: int, features: int) -> Tensor:
    """Sines and cosines of row and column, `[H W, D]`."""
    rate = 10_000 ** (-torch.arange(features // 4) / (features // 4))
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    angles = torch.cat([rows.reshape(-1, 1) * rate, columns.reshape(-1, 1) * rate], 1)
    return torch.cat([angles.sin(), angles.cos()], 1)
