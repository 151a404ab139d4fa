"""Every model against sums done by hand and against published rows."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from spikenet import energy
from spikenet.energy.models.by_bits import mac
from spikenet.energy.models.data_movement import activation_bits, break_even_rate, dense_ratio, rate_bounds
from spikenet.errors import ArgumentError, UnknownNameError
from tests.energy.made import graded, linear, neurons, work


@pytest.mark.parametrize(("dtype", "mac", "ac"), [("fp32", 4.6, 0.9), ("fp16", 1.5, 0.4), ("int8", 0.23, 0.03)])
def test_field_formula(dtype: str, mac: float, ac: float) -> None:
    model = energy.FieldFormula(dtype)
    assert model(work(linear(10))).total == pytest.approx(4 * 10 * 5 * ac)
    assert model(work(graded(linear(10)))).total == pytest.approx(4 * 20 * 5 * mac)


def test_prices_are_per_sample_by_layer_cause_and_step() -> None:
    layer = linear(0)
    layer.steps["acs"] = np.array([1.0, 2.0, 3.0, 4.0])
    found = energy.price(work(layer, neurons(), samples=2))
    assert found.steps[1] == pytest.approx(0.9 * np.array([0.5, 1.0, 1.5, 2.0]))
    assert found.parts == {"operations": pytest.approx(4.5)}
    assert [each.total for each in found.layers] == pytest.approx([4.5, 0])
    assert found.summary()["steps_pj"] == pytest.approx([0.45, 0.9, 1.35, 1.8])


def test_ranges_follow_the_constants() -> None:
    """DRAM costs 1300 to 2600 pJ per 64 bit."""
    profile = energy.load_profile("yan-22nm")
    wide = {**profile.constants, "memory.dram": energy.load_profile("horowitz-45nm")["memory.dram"]}
    model = energy.DataMovement(profile=energy.Profile("wide", "wide", "both", "unconfirmed", constants=wide))
    found = model(work(linear(0)))
    assert found.range == pytest.approx((100 * 32 * 1300 / 64, 100 * 32 * 2600 / 64))
    assert found.total == pytest.approx(100 * 32 * 1950 / 64)


def word(words: float) -> float:
    """pJ for a 32-bit word in a memory of so many words: 0 at 0, 10 at 8 KB, 20 at 32 KB."""
    return 10 * words / 2048 if words <= 2048 else 10 + 10 * (words - 2048) / 6144


def test_lemaire_by_hand() -> None:
    """10 spikes a step into 5 outputs; 5 leaky neurons, 2 spikes a step; one step."""
    found = energy.Lemaire()(work(linear(10, T=1), neurons(T=1), T=1))
    connection, lif = found.layers
    assert connection.parts["operations"].sum(1)[1] == pytest.approx(50 * 0.1)
    assert connection.parts["addressing"].sum(1)[1] == pytest.approx(50 * 0.1)
    assert connection.parts["memory"].sum(1)[1] == pytest.approx(10 * word(1000) + 50 * word(100) + 100 * word(5))
    assert lif.parts["neurons"].sum(1)[1] == pytest.approx(2 * 0.1 + 5 * 3.2)
    assert lif.parts["memory"].sum(1)[1] == pytest.approx(2 * 5 * word(5) + 2 * word(1000))


def test_lemaire_charges_no_leak_to_neurons_that_have_none() -> None:
    lif, plain = (energy.Lemaire()(work(neurons(leaks=leaks))).parts["neurons"] for leaks in (True, False))
    assert lif - plain == pytest.approx(4 * 5 * 3.2)


def test_step_style_by_hand() -> None:
    """One step: 50 weights of 32 bits, 20 inputs of a bit; 5 states read and written, 5 outputs of a bit."""
    found = energy.StepStyle()(work(linear(10, T=1), neurons(T=1), T=1))
    assert found.parts["operations"] == pytest.approx(50 * 0.9)
    assert found.parts["memory"] == pytest.approx(3.12 * (50 * 32 + 20 + 2 * 5 * 32 + 5))
    assert found.parts["neurons"] == pytest.approx(10 * 0.9 + 5 * 3.7)


@pytest.mark.parametrize(
    ("weight", "activation", "expected"), [(8, 8, 0.23), (16, 8, 1.5), (32, 1, 4.6), (4, 4, 0.05 + 0.015)]
)
def test_operations_by_bits(weight: int, activation: int, expected: float) -> None:
    """Horowitz at 8, 16 and 32 bits; below, products of widths for multiplication, width for addition."""
    assert mac(energy.load_profile("step-45nm"), weight, activation)[1] == pytest.approx(expected)


def test_integers_scaled_to_32_bits_are_near_the_published_ones() -> None:
    profile = energy.load_profile("lemaire-45nm")
    integers = {**energy.load_profile("horowitz-45nm").constants}
    only = {name: each for name, each in integers.items() if "int8" in name}
    scaled = mac(energy.Profile("int", "int", "Horowitz", "confirmed", constants=only), 32, 32)[1]
    assert scaled == pytest.approx(profile.mac("int32")[1], rel=0.05)


def test_data_movement_by_hand() -> None:
    found = energy.DataMovement(hops=2)(work(linear(10, T=1), neurons(T=1), T=1))
    assert found.parts["operations"] == pytest.approx(50 * 0.05448)
    assert found.parts["routing"] == pytest.approx(2 * 10 * 3.0)
    assert found.parts["memory"] == pytest.approx(100 * 32 * 1300 / 64)
    assert found.parts["neurons"] == pytest.approx(10 * 0.05448)
    dense = energy.DataMovement(hops=2)(work(graded(linear(10, T=1)), T=1))
    assert dense.parts["routing"] == pytest.approx(2 * 20 * 32 * 0.25)


def test_yan_closed_forms() -> None:
    """Yan et al. 2024: activation bits, the dense regime (T = 15 -> 3.75), the bounds of the rate."""
    assert [activation_bits(T) for T in (1, 3, 4, 7, 8, 15, 16)] == [1, 2, 3, 3, 4, 4, 5]
    assert dense_ratio(15) == 3.75
    assert rate_bounds(5, 0.5) == pytest.approx((0.1, 0.5))
    assert 5 * break_even_rate(5, 0.5, k=4.6 / 0.9) == pytest.approx(4.6 / 0.9 * 0.5)


def test_crossbar_by_hand() -> None:
    """SpikeSim's cycle with 64 x 64 crossbars and a kernel of 3 x 3, on 70 -> 130 channels: 2 x 3 tiles."""
    cycle = 157.12 + 4.64 + 397 + 8 * 16 * 1.15e-6 + 8 * 0.2 + 64 * (2.03084 + 0.094245) + 5.096 + 8 * 9 * 1.76423
    layer = linear(10, T=1, inputs=70, outputs=130)
    layer.geometry = energy.Geometry(70, 130, kernel=9)
    layer.steps["outputs"] = np.array([130.0 * 49])
    assert energy.Crossbar()(work(layer, T=1)).total == pytest.approx(49 * 6 * cycle)


