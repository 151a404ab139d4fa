"""Whole networks: shapes, parameter counts by hand, lengths, refusals."""

import pytest
import torch
from torch import nn

from spikenet import Stream
from spikenet.errors import ShapeError, UnknownNameError
from spikenet.events import EventTensor
from spikenet.models import SpikingConvNet, SpikingMLP


def events(steps: int, batch: int, *features: int) -> EventTensor:
    return EventTensor.from_dense((torch.rand(steps, batch, *features) < 0.3).float())


def parameters(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def test_mlp_has_the_weights_of_its_layers() -> None:
    model = SpikingMLP((2, 3, 4), 5, hidden=(7, 6))
    assert parameters(model) == (24 * 7 + 7) + (7 * 6 + 6) + (6 * 5 + 5)
    assert model(events(4, 3, 2, 3, 4)).shape == (3, 5)


def test_an_mlp_without_hidden_layers_is_linear() -> None:
    """Without neurons the mean over time of leaky sums of a linear map is all there is: it adds and scales."""
    model = SpikingMLP((4,), 3, hidden=()).double()
    x, y = torch.rand(6, 2, 4).double(), torch.rand(6, 2, 4).double()
    zero = model(torch.zeros_like(x))
    torch.testing.assert_close(model(x + 2 * y) - zero, (model(x) - zero) + 2 * (model(y) - zero))


@pytest.mark.parametrize(("side", "last"), [(24, 6), (34, 9), (33, 9)])
def test_convnet_halves_the_picture_in_each_block(side: int, last: int) -> None:
    model = SpikingConvNet((2, side, side), 10, channels=(4, 8), hidden=16)
    convolutions = 2 * 4 * 9 + 4 * 8 * 9 + 2 * 4 + 2 * 8
    assert parameters(model) == convolutions + (8 * last * last * 16 + 16) + (16 * 10 + 10)
    assert model(events(3, 2, 2, side, side)).shape == (2, 10)


@pytest.mark.parametrize("readout", ["mean", "max", "softmax-sum", "last"])
def test_steps_after_the_end_of_a_sequence_change_nothing(readout: str) -> None:
    model = SpikingMLP((5,), 3, hidden=(8,), readout=readout).eval()  # type: ignore[arg-type]
    short, long = events(4, 1, 5), events(9, 1, 5)
    together = model(EventTensor.stack([short, long]))
    torch.testing.assert_close(together, torch.cat([model(short), model(long)]))


def test_events_and_their_dense_form_give_the_same_answer() -> None:
    model = SpikingConvNet((2, 8, 8), 3, channels=(4,), hidden=8).eval()
    x = events(4, 2, 2, 8, 8)
    assert torch.equal(model(x), model(x.to_dense()))


def test_a_streamed_network_ends_where_the_whole_one_does() -> None:
    model = SpikingMLP((5,), 3, hidden=(8,)).eval().double()
    x = events(6, 2, 5).to_dense(torch.float64)
    stream = Stream(model)
    for t in range(6):
        answer = stream(x[t : t + 1])
    torch.testing.assert_close(answer, model(x), rtol=1e-12, atol=1e-12)


def test_dropout_acts_in_training_only() -> None:
    model = SpikingMLP((5,), 3, hidden=(64,), dropout=0.5)
    with torch.no_grad():
        model.body.hidden1.linear.bias.fill_(2.0)
    x = torch.ones(4, 2, 5)
    assert not torch.equal(model.train()(x), model(x))
    assert torch.equal(model.eval()(x), model(x))


def test_wrong_shapes_and_names_are_refused_in_words() -> None:
    with pytest.raises(ShapeError, match=r"SpikingMLP takes \[T, B, 5\].*\(4, 2, 6\)"):
        SpikingMLP((5,), 3)(torch.zeros(4, 2, 6))
    with pytest.raises(ShapeError, match=r"SpikingConvNet takes \[T, B, 2, 8, 8\].*\(4, 2, 8, 8\)"):
        SpikingConvNet((2, 8, 8), 3)(torch.zeros(4, 2, 8, 8))
    with pytest.raises(ShapeError, match=r"\(C, H, W\).*\(700,\).*SpikingMLP"):
        SpikingConvNet((700,), 20)
    with pytest.raises(UnknownNameError, match="Did you mean 'mean'"):
        SpikingMLP((5,), 3, readout="meen")  # type: ignore[arg-type]
