"""Truncated backpropagation: the whole with one part; with more, the gradient with the states taken as given."""

from collections.abc import Iterator

import pytest
import torch
from torch import nn

from spikenet import LIF, use_backend
from spikenet.errors import ArgumentError, ShapeError
from spikenet.learning import truncated_bptt


@pytest.fixture(autouse=True)
def plain() -> Iterator[None]:
    """Nothing here depends on kernels, which take longer to compile than all of it to run."""
    with use_backend("reference"):
        yield


def network() -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 5), LIF(8.0), nn.Linear(5, 2), LIF(4.0, v_reset=None)).double()


def gradient(net: nn.Module) -> torch.Tensor:
    return torch.cat([p.grad.flatten() for p in net.parameters()])


def test_one_part_is_backpropagation_through_time() -> None:
    net, x = network(), 4 * torch.randn(13, 3, 4, dtype=torch.float64)
    total = truncated_bptt(net, x, 99, lambda y, place: (y[..., 0] * y[..., 1]).sum() + y.sum())
    ours = gradient(net)
    net.zero_grad()
    y = net(x)
    truth = (y[..., 0] * y[..., 1]).sum() + y.sum()
    truth.backward()
    torch.testing.assert_close(ours, gradient(net), rtol=0, atol=1e-13)
    assert float(total) == pytest.approx(truth.item())


def test_parts_hand_states_on_and_gradients_not() -> None:
    """Against a loop by hand over `run` with detached states, through torch's autograd."""
    net, x = network(), 4 * torch.randn(13, 3, 4, dtype=torch.float64)
    weight = torch.randn(13, 3, 2, dtype=torch.float64)
    places = []
    truncated_bptt(net, x, 5, lambda y, place: places.append(place) or (y * weight[place]).sum())
    assert places == [slice(0, 5), slice(5, 10), slice(10, 13)]
    ours = gradient(net)
    net.zero_grad()
    first = second = None
    for place in places:
        hidden, first = net[1].run(net[0](x[place]), state=first)
        out, second = net[3].run(net[2](hidden), state=second)
        (out * weight[place]).sum().backward()
        first, second = (type(state)(*(v.detach() for v in state)) for state in (first, second))
    torch.testing.assert_close(ours, gradient(net), rtol=0, atol=1e-13)


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ArgumentError, match="parts of 1 step"):
        truncated_bptt(LIF(), torch.ones(3, 1, 1), 0, lambda y, _: y.sum())
    with pytest.raises(ShapeError, match="one number"):
        truncated_bptt(LIF(), torch.ones(3, 1, 2), 2, lambda y, _: y)
