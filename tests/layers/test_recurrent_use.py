"""The recurrent layer in use: strides, copies, autocast, compilation, refusals."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Iterator

import pytest
import torch
from torch import nn

from spikenet.errors import ArgumentError, BackendError, DeviceError, DtypeError, ShapeError, StateError
from spikenet.kernels import use_backend
from spikenet.layers import Recurrent
from spikenet.neurons import LIF, PSN, StochasticLIF
from spikenet.neurons.emission import ScoreFunction
from tests.layers.recurrent_layers import LAYERS, WAYS, N, Noisy, drive, going, made


@pytest.fixture(params=LAYERS)
def layer(request: pytest.FixtureRequest) -> Recurrent:
    return made(request.param)


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    with going(request.param, monkeypatch) as way:
        yield way


def test_strided_and_expanded_inputs_and_gradients(way: str) -> None:
    layer = made("SEAdLIF")
    (x,) = drive(layer)
    for view in (x.flip(0), x[::2], x[:1].expand(9, -1, -1), x.transpose(0, 1).contiguous().transpose(0, 1)):
        a, b = view.detach().requires_grad_(), view.detach().contiguous().requires_grad_()
        za, zb = layer(a), layer(b)
        za.sum().backward()  # a gradient of one number, expanded
        zb.backward(torch.ones_like(zb))
        assert torch.equal(za, zb)
        assert torch.equal(a.grad, b.grad)


def test_outputs_may_be_changed_in_place() -> None:
    layer = made("SEAdLIF")
    (x,) = drive(layer)
    layer(x).mul_(2.0).sum().backward()
    doubled, layer.weight.grad = layer.weight.grad, None
    (layer(x) * 2.0).sum().backward()
    assert torch.equal(doubled, layer.weight.grad)
    z, state = layer.run(x)
    kept = state.z.clone()
    z.mul_(0.0)
    assert torch.equal(state.z, kept)


def test_copies_state_dicts_and_pickles(layer: Recurrent) -> None:
    inputs = drive(layer)
    start = layer.initial_state(inputs[0][0])
    z, state = layer.run(*inputs, start)
    fresh = made("LIF") if layer.bias is not None else copy.deepcopy(layer)
    fresh.load_state_dict(layer.state_dict())
    for twin in (fresh, copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert torch.equal(twin.run(*inputs, state=pickle.loads(pickle.dumps(start)))[0], z)
    nothing, same = layer.run(*(x[:0] for x in inputs), state)
    assert nothing.shape == inputs[0][:0].shape
    assert torch.equal(same.z, state.z)


def test_weights_start_orthogonal_and_biases_at_zero() -> None:
    layer = Recurrent(LIF(), 30, bias=True, dtype=torch.float64)
    torch.testing.assert_close(layer.weight @ layer.weight.T, torch.eye(30, dtype=torch.float64))
    assert not layer.bias.any()
    assert Recurrent(LIF(), 3, dtype=torch.bfloat16)(torch.ones(2, 1, 3)).dtype == torch.float32


def test_autocast_keeps_half_precision_inputs() -> None:
    net = nn.Sequential(nn.Linear(6, N), Recurrent(LIF(), N))
    with torch.autocast("cpu", torch.bfloat16):
        out = net(torch.randn(7, 2, 6))
    assert out.dtype == torch.bfloat16
    out.float().sum().backward()
    assert net[1].weight.grad.dtype == torch.float32
    assert net[1].weight.grad.isfinite().all()


def test_autocast_changes_nothing_for_full_precision_inputs(way: str) -> None:
    layer, seen = made("LIF"), []
    (x,) = drive(layer, dtype=torch.float32)
    leaves = [x.requires_grad_(), *layer.parameters()]
    for enabled in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            z, state = layer.run(x, state=None)
            seen.append([z, state.neuron.v, *torch.autograd.grad(z.sum() + state.neuron.v.sum(), leaves)])
    for plain, cast in zip(*seen, strict=True):
        assert plain.dtype == cast.dtype == torch.float32
        assert torch.equal(plain, cast)


def test_compile_sees_one_operator(layer: Recurrent) -> None:
    inputs = [x.requires_grad_() for x in drive(layer)]
    with torch.no_grad():
        start = layer.initial_state(inputs[0][0])
    compiled = torch.compile(layer.run, fullgraph=True, backend="aot_eager")
    leaves = [*inputs, *layer.parameters()]
    a, b = (run(*inputs, start)[0] for run in (compiled, layer.run))
    assert torch.equal(a, b)
    for got, expected in zip(*(torch.autograd.grad(z.sum(), leaves) for z in (a, b)), strict=True):
        assert torch.equal(got, expected)


def test_derivatives_that_it_has_not_are_refused() -> None:
    layer = made("SEAdLIF")
    (x,) = drive(layer)
    with pytest.raises(BackendError, match="recurrent has no forward-mode derivative"):
        torch.func.jvp(layer, (x,), (torch.ones_like(x),))
    x.requires_grad_()
    with pytest.raises(BackendError, match="recurrent has no second derivative"):
        torch.autograd.grad(layer(x).sum(), x, create_graph=True)


def test_bad_calls_say_what_would_work() -> None:
    layer, noisy = Recurrent(LIF(), 4), made("Noisy")
    x = torch.ones(3, 2, 4)
    _, state = layer.run(x)
    with pytest.raises(ShapeError, match=r"Recurrent takes \[T, B, 4\], got \(3, 2, 5\)"):
        layer(torch.ones(3, 2, 5))
    with pytest.raises(ShapeError, match=r"got \(3, 2, 1, 4\)"):
        layer(x[:, :, None])
    with pytest.raises(ShapeError, match=r"Noisy takes 2 input\(s\) \(shunt, current\)"):
        noisy.run(torch.ones(3, 2, N))
    with pytest.raises(ShapeError, match="takes 2 input"):
        noisy(torch.ones(3, 2, N))
    with pytest.raises(DtypeError, match=r"LIF takes floating-point input, got torch.int64"):
        layer(x.long())
    with pytest.raises(StateError, match="takes a RecurrentState of z and neuron"):
        layer.run(x, state.neuron)
    with pytest.raises(StateError, match="start a new state for another batch"):
        layer.run(torch.ones(3, 5, 4), state)
    with pytest.raises(StateError, match=r"the state 'z' is \(2, 4\) torch.float32"):
        layer.run(x.double(), state)
    with pytest.raises(DeviceError, match=r"Recurrent.weight is on cpu, the input on meta"):
        layer(x.to("meta"))
    with use_backend("triton"), pytest.raises(BackendError, match=r"'triton' was forced, but .* is torch.float64"):
        layer(x.double())


def test_bad_layers_are_refused() -> None:
    with pytest.raises(ArgumentError, match=r"Noisy has the inputs shunt, current: say which .* \(into=\)"):
        Recurrent(Noisy(), 4)
    with pytest.raises(ArgumentError, match="Did you mean 'current'"):
        Recurrent(Noisy(), 4, into="curent")
    with pytest.raises(ArgumentError, match="takes a Neuron, got PSN"):
        Recurrent(PSN(4), 4)  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match=r"which ScoreFunction\(.*\) does not allow; ScaledStraightThrough would"):
        Recurrent(StochasticLIF(emission=ScoreFunction()), 4)
    for features in (0, 2.5, "4"):
        with pytest.raises(ArgumentError, match=f"features must be a whole number above 0, got {features!r}"):
            Recurrent(LIF(), features)  # type: ignore[arg-type]
