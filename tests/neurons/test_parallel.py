"""Neurons that mix time steps: against float64 loops over the published equations, and in chunks and streams."""

from __future__ import annotations

import copy
import math
import pickle
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from spikenet.errors import ArgumentError, DtypeError, ShapeError, StateError
from spikenet.kernels import use_backend
from spikenet.layers import Stream
from spikenet.neurons import LIF, PSN, MaskedPSN, ParallelLIF, SlidingPSN
from spikenet.neurons.surrogate import SURROGATES, fast_sigmoid

T = 11


def excitable(neuron: PSN) -> PSN:
    nn.init.uniform_(neuron.v_threshold, 0.1, 0.4)
    return neuron


MAKE: dict[str, Callable[[], nn.Module]] = {
    "PSN": lambda: excitable(PSN(T)),
    "MaskedPSN": lambda: excitable(MaskedPSN(T, 3, lambda_=0.25)),
    "MaskedPSN_causal": lambda: excitable(MaskedPSN(T, 4, lambda_=1.0)),
    "SlidingPSN": lambda: SlidingPSN(3),
    "SlidingPSN_longer_than_the_input": lambda: SlidingPSN(T + 2),
    "ParallelLIF": lambda: ParallelLIF(nn.Parameter(torch.rand(5) * 3 + 1), nn.Parameter(torch.rand(4, 1))),
    "ParallelLIF_input_not_decayed": lambda: ParallelLIF(2.5, decay_input=False),
}
STREAMED = [name for name in MAKE if "PSN" not in name or name.startswith("Sliding")]


@pytest.fixture(params=MAKE)
def neuron(request: pytest.FixtureRequest) -> nn.Module:
    return MAKE[request.param]()


def drive(dtype: torch.dtype = torch.float32, seed: int = 0, steps: int = T) -> Tensor:
    return (torch.randn(steps, 3, 4, 5, generator=torch.Generator().manual_seed(seed)) * 1.5 + 0.5).to(dtype)


def distance(neuron: nn.Module, x: Tensor) -> Tensor:
    """The distance to the threshold in float64, entry by entry as the equations in the docstrings say."""
    p = {name: value.double() for name, value in (*neuron.named_parameters(), *neuron.named_buffers())}
    th, rows = p["v_threshold"], []
    if isinstance(neuron, ParallelLIF):
        a = torch.exp(-neuron.dt / p["tau"])
        b, v = (1 - a if neuron.decay_input else 1.0), torch.zeros_like(x[0])
        for x_t in x:
            v = a * v + b * x_t
            rows.append(v - th)
        return torch.stack(rows)
    for t in range(len(x)):
        if isinstance(neuron, SlidingPSN):
            k = neuron.order
            taps = [(t - k + 1 + i, p["weight"][i]) for i in range(k) if t - k + 1 + i >= 0]
        else:
            seen = [float(t - neuron.order < s <= t) if isinstance(neuron, MaskedPSN) else 1.0 for s in range(T)]
            mix = neuron.lambda_ if isinstance(neuron, MaskedPSN) else 1.0
            taps = [(s, p["weight"][t, s] * (mix * seen[s] + 1 - mix)) for s in range(T)]
        rows.append(sum(w * x[s] for s, w in taps) - (th if th.ndim == 0 else th[t]))
    return torch.stack(rows)


def atan_slope(u: Tensor) -> Tensor:
    return 1 / (1 + (math.pi * u) ** 2)


def truth(neuron: nn.Module, x: Tensor, gz: Tensor) -> list[Tensor]:
    """Distance, and the gradients of the input and of every parameter, by autograd through the loops."""
    twin, x = copy.deepcopy(neuron).double(), x.double().requires_grad_()
    u = distance(twin, x)
    return [u, *torch.autograd.grad(u, [x, *twin.parameters()], gz.double() * atan_slope(u.detach()))]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_spikes_and_gradients_are_those_of_the_equations(neuron: nn.Module, dtype: torch.dtype) -> None:
    x, gz = drive(dtype), drive(dtype, 1)
    u, *expected = truth(neuron, x, gz)
    assert (u.abs() > 1e-4).all()  # no spike hangs on a rounding
    xi = x.clone().requires_grad_()
    z = neuron(xi)
    assert z.dtype == dtype
    assert torch.equal(z.double(), (u >= 0).double())
    assert 0.02 < z.mean() < 0.9
    grads = torch.autograd.grad(z, [xi, *neuron.parameters()], gz)
    for got, wanted in zip(grads, expected, strict=True):
        scale = wanted.abs().max().item()
        rtol = 1e-11 if dtype == torch.float64 and got.dtype == dtype else 2e-5
        torch.testing.assert_close(got.double(), wanted, rtol=rtol, atol=rtol * scale)


