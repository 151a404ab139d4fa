"""Every neuron's Triton kernels against the plain reference: on a CUDA device, or else in Triton's interpreter.

Spikes are bit-equal where the equations have no exp, log or trigonometric function; elsewhere lanes count until
their potential comes close to a tie. The interpreter runs on small shapes and never sees a race.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from spikenet.kernels import use_backend
from spikenet.kernels.dynamics.ops import _programs
from spikenet.neurons import IF, LIF, LeakyReadout, Neuron, StochasticLIF, surrogate
from tests.contract.test_neurons import NEURONS, drive
from tests.contract.test_stochastic import NEURONS as STOCHASTIC
from tests.contract.test_stochastic import drives

pytest.importorskip("triton")
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
SHAPES = [(5, 3, 7), (23, 2, 8), (1, 1, 1), (41, 1, 1), (20, 4)]
ROUNDED = {"exp", "log", "tanh", "sin", "cos", "atan", "erf"}


def exact(neuron: Neuron) -> bool:
    """Whether all backends compute the same bits."""
    program = _programs[neuron._program]
    phases = (program.charge, program.fire, program.emit, program.reset)
    words = {operation.word for phase in phases for operation in phase.operations}
    return not words & ROUNDED and "normal" not in dict(program.draws).values()


def run(neuron: Neuron, backend: str, xs: list[Tensor], gz: Tensor, start: tuple[Tensor, ...]) -> list[Tensor]:
    """Output, last state, and the gradients of the inputs, the initial state and every learned parameter."""
    xs = [x.detach().requires_grad_() for x in xs]
    state = [s.detach().clone().requires_grad_(s.is_floating_point()) for s in start]
    wanted = [*xs, *(s for s in state if s.requires_grad), *(p for p in neuron.parameters() if p.requires_grad)]
    with use_backend(backend):
        z, last = neuron.run(*xs, neuron.State(*state))
        ends = [z, *(s for s in last if s.requires_grad)]
        gradients = [gz, *(gz[0].to(e.dtype) for e in ends[1:])]
        grads = torch.autograd.grad(ends, wanted, gradients, materialize_grads=True)
    return [*(e.detach() for e in ends), *grads]


def compare(neuron: Neuron, xs: list[Tensor], gz: Tensor) -> None:
    neuron.to(DEVICE)
    xs, gz = [x.to(DEVICE) for x in xs], gz.to(DEVICE)
    x = xs[0]
    torch.manual_seed(0)
    start = neuron.initial_state(x[0])
    ours, truth = (run(neuron, backend, xs, gz, start) for backend in ("triton", "reference"))
    assert ours[0].dtype == x.dtype
    assert torch.equal(ours[0].isnan(), truth[0].isnan())
    half = x.dtype.itemsize == 2
    if exact(neuron) and (x.is_cuda or x.dtype != torch.bfloat16):  # the interpreter cuts bfloat16 off
        assert torch.equal(ours[0], truth[0])
    tolerance = {torch.float32: 5e-6, torch.float16: 2e-3, torch.bfloat16: 2e-2}[x.dtype]
    for got, expected in zip(ours, truth, strict=True):
        scale = max(1.0, float(expected.abs().max())) if expected.numel() else 1.0
        torch.testing.assert_close(got.float(), expected.float(), rtol=tolerance, atol=tolerance * scale)
    assert half or ours[0].isfinite().all()


@pytest.mark.parametrize("make", [*NEURONS.values(), *STOCHASTIC.values()], ids=[*NEURONS, *STOCHASTIC])
def test_every_neuron(make: Callable[[], Neuron]) -> None:
    for shape in SHAPES:
        neuron = make()
        compare(neuron, drives(neuron, shape), drive(shape, seed=9))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", ["LIF_learned", "IF_soft", "LeakyReadout"])
def test_half_precision(name: str, dtype: torch.dtype) -> None:
    for shape in SHAPES[:2]:
        compare(NEURONS[name](), [drive(shape, dtype)], drive(shape, dtype, 1))


@pytest.mark.parametrize("shape", [(6,), (3, 1), (3, 6), (2, 1, 1)])
def test_parameters_of_channels_and_neurons(shape: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(0)
    tau, threshold = (nn.Parameter(torch.rand(s, generator=generator) + 1.5) for s in (shape, ()))
    neuron = LIF(tau, threshold, v_reset=nn.Parameter(torch.tensor(-0.1)))
    compare(neuron, [drive((23, 4, 2, 3, 6)) * 2], drive((23, 4, 2, 3, 6), seed=1))


def test_strided_input_and_gradient_without_a_copy() -> None:
    x = drive((6, 4, 8, 10), seed=2)
    views = [x.transpose(0, 1), x.transpose(2, 3), x[::2], x[..., ::3], x[:1].expand(9, -1, -1, -1), x.flip(0)]
    views += [x[:, :1].expand(-1, 5, -1, -1), x[:, :, :1].expand(-1, -1, 3, -1), x.to(torch.complex64).conj().imag + x]
    for view in views:
        summed = [torch.rand_like(view.sum(d, keepdim=True)).expand(view.shape) for d in range(4)]
        for gz in (*summed, torch.ones(()).expand(view.shape), drive(tuple(view.shape), seed=3).transpose(-1, -2).mT):
            compare(LIF(), [view], gz)


def test_strided_parameters() -> None:
    wide = torch.rand(12, generator=torch.Generator().manual_seed(0)) + 0.5
    for threshold in (nn.Parameter(wide[::2]), wide[:1].expand(6)):
        compare(LIF(v_threshold=threshold), [drive((23, 4, 6))], drive((23, 4, 6), seed=1))


def test_traced_states_and_chunks() -> None:
    neuron, x = LIF(3.0).to(DEVICE), drive((43, 2, 5)).to(DEVICE)
    with use_backend("triton"):
        whole, states = neuron.trace(x)
        first, state = neuron.run(x[:17])
        second, last = neuron.run(x[17:], state)
    with use_backend("reference"):
        truth, expected = neuron.trace(x)
    assert torch.equal(whole, truth)
    assert torch.equal(states.v, expected.v)
    assert torch.equal(torch.cat([first, second]), whole)
    assert torch.equal(last.v, states.v[-1])


def test_traced_gradients() -> None:
    x, gv = drive((23, 2, 5)).to(DEVICE).requires_grad_(), drive((23, 2, 5), seed=1).to(DEVICE)
    grads = []
    for backend in ("triton", "reference"):
        with use_backend(backend):
            grads.append(torch.autograd.grad(LIF(3.0).to(DEVICE).trace(x)[1].v, x, gv)[0])
    torch.testing.assert_close(grads[0], grads[1], rtol=2e-6, atol=2e-6)


def test_inputs_of_no_steps_or_lanes() -> None:
    with use_backend("triton"):
        for shape in ((0, 3, 4), (6, 0, 4), (6, 3, 0)):
            for neuron in (LIF(), IF(), LeakyReadout()):
                assert neuron.to(DEVICE)(torch.empty(shape, device=DEVICE)).shape == shape


@pytest.mark.gpu
@pytest.mark.parametrize("name", NEURONS)
def test_full_shapes_against_the_processor(name: str) -> None:
    """The GPU's spikes are the CPU's, bit for bit; each kernel form (one chunk, ahead, many lanes) has its turn."""
    neuron = NEURONS[name]()
    params = [neuron.to(d)._prepared([torch.zeros(1, 1, 1, device=d)])[0] for d in ("cpu", "cuda")]
    alike = exact(neuron) and all(torch.equal(a, b.cpu()) for a, b in zip(*params, strict=True))
    for shape in ((4, 8, 5000), (100, 4, 2048), (45, 2, 3001), (40, 64, 2500)):
        x = drive(shape)
        cpu, gpu = neuron.cpu()(x), neuron.cuda()(x.cuda()).cpu()
        if alike:
            assert torch.equal(cpu, gpu)
        else:  # exp and its kin, here or in derived parameters, round otherwise: a spike moves now and then
            assert ((cpu - gpu).abs() > 1e-3).float().mean() < 1e-3


@pytest.mark.parametrize("name", surrogate.SURROGATES)
def test_every_surrogate(name: str) -> None:
    compare(LIF(surrogate=name), [drive((23, 2, 8))], drive((23, 2, 8), seed=1))


@pytest.mark.gpu
def test_a_captured_graph_draws_anew_and_equals_the_eager_call() -> None:
    for neuron in (LIF(3.0), StochasticLIF()):
        neuron.cuda()
        x, gz = drive((25, 4, 300)).cuda(), drive((25, 4, 300), seed=1).cuda()
        state = neuron.initial_state(x[0])

        def work(neuron: Neuron = neuron, x: Tensor = x, gz: Tensor = gz, state: object = state) -> list[Tensor]:
            leaf = x.detach().requires_grad_()
            z, last = neuron.run(leaf, state)
            return [z, last.v, *torch.autograd.grad(z, leaf, gz)]

        expected = [e.clone() for e in work()]
        side = torch.cuda.Stream()
        with torch.cuda.stream(side):
            work()
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            captured = work()
        for t in captured:
            t.detach().fill_(torch.nan)
        neuron(x[:, :2])  # what was made for the captured call is not kept for this one
        junk = [torch.full((n,), 7.0, device="cuda") for n in range(1, 65)]
        graph.replay()
        assert all(torch.equal(a, b) for a, b in zip(captured, expected, strict=True))
        assert len(junk) == 64
        if neuron._draws:  # the seed is read where it lies
            state[-1][0] += 1
            graph.replay()
            assert not torch.equal(captured[0], expected[0])


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_float32_on_the_same_inputs(dtype: torch.dtype) -> None:
    x, gz = (drive((45, 4, 3001), dtype, seed).cuda() for seed in (0, 1))
    results = []
    for kind in (dtype, torch.float32):
        leaf = x.detach().to(kind).requires_grad_()
        z = LIF(3.0).cuda()(leaf)
        results.append([z.detach().to(dtype), torch.autograd.grad(z, leaf, gz.to(kind))[0].to(dtype)])
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


@pytest.mark.gpu
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:TensorFloat32 tensor cores")
def test_compiles_whole_on_the_gpu() -> None:
    net = nn.Sequential(nn.Linear(6, 9), LIF()).cuda()
    x, grads = drive((7, 2, 6)).cuda(), []
    for module in (net, torch.compile(net, fullgraph=True)):
        net.zero_grad()
        module(x).sum().backward()
        grads.append(net[0].weight.grad.clone())
    torch.testing.assert_close(*grads)


class Noise(Neuron):
    """Its output is what it draws."""

    state = {"v": 0.0}
    draws = {"u": "uniform", "n": "normal"}
    emit = surrogate.Identity()

    def charge(self, s: Any, x: Any, d: Any, p: Any) -> dict[str, Any]:
        return {"v": x.x + d.u, "w": d.n}

    def fire(self, h: Any, p: Any) -> Any:
        return h.v

    def reset(self, h: Any, z: Any, p: Any) -> dict[str, Any]:
        return {"v": h.w}


def test_draws_are_those_of_the_processor() -> None:
    x, seed = torch.zeros(23, 2, 37), torch.tensor([-7, 2**33 + 5])  # a step beyond 32 bits
    results = []
    for device, backend in (("cpu", "numba"), (DEVICE, "triton")):
        neuron = Noise().to(device)
        with use_backend(backend):
            z, states = neuron.trace(x.to(device), neuron.State(torch.zeros(2, 37).to(device), seed.to(device)))
        results.append((z.cpu(), states.v.cpu()))
    assert torch.equal(results[0][0], results[1][0])
    torch.testing.assert_close(results[0][1], results[1][1], rtol=1e-5, atol=1e-6)
    assert len(results[0][0].unique()) > 1600
