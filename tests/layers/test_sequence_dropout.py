"""One mask for a whole sequence."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from spikenet.errors import ShapeError, StateError
from spikenet.layers import SequenceDropout, Stream


def test_a_neuron_is_silent_in_all_steps_or_scaled_in_all() -> None:
    y = SequenceDropout(0.4)(torch.ones(7, 50, 80))
    assert torch.equal(y, y[:1].expand_as(y))
    assert set(y.unique().tolist()) == {0.0, torch.tensor(1 / 0.6).item()}
    assert (y[0] == 0).float().mean().item() == pytest.approx(0.4, abs=0.03)


def test_evaluation_changes_nothing() -> None:
    x = torch.rand(3, 2, 4)
    assert torch.equal(SequenceDropout(0.9).eval()(x), x)
    assert torch.equal(SequenceDropout(0.0)(x), x)


def test_gradients_go_where_the_mask_lets_them() -> None:
    x = torch.rand(3, 2, 40, requires_grad=True)
    (y := SequenceDropout(0.5)(x)).sum().backward()
    assert torch.equal(x.grad, (y != 0).float() * 2)


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ShapeError, match=r"takes \[T, B, \*features\], got \(3,\)"):
        SequenceDropout()(torch.ones(3))
    stream = Stream(nn.Sequential(SequenceDropout(0.5)))
    with pytest.raises(StateError, match=r"call \.eval"):
        stream(torch.ones(2, 1, 3))
    stream.net.eval()
    assert torch.equal(stream(torch.ones(2, 1, 3)), torch.ones(2, 1, 3))


def test_it_never_writes_into_its_input_nor_promises_to() -> None:
    with pytest.raises(TypeError, match="inplace"):
        SequenceDropout(0.5, inplace=True)  # type: ignore[call-arg]
