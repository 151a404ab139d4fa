"""SpikeGPT: a spiking language model with a constant state."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from spikenet.errors import ArgumentError, DtypeError, ShapeError
from spikenet.layers import WKV, Stream, TokenShift
from spikenet.layers.causal_attention import Binary
from spikenet.neurons import LIF

__all__ = ["SpikeGPT", "generate"]


class SpikeGPT(nn.Module):
    """Binary embeddings, blocks of RWKV time mixing and channel mixing whose outputs are spikes, and a linear head.

        x = step(Emb[token]), then in each of `depth` blocks (before the first of them LN0):
        x = x + LIF(W_o(sigmoid(r) * WKV(k, v)))            k, v, r of LN(x), each mixed with the token before
        x = x + LIF(sigmoid(r') * W_v relu(W_k k')^2)       k', r' likewise
        logits = W_head LN(x)

    Tokens are time steps, so that the neurons integrate over the text; training runs over whole sequences at once, and
    `Stream` goes token by token with a state that does not grow: for each block two shifted tokens, the three states
    of WKV and two membranes, of `dim` numbers each.

    Args:
        vocabulary: V, number of different tokens.
        dim: D, features of a token.
        depth: number of blocks.
        tau: membrane time constant in tokens.
        dropout: share of each block's spikes dropped while training.

    Shape:
        tokens, integers `[T, B]` -> logits `[T, B, V]`.

    Raises:
        DtypeError, ShapeError: if the tokens are no integers `[T, B]`.

    Source: Zhu et al., "SpikeGPT: generative pre-trained language model with spiking neural networks", TMLR 2024;
    initial values as in its code.
    """

    def __init__(
        self, vocabulary: int, dim: int = 512, depth: int = 12, tau: float = 2.0, dropout: float = 0.03
    ) -> None:
        super().__init__()
        if min(vocabulary, dim - 1, depth) < 1:
            raise ArgumentError(
                f"SpikeGPT wants a vocabulary and a depth of 1 or more and a width of 2 or more, got "
                f"{vocabulary=}, {depth=}, {dim=}."
            )
        self.vocabulary = vocabulary
        self.embedding = nn.Embedding(vocabulary, dim)
        nn.init.uniform_(self.embedding.weight, -1e-4, 1e-4)
        self.binary = Binary()
        self.norm_in = nn.LayerNorm(dim)
        self.blocks = nn.Sequential(*(_Block(dim, layer, depth, tau, dropout) for layer in range(depth)))
        self.norm_out = nn.LayerNorm(dim)
        self.head = nn.Linear(dim, vocabulary, bias=False)
        nn.init.orthogonal_(self.head.weight, 0.5)

    def forward(self, tokens: Tensor) -> Tensor:
        if tokens.is_floating_point():
            raise DtypeError(f"SpikeGPT takes tokens as integers [T, B], got {tokens.dtype}.")
        if tokens.ndim != 2:
            raise ShapeError(f"SpikeGPT takes tokens [T, B], got {tuple(tokens.shape)}; one text is [T, 1].")
        x = self.norm_in(self.binary(self.embedding(tokens)))
        return self.head(self.norm_out(self.blocks(x)))


class _Block(nn.Module):
    def __init__(self, dim: int, layer: int, depth: int, tau: float, dropout: float) -> None:
        super().__init__()
        self.norm_time, self.time, self.lif_time = nn.LayerNorm(dim), _TimeMixing(dim, layer, depth), LIF(tau)
        self.norm_channel, self.channel = nn.LayerNorm(dim), _ChannelMixing(dim, layer, depth)
        self.lif_channel, self.dropout = LIF(tau), nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.dropout(self.lif_time(self.time(self.norm_time(x))))
        return x + self.dropout(self.lif_channel(self.channel(self.norm_channel(x))))


class _TimeMixing(nn.Module):
    def __init__(self, dim: int, layer: int, depth: int) -> None:
        super().__init__()
        place, later = torch.arange(dim) / dim, layer / max(depth - 1, 1)
        share = place ** (1 - layer / depth)
        self.shift = TokenShift()
        self.mix_k, self.mix_v = nn.Parameter(share.clone()), nn.Parameter(share + 0.3 * later)
        self.mix_r = nn.Parameter(share.sqrt())
        self.key, self.value, self.receptance, self.out = (nn.Linear(dim, dim, bias=False) for _ in range(4))
        for linear in (self.key, self.receptance, self.out):
            nn.init.zeros_(linear.weight)
        nn.init.orthogonal_(self.value.weight)
        decay = -5 + 8 * (torch.arange(dim) / (dim - 1)) ** (0.7 + 1.3 * later)
        first = math.log(0.3) + 0.5 * ((torch.arange(dim) + 1) % 3 - 1)
        self.wkv = WKV(nn.Parameter(decay), nn.Parameter(first))

    def forward(self, x: Tensor) -> Tensor:
        before = self.shift(x)
        k, v, r = (before.lerp(x, mix) for mix in (self.mix_k, self.mix_v, self.mix_r))
        return self.out(self.receptance(r).sigmoid() * self.wkv(self.key(k), self.value(v)))


class _ChannelMixing(nn.Module):
    def __init__(self, dim: int, layer: int, depth: int) -> None:
        super().__init__()
        share = (torch.arange(dim) / dim) ** (1 - layer / depth)
        self.shift = TokenShift()
        self.mix_k, self.mix_r = nn.Parameter(share.clone()), nn.Parameter(share.clone())
        self.key, self.value = nn.Linear(dim, 4 * dim, bias=False), nn.Linear(4 * dim, dim, bias=False)
        self.receptance = nn.Linear(dim, dim, bias=False)
        nn.init.orthogonal_(self.key.weight, 2.0)
        for linear in (self.value, self.receptance):
            nn.init.zeros_(linear.weight)

    def forward(self, x: Tensor) -> Tensor:
        before = self.shift(x)
        k, r = before.lerp(x, self.mix_k), before.lerp(x, self.mix_r)
        return self.receptance(r).sigmoid() * self.value(self.key(k).relu().square())


@torch.inference_mode()
def generate(model: nn.Module, prompt: Tensor, count: int, temperature: float = 1.0) -> Tensor:
    """Draw tokens that go on with a prompt, one at a time, with a state that does not grow.

    Args:
        model: from tokens `[T, B]` to logits `[T, B, V]`; it is put into evaluation mode.
        prompt: tokens `[P]`, at least one.
        count: tokens to draw; they come from torch's generator.
        temperature: the logits are divided by it; 0 takes the likeliest token.

    Returns:
        the tokens drawn, `[count]`.

    Raises:
        ArgumentError: for an empty prompt, or a negative count or temperature.
    """
    if prompt.ndim != 1 or not len(prompt) or count < 0 or temperature < 0:
        raise ArgumentError(
            f"generate wants a prompt [P] of one token or more, and count and temperature of 0 or more; got "
            f"{tuple(prompt.shape)}, {count} and {temperature}."
        )
    stream = Stream(model.eval())
    logits, drawn = stream(prompt[:, None])[-1, 0], []
    for _ in range(count):
        likeliest = temperature == 0
        token = logits.argmax() if likeliest else torch.multinomial((logits / temperature).softmax(-1), 1)[0]
        drawn.append(token)
        logits = stream.step(token[None])[0]
    return torch.stack(drawn) if drawn else prompt[:0]
