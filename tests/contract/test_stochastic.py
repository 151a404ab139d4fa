"""The contract of `test_neurons` for neurons that draw: everything holds from one and the same state."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from spikenet.errors import DeviceError, StateError
from spikenet.kernels import use_backend
from spikenet.layers import Stream
from spikenet.neurons import MetaNeuron, MomentLevyBaxter, Neuron, ProbabilisticMetaNeuron, StochasticLIF
from spikenet.neurons import surrogate as sg
from spikenet.neurons.emission import (
    NoisyRectifier,
    ScaledStraightThrough,
    ScoreFunction,
    StochasticTimesSmooth,
    escape,
)
from tests.contract.test_neurons import SHAPES, drive, poison_pool

NEURONS: dict[str, Callable[[], Neuron]] = {
    "StochasticLIF": lambda: StochasticLIF(nn.Parameter(torch.tensor(2.5)), detach_reset=False),
    "StochasticLIF_score": lambda: StochasticLIF(3.0, 0.8, None, emission=ScoreFunction(escape())),
    "StochasticLIF_smooth": lambda: StochasticLIF(3.0, 0.8, None, emission=StochasticTimesSmooth(sg.sigmoid(3.0))),
    "StochasticLIF_rectifier": lambda: StochasticLIF(3.0, 0.5, None, emission=NoisyRectifier(0.3)),
    "MetaNeuron": lambda: MetaNeuron(emission=ScaledStraightThrough(sg.gaussian(4.0))),
    "ProbabilisticMetaNeuron": ProbabilisticMetaNeuron,
    "MomentLevyBaxter": lambda: MomentLevyBaxter(nn.Parameter(torch.tensor(0.4))),
}


@pytest.fixture(params=NEURONS)
def neuron(request: pytest.FixtureRequest) -> Neuron:
    return NEURONS[request.param]()


def drives(neuron: Neuron, shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> list[Tensor]:
    """One sequence an input; those after the first, which may be variances, are positive and never small."""
    return [drive(shape, dtype, seed=k) if k == 0 else drive(shape, dtype, seed=k).abs() + 0.2 for k in _inputs(neuron)]


def _inputs(neuron: Neuron) -> range:
    return range(len(neuron.inputs))


def gradients(neuron: Neuron, xs: list[Tensor], state: Any, gz: Tensor) -> list[Tensor]:
    """The output, the last state and the gradients of inputs and parameters."""
    xs = [x.detach().clone().requires_grad_() for x in xs]
    z, last = neuron.run(*xs, state)
    found = torch.autograd.grad(z, [*xs, *neuron.parameters()], gz, materialize_grads=True)  # an empty z has none
    return [z.detach(), *(s.detach() for s in last), *found]


@pytest.mark.parametrize(
    ("name", "dtype"), [*((n, torch.float32) for n in NEURONS), ("StochasticLIF", torch.bfloat16)], ids=str
)
def test_kernel_equals_the_plain_reference(name: str, dtype: torch.dtype) -> None:
    neuron = NEURONS[name]()
    rng = len(neuron.State._fields)  # its place behind the output
    for shape in SHAPES:
        xs, gz = drives(neuron, shape, dtype), drive(shape, dtype, 9)
        state, results = neuron.initial_state(xs[0].new_empty(shape[1:])), []
        for backend in ("numba", "reference"):
            poison_pool(xs[0].numel() * xs[0].element_size())
            with use_backend(backend):
                results.append(gradients(neuron, xs, state, gz))
        if neuron.emit.binary:
            assert torch.equal(results[0][0], results[1][0])
        tolerance = 2e-2 if dtype.itemsize == 2 else 2e-5
        torch.testing.assert_close(results[0], results[1], rtol=tolerance, atol=tolerance)
        if 0 not in shape:
            assert torch.equal(results[0][rng], torch.stack([state.rng[0], state.rng[1] + shape[0]]))


@pytest.mark.parametrize("backend", ["numba", "reference"])
def test_whole_chunked_stepped_and_streamed_are_bit_equal(neuron: Neuron, backend: str) -> None:
    xs = drives(neuron, (37, 3, 11), torch.float64)
    with use_backend(backend):
        start = neuron.initial_state(xs[0][0])
        whole, last = neuron.run(*xs, start)
        first, state = neuron.run(*(x[:13] for x in xs), start)
        second, chunked = neuron.run(*(x[13:] for x in xs), state)
        stepped, state = [], start
        for x_t in zip(*xs, strict=True):
            z, state = neuron.step(*x_t, state)
            stepped.append(z)
        traced, states = neuron.trace(*xs, start)
        torch.manual_seed(5)
        called = neuron(*xs)
        torch.manual_seed(5)
        stream = Stream(_Split(neuron))
        streamed = torch.stack([stream.step(torch.stack(x_t, -1)) for x_t in zip(*xs, strict=True)])
    assert torch.equal(whole, torch.cat([first, second]))
    assert torch.equal(whole, torch.stack(stepped))
    assert torch.equal(whole, traced)
    assert torch.equal(called, streamed)
    for field, value in zip(last._fields, last, strict=True):
        assert torch.equal(value, getattr(chunked, field))
        assert torch.equal(value, getattr(state, field))
        assert torch.equal(value, getattr(states, field) if field == "rng" else getattr(states, field)[-1])


class _Split(nn.Module):
    """A neuron whose inputs arrive along the last axis: a stream has one input."""

    def __init__(self, neuron: Neuron) -> None:
        super().__init__()
        self.neuron = neuron

    def forward(self, x: Tensor) -> Tensor:
        return self.neuron(*x.unbind(-1))


def test_gradients_flow_through_chunks_as_through_the_whole(neuron: Neuron) -> None:
    xs = [x.requires_grad_() for x in drives(neuron, (40, 2, 5))]
    start, gz = neuron.initial_state(xs[0][0]), drive((40, 2, 5), seed=9)
    whole = torch.autograd.grad(neuron.run(*xs, start)[0], xs, gz)
    first, state = neuron.run(*(x[:21] for x in xs), start)
    second, _ = neuron.run(*(x[21:] for x in xs), state)
    chunked = torch.autograd.grad(torch.cat([first, second]), xs, gz)
    assert all(torch.equal(a, b) for a, b in zip(whole, chunked, strict=True))


def test_threads_do_not_change_a_bit(neuron: Neuron) -> None:
    shape = (20, 8, 4000)
    xs, gz = drives(neuron, shape), drive(shape, seed=9)
    start, before, results = neuron.initial_state(xs[0][0]), torch.get_num_threads(), []
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            results.append(gradients(neuron, xs, start, gz))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


def test_seeds_come_from_torchs_generator_and_travel_in_the_state(neuron: Neuron) -> None:
    xs = drives(neuron, (9, 2, 40))
    torch.manual_seed(1)
    a, b = neuron(*xs), neuron(*xs)
    torch.manual_seed(1)
    assert torch.equal(neuron(*xs), a)
    assert not torch.equal(a, b)
    _, state = neuron.run(*xs)
    kept = pickle.loads(pickle.dumps(state))
    for twin in (copy.deepcopy(neuron), pickle.loads(pickle.dumps(neuron))):
        assert torch.equal(twin.run(*xs, kept)[0], neuron.run(*xs, state)[0])


def test_a_state_without_a_seed_is_refused(neuron: Neuron) -> None:
    xs = drives(neuron, (3, 2, 4))
    state = neuron.initial_state(xs[0][0])
    with pytest.raises(StateError, match="takes a state with the fields"):
        neuron.run(*xs, tuple(state[:-1]))


def test_compile_sees_one_operator(neuron: Neuron) -> None:
    torch.compiler.reset()  # one after another, the neurons would be too many recompilations of one function
    xs = [x.requires_grad_() for x in drives(neuron, (7, 2, 6))]
    start = neuron.initial_state(xs[0][0])
    compiled = torch.compile(neuron.run, fullgraph=True, backend="aot_eager")
    (a, _), (b, _) = compiled(*xs, start), neuron.run(*xs, start)
    assert torch.equal(a, b)
    for ours, truth in zip(torch.autograd.grad(a.sum(), xs), torch.autograd.grad(b.sum(), xs), strict=True):
        assert torch.equal(ours, truth)


def test_inputs_and_seeds_of_another_device_or_dtype_are_refused() -> None:
    x = torch.ones(4, 2, 3)
    with pytest.raises(DeviceError, match="inputs are on cpu and meta"):
        MomentLevyBaxter(0.4)(x, x.to("meta"))
    lif = StochasticLIF()
    state = lif.initial_state(x[0])
    with pytest.raises(StateError, match=r"'rng' holds .* in int64 on cpu, got .* torch.float32"):
        lif.run(x, state._replace(rng=state.rng.float()))
