"""Layers with delays: the equation as a loop, closed forms of one spike, chunks and streams, rounding, refusals."""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from spikenet.errors import ArgumentError, DeviceError, DtypeError, ShapeError, StateError, UnknownNameError
from spikenet.events import EventTensor
from spikenet.kernels import use_backend
from spikenet.layers import DelayConv1d, DelayConv2d, DelayLinear, DelayState, SigmaSchedule, Stream
from spikenet.layers.delay import Delayed
from tests.layers.delay_layers import linear, spikes

PER = {"synapse": (4, 6, 2), "input": (1, 6, 2), "output": (4, 1, 2), "shared": (1, 1, 2)}


LAYERS: dict[str, tuple[Callable[[], Delayed], tuple[int, ...]]] = {
    "linear": (linear, (6,)),
    "conv1d": (lambda: DelayConv1d(2, 4, 3, 5, stride=2, padding=1, bias=True).double(), (2, 9)),
    "conv2d": (lambda: DelayConv2d(2, 4, (3, 2), 5, groups=2, dilation=2, elements=2).double(), (2, 7, 6)),
}


@pytest.fixture(params=LAYERS)
def kind(request: pytest.FixtureRequest) -> tuple[Delayed, tuple[int, ...]]:
    make, features = LAYERS[request.param]
    layer = make()
    if layer.bias is not None:
        nn.init.normal_(layer.bias)
    return layer, features


# What a layer computes.


def loop(layer: DelayLinear, x: Tensor) -> Tensor:
    """The equation of the Gaussian kernel, term by term."""
    width = abs(float(layer.sigma)) + 0.27
    weight, delay = layer.weight, layer.delay.expand(layer.weight.shape)
    g = torch.stack([torch.exp(-0.5 * ((d - delay) / width) ** 2) for d in range(layer.taps)])
    g = g / (g.sum(0) + 1e-7)
    rows = []
    for t in range(len(x) + layer.extend):
        y = layer.bias.expand(x.shape[1], -1)
        for d in range(layer.taps):
            if 0 <= t - d < len(x):
                y = y + x[t - d] @ (weight * g[d]).sum(-1).T
        rows.append(y)
    return torch.stack(rows)


@pytest.mark.parametrize("backend", ["reference", "numba"])
@pytest.mark.parametrize("per", PER)
def test_equals_the_equation_with_all_gradients(per: str, backend: str) -> None:
    layer, x = linear(per=per, extend=3), spikes(20, 3, 6, rate=0.3).requires_grad_()
    assert layer.delay.shape == PER[per]
    leaves = [x, *layer.parameters()]
    expected = loop(layer, x)
    grad = torch.randn_like(expected)
    with use_backend(backend):
        y = layer(x)
        ours = [y, *torch.autograd.grad(y, leaves, grad)]
    assert y.shape == (23, 3, 4)
    for got, wanted in zip(ours, [expected, *torch.autograd.grad(expected, leaves, grad)], strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-10, atol=1e-10)


def test_a_spike_arrives_after_its_delay() -> None:
    layer = DelayLinear(3, 2, 6).eval()
    layer.weight.data.copy_(torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])[..., None])
    layer.delay.data.copy_(torch.tensor([[0.0, 1.4, 4.6], [2.0, 3.0, 0.4]])[..., None])
    x = torch.zeros(8, 1, 3)
    x[1] = 1.0
    expected = torch.zeros(8, 1, 2)
    for delay, output, weight in ((0, 0, 1), (1, 0, 2), (5, 0, 3), (2, 1, 4), (3, 1, 5), (0, 1, 6)):
        expected[1 + delay, 0, output] += weight
    assert torch.equal(layer(x), expected)


def test_in_evaluation_each_synapse_has_one_tap(kind: tuple[Delayed, tuple[int, ...]]) -> None:
    layer, _ = kind
    tap = layer.rounded()
    assert tap.shape == layer.weight.shape
    assert bool(((tap - layer.delay).abs() <= 0.5).all())


