"""The cochlea against its equations: quadrature, another library's special functions, closed forms."""

from __future__ import annotations

import mpmath
import numpy as np
import pytest
import torch
from scipy.integrate import quad

from spikenet.errors import ArgumentError, DtypeError, ShapeError
from spikenet.events import BasilarMembrane, BushyCell, Cochlea, HairCell

C, A, ALPHA, DELTA, M, H = 1e9, 3500.0, 3.0, 0.15, 0.05, 0.1  # the published constants, in cm, g, s


def impedance(w, c):
    fall = np.exp(-ALPHA * c / 2)
    return C * fall**2 - A - M * w**2 - 1j * w * DELTA * np.sqrt(C * M) * fall


def wave(w, c):
    return w / np.sqrt(H * impedance(w, c))


def phase(w, c):
    """The integral by quadrature."""
    parts = [quad(lambda s, part=part: getattr(wave(w, s), part), 0, c, limit=400)[0] for part in ("real", "imag")]
    return 2 / ALPHA * wave(w, 0) + complex(*parts)


def pressure(w, c):
    return complex(mpmath.sqrt(phase(w, c) / wave(w, c)) * mpmath.hankel1(0, phase(w, c)))


@pytest.mark.parametrize("frequency", [30.0, 150.0, 700.0, 2500.0, 9000.0])
@pytest.mark.parametrize("place", [0.0, 0.8, 1.7, 2.6, 3.5])
def test_response_is_that_of_the_equations(frequency, place):
    w = 2 * np.pi * frequency
    z = 2 / ALPHA * w * np.sqrt(2 / (H * C))
    stapes = 1j * np.sqrt(2 * C / H) * complex(mpmath.hankel2(0, z) / mpmath.hankel2(1, z))
    moved = 2 * w / impedance(w, place) * pressure(w, place) / pressure(w, 0)
    for causal, expected in ((True, 1j * np.conj(moved) * stapes), (False, moved * stapes)):
        found = BasilarMembrane(causal=causal).response(np.array([frequency]), np.array([place]))
        assert found.item() == pytest.approx(expected, rel=1e-7, abs=1e-6)  # of some 100 at the peak


def test_a_membrane_of_stiffness_alone_moves_as_a_hankel_function():
    """Without mass, damping and slack the wave equation is solved exactly by H0(2 k(c) / alpha)."""
    membrane = BasilarMembrane(mass=1e-15, damping=1e-12, slack=1e-9, causal=False)
    frequency, place = np.array([100.0, 1000.0]), np.array([0.5, 2.0, 3.5])
    for f, row in zip(frequency, membrane.response(frequency, place), strict=True):
        w = 2 * np.pi * f
        k = [w / mpmath.sqrt(H * C * mpmath.exp(-ALPHA * c)) for c in (0, *place)]
        tops = [complex(mpmath.hankel1(0, 2 * each / ALPHA)) for each in k]
        z = 2 / ALPHA * w * np.sqrt(2 / (H * C))
        stapes = 1j * np.sqrt(2 * C / H) * complex(mpmath.hankel2(0, z) / mpmath.hankel2(1, z))
        expected = 2 * w / (C * np.exp(-ALPHA * place)) * np.array(tops[1:]) / tops[0] * stapes
        np.testing.assert_allclose(row, expected, rtol=1e-5)


def test_high_frequencies_lie_at_the_base():
    membrane = BasilarMembrane()
    place = np.linspace(0.3, 3.4, 40)
    resonance = membrane.resonance(place)
    np.testing.assert_allclose(resonance, np.sqrt((C * np.exp(-ALPHA * place) - A) / M) / (2 * np.pi))
    frequency = np.geomspace(50, 20_000, 3000)
    peak = frequency[np.abs(membrane.response(frequency, place)).argmax(0)]
    assert (np.diff(peak) < 0).all()
    assert ((peak > 0.8 * resonance) & (peak < resonance)).all()  # the wave is stopped just before its resonance


