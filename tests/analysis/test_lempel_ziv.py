"""Lempel-Ziv complexity against the examples of 1976, a second parser and the entropy of coin tosses."""

from __future__ import annotations

import math

import pytest
import torch

from spikenet.analysis import lempel_ziv, lempel_ziv_rate
from spikenet.errors import ArgumentError, ShapeError


def kaspar_schuster(s: str) -> int:
    """The algorithm of Kaspar and Schuster, Physical Review A 36, 1987, as its flow chart goes."""
    i, k, longest, c, done = 0, 1, 1, 1, 1
    if len(s) < 2:
        return len(s)
    while True:
        if s[i + k - 1] == s[done + k - 1]:
            k += 1
            if done + k > len(s):
                return c + 1
        else:
            longest = max(longest, k)
            i += 1
            if i == done:
                c, done = c + 1, done + longest
                if done + 1 > len(s):
                    return c
                i, k, longest = 0, 1, 1
            else:
                k = 1


@pytest.mark.parametrize(
    ("sequence", "phrases"),
    [("0001101001000101", 6), ("1001111011000010", 6), ("0" * 50, 2), ("01" * 20, 3), ("banana", 4), ("", 0), ("1", 1)],
)
def test_known_examples(sequence, phrases):
    assert lempel_ziv(sequence) == phrases


@pytest.mark.parametrize("kinds", [2, 3, 10])
def test_is_that_of_another_algorithm(kinds):
    for n in range(1, 60):
        s = "".join(str(k) for k in torch.randint(kinds, (n,)).tolist())
        assert lempel_ziv(s) == kaspar_schuster(s), s


@pytest.mark.parametrize("p", [0.5, 0.1])
def test_rate_of_coin_tosses_is_their_entropy(p):
    rate = lempel_ziv_rate((torch.rand(10_000, 1) < p).float()).item()
    entropy = -p * math.log2(p) - (1 - p) * math.log2(1 - p)
    assert rate == pytest.approx(entropy, rel=0.07)  # from above, and slowly: n = 1e4 gives 1.04 for a fair coin


def test_rates_of_many_trains():
    spikes = (torch.rand(40, 3, 2) < 0.3).float()
    rates = lempel_ziv_rate(spikes)
    assert rates.shape == (3, 2)
    for b in range(3):
        for n in range(2):
            train = "".join(str(int(v)) for v in spikes[:, b, n])
            assert rates[b, n].item() == pytest.approx(kaspar_schuster(train) * math.log2(40) / 40)
    assert torch.equal(lempel_ziv_rate(spikes * 2.5), rates)
    assert torch.equal(lempel_ziv_rate(spikes[:, 0, 0]), rates[0, 0])
    assert torch.equal(lempel_ziv_rate(spikes.transpose(1, 2)), rates.T)
    assert lempel_ziv_rate(spikes[:, :0]).shape == (0, 2)


def test_what_cannot_be_is_refused():
    with pytest.raises(ShapeError, match=r"two steps or more, got \(1, 3\)"):
        lempel_ziv_rate(torch.zeros(1, 3))
    with pytest.raises(ArgumentError, match="got 300"):
        lempel_ziv(range(300))
