"""The recurrent layer against the loop that defines it, and against a wave that can be counted by hand."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from spikenet.errors import StateError
from spikenet.kernels import use_backend
from spikenet.kernels.recurrent import ops
from spikenet.layers import Recurrent, RecurrentState, Stream
from spikenet.neurons import IF, LIF
from tests.layers.recurrent_layers import LAYERS, WAYS, N, drive, going, learned, made
from tests.neurons.test_gradcheck import smooth


@pytest.fixture(params=LAYERS)
def layer(request: pytest.FixtureRequest) -> Recurrent:
    return made(request.param)


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    with going(request.param, monkeypatch) as way:
        yield way


# The loop that defines it.

Run = Callable[[Recurrent, list[Tensor], RecurrentState], tuple[Tensor, list[Tensor]]]


def plain(layer: Recurrent, inputs: list[Tensor], state: RecurrentState) -> tuple[Tensor, list[Tensor]]:
    """Output and all states of the loop over the neuron's steps, with autograd's graph through time."""
    (z, s), at, outputs, states = state, layer.neuron.inputs.index(layer.into), [], []
    weight = layer.weight if layer.autapses else layer.weight * (1 - torch.eye(layer.features))
    with use_backend("reference"):
        for now in zip(*inputs, strict=True):
            heard = functional.linear(z, weight.double(), None if layer.bias is None else layer.bias.double())
            z, s = layer.neuron.step(*(x + heard if k == at else x for k, x in enumerate(now)), s)
            outputs.append(z)
            states.append(s)
    return torch.stack(outputs), [torch.stack(q) for q in list(zip(*states, strict=True))[: len(layer.neuron.state)]]


def whole(layer: Recurrent, inputs: list[Tensor], state: RecurrentState) -> tuple[Tensor, list[Tensor]]:
    z, after = layer.run(*inputs, state)
    assert torch.equal(after.z, z[-1])
    return z, [s[None] for s in after.neuron[: len(layer.neuron.state)]]


def traced(layer: Recurrent, inputs: list[Tensor], state: RecurrentState) -> tuple[Tensor, list[Tensor]]:
    z, states = layer.trace(*inputs, state)
    assert torch.equal(states.z, z)
    return z, list(states.neuron[: len(layer.neuron.state)])


def results(run: Run, layer: Recurrent, all_states: bool) -> list[Tensor]:
    """Output, state(s), and the gradients of inputs, initial state and everything learned."""
    torch.manual_seed(8)
    inputs = [x.requires_grad_() for x in drive(layer)]
    start = layer.initial_state(inputs[0][0])
    start = RecurrentState((torch.rand_like(start.z) < 0.4).to(start.z), start.neuron)
    leaves = [start.z, *(s.detach() for s in start.neuron[: len(layer.neuron.state)])]
    leaves = [*inputs, *(leaf.requires_grad_() for leaf in leaves), *layer.parameters()]
    first = len(inputs) + 1
    state = layer.neuron.State(
        *leaves[first : first + len(layer.neuron.state)], *start.neuron[len(layer.neuron.state) :]
    )
    z, states = run(layer, inputs, RecurrentState(start.z, state))
    states = states if all_states else [s[-1:] for s in states]
    gradients = [torch.randn_like(v) for v in (z, *states)]
    return [z.detach(), *(s.detach() for s in states), *torch.autograd.grad([z, *states], leaves, gradients)]


def compare(name: str, run: Run, all_states: bool) -> None:
    layer = made(name)
    ours, truth = results(run, layer, all_states), results(plain, layer, all_states)
    assert torch.equal(ours[0], truth[0])
    assert 0.03 < truth[0].mean() < 0.5
    for got, expected in zip(ours[1:], truth[1:], strict=True):
        tolerance = 1e-10 if expected.dtype == torch.float64 else 2e-6  # learned float32 numbers
        torch.testing.assert_close(got, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("backend", ["reference", "numba"])
def test_equals_the_plain_loop_and_autograd_through_it(name: str, backend: str) -> None:
    with use_backend(backend):
        compare(name, whole, all_states=False)


def test_every_way_equals_the_plain_loop_with_gradients_of_all_states(way: str) -> None:
    compare("Noisy", traced, all_states=True)


def test_a_wave_goes_around_a_ring() -> None:
    """Neuron n excites neuron n + 1 alone: one spike at the start comes by each neuron every `n` steps."""
    layer = Recurrent(IF(), 7)
    layer.weight.data = torch.eye(7).roll(1, 0)
    x = torch.zeros(30, 2, 7)
    x[0, 0, 2] = x[4, 1, 0] = 1.0
    expected = torch.zeros_like(x)
    for t in range(30):
        expected[t, 0, (2 + t) % 7] = 1.0
        expected[t, 1, (t - 4) % 7] = float(t >= 4)
    assert torch.equal(layer(x), expected)


def test_all_ways_spike_alike_where_sums_are_exact(way: str) -> None:
    """Inputs and weights on a grid: every order of summation gives the same sum."""
    layer = Recurrent(LIF(2.0), 40)
    generator = torch.Generator().manual_seed(1)
    layer.weight.data = (torch.randn(40, 40, generator=generator) * 100).round() / 512
    x = ((torch.randn(60, 5, 40, generator=generator) + 0.5) * 512).round() / 512 + 1 / 1024
    z = layer(x)
    with use_backend("reference"):
        assert torch.equal(z, layer(x))
    assert 0.05 < z.mean() < 0.4


@pytest.mark.parametrize("dtype", [pytest.param(torch.float16, marks=pytest.mark.slow), torch.bfloat16])
def test_half_precision(dtype: torch.dtype) -> None:
    layer = Recurrent(LIF(2.0), N)
    layer.weight.data = (layer.weight.data * 8).round() / 8
    (x,) = drive(layer, dtype=dtype)
    x = ((x * 8).round() / 8).requires_grad_()  # sums exact in 8 bits
    gradients = []
    for backend in ("numba", "reference"):
        with use_backend(backend):
            z, state = layer.run(x)
            gradients.append((z, *torch.autograd.grad(z.float().sum(), [x, layer.weight])))
        assert z.dtype == state.z.dtype == dtype
        assert state.neuron.v.dtype == torch.float32
    assert torch.equal(gradients[0][0], gradients[1][0])
    assert 0.05 < gradients[0][0].float().mean() < 0.6
    for got, expected in zip(gradients[0][1:], gradients[1][1:], strict=True):
        error = (got - expected).float().norm() / expected.float().norm()
        assert float(error) < (1e-2 if dtype == torch.bfloat16 else 2e-3)


# The contract of a neuron.


def test_whole_chunked_stepped_and_streamed_are_bit_equal(layer: Recurrent, way: str) -> None:
    inputs = drive(layer)
    start = layer.initial_state(inputs[0][0])
    output, last = layer.run(*inputs, start)
    chunks, state = [], start
    for a, b in itertools.pairwise((0, 13, 14, 37)):
        z, state = layer.run(*(x[a:b] for x in inputs), state)
        chunks.append(z)
    steps, stepped = [], start
    for now in zip(*inputs, strict=True):
        z, stepped = layer.step(*now, stepped)
        steps.append(z)
    assert torch.equal(torch.cat(chunks), output)
    assert torch.equal(torch.stack(steps), output)
    for other in (state, stepped):
        assert torch.equal(other.z, last.z)
        assert all(torch.equal(a, b) for a, b in zip(other.neuron, last.neuron, strict=True))


def test_streams_carry_output_and_state() -> None:
    net = nn.Sequential(nn.Linear(5, N), made("SEAdLIF"), nn.Linear(N, N), made("LIF")).double()
    x = torch.randn(29, 2, 5, dtype=torch.float64) * 9
    stream = Stream(net)
    streamed = torch.cat([stream(c) for c in x.split(6)])
    assert torch.equal(streamed, net(x))
    assert streamed.mean() > 0.02
    stream.detach()
    assert [key.module for key in stream.states] == ["1", "3"]
    with pytest.raises(StateError, match="would start anew"):
        Stream(_RunsItself(made("LIF")))(drive(made("LIF"))[0])


class _RunsItself(nn.Module):
    def __init__(self, layer: Recurrent) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return self.layer.run(x)[0]


def test_gradients_flow_through_chunks_as_through_the_whole(layer: Recurrent) -> None:
    inputs = [x.requires_grad_() for x in drive(layer)]
    start, leaves = layer.initial_state(inputs[0][0]), [*inputs, *layer.parameters()]
    at_once = torch.autograd.grad(layer.run(*inputs, start)[0].sum(), leaves)
    first, state = layer.run(*(x[:21] for x in inputs), start)
    second, _ = layer.run(*(x[21:] for x in inputs), state)
    for a, b in zip(at_once, torch.autograd.grad(first.sum() + second.sum(), leaves), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


def test_draws_advance_with_the_steps() -> None:
    layer = made("Noisy")
    inputs = drive(layer)
    (_, start), (_, last) = layer.initial_state(inputs[0][0]), layer.run(*inputs)[1]
    assert start.rng[1] == 0
    assert last.rng[1] == len(inputs[0])
    assert not torch.equal(layer(*inputs), layer(*inputs))  # a seed each call


def test_neurons_without_autapses_do_not_hear_themselves() -> None:
    layer = made("Noisy")
    inputs = drive(layer)
    start = layer.initial_state(inputs[0][0])
    z = layer.run(*inputs, start)[0]
    (g,) = torch.autograd.grad(z.sum(), layer.weight)
    assert not g.diagonal().any()
    assert g.any()
    layer.weight.data.fill_diagonal_(5.0)
    assert torch.equal(layer.run(*inputs, start)[0], z)


@pytest.mark.parametrize("backend", [pytest.param("reference", marks=pytest.mark.slow), "numba"])
def test_finite_differences(backend: str) -> None:
    layer = Recurrent(smooth(LIF(2.0, learned(0.9), None), "atan"), 3)
    weight, threshold = (v.detach().double().requires_grad_() for v in (layer.weight, layer.neuron.v_threshold))
    x, z, v = (torch.randn(s, dtype=torch.float64).requires_grad_() for s in ((23, 2, 3), (2, 3), (2, 3)))

    def run(x: Tensor, z: Tensor, v: Tensor, weight: Tensor, threshold: Tensor) -> Any:
        del layer._parameters["weight"], layer.neuron._parameters["v_threshold"]
        layer._parameters["weight"], layer.neuron._parameters["v_threshold"] = weight, threshold
        out, state = layer.run(x, RecurrentState(z, layer.neuron.State(v)))
        return out, state.neuron.v

    with use_backend(backend):
        assert torch.autograd.gradcheck(run, (x, z, v, weight, threshold), eps=1e-6, atol=1e-6)


def test_no_graph_grows_with_time_and_one_sequence_is_kept() -> None:
    layer, sizes, nodes = made("SEAdLIF"), [], []
    for steps in (20, 40):
        kept: list[int] = []
        (x,) = drive(layer, steps)
        with torch.autograd.graph.saved_tensors_hooks(lambda t, kept=kept: (kept.append(t.numel()), t)[1], lambda t: t):
            z = layer(x)
        seen, waiting = set(), [z.grad_fn]
        while waiting:
            node = waiting.pop()
            if node is not None and node not in seen:
                seen.add(node)
                waiting += [n for n, _ in node.next_functions]
        sizes.append(sum(kept))
        nodes.append(len(seen))
    assert nodes[0] == nodes[1]
    assert sizes[1] - sizes[0] == 20 * 3 * N


def test_threads_do_not_change_a_bit() -> None:
    layer = Recurrent(LIF(), 96)
    x, before, seen = torch.randn(20, 24, 96) + 0.5, torch.get_num_threads(), []
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            xi = x.clone().requires_grad_()
            z = layer(xi)
            seen.append([z.detach(), *torch.autograd.grad(z.sum(), xi)])
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(a, b) for a, b in zip(*seen, strict=True))


def test_an_unused_state_sequence_costs_no_gradient(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    layer = made("SEAdLIF")
    (x,) = drive(layer)
    leaves, given = [x.requires_grad_(), layer.weight], []
    kernel = ops.BACKWARD

    def spied(*arguments: Any, **options: Any) -> Any:
        given.append(arguments[-4:-1])
        return kernel(*arguments, **options)

    monkeypatch.setattr(ops, "BACKWARD", spied)
    z, states = layer.trace(x)
    from_spikes = torch.autograd.grad(z.sum(), leaves, retain_graph=True)
    first, *_ = states.neuron
    from_states = torch.autograd.grad(first.sum(), leaves)
    (_, after, sequences), (gz, _, both) = given
    assert not after
    assert not sequences
    assert gz.untyped_storage().nbytes() == both[1].untyped_storage().nbytes() == 8  # one float64
    for loss, got in ((0, from_spikes), (1, from_states)):
        z, states = plain(layer, [x], layer.initial_state(x[0]))
        for a, b in zip(got, torch.autograd.grad((z, states[0])[loss].sum(), leaves), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-6)