@pytest.mark.parametrize("causal", [True, False])
def test_the_membrane_waits_for_the_sound(causal):
    rate = 44_000
    table = np.zeros((rate // 2 + 1, 5), complex)
    places = np.linspace(0.5, 3.5, 5)
    table[1:-1] = BasilarMembrane(causal=causal).response(np.arange(1, rate // 2), places)
    click = np.fft.irfft(table, axis=0) ** 2
    before, after = click[rate // 2 :].sum(0), click[: rate // 2].sum(0)
    early, late = (before, after) if causal else (after, before)
    assert (early < 0.03 * late).all()


def test_a_tone_moves_each_place_by_its_response():
    """Through all pieces of the overlap-add and the change of rate; measured away from the tone's ends."""
    cochlea = Cochlea(channels=4)
    for rate, frequency in ((8000, 430.0), (16_000, 2750.0), (44_100, 1010.0), (48_000, 5000.0)):
        tone = np.cos(2 * np.pi * frequency * np.arange(int(1.7 * rate)) / rate)
        velocity = np.concatenate(list(cochlea._move(tone, rate)), axis=1)
        response = BasilarMembrane().response(np.array([frequency]), np.linspace(0, 3.5, 4))[0]
        time = np.arange(len(velocity)) / 24_000
        assert len(time) == pytest.approx(1.7 * 24_000, abs=1)
        expected = (response * np.exp(2j * np.pi * frequency * time[:, None])).real
        middle = (time > 0.4) & (time < 1.3)
        np.testing.assert_allclose(velocity[middle], expected[middle], atol=0.01 * np.abs(response).max())


def test_a_hair_cell_at_rest_stands_still():
    cell = HairCell()
    pool, cleft, store = cell.rest()
    opened = 2000 * 5 / (5 + 300)
    assert 5.05 * (1 - pool) - opened * pool + 66.3 * store == pytest.approx(0, abs=1e-12)
    assert opened * pool - (2500 + 6580) * cleft == pytest.approx(0, abs=1e-12)
    assert 6580 * cleft - 66.3 * store == pytest.approx(0, abs=1e-12)


def test_a_tone_is_heard_at_its_place():
    cochlea = Cochlea(channels=70, level=1.0)
    tone = torch.sin(2 * torch.pi * 1000 * torch.arange(4000) / 8000)
    stream = cochlea(tone, 8000)
    counts = np.bincount(stream.x.numpy(), minlength=70)
    best = np.abs(BasilarMembrane().response(np.array([1000.0]), np.linspace(0, 3.5, 70))).argmax()
    assert abs(counts.argmax() - best) <= 5
    assert counts.max() >= 5  # the cell adapts to a lasting tone
    assert counts[best + 15 :].sum() < 0.1 * counts.sum()  # the wave does not pass beyond
    assert stream.sensor == (70, 1, 1)
    assert (stream.t.diff() >= 0).all()
    assert stream.t.max() < 500_000


def test_bushy_cells_are_refractory():
    stream = Cochlea(channels=20)(torch.sin(2 * torch.pi * 700 * torch.arange(4000) / 8000), 8000)
    for channel in range(20):
        assert (stream.t[stream.x == channel].diff() >= 999).all()  # 24 samples, in whole microseconds


def test_loudness_does_not_matter_and_silence_is_nearly_silent():
    sound = torch.randn(2000, dtype=torch.float64)
    cochlea = Cochlea(channels=20)
    loud = cochlea((sound * 1000).to(torch.int16), 8000)
    # Rounding to whole numbers moves a few spikes.
    assert len(loud) == pytest.approx(len(cochlea(sound, 8000)), rel=0.02)
    assert content(cochlea(sound, 8000)) == content(cochlea(sound * 4, 8000))
    assert len(cochlea(torch.zeros(8000), 8000)) < 20 * 1  # below 1 Hz a cell: the fibres fire by chance


def test_the_rate_of_the_recording_hardly_matters():
    time = torch.arange(24_000) / 48_000
    glide = torch.sin(2 * torch.pi * 3000 * time**2)
    whole, half, third = (len(Cochlea(channels=50)(glide[::step], 48_000 // step)) for step in (1, 2, 3))
    assert half == pytest.approx(whole, rel=0.03)
    assert third == pytest.approx(whole, rel=0.03)


def test_one_seed_one_recording():
    sound = torch.sin(torch.arange(3000) / 3)
    cochlea = Cochlea(channels=30)
    first, again, other = cochlea(sound, 8000, 3), cochlea(sound, 8000, 3), cochlea(sound, 8000, 4)
    assert content(first) == content(again)
    assert content(first) != content(other)


def content(stream):
    return stream.t.numpy().tobytes() + stream.x.numpy().tobytes()


@pytest.mark.parametrize(
    ("sound", "rate", "error", "message"),
    [
        (torch.rand(2, 100), 8000, ShapeError, r"waveform \[samples\]"),
        (torch.rand(0), 8000, ShapeError, "one or more"),
        (torch.zeros(100, dtype=torch.uint8), 8000, DtypeError, "uint8"),
        (torch.zeros(100, dtype=torch.complex64), 8000, DtypeError, "complex64"),
        (torch.full((100,), float("nan")), 8000, ArgumentError, "NaN"),
        (torch.tensor([0.0, float("inf")]), 8000, ArgumentError, "infinite"),
        (torch.rand(100), 999, ArgumentError, "rate of 1000"),
        (torch.rand(100), 8000.0, ArgumentError, "whole number"),
        (torch.rand(100), True, ArgumentError, "whole number"),
        (torch.rand(100), 44_101, ArgumentError, "resampled to 44104 Hz"),
    ],
)
def test_impossible_sounds_are_refused(sound, rate, error, message):
    with pytest.raises(error, match=message):
        Cochlea(channels=2)(sound, rate)


@pytest.mark.parametrize(
    ("make", "values"),
    [
        (Cochlea, {"channels": 0}),
        (Cochlea, {"level": 0.0}),
        (BasilarMembrane, {"mass": 0.0}),
        (BasilarMembrane, {"length": 5.0}),  # the apex would have no stiffness left
        (HairCell, {"loss": -1.0}),
        (BushyCell, {"fibres": 256}),
        (BushyCell, {"tau": 0.0}),
    ],
)
def test_impossible_cochleas_are_refused(make, values):
    with pytest.raises(ArgumentError, match="wants"):
        make(**values)
