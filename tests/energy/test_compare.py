"""Twins, break-even rates and early exit against closed forms."""

import math

import numpy as np
import pytest

from spikenet import energy
from spikenet.errors import ArgumentError, ShapeError
from tests.energy.made import graded, linear, neurons, work


def test_dense_twins_do_every_multiplication() -> None:
    counted = work(linear(10), neurons())
    found = energy.compare(counted)
    assert found.snn.total == pytest.approx(4 * 50 * 0.9)
    assert found.ann_frame.total == pytest.approx(100 * 4.6)
    assert found.ann_steps.total == pytest.approx(4 * 100 * 4.6)
    assert found.ratio == pytest.approx(460 / 180)
    assert found.ratio_steps == pytest.approx(4 * 460 / 180)


def test_a_network_without_work_costs_nothing_and_loses_to_nobody() -> None:
    assert energy.compare(energy.Work()).ratio == math.inf


def test_twins_are_priced_by_every_model_and_leave_the_count_alone() -> None:
    counted = work(linear(10), neurons())
    before = energy.price(counted).total
    for name in energy.MODELS:
        found = energy.compare(counted, energy.energy_model(name))
        assert min(found.snn.total, found.ann_frame.total, found.quantised.total) > 0
    assert energy.price(counted).total == before
    assert counted.layers[0].values == "spikes"


def test_a_twin_of_one_frame_under_the_step_style() -> None:
    """100 weights once; 20 inputs and 5 outputs of 2 bits for T = 3; no state; a comparison a neuron."""
    counted = energy.with_bits(work(linear(10, T=3), neurons(T=3), T=3), weight=8, state=16)
    quantised = energy.StepStyle()(energy.quantised_twin(counted))
    assert quantised.parts["memory"] == pytest.approx(3.12 * (100 * 8 + 20 * 2 + 5 * 2))
    assert quantised.parts["operations"] == pytest.approx(100 * (0.2 * 2 / 8 + 0.03))
    assert quantised.parts["neurons"] == pytest.approx(5 * 0.03 * 2 / 8)
    dense = energy.StepStyle()(energy.dense_twin(counted))
    assert dense.parts["memory"] == pytest.approx(3.12 * (100 * 8 + 20 * 32 + 5 * 32))


def test_the_twin_keeps_no_potentials_under_lemaire() -> None:
    twin = energy.Lemaire()(energy.dense_twin(work(linear(10), neurons())))
    assert "neurons" not in twin.parts
    assert [layer.total > 0 for layer in twin.layers] == [True, False]


def test_a_layer_that_ran_once_is_one_frame() -> None:
    late = linear(10)
    late.steps = {name: np.array([0, 0, 0, each.sum() / 4]) for name, each in late.steps.items()}
    twin = energy.dense_twin(work(late))
    assert twin.layers[0].inputs == 20
    assert energy.price(twin).total == pytest.approx(100 * 4.6)


def test_break_even_in_operations_is_the_published_closed_form() -> None:
    """In operations alone T * rate = e_mac / e_ac, whatever the network's own rate."""
    for events in (1.0, 7.0, 20.0):
        for T in (1, 4, 8):
            counted = work(linear(events, T=T), T=T)
            assert T * energy.break_even(counted) == pytest.approx(4.6 / 0.9)


def test_at_its_break_even_rate_a_network_costs_what_its_twin_does() -> None:
    counted = energy.with_bits(work(linear(10, T=3, inputs=400, outputs=50), neurons(50, T=3), T=3), 8, 16)
    for model in (energy.StepStyle(), energy.Lemaire(), energy.DataMovement(), energy.PerEvent()):
        rate = energy.break_even(counted, model)
        there = energy.scaled(counted, rate / energy.firing_rate(counted))
        assert model(there).total == pytest.approx(model(energy.quantised_twin(counted)).total)


def test_every_model_is_linear_in_the_spikes_of_a_network_with_graded_input() -> None:
    layers = graded(linear(10, T=3, name="first")), neurons(5, T=3), linear(10, T=3, name="second"), neurons(5, T=3)
    counted = work(*layers, T=3)
    for name in ("field", "lemaire", "step-style", "data-movement", "per-event"):
        none, half, full = (energy.energy_model(name)(energy.scaled(counted, f)).total for f in (0.0, 0.5, 1.0))
        assert half == pytest.approx((none + full) / 2)


def test_graded_layers_keep_their_price_when_rates_change() -> None:
    counted = work(graded(linear(10, name="first")), linear(10, name="second"))
    assert energy.price(energy.scaled(counted, 0.0)).total == pytest.approx(4 * 100 * 4.6)
    assert energy.break_even(counted) < 0  # the first layer alone costs more than the twin
    assert energy.firing_rate(counted) == 0.5


def test_where_spikes_cost_nothing_there_is_no_rate() -> None:
    assert energy.break_even(work(linear(10)), energy.Crossbar()) == -math.inf
    assert energy.break_even(work(linear(10, T=1), T=1), energy.PerEvent("cpu"), energy.dense_twin) in (
        -math.inf,
        math.inf,
    )


def test_break_even_falls_with_the_steps() -> None:
    curve = energy.break_even_curve(work(linear(10)), energy.FIELD, steps=(1, 2, 4, 8))
    assert curve == pytest.approx([4.6 / 0.9 / T for T in (1, 2, 4, 8)])


def test_without_spikes_there_is_nothing_to_scale() -> None:
    with pytest.raises(ArgumentError, match="not one spike"):
        energy.break_even(work(linear(0)))


def test_more_steps_cost_in_proportion() -> None:
    counted = work(linear(10), neurons())
    for model in (energy.FIELD, energy.StepStyle(), energy.PerEvent()):
        assert model(energy.at_steps(counted, 12)).total == pytest.approx(3 * model(counted).total)
    with pytest.raises(ArgumentError, match="at least one"):
        energy.at_steps(counted, 0)


def test_early_exit_pays_for_the_steps_that_ran() -> None:
    layer = linear(0)
    layer.steps["acs"] = np.array([10.0, 20.0, 30.0, 40.0])
    found = energy.early_exit(energy.price(work(layer)), [1, 2, 4, 4])
    assert found.full == pytest.approx(90)
    assert found.expected == pytest.approx(0.9 * (10 + 30 + 100 + 100) / 4)
    assert found.saved == pytest.approx(1 - 60 / 100)


@pytest.mark.parametrize("exits", [[0, 1], [1, 5], [1.0, 2.0]])
def test_exits_that_cannot_be(exits: list) -> None:
    with pytest.raises(ArgumentError, match="from 1 to 4"):
        energy.early_exit(energy.price(work(linear())), exits)


def test_exits_are_a_list() -> None:
    for exits in ([], [[1]]):
        with pytest.raises(ShapeError, match="one number"):
            energy.early_exit(energy.price(work(linear())), exits)


def test_across_hardware_prices_every_chip() -> None:
    found = energy.across_hardware(work(linear(10), neurons()))
    assert found["Intel Loihi"].total == pytest.approx(4 * (50 * 27.1 + 5 * 81))
    assert {"SpiNNaker", "SpiNNaker 2", "IBM TrueNorth"} <= set(found)