def test_gated_crossbar_saves_cells_only() -> None:
    """64 channels fill a tile: a driven row costs an eighth of a cell's constant, and nothing else changes."""
    layer = linear(10, T=1, inputs=64, outputs=64)
    every, driven = (energy.Crossbar(gated=gated)(work(layer, T=1)) for gated in (False, True))
    assert every.total - driven.total == pytest.approx(8 * 1.76423 - 10 * 1.76423 / 8)
    assert every.parts["memory"] == driven.parts["memory"]


@pytest.mark.parametrize(
    ("name", "synop", "neuron", "spiking"),
    [
        ("loihi", 27.1, 81, True),
        ("spinnaker", 13.3e3, 26e3, True),
        ("spinnaker2", 450, 2190, True),
        ("cpu", 8600, 8600, False),
        ("gpu", 300, 300, False),
        ("arm", 900, 900, False),
    ],
)
def test_per_event_hardware(name: str, synop: float, neuron: float, spiking: bool) -> None:
    """KerasSpiking: synops * e_synop + updates * e_neuron; without spiking hardware every connection, every step."""
    found = energy.PerEvent(name)(work(linear(10), neurons()))
    assert found.total == pytest.approx(4 * ((50 if spiking else 100) * synop + 5 * neuron))


def test_what_a_profile_does_not_know_is_said() -> None:
    found = energy.PerEvent("truenorth")(work(linear(10), neurons()))
    assert found.total == pytest.approx(4 * 50 * 26)
    assert any("UNCONFIRMED" in words for words in found.assumptions)
    assert any("not charged" in words for words in found.assumptions)


