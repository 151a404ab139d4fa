"""E-prop's gradients against backpropagation through time, in float64."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from spikenet.errors import ArgumentError, ShapeError, UnknownNameError
from spikenet.learning import EProp

GAMMA = 0.3


class Spike(torch.autograd.Function):
    """A step whose derivative is the triangle of Bellec et al. (2020)."""

    @staticmethod
    def forward(ctx: Any, distance: Tensor, threshold: float) -> Tensor:
        ctx.save_for_backward(distance)
        ctx.threshold = threshold
        return (distance >= 0).to(distance)

    @staticmethod
    def backward(ctx: Any, gz: Tensor) -> tuple[Tensor, None]:
        (distance,) = ctx.saved_tensors
        return gz * GAMMA / ctx.threshold * (1 - (distance / ctx.threshold).abs()).clamp(min=0.0), None


def made(recurrent: bool, adapts: bool, broadcast: str = "symmetric") -> EProp:
    beta = torch.linspace(0.0, 0.3, 6) if adapts else 0.0
    net = EProp(
        5,
        6,
        2,
        recurrent=recurrent,
        tau=8.0,
        tau_adapt=30.0,
        tau_out=6.0,
        beta=beta,
        v_threshold=0.625,
        gamma=GAMMA,
        broadcast=broadcast,
    ).double()
    with torch.no_grad():
        net.weight_in.mul_(2.0)
    return net


def given(steps: int = 40) -> tuple[Tensor, Tensor]:
    return (torch.rand(steps, 3, 5) < 0.3).double(), torch.randn(steps, 3, 2, dtype=torch.float64)


def unrolled(net: EProp, x: Tensor, recurrent_gradient: bool) -> tuple[Tensor, Tensor]:
    """Output and spikes of the network, step by step in torch. No gradient passes through the reset, and through the
    recurrent spikes only where it is asked for."""
    keep, keep_a = math.exp(-1 / 8.0), math.exp(-1 / 30.0)
    kappa, threshold, beta = math.exp(-1 / 6.0), 0.625, net.recurrent.neuron.beta
    v = a = z = torch.zeros(3, 6, dtype=torch.float64)
    y, outputs, spikes = torch.zeros(3, 2, dtype=torch.float64), [], []
    between = net.recurrent.weight * (1 - torch.eye(6, dtype=torch.float64))
    for now in x:
        heard = z if recurrent_gradient else z.detach()
        v, a = keep * v + now @ net.weight_in.T + heard @ between.T - threshold * z.detach(), keep_a * a + z
        z = Spike.apply(v - threshold - beta * a, threshold)
        y = kappa * y + (1 - kappa) * (z @ net.weight_out.T)
        outputs.append(y)
        spikes.append(z)
    return torch.stack(outputs), torch.stack(spikes)


def gradients(net: EProp) -> list[Tensor]:
    found = [net.weight_in.grad, net.weight_out.grad]
    return [*found, net.recurrent.weight.grad] if net.connected else found  # type: ignore[list-item]


@pytest.mark.parametrize("adapts", [False, True], ids=["LIF", "ALIF"])
@pytest.mark.parametrize("recurrent", [False, True], ids=["apart", "recurrent"])
def test_rates_are_drawn_to_their_target_by_the_gradient_of_their_error(recurrent: bool, adapts: bool) -> None:
    net, (x, target) = made(recurrent, adapts), given()
    net.rate_cost, net.rate_target = 7.0, 0.3
    output, spikes = unrolled(net, x, recurrent_gradient=False)
    error = (output - target).square().sum() / 2 + 3.5 * (spikes.mean((0, 1)) - 0.3).square().sum()
    weights = [net.weight_in, net.weight_out, *([net.recurrent.weight] if recurrent else [])]
    wanted = torch.autograd.grad(error, weights)
    net.learn(x, lambda y: y - target)
    for found, truth in zip(gradients(net), wanted, strict=True):
        torch.testing.assert_close(found, truth)


@pytest.mark.parametrize("adapts", [False, True], ids=["LIF", "ALIF"])
@pytest.mark.parametrize("recurrent", [False, True], ids=["feedforward", "recurrent"])
def test_gradients_equal_backpropagation_through_time(recurrent: bool, adapts: bool) -> None:
    """Exactly so without recurrence; with it, where the recurrent spikes are taken as given."""
    net = made(recurrent, adapts)
    x, target = given()
    output, spikes = unrolled(net, x, recurrent_gradient=False)
    weights = [net.weight_in, net.weight_out, *([net.recurrent.weight] if recurrent else [])]
    expected = torch.autograd.grad(0.5 * ((output - target) ** 2).sum(), weights)
    y, _ = net.learn(x, lambda y: y - target)
    assert 0.05 < spikes.mean() < 0.6
    torch.testing.assert_close(y, output.detach(), rtol=1e-10, atol=1e-12)
    for found, truth in zip(gradients(net), expected, strict=True):
        torch.testing.assert_close(found, truth, rtol=1e-9, atol=1e-11)


def test_recurrence_is_where_the_two_part() -> None:
    """The same network with the recurrent spikes' gradient differs: the comparison above can fail."""
    net = made(True, False)
    x, target = given()
    output, _ = unrolled(net, x, recurrent_gradient=True)
    (truth,) = torch.autograd.grad(0.5 * ((output - target) ** 2).sum(), net.weight_in)
    net.learn(x, lambda y: y - target)
    assert float((net.weight_in.grad - truth).norm() / truth.norm()) > 0.01
    alike = torch.nn.functional.cosine_similarity(net.weight_in.grad.flatten(), truth.flatten(), 0)
    assert alike > 0.5


