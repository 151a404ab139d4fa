"""One contract for every neuron: shapes, dtypes, states, chunks, streams, backends, errors."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from spikenet.errors import ArgumentError, BackendError, DtypeError, ShapeError, StateError
from spikenet.kernels import buffers, use_backend
from spikenet.layers import Stream
from spikenet.neurons import (
    ALIF,
    EIF,
    IF,
    LIF,
    NO_RESET,
    PLIF,
    QIF,
    AdEx,
    CubaLIF,
    IntrinsicLIF,
    Izhikevich,
    LeakyReadout,
    MetaNeuron,
    MultiSpikeLIF,
    Neuron,
    RefractoryLIF,
    ResonateAndFire,
    SEAdLIF,
    SiLIF,
    TernaryIF,
    TernaryLIF,
    surrogate,
)

# One that fires for inputs about 1.
ADEX = {"capacitance": 2.0, "conductance": 1.0, "slope_factor": 0.2, "v_onset": 0.8, "tau_w": 9.0, "a": 0.1, "b": 0.3}
ADEX |= {"v_threshold": 1.2, "v_reset": -0.1, "v_rest": 0.0}
NEURONS: dict[str, Callable[[], Neuron]] = {
    "LIF": LIF,
    "LIF_soft": lambda: LIF(3.0, 0.8, None, decay_input=False, surrogate="sigmoid"),
    "LIF_learned": lambda: LIF(nn.Parameter(torch.tensor(2.5)), v_threshold=nn.Parameter(torch.tensor(0.9))),
    "IF": IF,
    "IF_soft": lambda: IF(0.7, None, detach_reset=True),
    "LeakyReadout": lambda: LeakyReadout(3.0),
    "LeakyReadout_undamped": lambda: LeakyReadout(3.0, decay_input=False),
    "MultiSpikeLIF": MultiSpikeLIF,
    "TernaryIF": lambda: TernaryIF(0.7, -0.2),
    "TernaryLIF": lambda: TernaryLIF(2.5, 0.8, None, surrogate="triangle"),
    "MetaNeuron": MetaNeuron,
    "LIF_unreset": lambda: LIF(3.0, v_reset=NO_RESET, exact_decay=True),
    "RefractoryLIF": RefractoryLIF,
    "PLIF": PLIF,
    "IntrinsicLIF": lambda: IntrinsicLIF((), v_reset=-0.1),
    "CubaLIF": lambda: CubaLIF(3.0, 1.5),
    "ALIF": lambda: ALIF(3.0, 20.0),
    "SEAdLIF": lambda: SEAdLIF(2.0, 30.0, q=10.0),
    "SiLIF": lambda: SiLIF(5.0, 3.0, 0.1, 0.5),
    "QIF": QIF,
    "EIF": EIF,
    "AdEx": lambda: AdEx(**ADEX),
    "Izhikevich": lambda: Izhikevich(v_threshold=-62.0),
    "ResonateAndFire": ResonateAndFire,
}
IN_HALF = ("LIF_learned", "IF_soft", "LeakyReadout")
DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]
SHAPES = [
    (5, 3, 7),
    (33, 2, 1500),
    (16, 1, 2, 3, 5),
    (17, 4),
    (1, 1, 1),
    (33, 1, 1),
    (18, 1),
    (0, 3, 4),
    (6, 0, 4),
    (6, 3, 0),
]


def poison_pool(bytes_in_all: int) -> None:
    """Leave NaN in the pooled buffers that the kernels write their large outputs to."""
    held = [buffers.empty((bytes_in_all // 4,), torch.float32).fill_(torch.nan) for _ in range(3)]
    del held


def drive(shape: tuple[int, ...], dtype: torch.dtype = torch.float32, seed: int = 0) -> Tensor:
    return (torch.randn(shape, generator=torch.Generator().manual_seed(seed)) + 0.5).to(dtype)


@pytest.fixture(params=NEURONS)
def neuron(request: pytest.FixtureRequest) -> Neuron:
    return NEURONS[request.param]()


def precisions() -> list[tuple[str, torch.dtype]]:
    """Every neuron in float32 and float64; half precision, which is the same code around the step, for three."""
    return [(n, d) for n in NEURONS for d in DTYPES if d.itemsize > 2 or n in IN_HALF]


@pytest.mark.parametrize(("name", "dtype"), precisions(), ids=str)
def test_kernel_equals_the_plain_reference(name: str, dtype: torch.dtype) -> None:
    neuron = NEURONS[name]()
    for shape in SHAPES:
        x, gz = drive(shape, dtype), drive(shape, dtype, 1)
        results = {}
        for backend in ("reference", "numba"):
            poison_pool(x.numel() * x.element_size())
            neuron.zero_grad()
            xi = x.clone().requires_grad_()
            with use_backend(backend):
                z = neuron(xi)
                z.backward(gz)
            results[backend] = [z.detach(), xi.grad, *(p.grad for p in neuron.parameters())]
        ours, truth = results["numba"], results["reference"]
        assert ours[0].dtype == ours[1].dtype == dtype
        assert torch.equal(ours[0], truth[0])
        tolerance = {torch.float64: 1e-12, torch.float32: 2e-6, torch.float16: 2e-3, torch.bfloat16: 2e-2}[dtype]
        torch.testing.assert_close(ours[1], truth[1], rtol=tolerance, atol=tolerance)
        for got, expected in zip(ours[2:], truth[2:], strict=True):
            if got is not None:
                torch.testing.assert_close(got, expected, rtol=2e-5, atol=1e-4)


@pytest.mark.parametrize("backend", ["numba", "reference"])
def test_whole_chunked_stepped_and_streamed_are_bit_equal(neuron: Neuron, backend: str) -> None:
    x = drive((37, 3, 11), torch.float64)
    with use_backend(backend):
        whole, last = neuron.run(x)
        first, state = neuron.run(x[:13])
        second, chunked = neuron.run(x[13:], state)
        stepped, state = [], None
        for x_t in x:
            z, state = neuron.step(x_t, state)
            stepped.append(z)
        stream = Stream(neuron)
        streamed = torch.stack([stream.step(x_t) for x_t in x])
        traced, states = neuron.trace(x)
    assert torch.equal(whole, neuron(x))
    assert torch.equal(whole, torch.cat([first, second]))
    assert torch.equal(whole, torch.stack(stepped))
    assert torch.equal(whole, streamed)
    assert torch.equal(whole, traced)
    for name in last._fields:
        values = [getattr(end, name) for end in (last, chunked, state)]
        assert all(torch.equal(values[0], v) for v in (*values[1:], getattr(states, name)[-1]))


def test_gradients_flow_through_chunks_as_through_the_whole(neuron: Neuron) -> None:
    x, gz = drive((40, 2, 5)).requires_grad_(), drive((40, 2, 5), seed=1)
    (whole,) = torch.autograd.grad(neuron(x), x, gz)
    first, state = neuron.run(x[:21])
    second, _ = neuron.run(x[21:], state)
    (chunked,) = torch.autograd.grad(torch.cat([first, second]), x, gz)
    assert torch.equal(whole, chunked)


def test_traced_states_carry_gradients(neuron: Neuron) -> None:
    x, gv = drive((20, 2, 5), torch.float64).requires_grad_(), drive((20, 2, 5), torch.float64, 1)
    grads = []
    for backend in ("numba", "reference"):
        with use_backend(backend):
            states = [s for s in neuron.trace(x)[1] if s.requires_grad]
            grads.append(torch.autograd.grad(states, x, [gv] * len(states))[0])
    torch.testing.assert_close(grads[0], grads[1], rtol=1e-12, atol=1e-12)


def test_strided_and_expanded_inputs(neuron: Neuron) -> None:
    x = drive((6, 3, 8, 10))
    for view in (x.transpose(2, 3), x[::2], x[..., ::3], x[:1].expand(9, -1, -1, -1), x.flip(0)):
        a, b = view.detach().requires_grad_(), view.detach().contiguous().requires_grad_()
        za, zb = neuron(a), neuron(b)
        assert torch.equal(za, zb)
        za.sum().backward()  # a gradient of one number, expanded
        zb.backward(torch.ones_like(zb))
        assert torch.equal(a.grad, b.grad)


@pytest.mark.parametrize("dim", [0, 1, 2])
def test_gradients_that_are_expanded_along_one_dimension(dim: int) -> None:
    x, g = drive((9, 4, 50)), drive((9, 4, 50), seed=1).sum(dim)
    grads = []
    for backend in ("numba", "reference"):
        leaf = x.clone().requires_grad_()
        with use_backend(backend):
            (LIF(3.0)(leaf).sum(dim) * g).sum().backward()  # a gradient whose stride is 0
        grads.append(leaf.grad)
    torch.testing.assert_close(*grads, rtol=2e-6, atol=2e-6)


def test_a_negated_view_is_resolved() -> None:
    x = drive((9, 2, 5))
    view = torch.complex(x, -x).conj().imag  # x, by a bit that says so
    assert view.is_neg()
    assert torch.equal(LIF()(view), LIF()(x))


def test_threads_do_not_change_a_bit(neuron: Neuron) -> None:
    x, gz = drive((20, 8, 4000)), drive((20, 8, 4000), seed=1)
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            neuron.zero_grad()
            xi = x.clone().requires_grad_()
            z = neuron(xi)
            z.backward(gz)
            results.append([z.detach(), xi.grad, *(p.grad.clone() for p in neuron.parameters())])
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


def test_state_dict_copy_and_pickle(neuron: Neuron) -> None:
    x = drive((9, 2, 4))
    other = copy.deepcopy(neuron)
    for value in other.state_dict().values():
        value.mul_(1.5)
    other.load_state_dict(neuron.state_dict())
    for twin in (other, copy.deepcopy(neuron), pickle.loads(pickle.dumps(neuron))):
        assert torch.equal(twin(x), neuron(x))
    _, state = neuron.run(x)
    assert torch.equal(neuron(x[:0]), x[:0])
    assert torch.equal(neuron.run(x, state=pickle.loads(pickle.dumps(state)))[0], neuron.run(x, state)[0])


def test_what_is_kept_between_calls_follows_the_parameters() -> None:
    x, lif = drive((9, 2, 4)), LIF(nn.Parameter(torch.tensor(2.0), requires_grad=False), v_threshold=torch.tensor(0.9))
    before = lif(x)
    torch.nn.utils.vector_to_parameters(torch.tensor([9.0]), lif.parameters())  # through `.data`, by another tensor
    assert torch.equal(lif(x), LIF(9.0, 0.9)(x))
    lif.v_threshold.fill_(0.2)
    assert torch.equal(lif(x), LIF(9.0, 0.2)(x))
    assert not torch.equal(lif(x), before)
    assert "_kept" not in lif.__getstate__()
    _, state = lif.run(x[:0])
    state.v.add_(5.0)
    assert torch.equal(lif(x), LIF(9.0, 0.2)(x))


def test_an_empty_batch_gives_learned_parameters_a_gradient_of_zero() -> None:
    lif = LIF(nn.Parameter(torch.tensor(2.0)))
    lif(torch.zeros(4, 0, 3)).sum().backward()
    assert lif.tau.grad == 0.0
    assert LIF(torch.ones(0))(torch.zeros(4, 2, 0)).shape == (4, 2, 0)


def test_outputs_may_be_changed_in_place_at_any_size(neuron: Neuron) -> None:
    for shape in ((4, 2, 3), (40, 20, 1000)):
        x = drive(shape).requires_grad_()
        neuron(x).mul_(2.0).sum().backward()
        doubled, x.grad = x.grad, None
        (neuron(x) * 2.0).sum().backward()
        assert torch.equal(doubled, x.grad)
        with torch.no_grad():
            assert torch.equal(neuron(x).mul_(2.0), neuron(x) * 2)


def test_forward_mode_is_refused(neuron: Neuron) -> None:
    x = drive((4, 2, 3))
    with pytest.raises(BackendError, match="no forward-mode derivative"):
        torch.func.jvp(neuron, (x,), (torch.ones_like(x),))


def test_an_option_changed_later_takes_effect() -> None:
    x, lif = drive((9, 2, 4)).requires_grad_(), LIF()
    lif.detach_reset, lif.emit = True, LIF(surrogate="triangle").emit
    twin = LIF(detach_reset=True, surrogate="triangle")
    assert torch.equal(*(torch.autograd.grad(n(x).sum(), x)[0] for n in (lif, twin)))


@pytest.mark.parametrize("name", IN_HALF)
def test_autocast_keeps_half_precision_inputs(name: str) -> None:
    net = nn.Sequential(nn.Linear(6, 9), NEURONS[name]())
    with torch.autocast("cpu", torch.bfloat16):
        out = net(drive((7, 2, 6)))
    assert out.dtype == torch.bfloat16
    out.float().sum().backward()
    assert net[0].weight.grad.isfinite().all()


def test_bad_calls_say_what_would_work(neuron: Neuron) -> None:
    name = type(neuron).__name__
    with pytest.raises(DtypeError, match=f"{name} takes floating-point input, got torch.int64"):
        neuron(torch.ones(3, 2, 4, dtype=torch.int64))
    with pytest.raises(ShapeError, match=r"takes \[T, B, \*features\], got a tensor of shape \(3,\)"):
        neuron(torch.ones(3))
    with pytest.raises(ShapeError, match="got 3 arguments"):
        neuron.run(torch.ones(3, 2, 4), None, None)
    _, state = neuron.run(torch.ones(3, 2, 4))
    with pytest.raises(StateError, match="start a new state for another batch"):
        neuron.run(torch.ones(3, 5, 4), state)
    with pytest.raises(StateError, match="takes a state with the fields"):
        neuron.run(torch.ones(3, 2, 4), (state,))
    with use_backend("triton"), pytest.raises(BackendError, match=r"'triton' was forced, but .* is torch.float64"):
        neuron(torch.ones(3, 2, 4, dtype=torch.float64))


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: LIF(0.0), r"LIF.tau must lie between 0.0 and inf, got 0.0"),
        (lambda: LIF(float("nan")), "LIF.tau must lie"),
        (lambda: LIF(dt=0.0), "LIF.dt must be a finite number above 0"),
        (lambda: LIF(surrogate="attan"), "Did you mean 'atan'"),
        (lambda: LeakyReadout(-1.0), "LeakyReadout.tau must lie"),
    ],
)
def test_bad_parameters_are_refused(make: Callable[[], Neuron], match: str) -> None:
    with pytest.raises(ArgumentError, match=match):
        make()


def test_parameters_that_do_not_fit_the_features() -> None:
    with pytest.raises(ShapeError, match=r"LIF.tau of shape \(3,\) does not broadcast against the features \(4,\)"):
        LIF(torch.full((3,), 2.0))(torch.ones(5, 2, 4))
    with pytest.raises(ShapeError, match=r"LIF.v_rest of shape \(3,\)"):
        LIF(v_rest=torch.zeros(3))(torch.ones(5, 2, 4))


@pytest.mark.parametrize("shape", [(), (4,), (3, 1), (3, 4), (2, 1, 1), (2, 3, 1), (2, 1, 4), (1, 3, 1)])
def test_parameters_broadcast_like_tensors(shape: tuple[int, ...]) -> None:
    tau = torch.rand(shape, generator=torch.Generator().manual_seed(0)) * 3 + 1.5
    x = drive((12, 5, 2, 3, 4), torch.float64).requires_grad_()
    small, full = LIF(nn.Parameter(tau)), LIF(nn.Parameter(tau.expand(2, 3, 4).clone()))
    a, b = small(x), full(x)
    assert torch.equal(a, b)
    a.sum().backward()
    b.sum().backward()
    torch.testing.assert_close(small.tau.grad, full.tau.grad.sum_to_size(shape), rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_compiles_whole(neuron: Neuron) -> None:
    torch.compiler.reset()  # else the neurons before count as recompilations
    net = nn.Sequential(nn.Linear(6, 9), neuron)
    x = drive((7, 2, 6))
    compiled = torch.compile(net, fullgraph=True)
    grads = []
    for module in (net, compiled):
        net.zero_grad()
        module(x).sum().backward()
        grads.append(net[0].weight.grad.clone())
    torch.testing.assert_close(*grads)
    torch.testing.assert_close(compiled(x), net(x))


def test_compile_sees_one_operator(neuron: Neuron) -> None:
    torch.compiler.reset()  # one after another, the neurons would be too many recompilations of one function
    x = drive((7, 2, 6)).requires_grad_()
    compiled = torch.compile(neuron, fullgraph=True, backend="aot_eager")
    (a,) = torch.autograd.grad(compiled(x).sum(), x)
    (b,) = torch.autograd.grad(neuron(x).sum(), x)
    assert torch.equal(a, b)
    assert torch.equal(compiled(x), neuron(x))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", IN_HALF)
def test_half_precision_is_float32_on_the_same_inputs(name: str, dtype: torch.dtype) -> None:
    x, gz = (drive((37, 2, 1100), dtype, seed) for seed in (0, 1))
    results = []
    for kind in (dtype, torch.float32):
        neuron, leaf = NEURONS[name](), x.detach().to(kind).requires_grad_()
        z = neuron(leaf)
        z.backward(gz.to(kind))
        results.append([z.detach().to(dtype), leaf.grad.to(dtype), *(p.grad for p in neuron.parameters())])
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("name", surrogate.SURROGATES)
def test_every_surrogate_on_every_neuron(neuron: Neuron, name: str) -> None:
    if not isinstance(neuron.emit, surrogate.Spike):
        pytest.skip("its output has no surrogate to choose")
    neuron.emit = surrogate.Spike(surrogate.surrogate(name))
    x, gz, grads = drive((20, 2, 5), torch.float64), drive((20, 2, 5), torch.float64, 1), []
    for backend in ("numba", "reference"):
        leaf = x.clone().requires_grad_()
        with use_backend(backend):
            grads.append(torch.autograd.grad(neuron(leaf), leaf, gz)[0])
    torch.testing.assert_close(grads[0], grads[1], rtol=1e-9, atol=1e-9)
