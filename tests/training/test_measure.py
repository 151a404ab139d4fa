"""The memory of a step, counted by hand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from spikenet.training import Classifier, peak_memory, seconds_per_sample, training_memory


def test_the_peak_of_what_is_held_at_once() -> None:
    def run() -> None:
        a = torch.ones(1000)
        b = torch.ones(3000)
        del a
        c = torch.ones(500)
        del b, c

    assert peak_memory(run) == 4 * 4000
    assert peak_memory(lambda: None) == 0


class Linear(nn.Module):
    """`[T, B, n]` to `[B, 2]`."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(n, 2))

    def forward(self, x: Tensor) -> Tensor:
        return x[0] @ self.weight


def test_the_memory_of_a_training_step() -> None:
    """A wide linear map: its weights, their gradients and AdamW's two moments are most of it; what AdamW needs for a
    moment is as large as the weights, two at most."""
    n = 100_000
    module = Classifier(Linear(n), 2)
    found = training_memory(module, (torch.zeros(1, 1, n), torch.zeros(1, dtype=torch.int64)))
    assert 4 * 8 * n <= found <= 6 * 8 * n + 10_000
    assert module.model.weight.grad is None
    assert found == training_memory(module, (torch.zeros(1, 1, n), torch.zeros(1, dtype=torch.int64)))


def test_time_counts_each_sample_once() -> None:
    seen = []

    class Counting(Linear):
        def forward(self, x: Tensor) -> Tensor:
            seen.append((x.shape[1], self.training))
            return super().forward(x)

    loader = [(torch.zeros(1, b, 4), torch.zeros(b)) for b in (3, 2, 5)]
    assert seconds_per_sample(Counting(4), loader, batches=2) > 0
    assert seen == [(3, False), (3, False), (2, False)]


def test_time_counts_samples_where_labels_are_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter(range(100))
    monkeypatch.setattr("spikenet.training.measure.time.perf_counter", lambda: float(next(ticks)))
    loader = [(torch.zeros(1, 3, 4), torch.full((3, 7), 1 / 7))]
    assert seconds_per_sample(Linear(4), loader) == pytest.approx(1 / 3)
