"""Layers that pay for events are torch's in results, and at the level of a stream bit-equal in parts."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from spikenet import energy
from spikenet.errors import ArgumentError, DtypeError, ShapeError
from spikenet.events import EventTensor
from spikenet.kernels import use_backend
from spikenet.kernels.synapse import convolution_crossover, linear_crossover
from spikenet.layers import Conv2d, EventConv2d, EventLinear, Stream
from spikenet.neurons import LIF

Pair = tuple[nn.Module, nn.Module]


def linear(bias: bool = True, dtype: torch.dtype = torch.float64) -> Pair:
    """Ours, and torch's on flat features, with the same weights."""
    ours, theirs = EventLinear(60, 17, bias, dtype=dtype), nn.Linear(60, 17, bias, dtype=dtype)
    theirs.load_state_dict(ours.state_dict())
    return ours, nn.Sequential(nn.Flatten(2), theirs)


def convolution(dtype: torch.dtype = torch.float64, **options: Any) -> Pair:
    options = {"kernel_size": 3, "padding": 1, "bias": True} | options
    ours, theirs = EventConv2d(2, 4, **options, dtype=dtype), Conv2d(2, 4, **options, dtype=dtype)
    theirs.load_state_dict(ours.state_dict())
    return ours, theirs


def events(steps: int = 9, batch: int = 3, rate: float = 0.06) -> EventTensor:
    """Counts of up to 3; entries end at unequal lengths, and some steps are empty."""
    generator = torch.Generator().manual_seed(5)
    shape = (steps, batch, 2, 5, 6)
    counts = torch.randint(1, 4, shape, generator=generator) * (torch.rand(shape, generator=generator) < rate)
    lengths = torch.arange(steps, steps - batch, -1).clamp(min=0)
    counts[torch.arange(steps)[:, None] >= lengths] = 0
    return EventTensor.from_dense(counts, lengths)


def gradients(layer: nn.Module, x: EventTensor | Tensor, gy: Tensor) -> list[Tensor]:
    y = layer(x)
    return [y.detach(), *torch.autograd.grad(y, list(layer.parameters()), gy)]


PAIRS = {
    "linear": linear,
    "linear without bias": lambda: linear(bias=False),
    "convolution": convolution,
    "convolution with all options": lambda: convolution(
        kernel_size=(3, 2), stride=(2, 1), padding=(1, 0), dilation=(1, 2), groups=2, bias=False
    ),
}


@pytest.mark.parametrize("rate", [0.0, 0.06, 0.9])
@pytest.mark.parametrize("make", PAIRS.values(), ids=PAIRS)
def test_events_give_what_torchs_layer_gives_on_dense_frames(make: Any, rate: float) -> None:
    ours, theirs = make()
    x = events(rate=rate)
    dense = x.to_dense(torch.float64)
    gy = torch.randn_like(theirs(dense))
    for backend in (None, "numba", "reference"):
        with use_backend(backend):
            exact = gradients(theirs, dense, gy)
            for given in (x, dense if isinstance(ours, EventConv2d) else dense.flatten(2)):
                for got, expected in zip(gradients(ours, given, gy), exact, strict=True):
                    assert got.is_contiguous()
                    torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12)


def test_dense_input_of_any_leading_shape_gets_its_gradient() -> None:
    ours, theirs = linear()
    for leading in ((4, 2), (5,), (), (2, 3, 4), (0, 3)):
        x = (torch.rand(*leading, 60, dtype=torch.float64) < 0.1).double().requires_grad_()
        gy = torch.randn(*leading, 17, dtype=torch.float64)
        got, expected = (torch.autograd.grad(layer(x), x, gy)[0] for layer in (ours, theirs[1]))
        torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("steps_and_batch", [(0, 2), (3, 0)])
def test_no_steps_and_no_entries(steps_and_batch: tuple[int, int]) -> None:
    x = EventTensor.from_dense(torch.zeros(*steps_and_batch, 2, 5, 6))
    for ours, shape in ((EventLinear(60, 17), (17,)), (EventConv2d(2, 4, 3), (4, 3, 4))):
        y = ours(x)
        assert y.shape == (*steps_and_batch, *shape)
        y.sum().backward()
        assert not ours.weight.grad.any()


