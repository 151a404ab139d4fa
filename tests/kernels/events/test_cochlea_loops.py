"""The cochlea's loops against an ODE solver, laws of probability and closed forms."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from scipy.integrate import solve_ivp
from scipy.stats import binom, chisquare

from spikenet.kernels.events.cochlea import bushy_cell, hair_cells, nerve

A, B, G, Y, L, R, X, H, M = MEDDIS = (5.0, 300.0, 2000.0, 5.05, 2500.0, 6580.0, 66.3, 50_000.0, 1.0)
REST = np.array([0.359, 1.3e-3, 0.129])  # near it


def velocity(t):
    return 60 * np.sin(2 * np.pi * 120 * t) + 20 * np.sin(2 * np.pi * 35 * t)


def meddis(t, state):
    q, c, w = state
    k = G * (velocity(t) + A) / (velocity(t) + A + B) if velocity(t) > -A else 0.0
    return [Y * (M - q) - k * q + X * w, k * q - (L + R) * c, R * c - X * w]


def test_hair_cells_follow_the_equations_ever_closer():
    """Euler's error falls in proportion to the step."""
    end = 0.051  # while the pool is open
    truth = solve_ivp(meddis, (0, end), REST, rtol=1e-10, atol=1e-13, max_step=1e-4).y[:, -1]
    errors = []
    for rate in (24_000, 48_000, 96_000, 192_000):
        moved = velocity(np.arange(round(end * rate)) / rate).astype(np.float32)[:, None]
        state = REST[:, None].copy()
        hair_cells(moved, state, MEDDIS, 1 / rate)
        errors.append(np.abs(state[:, 0] / truth - 1).max())
        assert moved[-1, 0] == pytest.approx(H / rate * state[1, 0], rel=1e-6)
    assert errors[0] < 0.1
    for coarse, fine in pairwise(errors[1:]):
        assert coarse / fine == pytest.approx(2, rel=0.15)


def test_hair_cells_never_owe_transmitter():
    moved = np.array([[1e9, -1e9, 0.0]] * 50, np.float32)
    state = np.repeat(REST[:, None], 3, axis=1)
    hair_cells(moved, state, MEDDIS, 1e-3)  # far too coarse a step: quantities are kept from falling below 0
    assert (state >= 0).all()
    assert (moved >= 0).all()


@pytest.mark.parametrize(("fibres", "p"), [(40, 0.01), (40, 0.3), (7, 0.9)])
def test_fibres_that_are_always_ready_are_binomial(fibres, p):
    uniform = np.random.default_rng(0).random(20_000)
    counts = nerve(np.full(20_000, p, np.float32), uniform, fibres, 1)
    expected = binom.pmf(np.arange(fibres + 1), fibres, np.float32(p)) * 20_000
    keep = expected > 5
    observed = np.bincount(counts, minlength=fibres + 1)
    pairs = (np.append(each[keep], each[~keep].sum()) for each in (observed, expected))
    assert chisquare(*pairs, sum_check=False).pvalue > 0.001


def test_certain_fibres_all_fire():
    counts = nerve(np.full(10, 1.5, np.float32), np.random.default_rng(0).random(10), 40, 4)
    assert counts.tolist() == [40, 0, 0, 0, 40, 0, 0, 0, 40, 0]


@pytest.mark.parametrize(("p", "dead"), [(0.003, 24), (0.2, 24), (0.5, 3)])
def test_refractory_fibres_are_a_renewal_process(p, dead):
    """From spike to spike a fibre waits dead - 1 samples and then a geometric time."""
    steps, fibres = 100_000, 40
    counts = nerve(np.full(steps, p, np.float32), np.random.default_rng(1).random(steps), fibres, dead)
    interval, variance = dead - 1 + 1 / p, (1 - p) / p**2
    spread = np.sqrt(fibres * steps * variance / interval**3)
    assert counts.sum() == pytest.approx(fibres * steps / interval, abs=4 * spread + fibres)
    windows = np.convolve(counts, np.ones(dead, int))
    assert windows.max() <= fibres


