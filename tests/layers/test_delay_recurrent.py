"""Recurrent delays against the loop that defines them, and a wave that can be counted by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from spikenet.errors import ArgumentError, DeviceError, ShapeError, StateError, UnknownNameError
from spikenet.kernels import use_backend
from spikenet.layers import DelayRecurrent, DelayRecurrentState, Stream
from spikenet.neurons import IF, LIF, PSN, LeakyReadout, SEAdLIF

N, TAPS = 7, 4


def made(neuron: Any = None, **options: Any) -> DelayRecurrent:
    torch.manual_seed(3)
    neuron = LIF(nn.Parameter(torch.tensor(2.0))) if neuron is None else neuron
    layer = DelayRecurrent(neuron, N, TAPS, **{"elements": 2, "sigma": 0.8, "bias": True, **options}).double()
    nn.init.normal_(layer.synapses.bias, std=0.1)
    return layer


def drive(steps: int = 25) -> Tensor:
    return (torch.randn(steps, 3, N, generator=torch.Generator().manual_seed(5)) * 1.5 + 0.8).double()


def taps_of(layer: DelayRecurrent) -> Tensor:
    """K `[N, N, taps]` as the equations say, rounded in evaluation."""
    own, steps = layer.synapses, torch.arange(TAPS)
    if not layer.training:
        return (own.weight[..., None] * (own.delay.round()[..., None] == steps)).sum(2)
    g = torch.exp(-0.5 * ((steps - own.delay[..., None]) / (own.sigma + 0.27)) ** 2)
    return (own.weight[..., None] * g / (g.sum(-1, keepdim=True) + 1e-7)).sum(2)


def plain(layer: DelayRecurrent, x: Tensor) -> Tensor:
    k, sent, s, silence = taps_of(layer), [], layer.neuron.initial_state(x[0]), x.new_zeros(x.shape[1:])
    for t in range(len(x)):
        heard = layer.synapses.bias
        for d in range(TAPS):
            heard = heard + (sent[t - 1 - d] if t - 1 - d >= 0 else silence) @ k[:, :, d].T
        z, s = layer.neuron.step(x[t] + heard, s)
        sent.append(z)
    return torch.stack(sent)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("neuron", [None, "SEAdLIF"])
def test_equals_the_plain_loop_and_autograd_through_it(neuron: str | None, training: bool) -> None:
    layer = made(SEAdLIF(6.0, 30.0, q=2.0) if neuron else None).train(training)
    x = drive().requires_grad_()
    leaves = [x, *(p for p in layer.parameters() if training or p is not layer.synapses.delay)]
    expected, ours = plain(layer, x), layer(x)
    assert torch.equal(ours, expected)
    assert 0.03 < ours.mean() < 0.6
    grad = torch.randn_like(ours)
    for got, wanted in zip(
        torch.autograd.grad(ours, leaves, grad), torch.autograd.grad(expected, leaves, grad), strict=True
    ):
        torch.testing.assert_close(got, wanted, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("backend", ["numba", "reference", None])
@pytest.mark.parametrize("batch", [1, 16, 35])
def test_each_synapse_read_once_equals_the_plain_loop(batch: int, backend: str | None) -> None:
    layer, x = made(LeakyReadout(3.0)).eval(), torch.randn(25, batch, N).double()
    layer.synapses.weight.data *= 0.3
    with torch.no_grad(), use_backend(backend):
        torch.testing.assert_close(layer(x), plain(layer, x), rtol=1e-10, atol=1e-10)
        spikes = made().eval()
        assert torch.equal(spikes(x), plain(spikes, x))


def test_a_wave_goes_around_a_ring_at_the_speed_of_its_delays() -> None:
    layer = DelayRecurrent(IF(), N, TAPS).eval()
    layer.synapses.weight.data = torch.eye(N).roll(1, 0)[..., None].contiguous()
    layer.synapses.delay.data.fill_(2.0)  # heard 3 steps later
    x = torch.zeros(20, 1, N)
    x[0, 0, 0] = 1.0
    expected = torch.zeros(20, 1, N)
    for k in range(7):
        expected[3 * k, 0, k % N] = 1.0
    assert torch.equal(layer(x), expected)
    with torch.no_grad():
        assert torch.equal(layer(x), expected)


@pytest.mark.parametrize("gradients", [True, False])
@pytest.mark.parametrize("training", [True, False])
def test_chunks_steps_and_stream_give_the_bits_of_the_whole(training: bool, gradients: bool) -> None:
    with torch.set_grad_enabled(gradients):
        chunks_steps_and_stream(made().train(training), drive())


def chunks_steps_and_stream(layer: DelayRecurrent, x: Tensor) -> None:
    whole = layer(x)
    state, chunks = None, []
    for part in x.split([1, 7, 2, 15]):
        z, state = layer.run(part, state) if state is not None else layer.run(part)
        chunks.append(z)
    assert torch.equal(torch.cat(chunks), whole)
    assert torch.equal(state.z, whole[-TAPS:])
    stream = Stream(nn.Sequential(layer))
    assert torch.equal(torch.stack([stream.step(x_t) for x_t in x]), whole)
    z, _ = layer.step(x[0])
    assert torch.equal(z, whole[0])


def test_several_inputs() -> None:
    class Two(LIF):
        inputs = ("other", "x")

    layer = DelayRecurrent(Two(2.0), N, TAPS, into="x").double()
    x = drive()
    alone = DelayRecurrent(LIF(2.0), N, TAPS).double()
    alone.synapses.load_state_dict(layer.synapses.state_dict())
    assert torch.equal(layer(torch.zeros_like(x), x), alone(x))


def test_nothing() -> None:
    layer = made()
    assert layer(drive()[:, :0]).shape == (25, 0, N)
    z, state = layer.run(drive()[:0])
    assert z.shape == (0, 3, N)
    assert state.z.shape == (TAPS, 3, N)


def test_refusals() -> None:
    layer, x = made(), drive()
    with pytest.raises(ArgumentError, match="takes a Neuron, got PSN"):
        DelayRecurrent(PSN(4), N, TAPS)  # type: ignore[arg-type]
    with pytest.raises(UnknownNameError, match="input of LIF"):
        DelayRecurrent(LIF(), N, TAPS, into="y")
    with pytest.raises(ArgumentError, match="taps must be"):
        DelayRecurrent(LIF(), N, 0)
    with pytest.raises(ShapeError, match=r"takes \[T, B, 7\]"):
        layer(x[..., :3])
    with pytest.raises(DeviceError, match="move one of them"):
        layer(x.to("meta"))
    with pytest.raises(StateError, match="takes a DelayRecurrentState"):
        layer.run(x, 7)
    fresh = layer.initial_state(x[0])
    with pytest.raises(StateError, match="start a new state for another batch"):
        layer.run(x[:, :2], fresh)
    with pytest.raises(StateError, match="start a new state for another batch"):
        layer.run(x, DelayRecurrentState(fresh.z[1:], fresh.neuron))
