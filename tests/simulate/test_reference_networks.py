"""The reference networks against their papers: sizes, mean-field rates, regimes, published statistics."""

from __future__ import annotations

import importlib
import math

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from scipy import integrate, optimize, special

from spikenet.errors import ArgumentError, UnknownNameError
from spikenet.neurons import IF
from spikenet.simulate import (
    ConstantInput,
    Network,
    PoissonInput,
    Population,
    SpikeMonitor,
    activity,
    draw_raster,
    interval_cv,
    synchrony,
)
from spikenet.simulate.networks import brunel, coba, cuba, izhikevich, microcircuit
from spikenet.simulate.networks.brunel import RESET, TAU, THRESHOLD
from spikenet.simulate.pictures import _dots

pd = importlib.import_module("spikenet.simulate.networks.microcircuit")  # the package's name is the function


def mean_field_rate(g: float, eta: float, heard: int, weight: float) -> float:
    """Brunel (2000), eqs. 21 and 22 with equal rates of both populations, Hz."""
    outside = eta * THRESHOLD / (weight * heard * TAU)  # per ms

    def rate(nu: float) -> float:
        mean = TAU * weight * heard * (outside + nu * (1 - 0.25 * g))
        sd = math.sqrt(TAU * weight**2 * heard * (outside + nu * (1 + 0.25 * g**2)))
        low, high = (RESET - mean) / sd, (THRESHOLD - mean) / sd
        area = integrate.quad(lambda u: special.erfcx(-u), low, high)[0]  # exp(u^2) (1 + erf(u))
        return 1.0 / (2.0 + TAU * math.sqrt(math.pi) * area)

    return 1000.0 * optimize.brentq(lambda nu: rate(nu) - nu, 1e-6, 0.4)


def test_brunel_s_asynchronous_network_fires_at_the_mean_field_rate() -> None:
    network = brunel("AI", excitatory=5000, weight=0.2, seed=1)
    network.run(400.0)
    found = activity(network, since=100.0)
    expected = mean_field_rate(5.0, 2.0, 500, 0.2)
    for kind in found.values():
        assert kind.rate == pytest.approx(expected, rel=0.12)  # the theory leaves out correlations and finite weights
        assert kind.cv > 0.5


def test_brunel_s_regimes_are_told_apart() -> None:
    """Figure 8: SR regular and fast, AI irregular."""
    found = {}
    for regime in ("SR", "AI"):
        network = brunel(regime, excitatory=5000, weight=0.2, seed=2)
        network.run(300.0)
        found[regime] = activity(network, since=100.0)["E"]
    assert found["SR"].cv < 0.3 < 0.5 < found["AI"].cv
    assert found["SR"].rate > 3 * found["AI"].rate


@pytest.mark.slow
def test_brunel_s_four_regimes_at_full_size() -> None:
    found = {}
    for regime in ("SR", "SI fast", "AI", "SI slow"):
        network = brunel(regime, seed=3)
        network.run(700.0)
        found[regime] = activity(network, since=200.0, bin=1.0)["E"]
    assert found["SR"].cv < 0.05
    assert all(found[r].cv > 0.35 for r in ("SI fast", "AI", "SI slow"))
    assert found["SI slow"].rate < 10.0 < found["AI"].rate < found["SI fast"].rate < found["SR"].rate
    assert found["AI"].rate == pytest.approx(mean_field_rate(5.0, 2.0, 1000, 0.1), rel=0.1)
    assert all(found[r].synchrony > 2 * found["AI"].synchrony for r in ("SR", "SI fast", "SI slow"))


def test_izhikevich_s_network_keeps_its_rates_and_rhythm() -> None:
    """Rates about those of the published script (7.68 +- 0.12 and 7.31 +- 0.18 Hz over five seeds of a transcription);
    the paper reports an alpha rhythm of about 10 Hz."""
    network = izhikevich(seed=1)
    network.run(1000.0)
    e, i = network.populations
    assert 7.0 < network.rate(e) < 8.5
    assert 6.3 < network.rate(i) < 8.3
    rates = [m for m in network.monitors if m.cells is e][1].rates
    spectrum = torch.fft.rfft(rates - rates.mean()).abs() ** 2
    assert 6 <= int(spectrum[3:60].argmax()) + 3 <= 12  # Hz, a bin each


@pytest.mark.parametrize("make", [cuba, pytest.param(coba, marks=pytest.mark.slow)])
def test_vogels_and_abbott_s_networks_keep_themselves_going(make) -> None:
    """Asynchronous and irregular, at a few spikes a second, without any input."""
    network = make(seed=1)
    network.run(500.0)
    found = activity(network, since=200.0)
    for kind in found.values():
        assert 2.0 < kind.rate < 40.0
    assert found["E"].synchrony < 20.0


