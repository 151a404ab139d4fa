"""OTTT against its formula with the sums written out, against backpropagation where both are the same, and chunked."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from spikenet import use_backend
from spikenet.errors import ArgumentError, ShapeError
from spikenet.layers import Conv2d
from spikenet.learning import OTTT
from spikenet.neurons import ALIF, IF, LIF
from spikenet.neurons.surrogate import sigmoid

TAU, SLOPE = 5.0, 4.0
KEEP = 1 - 1 / TAU


@pytest.fixture(autouse=True)
def plain() -> Iterator[None]:
    """Nothing here depends on kernels, which take longer to compile than all of it to run."""
    with use_backend("reference"):
        yield


def lif(**options) -> LIF:
    return LIF(TAU, v_reset=None, decay_input=False, detach_reset=True, surrogate=sigmoid(SLOPE), **options)


def spikes(steps: int, *shape: int) -> Tensor:
    return (torch.rand(steps, *shape) < 0.4).double()


def sigma(u: Tensor) -> Tensor:
    """The slope of a spike at potential u, threshold 1."""
    s = torch.sigmoid(SLOPE * (u - 1))
    return SLOPE * s * (1 - s)


def written_out(x: Tensor, w1: Tensor, w2: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Two layers, L[t] = |z2[t] - target[t]|^2 / 2: both gradients, from the paper's sums over all earlier steps."""
    u1, u2 = torch.zeros(x.shape[1], len(w1)).double(), torch.zeros(x.shape[1], len(w2)).double()
    z1s, g1s, g2s = [], [], []
    for t in range(len(x)):
        u1 = KEEP * u1 + x[t] @ w1.T
        z1 = (u1 >= 1).double()
        u2 = KEEP * u2 + z1 @ w2.T
        z2 = (u2 >= 1).double()
        g2s.append((z2 - target[t]) * sigma(u2))
        g1s.append(g2s[-1] @ w2 * sigma(u1))
        z1s.append(z1)
        u1, u2 = u1 - z1, u2 - z2
    d1, d2 = torch.zeros_like(w1), torch.zeros_like(w2)
    for t in range(len(x)):
        for s in range(t + 1):
            d1 += KEEP ** (t - s) * g1s[t].T @ x[s]
            d2 += KEEP ** (t - s) * g2s[t].T @ z1s[s]
    return d1, d2


def test_two_layers_get_the_gradient_of_the_formula() -> None:
    x, target = spikes(17, 3, 6), spikes(17, 3, 4)
    net = OTTT(nn.Linear(6, 8, bias=False), lif(), nn.Linear(8, 4, bias=False), lif()).double()
    with torch.no_grad():
        net[0].weight.mul_(3.0)
        net[2].weight.mul_(6.0)
    out, _ = net.learn(x, lambda y, t: (y - target[t]).square().sum() / 2)
    truth = written_out(x, net[0].weight.detach(), net[2].weight.detach(), target)
    torch.testing.assert_close(net[0].weight.grad, truth[0], rtol=0, atol=1e-12)
    torch.testing.assert_close(net[2].weight.grad, truth[1], rtol=0, atol=1e-12)
    assert torch.equal(out, net(x).detach())  # the forward pass is the network's
    assert 0.05 < float(out.mean()) < 0.95


@pytest.mark.parametrize(
    "neuron",
    [
        lif(),
        LIF(TAU, v_reset=None, detach_reset=True),
        LIF(TAU, v_reset=None, exact_decay=True, detach_reset=True),
        IF(2.0, v_reset=None, detach_reset=True),
    ],
)
def test_one_layer_gets_the_gradient_of_backpropagation(neuron: nn.Module) -> None:
    connection = Conv2d(1, 2, 3, bias=False)
    x = spikes(15, 2, 1, 5, 5)
    net = OTTT(OneStep(connection), neuron, nn.Flatten(1), nn.Linear(18, 3)).double()
    net.learn(x, lambda y, t: y.square().sum())
    ours = [p.grad.clone() for p in net.parameters()]
    net.zero_grad()
    nn.functional.linear(neuron(connection(x)).flatten(2), net[3].weight, net[3].bias).square().sum().backward()
    for mine, parameter in zip(ours, net.parameters(), strict=True):
        torch.testing.assert_close(mine, parameter.grad, rtol=1e-11, atol=1e-11)


