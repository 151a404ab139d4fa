"""A stream gives what the whole sequence gives, and refuses what it cannot run."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor, nn

from spikenet import layers
from spikenet.errors import ShapeError, StateError
from spikenet.layers import Stream
from spikenet.neurons import IF, LIF, LeakyReadout


def network(readout: nn.Module) -> nn.Module:
    torch.manual_seed(2)
    net = nn.Sequential(
        layers.Conv2d(2, 4, 3, padding=1, bias=False),
        layers.BatchNorm2d(4),
        LIF(2.0, surrogate="triangle"),
        layers.AvgPool2d(2),
        nn.Flatten(2),
        nn.Linear(36, 8),
        IF(0.6, None),
        nn.Dropout(0.5),
        nn.Linear(8, 5),
        LeakyReadout(4.0),
        readout,
    )
    net[1].running_mean.normal_()
    return net.eval()


def events(steps: int = 14) -> Tensor:
    return (torch.rand(steps, 3, 2, 6, 6, generator=torch.Generator().manual_seed(0)) < 0.3).double()


READOUTS = [layers.MeanReadout, layers.MaxReadout, layers.SoftmaxSumReadout, layers.LastReadout, nn.Identity]


@pytest.mark.parametrize("readout", READOUTS)
def test_stream_chunks_and_whole_agree_bit_for_bit(readout: type[nn.Module]) -> None:
    net, x = network(readout()).double(), events()
    whole = net(x)
    stream = Stream(net)
    steps = [stream.step(x_t) for x_t in x]
    assert all(s.shape == (3, 5) for s in steps)
    stream.reset()
    chunks = [stream(c) for c in x.split(5)]
    if readout is nn.Identity:
        assert torch.equal(torch.stack(steps), whole)
        assert torch.equal(torch.cat(chunks), whole)
    else:
        assert torch.equal(steps[-1], whole)
        assert torch.equal(chunks[-1], whole)
        assert torch.equal(steps[6], net(x[:7]))  # the answer so far


def test_states_are_in_the_open_keyed_by_module_and_call() -> None:
    shared = LIF()

    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.neuron = shared

        def forward(self, x: Tensor) -> Tensor:
            return self.neuron(self.neuron(x) * 3)

    net, x = Twice(), torch.rand(9, 2, 4) * 3
    stream = Stream(net)
    out = torch.stack([stream.step(x_t) for x_t in x])
    assert torch.equal(out, net(x))
    assert [tuple(k) for k in stream.states] == [("neuron", 0), ("neuron", 1)]
    assert all(torch.is_tensor(held.state.v) for held in stream.states.values())


def test_calls_outside_a_stream_carry_nothing() -> None:
    lif, x = LIF(), torch.rand(6, 2, 4) * 2
    before = lif(x)
    Stream(lif)(x)
    assert torch.equal(lif(x), before)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda x: x[:, :2], r"shape \[B, ...\] was \(3, 4\) and is now \(2, 4\)"),
        (lambda x: x.double(), "dtype was torch.float32 and is now torch.float64"),
        (lambda x: x.to("meta"), "device was cpu and is now meta"),
    ],
)
def test_a_changed_input_raises_and_the_stream_goes_on(change, match) -> None:  # type: ignore[no-untyped-def]
    net, x = nn.Sequential(LIF()), torch.rand(8, 3, 4) * 2
    stream = Stream(net)
    first = stream(x[:5])
    with pytest.raises(StateError, match=match):
        stream(change(x[5:]))
    assert torch.equal(torch.cat([first, stream(x[5:])]), net(x))
    if "meta" not in match:
        stream.reset()
        assert torch.equal(stream(change(x[5:])), net(change(x[5:])))


@pytest.mark.parametrize(
    ("module", "match"),
    [
        (layers.BatchNorm2d(2), r"0 \(BatchNorm2d\) in training"),
        (nn.LSTM(4, 4), r"0 \(LSTM\) mixes time steps"),
        (nn.Conv1d(2, 2, 3), r"0 \(Conv1d\) mixes time steps"),
        (nn.MultiheadAttention(4, 1), r"0 \(MultiheadAttention\) mixes time steps"),
    ],
)
def test_what_cannot_be_streamed_is_refused_by_name(module: nn.Module, match: str) -> None:
    with pytest.raises(StateError, match=match):
        Stream(nn.Sequential(module))(torch.rand(3, 2, 2, 4, 4))


class Recurrent(nn.LSTM):
    """A user's own."""


class RunsItself(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lif = LIF()

    def forward(self, x: Tensor) -> Tensor:
        return self.lif.run(x)[0]


@pytest.mark.parametrize(
    ("module", "match"),
    [
        (Recurrent(4, 4), r"0 \(Recurrent\) mixes time steps"),
        (layers.BatchNorm2d(2, track_running_stats=False).eval(), r"0 \(BatchNorm2d\)"),
        (RunsItself(), "would start anew in every part of a stream"),
    ],
)
def test_what_would_go_wrong_silently_is_refused(module: nn.Module, match: str) -> None:
    with pytest.raises(StateError, match=match):
        Stream(nn.Sequential(module))(torch.rand(3, 2, 2, 4, 4))


def test_a_wrapped_folding_layer_streams() -> None:
    net = nn.utils.parametrizations.weight_norm(layers.Conv2d(2, 3, 3)).eval()
    x = torch.rand(4, 2, 2, 5, 5)
    assert torch.equal(torch.stack([Stream(net).step(x_t) for x_t in x]), net(x))


def test_streams_of_two_threads_do_not_meet() -> None:
    nets, x = [nn.Sequential(LIF()) for _ in range(2)], torch.rand(30, 2, 2, 4) * 2

    def run(k: int) -> Tensor:
        stream = Stream(nets[k])
        return torch.stack([stream.step(x_t) for x_t in x[:, k]])

    with ThreadPoolExecutor(2) as pool:
        for k, out in enumerate(pool.map(run, range(2))):
            assert torch.equal(out, nets[k](x[:, k]))


def test_detach_cuts_the_graph_between_chunks() -> None:
    net, x = nn.Sequential(nn.Linear(4, 5), LIF(), layers.MaxReadout()), torch.rand(2, 6, 3, 4) * 3
    stream = Stream(net)
    stream(x[0]).sum().backward()
    stream.detach()
    stream(x[1]).sum().backward()  # torch would say "a second time"
    assert net[0].weight.grad.isfinite().all()


def test_a_step_must_be_a_tensor() -> None:
    with pytest.raises(ShapeError, match="got list"):
        Stream(LIF()).step([1.0])
