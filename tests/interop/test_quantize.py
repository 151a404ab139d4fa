"""Few bits: grids by brute force, neurons beside Python's integers, and whole networks beside their integer files."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from spikenet import layers
from spikenet.energy import StepStyle, count, price
from spikenet.errors import ArgumentError, FormatError, ShapeError, UnknownNameError
from spikenet.interop import (
    IntegerNetwork,
    Integers,
    PowersOfTwo,
    ShiftLIF,
    Ternary,
    quantized,
    save_integers,
)
from spikenet.neurons import IF, LIF, NO_RESET, PLIF

GRIDS = {
    Integers(8): range(-128, 128),
    Integers(4): range(-8, 8),
    Integers(2): range(-2, 2),
    Ternary(): (-1, 0, 1),
    PowersOfTwo(4): sorted([0, *(s * 2**k for s in (-1, 1) for k in range(7))]),
    PowersOfTwo(3): (-4, -2, -1, 0, 1, 2, 4),
}


@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_grids_give_the_nearest_of_their_numbers(grid):
    known = torch.tensor(GRIDS[grid], dtype=torch.float64)
    w = torch.linspace(-1.2, 1.2, 4001, dtype=torch.float64) * float(known.abs().max())
    got = grid.nearest(w)
    assert set(got.tolist()) == set(known.tolist())
    assert grid.largest == known.max()
    torch.testing.assert_close((got - w).abs(), (known[:, None] - w).abs().amin(0))


def by_hand(x: list[int], shift: int | None, bits: int, threshold: int, to: int | None) -> list[int]:
    v, spikes = 0, []
    for now in x:
        v = v - (0 if shift is None else v >> shift) + now
        v = max(-(1 << bits - 1), min((1 << bits - 1) - 1, v))
        spikes.append(int(v >= threshold))
        v = v if not spikes[-1] else v - threshold if to is None else to
    return spikes


@pytest.mark.parametrize("shift", [None, 0, 1, 3])
@pytest.mark.parametrize("to", [None, 0, -3])
def test_neurons_compute_as_integers_do(shift, to):
    unit, generator = 2.0**-5, torch.Generator().manual_seed(3)
    x = torch.randint(-60, 90, (200, 1, 12), generator=generator)
    v_reset = None if to is None else to * unit
    neuron = ShiftLIF(shift, unit, 9, v_threshold=70 * unit, v_reset=v_reset)
    z = neuron(x.float() * unit)
    for n in range(12):
        assert z[:, 0, n].int().tolist() == by_hand(x[:, 0, n].tolist(), shift, 9, 70, to)
    assert 0.02 < z.mean() < 0.9


def test_neurons_that_scale_their_input_have_it_in_the_weights():
    """On dyadic numbers without a rest below a unit nothing is rounded: a leak of all, tau = 1, equals the network."""
    net, x = nn.Sequential(nn.Linear(6, 9), LIF(1.0, 0.5), nn.Linear(9, 4), LIF(1.0, 0.25, None)), counts()[..., 0, :6]
    with torch.no_grad():
        for p in net.parameters():
            p.copy_((torch.randn_like(p) * 16).round() / 32)
    x = x[:, :, 0]
    few = quantized(net, Integers(16), state_bits=24)
    assert torch.equal(few(x), net(x))
    halved = quantized(nn.Sequential(net[0], LIF(4.0)), Integers(16))
    torch.testing.assert_close(halved[0].weight, net[0].weight / 4)
    torch.testing.assert_close(halved[0].bias, net[0].bias / 4)
    assert torch.equal(net(x), few(x))  # the network itself is as it was


def test_gradients_leak_without_the_floor():
    x = torch.zeros(4, 1, 1, requires_grad=True)
    _, states = ShiftLIF(1, 2.0**-4, v_reset=NO_RESET).trace(x + 1.0)
    states.v[-1].sum().backward()
    assert x.grad.flatten().tolist() == [1 / 8, 1 / 4, 1 / 2, 1]


def network(reset: float | None = 0.0) -> nn.Sequential:
    return nn.Sequential(
        *(layers.Conv2d(2, 6, 3, padding=1), layers.BatchNorm2d(6), LIF(2.0, v_reset=reset, decay_input=False)),
        *(layers.MaxPool2d(2), layers.Conv2d(6, 4, 3, stride=2, padding=1, groups=2), IF(0.4, v_reset=reset)),
        *(layers.AvgPool2d(2, divisor_override=1), nn.Flatten(2), nn.Linear(4, 16, bias=False)),
        *(LIF(4.0, 0.5, NO_RESET, decay_input=False), nn.Linear(16, 5), layers.MeanReadout()),
    )


def counts(steps: int = 8, batch: int = 5) -> Tensor:
    return torch.poisson(torch.full((steps, batch, 2, 10, 10), 0.6))


def prepared(grid: object, reset: float | None = 0.0) -> nn.Sequential:
    net = network(reset)
    for _ in range(4):
        net(counts())
    with torch.no_grad():
        net[4].weight.mul_(3)
        net[8].weight.mul_(3)
    return quantized(net.eval(), grid)


@pytest.mark.parametrize("grid", GRIDS, ids=str)
@pytest.mark.parametrize("reset", [0.0, None])
def test_integer_file_gives_the_same_numbers(grid, reset, tmp_path):
    net, x = prepared(grid, reset), counts()
    save_integers(net, tmp_path / "net")
    integer = IntegerNetwork(tmp_path / "net")
    outputs = integer.trace(x)
    with torch.no_grad():
        for layer, own in zip(net, outputs, strict=True):
            unit = layer.parametrizations.weight[0].unit if hasattr(layer, "parametrizations") else torch.ones(())
            x = layer(x)
            own = own if isinstance(layer, layers.MeanReadout) else own * unit.flatten().numpy().reshape(
                (-1, 1, 1) if x.ndim == 5 and unit.numel() > 1 else -1 if unit.numel() > 1 else ()
            )  # fmt: skip
            assert np.array_equal(own, x.double().numpy())
            if isinstance(layer, ShiftLIF):
                assert 0.01 < x.mean() < 0.99


def test_training_goes_on_and_the_file_follows(tmp_path):
    net, x = prepared(Integers(4)).train(), counts()
    before = net[0].parametrizations.weight.original.clone()
    optimizer = torch.optim.SGD(net.parameters(), 0.5)
    net(x)[:, 0].sum().backward()
    optimizer.step()
    assert not torch.equal(before, net[0].parametrizations.weight.original)
    save_integers(net.eval(), tmp_path / "net")
    integer = IntegerNetwork(tmp_path / "net")
    assert np.array_equal(integer(x), net(x).detach().double().numpy())
    assert integer.layers[0]["weight"].dtype == np.int8
    assert np.abs(integer.layers[0]["weight"]).max() <= 8


def test_weights_pass_gradients_straight_through():
    net = quantized(nn.Sequential(nn.Linear(3, 2)), Integers(4))
    x = torch.randn(4, 1, 3)
    net(x).sum().backward()
    original = net[0].parametrizations.weight.original
    torch.testing.assert_close(original.grad, x.sum((0, 1)).expand(2, -1))
    assert not torch.equal(original, net[0].weight)
    units = net[0].weight / net[0].parametrizations.weight[0].unit
    assert torch.equal(units, units.round())


@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_the_price_of_few_bits(grid):
    """Counted with the bits of the grid and of the potentials. Priced by hand in the style of STEP: an addition of 8
    bits costs 0.03 pJ, one of fewer in proportion, and each bit of memory 3.12 pJ."""
    net, x = prepared(grid), counts()
    with torch.no_grad(), count(net, strict=True) as work:
        net(x)
    bits = math.ceil(math.log2(len(GRIDS[grid])))
    weighted = [layer for layer in work.layers if layer.operation == "connection"]
    assert [layer.bits.weight for layer in weighted] == [bits] * 4
    assert [layer.bits.state for layer in work.layers if layer.kind == "ShiftLIF"] == [16] * 3
    energies = {layer.name: layer for layer in price(work, StepStyle()).layers if "operations" in layer.parts}
    for layer in weighted:
        read = layer.total("weight_reads") + layer.outputs * layer.geometry.has_bias  # a bias is as wide as a weight
        expected = layer.acs * 0.03 * bits / 8 + 3.12 * (bits * read + layer.bits.input * layer.inputs)
        assert energies[layer.name].total == pytest.approx(expected / 5)


def test_a_network_in_float_is_counted_by_its_dtype():
    net = nn.Sequential(nn.Linear(3, 2), LIF()).double()
    with torch.no_grad(), count(net) as work:
        net(torch.ones(2, 1, 3, dtype=torch.float64))
    assert [(layer.bits.weight, layer.bits.state) for layer in work.layers] == [(64, 0), (0, 64)]


def test_what_integers_cannot_do(tmp_path):
    def one(neuron: nn.Module) -> nn.Sequential:
        return nn.Sequential(nn.Linear(2, 2), neuron)

    for module, error, reason in (
        (nn.Sequential(nn.Linear(2, 2), IF(), LIF(2.0)), ArgumentError, "decay_input=False"),
        (one(LIF(2.0, exact_decay=True)), ArgumentError, "decay_input=False"),
        (one(LIF(2.0, v_rest=0.5)), ArgumentError, "towards 0"),
        (one(LIF(3.0, decay_input=False)), ArgumentError, "power of two"),
        (one(PLIF()), UnknownNameError, "PLIF"),
        (nn.Sequential(IF()), ArgumentError, "before it"),
        (nn.Sequential(layers.AvgPool2d(2)), ArgumentError, "divisor_override"),
        (nn.Sequential(layers.Conv2d(1, 1, 3, padding="same")), ArgumentError, "by numbers"),
    ):
        with pytest.raises(error, match=reason):
            quantized(module, Integers(4))
    for make in (lambda: Integers(1), lambda: PowersOfTwo(6), lambda: ShiftLIF(bits=30), lambda: ShiftLIF(-1)):
        with pytest.raises(ArgumentError):
            make()
    with pytest.raises(ArgumentError, match="no grid"):
        save_integers(nn.Sequential(nn.Linear(2, 2)), tmp_path / "net")


def test_files_that_are_broken(tmp_path):
    with pytest.raises(FormatError, match="no description"):
        IntegerNetwork(tmp_path / "nothing")
    (tmp_path / "other.json").write_text(json.dumps({"format": "other"}))
    with pytest.raises(FormatError, match="spikenet integers"):
        IntegerNetwork(tmp_path / "other")
    save_integers(quantized(nn.Sequential(nn.Linear(2, 2), layers.MeanReadout()), Ternary()), tmp_path / "net")
    with pytest.raises(ShapeError, match="whole numbers"):
        IntegerNetwork(tmp_path / "net")(np.full((1, 1, 2), 0.5))