def test_neurobench_metrics() -> None:
    net = nn.Sequential(nn.Linear(4, 2), nn.BatchNorm1d(2))
    with torch.no_grad():
        net[0].weight.copy_(torch.tensor([[0.0, 1, 2, 3], [0, 0, 0, 1]]))
    counts = linear(6, name="counts")
    counts.values, counts.steps["nonzero"] = "counts", np.full(4, 2.0)
    numbers = graded(linear(5, name="graded"))
    found = energy.neurobench(net, work(linear(10), counts, numbers, neurons(), samples=2))
    assert found.parameters == 10 + 4
    assert found.footprint == 14 * 4 + 4 * 4 + 8  # running mean and variance, and an int64 count of batches
    assert found.connection_sparsity == 4 / 8
    assert found.activation_sparsity == pytest.approx(1 - 2 / 5)
    assert found.effective_acs == 4 * 50 / 2
    assert found.effective_macs == pytest.approx(4 * (2 * 5 + 100 * 5 / 20) / 2)
    assert found.dense == 3 * 4 * 100 / 2


def test_models_by_name_and_by_profile() -> None:
    assert energy.energy_model().name == "field"
    assert energy.energy_model(profile="spinnaker2").profile.title == "SpiNNaker 2"
    assert energy.energy_model("lemaire").name == "lemaire"
    with pytest.raises(UnknownNameError, match="Did you mean 'lemaire'"):
        energy.energy_model("lemair")
    with pytest.raises(ArgumentError, match=r"needs .*memory\.sram; the profile 'loihi' has event\.synop"):
        energy.energy_model("lemaire", "loihi")
    with pytest.raises(UnknownNameError, match="crossbar device"):
        energy.Crossbar("mram")


def test_what_was_not_counted_is_among_the_assumptions() -> None:
    counted = work(linear())
    counted.uncounted = ["2 (Odd)"]
    assert "Not counted: 2 (Odd)." in energy.price(counted).assumptions


# Published rows E to H; A to D are in test_price.py.


def test_attention_alone() -> None:
    """Row E: 6.6 M MAC are 30.36 uJ, 1.3 M SOP are 1.17 uJ."""
    assert energy.picojoules(6.6e6, 0) == pytest.approx(30.36e6)
    assert energy.picojoules(0, 1.3e6) == pytest.approx(1.17e6)


@pytest.mark.parametrize(("dtype", "published"), [("fp16", 97.7), ("int8", 85.2)])
def test_spikingbrain(dtype: str, published: float) -> None:
    """Row F: 0.034 pJ in place of a multiply-accumulate, the reduction in percent."""
    assert 100 * (1 - 0.034 / energy.FieldFormula(dtype).mac) == pytest.approx(published, abs=0.05)


@pytest.mark.parametrize(
    ("stages", "published"),
    [
        ((1.26, 0.16, 0.41, 2.68, 0.35, 0.77, 2.97, 2.71, 3.81, 0.006), 15.13),
        ((0.41, 0.02, 0.17, 0.89, 0.01, 0.36, 0.91, 0.96, 1.16, 0.001), 4.89),
    ],
)
def test_stages_of_qkformer_and_maxformer(stages: tuple[float, ...], published: float) -> None:
    """Row G: the published stages in mJ, as accumulates of layers, add up to the published total."""
    layers = [linear(0, T=1, name=str(stage)) for stage in range(len(stages))]
    for layer, millijoules in zip(layers, stages, strict=True):
        layer.steps["acs"] = np.array([millijoules * 1e9 / 0.9])
    assert energy.price(work(*layers, T=1)).total / 1e9 == pytest.approx(published, abs=5e-3)


def test_spikegpt_published_form(tmp_path: Path) -> None:
    """Row H: T 3072, d 512, rate 0.15, 4.5 pJ a MAC; the paper's feed-forward terms are not multiplied by T."""
    path = tmp_path / "spikegpt.toml"
    constants = '[operations.fp32]\nadd = "0.9 pJ"\nmul = "3.6 pJ"\n'
    path.write_text(f'title = "SpikeGPT published form"\nsource = "the paper"\nconfidence = "unconfirmed"\n{constants}')
    model = energy.FieldFormula(profile=path)
    T, d, rate = 3072, 512, 0.15
    layer = linear(0, T=1)
    layer.steps |= {"macs": np.array([3.0 * T * d**2 + 2 * T**2 * d + T**2 + 2 * T**2 + 9 * d**2])}
    dense = model(work(layer, T=1)).total
    layer.steps |= {"macs": np.array([7.0 * T * d]), "acs": np.array([rate * (3 * T * d**2 + 9 * d**2)])}
    spiking = model(work(layer, T=1)).total
    assert dense == pytest.approx(5.4496e10, rel=1e-4)
    assert spiking == pytest.approx(3.7601e8, rel=1e-4)
    assert math.isclose(dense / spiking, 144.9, abs_tol=0.05)