def test_the_microcircuit_s_numbers_are_the_published_ones() -> None:
    assert pd.psc() == pytest.approx(585.39, abs=0.01)  # pA per mV
    numbers = pd.synapse_numbers()
    assert numbers.sum() == pytest.approx(298_880_968, abs=5)
    assert (numbers.sum(1) / pd.SIZES).round().tolist() == [4995, 5285, 2806, 5888, 4944, 2736, 2564, 2434]
    currents = pd._constant_currents(pd.psc() * pd._weights(), 1.0, False)
    published = [561.97, 526.85, 737.59, 667.34, 702.47, 667.34, 1018.58, 737.59]
    assert currents == pytest.approx(published, abs=0.01)


def test_a_small_microcircuit_is_alive_in_every_layer() -> None:
    network = microcircuit(0.05, seed=1, thalamus=15.0)
    assert network.synapse_count == pytest.approx(298_880_968 * 0.05**2, rel=0.03)
    network.run(300.0)
    rates = np.array([network.rate(p) for p in network.populations])
    assert (rates > 0.05).all()
    assert (rates < 25.0).all()
    assert rates[[1, 3, 5, 7]].mean() > rates[[0, 2, 6]].mean()  # inhibitory neurons fire more


@pytest.mark.slow
def test_a_third_of_the_microcircuit_comes_near_the_published_rates() -> None:
    network = microcircuit(0.3, seed=1)
    network.run(2500.0)
    found = activity(network, since=500.0)
    for (name, kind), published in zip(found.items(), pd.RATES, strict=True):
        assert kind.rate == pytest.approx(published, rel=0.35), name


def test_interval_statistics() -> None:
    """A clock has CV 0, a Poisson process 1, two alternating intervals a and b |a - b| / (a + b)."""
    clock = torch.arange(0, 100, 5)
    assert interval_cv(clock, torch.zeros_like(clock)).tolist() == [0.0]
    times = torch.tensor([1.0, 4.0]).repeat(200).cumsum(0)
    assert interval_cv(times, torch.zeros(400, dtype=torch.int64)).item() == pytest.approx(0.6, abs=0.01)
    generator = torch.Generator().manual_seed(0)
    times = -torch.rand(20_000, generator=generator).log().cumsum(0)
    both = torch.arange(20_000) % 2
    assert interval_cv(times, torch.zeros(20_000, dtype=torch.int64)).item() == pytest.approx(1.0, abs=0.03)
    assert interval_cv(times, both).mean() == pytest.approx(math.sqrt(0.5), abs=0.03)  # every second: gamma, order 2
    assert synchrony(torch.poisson(torch.full((20_000,), 3.0), generator=generator)) == pytest.approx(1.0, abs=0.05)
    assert synchrony(torch.zeros(5)) == 0.0


def test_a_raster_is_a_picture(tmp_path) -> None:
    network = cuba(seed=1)
    network.run(30.0)
    draw_raster(network, tmp_path / "raster.png")
    assert (tmp_path / "raster.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(("share", "shown"), [(1.0, 4000), (0.7, 2800), (0.4, 1600), (1e-9, 2)])
def test_a_raster_shows_that_share_of_the_neurons(share: float, shown: int) -> None:
    """Of each population, evenly: its part of the picture is as high, and every line of it has its neuron."""
    cells = [Population(n, IF(0.5)) for n in (3200, 800)]
    monitors = [SpikeMonitor(p) for p in cells]
    network = Network(*cells, *monitors, *(ConstantInput(p, 1.0) for p in cells))
    network.run(1.0)  # all fire
    axes = Figure().subplots()
    edges = _dots(axes, network, monitors, 200.0, share)
    assert edges[-1] == pytest.approx(shown, abs=2)
    dots = np.concatenate([line.get_ydata() for line in axes.lines[:2]])
    np.testing.assert_array_equal(dots, np.arange(edges[-1]))


def test_what_cannot_be_made_is_refused(tmp_path) -> None:
    with pytest.raises(ArgumentError, match="above 0 and at most 1, got 0"):
        microcircuit(0.0)
    with pytest.raises(UnknownNameError, match="Known: AI, SI fast, SI slow, SR"):
        brunel("IA")
    with pytest.raises(ArgumentError, match="no bin of"):
        activity(izhikevich())
    network = microcircuit(0.01, record=False)
    with pytest.raises(ArgumentError, match="SpikeMonitor"):
        draw_raster(network, tmp_path / "raster.png")
    for share in (0.0, 1.5, math.nan):
        with pytest.raises(ArgumentError, match="above 0 and up to 1"):
            draw_raster(network, tmp_path / "raster.png", share=share)
    assert any(isinstance(part, PoissonInput) for part in network._inputs)