class OneStep(nn.Module):
    """A layer of `[T, B, ...]` on a step `[B, ...]`."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x.unsqueeze(0)).squeeze(0)


def test_chunks_with_their_state_add_up_to_the_whole() -> None:
    x = spikes(20, 2, 6)
    net = OTTT(nn.Linear(6, 5), lif(), nn.Linear(5, 3), lif(), nn.Linear(3, 2)).double()
    whole, _ = net.learn(x, lambda y, t: y.square().sum())
    truth = [p.grad.clone() for p in net.parameters()]
    net.zero_grad()
    state, parts = None, []
    for chunk in x.split(7):
        out, state = net.learn(chunk, lambda y, t: y.square().sum(), state)
        parts.append(out)
    assert torch.equal(torch.cat(parts), whole)
    assert all(torch.allclose(p.grad, g, rtol=0, atol=1e-13) for p, g in zip(net.parameters(), truth, strict=True))


def learned(backend: str) -> list[Tensor]:
    """Output, gradients and traces of two layers in float32."""
    torch.manual_seed(0)
    net = OTTT(nn.Linear(6, 8, bias=False), lif(), nn.Linear(8, 7, bias=False), lif(), nn.Linear(7, 3))
    with torch.no_grad():
        net[0].weight.mul_(4.0)
        net[2].weight.mul_(6.0)
    with use_backend(backend):
        out, state = net.learn(spikes(37, 3, 6).float(), lambda y, t: y.square().mean())
    return [out, *(p.grad for p in net.parameters()), *state.traces[:2]]


def test_triton_kernels_learn_as_the_reference_does() -> None:
    for ours, truth in zip(learned("triton"), learned("reference"), strict=True):
        torch.testing.assert_close(ours, truth, rtol=1e-5, atol=1e-6)


class Kept:
    """What autograd saves, counted while it lives."""

    alive = 0

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor
        Kept.alive += 1

    def __del__(self) -> None:
        Kept.alive -= 1


def test_what_is_kept_does_not_grow_with_the_sequence() -> None:
    net, most = OTTT(nn.Linear(6, 5), lif(), nn.Linear(5, 4), lif(), nn.Linear(4, 2)), []
    for steps in (40, 120):
        counts = []
        with torch.autograd.graph.saved_tensors_hooks(Kept, lambda kept: kept.tensor):
            net.learn(spikes(steps, 2, 6).float(), lambda y, t, at=counts: at.append(Kept.alive) or y.square().sum())
        assert len(counts) == steps
        most.append(max(counts))
    assert most[0] == most[1] > 0
    assert Kept.alive == 0


def test_a_loss_of_the_last_step_alone() -> None:
    """As much as when all other steps say nothing of weight 0."""
    x, found = (torch.rand(40, 2, 3) < 0.5).float(), []
    for silent in (lambda y: torch.zeros(()), lambda y: 0.0 * y.sum()):
        torch.manual_seed(0)
        net = OTTT(nn.Linear(3, 4), LIF(), nn.Linear(4, 2))
        net.learn(x, lambda y, t, silent=silent: y.square().sum() if t == 39 else silent(y))
        found.append([p.grad for p in net.parameters()])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)


def test_what_cannot_learn_online_is_refused() -> None:
    for layer in (nn.BatchNorm1d(3), ALIF(), nn.LSTM(3, 3), nn.Dropout(), LIF(nn.Parameter(torch.tensor(2.0)))):
        with pytest.raises(ArgumentError, match=f"1 is {type(layer).__name__}"):
            OTTT(nn.Linear(3, 3), layer)
    net = OTTT(nn.Linear(3, 3), LIF())
    with pytest.raises(ShapeError, match="one number"):
        net.learn(torch.ones(2, 1, 3), lambda y, t: y)
    with pytest.raises(ShapeError, match=r"one step or more, got \(0, 1, 3\)"):
        net.learn(torch.ones(0, 1, 3), lambda y, t: y.sum())
