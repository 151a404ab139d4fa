"""Taps made for some outputs at a time: the same numbers as all at once, and nothing kept that nobody needs."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from spikenet.kernels.delay import BUMPS, delay_bumps, delay_conv, delay_kernel, training

TAPS = 6


def case(own: bool) -> tuple[Tensor, ...]:
    x = (torch.rand(12, 3, 5) < 0.3).double()
    weight, delay = torch.randn(7, 5, 2).double(), torch.rand(7 if own else 1, 5, 2).double() * (TAPS - 1)
    return tuple(v.requires_grad_() for v in (x, weight, delay))


@pytest.mark.parametrize("own", [True, False])
def test_equals_all_at_once(own: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    leaves, sigma = case(own), torch.tensor(0.7).double()
    x, weight, delay = leaves
    expected = delay_conv(x, delay_kernel(weight, delay, sigma, BUMPS["gauss"], TAPS), 1, 14)
    grad = torch.randn_like(expected)
    truth = [expected, *torch.autograd.grad(expected, leaves, grad)]
    made = []
    monkeypatch.setattr(training, "LARGEST", 3 * TAPS * 5 * 8)
    monkeypatch.setattr(training, "TOGETHER", 3)
    monkeypatch.setattr(training, "delay_kernel", lambda w, *a: made.append(len(w)) or delay_kernel(w, *a))
    y = delay_bumps(x, weight, delay, sigma, BUMPS["gauss"], TAPS, 1, 14)
    assert made == [3, 3, 1]
    for got, wanted in zip([y, *torch.autograd.grad(y, leaves, grad)], truth, strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-12, atol=1e-12)


def test_taps_are_kept_for_the_gradient_of_the_input_alone() -> None:
    x, weight, delay = case(True)
    for first in (True, False):
        kept: list[int] = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t, k=kept: k.append(t.numel()) or t, lambda t: t):
            heard = x.detach() if first else x
            delay_bumps(heard, weight, delay, torch.tensor(0.7).double(), BUMPS["gauss"], TAPS, 0, 12)
        assert (7 * 5 * TAPS in kept) == (not first)