def test_a_layer_is_used_again_and_again() -> None:
    ours, theirs = linear()
    for steps in (9, 4):
        x = events(steps)
        y, exact = ours(x), theirs(x.to_dense(torch.float64))
        y.square().sum().backward()
        exact.square().sum().backward()
        torch.testing.assert_close(ours.weight.grad, theirs[1].weight.grad, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("rate", [0.01, 0.9])
@pytest.mark.parametrize("make", [linear, convolution])
def test_a_stream_gives_the_bits_of_the_whole(make: Any, rate: float) -> None:
    """Of events whole as in parts; of more than that, where the whole takes the dense product, the same by events."""
    net = nn.Sequential(make(dtype=torch.float32)[0], LIF(v_threshold=0.3))
    x = events(rate=rate)
    with use_backend("numba"):
        whole, current = net(x), net[0](x)
    if rate < 0.1:
        assert torch.equal(net[0](x), current)
    for cuts in ([1] * 9, [4, 5], [9]):
        stream, parts, start = Stream(net), [], 0
        for cut in cuts:
            parts.append(stream(x.narrow(start, cut)))
            start += cut
        assert torch.equal(torch.cat(parts), whole)
    dense = x.to_dense() if isinstance(net[0], EventConv2d) else x.to_dense().flatten(2)
    stream = Stream(net)
    assert torch.equal(torch.stack([stream.step(x_t) for x_t in dense]), whole)


def test_the_crossover_is_a_density_between_none_and_all() -> None:
    """On the CPU, where more outputs make events pay for longer, and input that must be compressed for shorter."""
    for crossover in (linear_crossover, convolution_crossover):
        few, many = ([crossover(n, torch.device("cpu"), dense) for dense in (False, True)] for n in (4, 512))
        assert 0 < few[0] <= many[0] < 1
        assert 0 <= few[1] <= many[1] <= many[0]


def test_autocast_takes_half_precision() -> None:
    x = events()
    for ours in (EventLinear(60, 17), EventConv2d(2, 4, 3)):
        exact = ours(x)
        with torch.autocast("cpu", torch.bfloat16):
            y = ours(x)
            dense = ours(x.to_dense() if isinstance(ours, EventConv2d) else x.to_dense().flatten(2))
        assert y.dtype == dense.dtype == torch.bfloat16
        torch.testing.assert_close(y.float(), exact, rtol=2e-2, atol=2e-2)
        torch.testing.assert_close(dense.float(), exact, rtol=2e-2, atol=2e-2)
        y.float().sum().backward()
        assert ours.weight.grad.dtype == torch.float32


def test_trained_by_events_or_on_frames_the_weights_are_the_same() -> None:
    ours, theirs = linear()
    x, target = events(), torch.randn(9, 3, 17, dtype=torch.float64)
    for layer, given in ((ours, x), (theirs, x.to_dense(torch.float64))):
        optimiser = torch.optim.SGD(layer.parameters(), 0.1)
        for _ in range(3):
            optimiser.zero_grad()
            (layer(given) - target).square().mean().backward()
            optimiser.step()
    torch.testing.assert_close(ours.weight, theirs[1].weight, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("make", PAIRS.values(), ids=PAIRS)
def test_energy_counts_events_as_it_counts_frames(make: Any) -> None:
    ours, theirs = make()
    x = events()
    with energy.count(ours) as work:
        ours(x)
    with energy.count(theirs) as other:
        theirs(x.to_dense(torch.float64))
    assert work.acs == other.acs > 0
    (mine,), (torchs,) = work.layers, other.layers
    assert mine.kind in ("EventLinear", "EventConv2d")
    for name in ("values", "events", "inputs", "acs", "macs", "dense_macs", "dense_macs_steps"):
        assert getattr(mine, name) == getattr(torchs, name), name


def test_energy_of_events_by_hand() -> None:
    """Two events of one count and one of three, each reaching five outputs; graded values cost the dense product."""
    frames = torch.zeros(4, 1, 60)
    frames[0, 0, 3], frames[1, 0, 59], frames[3, 0, 0] = 1, 1, 3
    for scale, acs, macs in ((1.0, 5 * 5, 0), (0.5, 0, 4 * 60 * 5)):
        with energy.count(layer := EventLinear(60, 5)) as work:
            layer(EventTensor.from_dense(scale * frames))
        assert (work.acs, work.macs) == (acs, macs)


def test_what_is_refused() -> None:
    x = events()
    with pytest.raises(
        ShapeError, match=r"EventLinear takes 61 features in all, got EventTensor\(shape=\(9, 3, 2, 5, 6\)"
    ):
        EventLinear(61, 3)(x)
    with pytest.raises(ShapeError, match=r"EventLinear takes \[\.\.\., 61\], got \(2, 60\)"):
        EventLinear(61, 3)(torch.zeros(2, 60))
    with pytest.raises(DtypeError, match=r"a floating-point tensor, got torch\.int64"):
        EventLinear(60, 3)(torch.zeros(2, 60, dtype=torch.int64))
    with pytest.raises(ShapeError, match=r"EventConv2d takes \[T, B, 3, H, W\], got \(9, 3, 2, 5, 6\)"):
        EventConv2d(3, 4, 3)(x)
    with pytest.raises(ShapeError, match=r"EventConv2d takes \[T, B, 2, H, W\], got \(2, 5, 6\)"):
        EventConv2d(2, 4, 3)(torch.zeros(2, 5, 6))
    with pytest.raises(DtypeError, match=r"a floating-point tensor, got torch\.bool"):
        EventConv2d(2, 4, 3)(torch.zeros(1, 1, 2, 5, 6, dtype=torch.bool))
    with pytest.raises(ArgumentError, match="pads zeros, by a number or a pair of them; got padding 'same', zeros"):
        EventConv2d(2, 4, 3, padding="same")
    with pytest.raises(ArgumentError, match="got padding 1, circular"):
        EventConv2d(2, 4, 3, padding=1, padding_mode="circular")


@pytest.mark.gpu
@pytest.mark.parametrize("rate", [0.01, 0.9])
@pytest.mark.parametrize("make", PAIRS.values(), ids=PAIRS)
def test_on_the_gpu(make: Any, rate: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """By events below the crossover, dense above it; dense input; and float64, which takes the reference."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    x = events(rate=rate).to("cuda")
    for dtype, tolerance in ((torch.float32, 1e-5), (torch.float64, 1e-12)):
        ours, theirs = (layer.to("cuda", dtype) for layer in make())
        dense = x.to_dense(dtype)
        gy = torch.randn_like(theirs(dense))
        exact = gradients(theirs, dense, gy)
        for given in (x, dense if isinstance(ours, EventConv2d) else dense.flatten(2)):
            for got, expected in zip(gradients(ours, given, gy), exact, strict=True):
                torch.testing.assert_close(got, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.gpu
def test_under_cuda_graphs() -> None:
    x = events(rate=0.01).to("cuda")
    for layer in (EventLinear(60, 17, device="cuda"), EventConv2d(2, 4, 3, device="cuda")):
        gy = torch.randn_like(layer(x))

        def work(layer: nn.Module = layer, gy: Tensor = gy) -> list[Tensor]:
            """With leaves of its own: autograd's nodes must not come from outside a capture."""
            leaves = {name: p.detach().requires_grad_() for name, p in layer.named_parameters()}
            y = torch.func.functional_call(layer, leaves, (x,))
            return [y.detach(), *torch.autograd.grad(y, list(leaves.values()), gy)]

        expected = work()
        stream = torch.cuda.Stream()
        with torch.cuda.stream(stream):
            for _ in range(3):
                work()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            replayed = work()
        graph.replay()
        for got, eager in zip(replayed, expected, strict=True):
            assert torch.equal(got, eager)