def test_parts_add_up_to_the_whole() -> None:
    x, target = given()
    torch.manual_seed(3)
    whole, parted = made(True, True), made(True, True)
    parted.load_state_dict(whole.state_dict())
    y, end = whole.learn(x, lambda y: y - target)
    state, found = None, []
    for some in (slice(0, 7), slice(7, 7), slice(7, 8), slice(8, 40)):
        part, state = parted.learn(x[some], lambda y, t=target[some]: y - t, state)  # type: ignore[misc]
        found.append(part)
    torch.testing.assert_close(torch.cat(found), y, rtol=1e-12, atol=1e-14)
    for a, b in zip(gradients(whole), gradients(parted), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-13)
    assert torch.equal(state.filtered, end.filtered)  # type: ignore[union-attr]
    assert torch.equal(whole.run(x[:5], end)[0], parted.run(x[:5], state)[0])
    torch.testing.assert_close(whole(x), y, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("broadcast", ["random", "adaptive"])
def test_other_broadcasts_take_the_output_weights_place(broadcast: str) -> None:
    """The learning signal is the error through B alone: with B set to W_out it is the symmetric one."""
    x, target = given()
    torch.manual_seed(3)
    symmetric, other = made(True, True), made(True, True, broadcast)
    other.load_state_dict({**other.state_dict(), **symmetric.state_dict()})
    other.learn(x, lambda y: y - target)
    drawn = gradients(other)[0]
    other.zero_grad()
    assert other.broadcast_weight is not None
    other.broadcast_weight.data.copy_(symmetric.weight_out.data)
    for net in (symmetric, other):
        net.learn(x, lambda y: y - target)
    for a, b in zip(gradients(symmetric), gradients(other), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-14)
    assert not torch.allclose(drawn, gradients(other)[0])
    if broadcast == "adaptive":
        assert torch.equal(other.broadcast_weight.grad, other.weight_out.grad)
    else:
        assert "broadcast_weight" not in dict(other.named_parameters())


def test_adaptive_feedback_comes_to_equal_the_output_weights() -> None:
    net = made(True, False, "adaptive")
    x, target = given()
    assert net.broadcast_weight is not None
    before = float((net.broadcast_weight - net.weight_out).detach().norm())
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-3, weight_decay=20.0)
    for _ in range(25):
        optimizer.zero_grad()
        net.learn(x, lambda y: y - target)
        optimizer.step()
    after = float((net.broadcast_weight - net.weight_out).detach().norm())
    assert after == pytest.approx(before * (1 - 1e-3 * 20.0) ** 25, rel=1e-6)


@pytest.mark.parametrize("broadcast", ["symmetric", "random"])
def test_it_learns_a_pattern(broadcast: str) -> None:
    """A sum of sines from frozen Poisson input, as in the authors' tutorial, smaller."""
    torch.manual_seed(2)
    net = EProp(30, 40, 1, v_threshold=0.6, broadcast=broadcast)
    x = (torch.rand(200, 1, 30) < 0.05).float()
    t = torch.arange(200) / 200 * 2 * math.pi
    target = (torch.sin(t) + 0.5 * torch.sin(3 * t + 1.0))[:, None, None]
    optimizer, errors = torch.optim.Adam(net.parameters(), lr=5e-3), []
    for _ in range(50):
        optimizer.zero_grad()
        y, _ = net.learn(x, lambda y: y - target)
        optimizer.step()
        errors.append(float(((y - target) ** 2).mean()))
    assert errors[-1] < 0.5 * errors[0]


def test_refusals() -> None:
    with pytest.raises(UnknownNameError, match="symmetric"):
        EProp(2, 3, 1, broadcast="symetric")
    with pytest.raises(ArgumentError, match="sizes of 1"):
        EProp(0, 3, 1)
    with pytest.raises(ArgumentError, match="rate_cost"):
        EProp(2, 3, 1, rate_cost=-1.0)
    net = EProp(2, 3, 1)
    with pytest.raises(ShapeError, match=r"\[T, B, 2\]"):
        net(torch.zeros(4, 1, 3))
    with pytest.raises(ShapeError, match="error of an output"):
        net.learn(torch.zeros(4, 1, 2), lambda y: y[0])