@pytest.mark.parametrize("name", ["PSN", "SlidingPSN", "ParallelLIF"])
def test_backends_agree(name: str) -> None:
    neuron, x = MAKE[name](), drive()
    with use_backend("reference"):
        expected = neuron(x)
    assert torch.equal(neuron(x), expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_the_float32_result_on_the_same_rounded_input(neuron: nn.Module, dtype: torch.dtype) -> None:
    x, gz = drive(dtype), drive(dtype, 1)
    results = []
    for cast in (dtype, torch.float32):
        xi = x.to(cast).requires_grad_()
        z = neuron(xi)
        results.append((z.float(), torch.autograd.grad(z, xi, gz.to(cast))[0].to(dtype)))
        assert z.dtype == cast
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


def test_autocast_changes_no_spike(neuron: nn.Module) -> None:
    with torch.autocast("cpu", torch.bfloat16):
        z = neuron(drive())
    assert torch.equal(z, neuron(drive()))


@pytest.mark.parametrize("name", SURROGATES)
def test_every_surrogate_gives_its_slope(name: str) -> None:
    neuron, x, slope = SlidingPSN(1, surrogate=name), drive(torch.float64), {}
    step = SURROGATES[name]()
    x = x.requires_grad_()
    with use_backend("reference"):
        (grad,) = torch.autograd.grad(neuron(x).sum(), x)
    u, h, a = x.detach() - 1, 1e-6, step.alpha
    smooth = {
        "atan": lambda u: torch.atan(math.pi / 2 * a * u) / math.pi,
        "sigmoid": lambda u: torch.sigmoid(a * u),
        "fast_sigmoid": lambda u: u / (1 + a * u.abs()),
        "triangle": lambda u: (a * u).clamp(-1, 1) - 0.5 * (a * u).clamp(-1, 1) * (a * u).clamp(-1, 1).abs(),
        "rectangle": lambda u: (a * u).clamp(-0.5, 0.5),
    }
    if name in smooth:
        slope = (smooth[name](u + h) - smooth[name](u - h)) / (2 * h)
        torch.testing.assert_close(grad, slope, rtol=1e-5, atol=1e-5)
    assert grad.isfinite().all()


@pytest.mark.parametrize("name", STREAMED)
def test_chunked_and_streamed_are_the_whole_to_the_last_bit(name: str) -> None:
    neuron, x, gz = MAKE[name](), drive(), drive(seed=1)
    xs = [x.clone().requires_grad_() for _ in range(2)]
    whole, last = neuron.run(xs[0])
    first, state = neuron.run(xs[1][:4])
    second, chunked = neuron.run(xs[1][4:], state)
    assert torch.equal(whole, torch.cat([first, second]))
    assert torch.equal(last[0], chunked[0])
    stream = Stream(neuron)
    assert torch.equal(torch.stack([stream.step(x_t) for x_t in x]), whole)
    whole.backward(gz)
    torch.cat([first, second]).backward(gz)
    torch.testing.assert_close(xs[0].grad, xs[1].grad)
    stream.detach()
    stream.reset()
    assert torch.equal(torch.cat([stream(c) for c in x.split(3)]), whole)
    pickled = pickle.loads(pickle.dumps(state))
    assert torch.equal(neuron.run(x[4:], pickled)[0], second)


@pytest.mark.parametrize("name", ["PSN", "MaskedPSN_causal"])
def test_a_stream_refuses_a_neuron_of_fixed_length_by_name(name: str) -> None:
    stream = Stream(nn.Sequential(nn.Linear(5, 5), MAKE[name]()))
    with pytest.raises(StateError, match=rf"1 \({name.split('_')[0]}\) sees all of its 11 steps at once"):
        stream(drive())


def test_a_constant_input_charges_exponentially() -> None:
    tau, dt, level = 7.0, 0.5, 1.6
    closed = level * (1 - torch.exp(-dt * torch.arange(1.0, 61.0, dtype=torch.float64) / tau))
    x = torch.full((60, 1, 1), level, dtype=torch.float64)
    _, state = ParallelLIF(tau, dt=dt).run(x)
    assert state.v.item() == pytest.approx(closed[-1].item(), rel=1e-13)
    first = int((closed >= 1.0).nonzero()[0])
    z = ParallelLIF(tau, dt=dt)(x).flatten()
    assert torch.equal(z, (torch.arange(60) >= first).double())


def test_it_is_the_leaky_neuron_up_to_its_first_spike() -> None:
    """With the same decay, `1 - 1/tau' = exp(-1/tau)`, and before anything was reset."""
    tau = 3.0
    x = drive(torch.float64, steps=40)
    z, other = ParallelLIF(tau)(x), LIF(1 / (1 - math.exp(-1 / tau)))(x)
    fresh = torch.cat([torch.ones_like(z[:1]), 1 - z.cumsum(0).clamp(max=1)[:-1]])
    assert torch.equal(z * fresh, other * fresh)
    assert (z * fresh).sum() > 20


def test_the_mask_is_a_causal_band() -> None:
    neuron = MaskedPSN(5, 2, lambda_=1.0)
    nn.init.ones_(neuron.weight)
    band = torch.eye(5) + torch.diag(torch.ones(4), -1)
    assert torch.equal(neuron.mixing(), band)
    neuron.lambda_ = 0.5
    assert torch.equal(neuron.mixing(), (band + 1) / 2)
    neuron.lambda_ = 0.0
    assert torch.equal(neuron.mixing(), torch.ones(5, 5))
    other = MaskedPSN(5, 2, lambda_=1.0)
    other.load_state_dict(neuron.state_dict())
    assert other.lambda_ == 0.0


def test_starting_weights() -> None:
    assert torch.equal(SlidingPSN(4).weight, torch.tensor([0.125, 0.25, 0.5, 1.0]))
    assert PSN(16).weight.abs().max() <= 0.25
    assert torch.equal(PSN(3).v_threshold, torch.ones(3))


def test_copies_pickles_and_compiled_are_the_same(neuron: nn.Module) -> None:
    x = drive()
    for twin in (copy.deepcopy(neuron), pickle.loads(pickle.dumps(neuron))):
        assert torch.equal(twin(x), neuron(x))
    assert torch.equal(torch.compile(neuron, backend="eager", fullgraph=True)(x), neuron(x))


def test_strided_input_and_empty_batch(neuron: nn.Module) -> None:
    x = drive()
    assert torch.equal(neuron(x.transpose(0, 1).contiguous().transpose(0, 1)), neuron(x))
    empty = torch.zeros(T, 0, 4, 5, requires_grad=True)
    neuron(empty).sum().backward()
    assert empty.grad.shape == empty.shape


def test_what_is_refused() -> None:
    with pytest.raises(ShapeError, match=r"PSN was made for T = 8 steps, got an input of 11; SlidingPSN"):
        PSN(8)(drive())
    with pytest.raises(ShapeError, match=r"MaskedPSN was made for T = 8 steps, got an input of 11"):
        MaskedPSN(8, 2)(drive())
    with pytest.raises(ShapeError, match=r"takes \[T, B, \*features\], got a tensor of shape \(4,\)"):
        SlidingPSN(2)(torch.zeros(4))
    with pytest.raises(DtypeError, match=r"floating-point input .* got torch\.int64"):
        ParallelLIF()(torch.zeros(4, 2, dtype=torch.int64))
    with pytest.raises(ShapeError, match=r"ParallelLIF.tau of shape \(3,\) does not broadcast .* \(4, 5\)"):
        ParallelLIF(torch.ones(3))(drive())
    for make, match in (
        (lambda: PSN(0), "PSN.steps must be at least 1, got 0"),
        (lambda: SlidingPSN(0), "SlidingPSN.order must be at least 1, got 0"),
        (lambda: MaskedPSN(4, 0), "MaskedPSN.order must be at least 1"),
        (lambda: MaskedPSN(4, 2, lambda_=1.5), "MaskedPSN.lambda_ must lie from 0 to 1, got 1.5"),
        (lambda: ParallelLIF(-1.0), "ParallelLIF.tau must lie above 0, got -1.0"),
        (lambda: ParallelLIF(dt=0.0), "ParallelLIF.dt must be a finite number above 0"),
        (lambda: PSN(4, surrogate="attan"), "Did you mean 'atan'"),
    ):
        with pytest.raises(ArgumentError, match=match):
            make()
    _, state = ParallelLIF().run(drive())
    with pytest.raises(StateError, match="start a new state for another batch"):
        ParallelLIF().run(drive()[:, :2], state)
    with pytest.raises(StateError, match="takes a state of its own run"):
        SlidingPSN(2).run(drive(), state)


def test_the_surrogate_is_shown() -> None:
    assert "fast_sigmoid(alpha=10)" in repr(PSN(4, surrogate=fast_sigmoid(10.0)))