def test_a_single_fibre_never_fires_twice_too_early():
    counts = nerve(np.full(5000, 0.4, np.float32), np.random.default_rng(2).random(5000), 1, 24)
    gaps = np.diff(np.flatnonzero(counts))
    assert counts.max() == 1
    assert gaps.min() == 24


def test_the_law_is_that_of_one_draw_a_fibre():
    """Under a probability that moves, mean and variance of the count at each time, against fibres one by one."""
    generator = np.random.default_rng(3)
    p, fibres, dead, trials = (0.15 + 0.14 * np.sin(np.arange(60) / 4)).astype(np.float32), 12, 5, 3000
    ours = np.array([nerve(p, row, fibres, dead) for row in generator.random((trials, 60))], float)
    last = np.full((trials, fibres), -dead)
    theirs = np.zeros((trials, 60))
    for t in range(60):
        fired = (generator.random((trials, fibres)) < p[t]) & (t - last >= dead)
        last[fired] = t
        theirs[:, t] = fired.sum(1)
    error = np.sqrt((ours.var(0) + theirs.var(0)) / trials)
    assert (np.abs(ours.mean(0) - theirs.mean(0)) <= 4.5 * error).all()
    np.testing.assert_allclose(ours.var(0), theirs.var(0), rtol=0.2, atol=0.01)
    together = [np.corrcoef(each[:, 20], each[:, 23])[0, 1] for each in (ours, theirs)]
    assert together[0] == pytest.approx(together[1], abs=4.5 * np.sqrt(2 / trials))


def test_a_bushy_cell_answers_constant_input_in_closed_form():
    """current(t) = n (1 - d^(t+1)) / (1 - d); v(t) = w sum of D^(t-s) current(s), two geometric sums."""
    decay, decay_syn, weight, n, dead = 0.96, 0.92, 0.0021, 3, 24
    t = np.arange(400)
    tail = decay_syn * (decay ** (t + 1) - decay_syn ** (t + 1)) / (decay - decay_syn)
    v = weight * n / (1 - decay_syn) * ((1 - decay ** (t + 1)) / (1 - decay) - tail)
    first = int(np.flatnonzero(v >= 1)[0])
    spikes = bushy_cell(np.full(400, n, np.uint8), decay, decay_syn, weight, dead)
    assert spikes[0] == first
    # Later the current is constant and the membrane starts from 0 when it is free again.
    settled = weight * n / (1 - decay_syn) / (1 - decay)
    wait = int(np.ceil(np.log(1 - 1 / settled) / np.log(decay)))
    assert (np.diff(spikes)[3:] == dead + wait - 1).all()
    below = bushy_cell(np.full(4000, n, np.uint8), decay, decay_syn, weight / settled * 0.999, dead)
    assert len(below) == 0


def test_one_volley_makes_the_continuous_response():
    """v(t) = w tau tau_syn / (tau - tau_syn) (e^(-t / tau) - e^(-t / tau_syn)),
    at most w tau / 4 for tau = 2 tau_syn."""
    rate, tau, tau_syn = 1e6, 1e-3, 0.5e-3
    volley = np.zeros(5000, np.uint8)
    volley[100] = 1
    decays = np.exp(-1 / (rate * tau)), np.exp(-1 / (rate * tau_syn))
    for peak, count in ((1.002, 1), (0.998, 0)):
        weight = peak / (0.25 * tau)
        spikes = bushy_cell(volley, *decays, weight / rate, 1000)
        assert len(spikes) == count
    # The peak itself comes at ln 2 milliseconds.
    spikes = bushy_cell(volley, *decays, 1.00076 / (0.25 * tau) / rate, 1000)
    assert all(abs(each - 100 - np.log(2) * 1000) < 60 for each in spikes)
