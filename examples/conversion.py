"""From a dense Transformer to spikes: a small language model's loss before and after, and how sparse its trains are.

    python examples/conversion.py [--quick] [--minutes 3]

A Transformer with softmax attention learns characters of the King James Bible. Then the inputs of all of its linear
layers are sent as spikes, whose threshold follows each token: no weight changes. More spikes (a larger k) come nearer
to the dense model. The products of queries, keys and values stay as they are.
"""

import argparse
import math
import time

import torch
from torch import Tensor, nn
from torch.nn import functional

from spikenet.data import KJVText
from spikenet.layers import SpikeCodedLinear, spike_coded, spike_counts, spike_train
from spikenet.training import bits_per_token


class Transformer(nn.Module):
    """Tokens `[T, B]` to logits `[T, B, V]`, for texts of up to `length` tokens."""

    def __init__(self, vocabulary: int, dim: int, depth: int, length: int) -> None:
        super().__init__()
        self.embedding, self.places = nn.Embedding(vocabulary, dim), nn.Embedding(length, dim)
        self.blocks = nn.Sequential(*(Block(dim) for _ in range(depth)))
        self.head = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, vocabulary))

    def forward(self, tokens: Tensor) -> Tensor:
        places = self.places(torch.arange(len(tokens), device=tokens.device))
        return self.head(self.blocks(self.embedding(tokens) + places[:, None]))


class Block(nn.Module):
    def __init__(self, dim: int, heads: int = 4) -> None:
        super().__init__()
        self.heads = heads
        self.norm, self.qkv, self.out = nn.LayerNorm(dim), nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.mlp = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim))

    def forward(self, x: Tensor) -> Tensor:
        heads = self.qkv(self.norm(x)).unflatten(-1, (3, self.heads, -1)).permute(2, 1, 3, 0, 4)  # [3, B, H, T, d]
        mixed = functional.scaled_dot_product_attention(*heads, is_causal=True)
        x = x + self.out(mixed.permute(2, 0, 1, 3).flatten(2))
        return x + self.mlp(x)


def train(model: Transformer, tokens: Tensor, minutes: float, length: int) -> int:
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, betas=(0.9, 0.99), fused=True)
    start, steps = time.perf_counter(), 0
    while (done := (time.perf_counter() - start) / (60 * minutes)) < 1:
        optimizer.param_groups[0]["lr"] = 3e-3 * min((steps + 1) / 50, 0.5 + 0.5 * math.cos(math.pi * done))
        chosen = tokens[torch.randint(len(tokens) - length, (16,)) + torch.arange(length + 1)[:, None]]
        functional.cross_entropy(model(chosen[:-1]).flatten(0, 1), chosen[1:].flatten()).backward()
        optimizer.step()
        optimizer.zero_grad()
        steps += 1
    return steps


@torch.inference_mode()
def trains(model: nn.Module, tokens: Tensor, k: float) -> tuple[float, float, float]:
    """Sparsity of ternary and bitwise trains over all linear layers, and spikes an element."""
    slots = {"ternary": 0.0, "bitwise": 0.0}
    spikes, elements = dict(slots), 0

    def look(layer: SpikeCodedLinear, inputs: tuple[Tensor]) -> None:
        nonlocal elements
        counts = spike_counts(inputs[0], k).counts
        elements += counts.numel()
        for code in slots:
            train = spike_train(counts, code)
            assert torch.equal(torch.tensordot(train.weight, train.spikes, 1), counts)  # exact
            slots[code] += train.spikes.numel()
            spikes[code] += train.spikes.count_nonzero().item()

    handles = [m.register_forward_pre_hook(look) for m in model.modules() if isinstance(m, SpikeCodedLinear)]
    model(tokens)
    for handle in handles:
        handle.remove()
    return (*(1 - spikes[code] / slots[code] for code in slots), spikes["ternary"] / elements)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a few seconds of training")
    parser.add_argument("--minutes", type=float, default=3.0)
    options = parser.parse_args()
    torch.manual_seed(0)
    text, length, minutes = KJVText(), 64, 0.1 if options.quick else options.minutes
    model = Transformer(len(text.classes), 64, 2, length)
    steps = train(model, text.parts.train, minutes, length)
    test = text.parts.test[: 6400 if options.quick else 64_000]
    dense = bits_per_token(model, test, rows=len(test) // length)
    print(f"dense, {steps} steps: {dense:.4f} bits per character on test text")
    print("   k   bits    change   spikes an element   sparsity of ternary and bitwise trains")
    for k in (1.0, 2.0, 3.0, 4.0, 8.0):
        coded = spike_coded(model, k)
        bits = bits_per_token(coded, test, rows=len(test) // length)
        ternary, bitwise, mean = trains(coded, test[:6400].view(-1, length).T, k)
        print(f"{k:4.0f}   {bits:.4f}  {bits / dense - 1:+7.2%}   {mean:14.2f}   {ternary:14.1%} {bitwise:8.1%}")


if __name__ == "__main__":
    main()