def test_linear_in_evaluation_is_the_sum_of_shifted_inputs() -> None:
    layer, x = linear(extend=6).eval(), spikes(15, 3, 6)
    expected = layer.bias.detach().expand(21, 3, 4).clone()
    for i in range(4):
        for j in range(6):
            for k in range(2):
                shift = int(layer.rounded()[i, j, k])
                expected[shift : shift + 15, :, i] += layer.weight[i, j, k].detach() * x[:, :, j]
    torch.testing.assert_close(layer(x), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("training", [True, False])
def test_convolutions_are_linear_layers_at_every_place(training: bool) -> None:
    conv = DelayConv2d(3, 5, (2, 3), 4, padding=(1, 0), stride=(1, 2), elements=2, bias=True).double().train(training)
    x = spikes(9, 2, 3, 4, 7, rate=0.3)
    dense = DelayLinear(3 * 6, 5, 4, elements=2, bias=True).double().train(training)
    dense.weight.data.copy_(conv.weight.reshape(5, 18, 2))
    dense.delay.data.copy_(conv.delay.reshape(5, 18, 2))
    dense.bias.data.copy_(conv.bias)
    patches = nn.functional.unfold(x.flatten(0, 1), (2, 3), padding=(1, 0), stride=(1, 2))  # [T B, 18, places]
    y = dense(patches.movedim(1, 2).reshape(9, -1, 18)).view(9, 2, -1, 5).movedim(-1, 2)
    torch.testing.assert_close(conv(x).flatten(3), y, rtol=1e-10, atol=1e-10)
    flat = DelayConv1d(3, 5, 3, 4, bias=True).double().train(training)
    tall = DelayConv2d(3, 5, (1, 3), 4, bias=True).double().train(training)
    tall.load_state_dict({n: p.unsqueeze(2) if p.ndim > 3 else p for n, p in flat.state_dict().items()})
    torch.testing.assert_close(flat(x[..., 0, :]), tall(x[..., :1, :]).squeeze(3), rtol=1e-12, atol=1e-12)


def test_convolution_gradients_are_those_of_the_linear_layer() -> None:
    conv = DelayConv1d(2, 3, 2, 4).double()
    dense = DelayLinear(4, 3, 4).double()
    dense.weight.data.copy_(conv.weight.reshape(3, 4, 1))
    dense.delay.data.copy_(conv.delay.reshape(3, 4, 1))
    x = spikes(9, 2, 2, 5, rate=0.4)
    grad = torch.randn(9, 2, 3, 4).double()
    conv(x).backward(grad)
    patches = x.unfold(3, 2, 1).movedim(3, 2).reshape(9, 8, 4)  # [T, B places, C offsets]
    dense(patches).backward(grad.movedim(3, 2).reshape(9, 8, 3))
    torch.testing.assert_close(conv.delay.grad.reshape(3, 4, 1), dense.delay.grad)
    torch.testing.assert_close(conv.weight.grad.reshape(3, 4, 1), dense.weight.grad)


# Parts of a sequence.


@pytest.mark.parametrize("training", [True, False])
def test_chunks_steps_and_stream_give_the_bits_of_the_whole(
    kind: tuple[Delayed, tuple[int, ...]], training: bool
) -> None:
    layer, features = kind
    layer.train(training)
    layer.weight.data = (layer.weight.data * 64).round() / 64  # in evaluation torch's convolutions, too, add up exactly
    exact = isinstance(layer, DelayLinear) or not training

    def agree(part: Tensor, whole: Tensor) -> None:
        torch.testing.assert_close(part, whole, rtol=0.0, atol=0.0 if exact else 1e-13)

    x = spikes(17, 3, *features)
    if layer.bias is not None:
        nn.init.constant_(layer.bias, 0.25)
    whole = layer(x)
    state, chunks = None, []
    for part in x.split([1, 7, 2, 7]):
        y, state = layer.run(part, state)
        chunks.append(y)
    agree(torch.cat(chunks), whole)
    assert torch.equal(state.inputs, x[17 - layer.taps + 1 :])
    stream = Stream(nn.Sequential(layer))
    agree(torch.stack([stream.step(x_t) for x_t in x]), whole)
    y, _ = layer.step(x[0])
    agree(y, whole[0])


def test_gradients_go_through_the_state() -> None:
    layer, x = linear(), spikes(12, 2, 6, rate=0.15)
    layer(x).square().sum().backward()
    whole = [p.grad.clone() for p in layer.parameters()]
    layer.zero_grad()
    first, state = layer.run(x[:5].requires_grad_())
    second, _ = layer.run(x[5:], state)
    (first.square().sum() + second.square().sum()).backward()
    for a, b in zip(whole, layer.parameters(), strict=True):
        torch.testing.assert_close(a, b.grad, rtol=1e-10, atol=1e-10)


def test_an_extended_layer_has_no_parts() -> None:
    with pytest.raises(StateError, match="adds 3 steps after the end"):
        linear(extend=3).run(spikes(4, 2, 6))


@pytest.mark.parametrize("training", [True, False])
def test_events_are_heard_like_the_dense_sequence(kind: tuple[Delayed, tuple[int, ...]], training: bool) -> None:
    layer, features = kind
    layer = layer.float().train(training)
    for batch in (3, 19):
        x = spikes(11, batch, *features).float()
        assert torch.equal(layer(EventTensor.from_dense(x)), layer(x))
        with torch.no_grad():
            for numbers in (x, 3 * x):
                assert torch.equal(layer(EventTensor.from_dense(numbers)), layer(numbers))


def test_events_keep_the_gradient_of_their_values() -> None:
    x = EventTensor.from_dense(spikes(11, 3, 6).float())
    layer, values = linear().float().eval().requires_grad_(False), x.values.clone().requires_grad_()
    heard = layer(EventTensor(x.indptr, x.indices, values, x.shape))
    dense = x.to_dense().requires_grad_()
    (of_dense,) = torch.autograd.grad(layer(dense).square().sum(), dense)
    (of_values,) = torch.autograd.grad(heard.square().sum(), values)
    torch.testing.assert_close(of_values, of_dense.flatten(0, 1)[x.to_dense().flatten(0, 1) != 0])


def test_events_of_several_axes_are_one_row_of_features() -> None:
    layer, x = linear().float(), spikes(11, 3, 2, 3).float()
    assert torch.equal(layer(EventTensor.from_dense(x)), layer(x.flatten(2)))


def test_nothing_to_hear() -> None:
    layer = linear()
    assert torch.equal(layer(torch.zeros(5, 2, 6).double()), layer.bias.expand(5, 2, 4))
    assert layer(torch.zeros(5, 0, 6).double()).shape == (5, 0, 4)
    assert layer(torch.zeros(0, 2, 6).double()).shape == (0, 2, 4)
    for training in (True, False):
        conv = DelayConv2d(2, 4, 3, 5, padding=1, groups=2).train(training)
        assert conv(torch.zeros(0, 2, 2, 6, 7)).shape == (0, 2, 4, 6, 7)
    assert conv(torch.zeros(3, 0, 2, 6, 7)).shape == (3, 0, 4, 6, 7)
    y, state = layer.run(torch.zeros(0, 2, 6).double())
    assert y.shape == (0, 2, 4)
    assert state.inputs.shape == (6, 2, 6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("training", [True, False])
def test_output_has_the_inputs_dtype(dtype: torch.dtype, training: bool) -> None:
    layer, x = linear().float().train(training), spikes(15, 3, 6)
    y = layer(x.to(dtype))
    assert y.dtype == dtype
    torch.testing.assert_close(y.double(), layer.double()(x), rtol=0.0, atol=8 * torch.finfo(dtype).eps)


def test_compiled_whole() -> None:
    x = spikes(15, 3, 6)
    layer = linear()
    compiled = torch.compile(layer, backend="aot_eager", fullgraph=True)
    for training in (True, False):
        layer.train(training)
        assert torch.equal(compiled(x), layer(x))


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_delays_that_are_not_finite_have_no_tap(kind: tuple[Delayed, tuple[int, ...]], bad: float) -> None:
    layer, features = kind
    layer.eval()
    layer.delay.data[0, 0] = bad
    name = type(layer).__name__
    with pytest.raises(ArgumentError, match=rf"{name}\.delay has .* that are not finite, such as {bad}"):
        layer.rounded()
    with pytest.raises(ArgumentError, match=rf"{name}\.delay"):
        layer(spikes(5, 2, *features))


def test_compiled_layers_too_refuse_delays_that_are_not_finite() -> None:
    layer = linear().eval()
    compiled = torch.compile(layer, backend="aot_eager", fullgraph=True)
    compiled(spikes(5, 2, 6))
    layer.delay.data[0, 0] = math.nan
    with pytest.raises(ArgumentError, match=r"DelayLinear\.delay"):
        compiled(spikes(5, 2, 6))


# Around it.


def test_state_of_the_reference_goes_in_and_out() -> None:
    layer, other = linear(), linear()
    state = layer.dcls_state()
    assert {n: tuple(t.shape) for n, t in state.items()} == {
        "weight": (4, 6, 2),
        "P": (1, 4, 6, 2),
        "SIG": (1, 4, 6, 2),
        "bias": (4,),
    }
    assert torch.equal(state["P"][0], 3 - layer.delay)  # (taps - 1) / 2 - delay
    other.load_dcls_state(state)
    x = spikes(15, 3, 6)
    torch.testing.assert_close(other(x), layer(x), rtol=1e-12, atol=1e-12)
    assert "SIG" not in linear(kernel="v1").dcls_state()
    with pytest.raises(ShapeError, match="takes weight and P of shapes"):
        linear().load_dcls_state({**state, "P": state["P"][0]})
    with pytest.raises(ArgumentError, match=r"has one sigma; SIG goes from 1\.0 to 2\.0"):
        linear().load_dcls_state({**state, "SIG": state["SIG"].index_fill(1, torch.tensor([0]), 2.0)})


def test_a_half_rounds_as_the_reference_rounds_its_position() -> None:
    for taps in (25, 27):
        layer = DelayLinear(4, 1, taps).double()
        position = torch.tensor([0.5, 1.5, -0.5, -1.5]).double()
        layer.load_dcls_state({"weight": torch.ones(1, 4, 1), "P": position.view(1, 1, 4, 1)})
        expected = (taps - 1) // 2 - torch.tensor([0, 2, 0, -2])
        assert torch.equal(layer.rounded().flatten(), expected)


def test_saved_and_copied() -> None:
    layer, x = linear(), spikes(15, 3, 6)
    copied = pickle.loads(pickle.dumps(layer))
    assert torch.equal(copied(x), layer(x))
    assert set(layer.state_dict()) == {"weight", "delay", "bias", "sigma"}
    assert repr(layer).startswith("DelayLinear(6, 4, taps=7, elements=2, kernel=gauss, per='synapse'")


@pytest.mark.parametrize(
    ("make", "error", "match"),
    [
        (lambda: DelayLinear(0, 2, 3), ArgumentError, "must be a whole number above 0, got 0"),
        (lambda: DelayLinear(3, 2, 0), ArgumentError, "taps must be a whole number above 0"),
        (lambda: DelayLinear(3, 2, 2.5), ArgumentError, "taps must be a whole number above 0, got 2.5"),
        (lambda: DelayLinear(3, 2, 3, elements=0), ArgumentError, "elements must be"),
        (lambda: DelayLinear(3, 2, 3, extend=-1), ArgumentError, "extend must be 0 or more"),
        (lambda: DelayLinear(3, 2, 3, sigma=math.nan), ArgumentError, "sigma finite"),
        (lambda: DelayLinear(3, 2, 3, kernel="gaus"), UnknownNameError, "Did you mean 'gauss'"),
        (lambda: DelayLinear(3, 2, 3, per="neuron"), UnknownNameError, "kind of delay"),
        (lambda: DelayConv2d(3, 4, 3, 5, groups=2), ArgumentError, "groups must divide"),
        (lambda: DelayConv2d(3, 4, (3, 3, 3), 5), ArgumentError, "kernel_size is 2 whole numbers"),
        (lambda: DelayConv1d(3, 4, 3, 5, padding=-1), ArgumentError, "padding is 1 whole numbers >= 0"),
        (lambda: SigmaSchedule(nn.Linear(2, 2), 3), ArgumentError, "no layer with delays"),
        (lambda: SigmaSchedule(DelayLinear(3, 2, 3), -1), ArgumentError, "epochs must be 0 or more"),
        (lambda: SigmaSchedule(DelayLinear(3, 2, 3), 1, settle=0), ArgumentError, "settle must be None or 1 or more"),
    ],
)
def test_what_cannot_be_is_refused(make: Callable[[], object], error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        make()


@pytest.mark.parametrize(
    ("x", "error", "match"),
    [
        (torch.zeros(5, 2, 5), ShapeError, r"takes \[T, B, 6\], got \(5, 2, 5\)"),
        (torch.zeros(5, 6), ShapeError, r"got \(5, 6\)"),
        (torch.zeros(5, 2, 6, dtype=torch.int64), DtypeError, "got torch.int64"),
        ([1.0], DtypeError, "got list"),
        (torch.zeros(5, 2, 6, device="meta"), DeviceError, "move one of them"),
    ],
)
def test_an_input_that_does_not_fit_is_refused(x: Tensor, error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        linear()(x)


@pytest.mark.parametrize(
    "state", [DelayState(torch.zeros(5, 2, 6)), DelayState(torch.zeros(6, 3, 6)), DelayState(torch.zeros(6, 2, 6)), 7]
)
def test_a_state_that_does_not_fit_is_refused(state: object) -> None:
    with pytest.raises(StateError, match="DelayLinear"):
        linear().run(torch.zeros(5, 2, 6).double(), state)
