"""A spiking language model learns to write: SpikeGPT on seven books of the King James Bible, against a trigram model.

    python examples/spikegpt.py [--quick] [--minutes 25] [--prompt "And David"]

Trained on random pieces of the first eight tenths of the text for a fixed time; the learning rate falls to zero by the
end of it, and the last weights are taken. Test text is read in order, sixteen stretches side by side. The trigram
model mixes the frequencies of one, two and three characters, with shares that suit the validation part best.
"""

import argparse
import math
import time

import torch
from torch.nn import functional

from spikenet.data import KJVText
from spikenet.models import SpikeGPT, generate
from spikenet.training import bits_per_token


def train(model: SpikeGPT, tokens: torch.Tensor, minutes: float, length: int = 128, batch: int = 16) -> int:
    """By cross-entropy until the time is over; returns the number of steps."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.0, betas=(0.9, 0.99), weight_decay=0.0, fused=True)
    pieces = torch.arange(length + 1)[:, None]
    start, step, shown = time.perf_counter(), 0, 0.0
    model.train()
    while (done := (time.perf_counter() - start) / (60 * minutes)) < 1:
        optimizer.param_groups[0]["lr"] = 4e-3 * min((step + 1) / 100, 0.5 + 0.5 * math.cos(math.pi * done))
        chosen = tokens[torch.randint(len(tokens) - length, (batch,)) + pieces]  # [T + 1, B]
        loss = functional.cross_entropy(model(chosen[:-1]).flatten(0, 1), chosen[1:].flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        step += 1
        if done > shown:
            print(f"{done:4.0%}  step {step:6d}  {loss.item() / math.log(2):.3f} bits per character", flush=True)
            shown += 0.05
    return step


class Trigram:
    """P(c | a b) as a mixture of frequencies of c, of c behind b, of c behind a b, and equal chances."""

    def __init__(self, train: torch.Tensor, valid: torch.Tensor, size: int) -> None:
        self.size = size
        self.tables = [self._table(train, order) for order in (1, 2, 3)]
        self.shares = torch.full((4,), 0.25)
        chances = self._chances(valid)
        for _ in range(50):  # expectation maximisation
            weighted = chances * self.shares
            self.shares = (weighted / weighted.sum(1, keepdim=True)).mean(0)

    def bits_per_character(self, tokens: torch.Tensor) -> float:
        return -(self._chances(tokens) @ self.shares).log2().mean().item()

    def _keys(self, tokens: torch.Tensor, order: int) -> torch.Tensor:
        return sum(tokens[2 - i : len(tokens) - i] * self.size**i for i in range(order))  # type: ignore[return-value]

    def _table(self, train: torch.Tensor, order: int) -> torch.Tensor:
        counts = torch.bincount(self._keys(train, order), minlength=self.size**order).view(-1, self.size).double()
        return (counts / counts.sum(1, keepdim=True).clamp(min=1)).flatten()

    def _chances(self, tokens: torch.Tensor) -> torch.Tensor:
        known = [table[self._keys(tokens, order)] for order, table in enumerate(self.tables, start=1)]
        return torch.stack([torch.full_like(known[0], 1 / self.size), *known], 1).float()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a few seconds of training on a small network")
    parser.add_argument("--minutes", type=float, default=25.0)
    parser.add_argument("--prompt", default="And David said")
    options = parser.parse_args()
    torch.manual_seed(0)
    text = KJVText()
    dim, depth, minutes = (32, 1, 0.1) if options.quick else (128, 3, options.minutes)
    model = SpikeGPT(len(text.classes), dim, depth, dropout=0.0)
    print(f"SpikeGPT of {sum(p.numel() for p in model.parameters()):,} parameters, {minutes:g} minutes of training")
    steps = train(model, text.parts.train, minutes)
    test = text.parts.test[:4000] if options.quick else text.parts.test
    trigram = Trigram(text.parts.train, text.parts.val, len(text.classes))
    print(f"{steps} steps; bits per character, validation: {bits_per_token(model, text.parts.val[: len(test)]):.3f}")
    print(f"bits per character, test: SpikeGPT {bits_per_token(model, test):.3f}", end=", ")
    print(f"trigram {trigram.bits_per_character(test):.3f}")
    drawn = generate(model, text.encode(options.prompt), 60 if options.quick else 400, temperature=0.8)
    print(options.prompt + text.decode(drawn))


if __name__ == "__main__":
    main()
