"""Projections that learn against weights that Brian2 2.9.0 gave (NumPy target, traces by `event-driven` equations).

Its `Synapses` had, from one given train of spikes on each side and delays on the incoming side,

    pair        on_pre   w = clip(w - 0.03 y, 0, 1); x += 1             on_post  w = clip(w + 0.02 x, 0, 1); y += 1
    soft        on_pre   w = clip(w - 0.1 w y, 0, 1); x = 1            on_post  w = clip(w + 0.1 (1 - w) x, 0, 1); y = 1
    triplet     on_pre   w = clip(w - y (0.02 + 0.01 x_slow), 0, 1); x += 1; x_slow += 1
                on_post  w = clip(w + x (0.005 + 0.006 y_slow), 0, 1); y += 1; y_slow += 1

with time constants of 20 and 30 ms (x, y), for the triplets 16.8, 33.7 (x, y), 101 and 125 ms (slow). Spikes arrive in
even steps and neurons spike in odd ones, so that the order within a step plays no part.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from spikenet.events import EventTensor
from spikenet.learning import STDP, SpikeRule, TripletSTDP
from spikenet.neurons import LIF
from spikenet.simulate import Network, Pairs, Population, Projection, SpikeMonitor, SpikeSource

DT, STEPS, PRE, POST = 0.5, 400, 6, 5
# fmt: off
PAIR = [
    0.033676563, 0.28959898, 0.0, 0.391820827, 0.510406688, 0.242714779, 0.038942939, 0.539939518, 0.255352977,
    0.056403851, 0.593134789, 0.638415634, 0.111974826, 0.204822924, 0.0, 0.420755299, 0.448761131,
]
SOFT = [
    0.339267306, 0.433758878, 0.350654724, 0.404358967, 0.577813344, 0.460786189, 0.371997757, 0.531204409, 0.525291037,
    0.410806, 0.477773488, 0.530232253, 0.427613569, 0.44726355, 0.276474158, 0.502549928, 0.523787471,
]
TRIPLET = [
    0.042157982, 0.0, 0.0, 0.0, 0.096334897, 0.072691103, 0.071514885, 0.201661193, 0.011379123, 0.104007586, 0.0,
    0.156359919, 0.062619641, 0.0, 0.0, 0.075170884, 0.065422506,
]
# fmt: on
CASES = {
    "pair": (STDP(a_plus=0.02, a_minus=0.03, tau_plus=20.0, tau_minus=30.0), PAIR),
    "soft": (
        STDP(a_plus=0.1, a_minus=0.1, tau_plus=20.0, tau_minus=30.0, mu_plus=1.0, mu_minus=1.0, nearest=True),
        SOFT,
    ),
    "triplet": (TripletSTDP(a2_plus=0.005, a3_plus=0.006, a2_minus=0.02, a3_minus=0.01), TRIPLET),
}


@pytest.mark.parametrize(("rule", "expected"), CASES.values(), ids=CASES)
def test_weights_are_those_of_brian(rule: SpikeRule, expected: list[float]) -> None:
    rng = np.random.default_rng(0)
    pre, post = rng.random((STEPS, PRE)) < 0.06, rng.random((STEPS, POST)) < 0.06
    pre[:5], post[:5], pre[1::2], post[::2] = False, False, False, False
    i, j = (torch.from_numpy(v) for v in np.nonzero(rng.random((PRE, POST)) < 0.6))
    delay, weight = (torch.from_numpy(v) for v in (2 * DT * rng.integers(1, 8, len(i)), rng.random(len(i))))

    given = np.zeros((STEPS, 1, PRE + POST), np.float32)
    given[:, 0, :PRE], given[:-1, 0, PRE:] = pre, post[1:]  # neurons spike a step after what makes them spike
    source = SpikeSource(EventTensor.from_dense(torch.from_numpy(given)))
    cells = Population(POST, LIF(tau=1e9, decay_input=False, v_threshold=50.0, dt=DT))
    learns = Projection(source, cells, Pairs(i, j), weight=weight, delay=delay, plasticity=rule)
    each = torch.arange(POST)
    drives = Projection(source, cells, Pairs(each + PRE, each), weight=1000.0, delay=DT)
    seen = SpikeMonitor(cells)
    network = Network(source, cells, learns, drives, seen)
    network.run(STEPS * DT)
    assert torch.equal(seen.events(STEPS).to_dense()[:, 0].bool(), torch.from_numpy(post))
    truth = torch.tensor(expected)
    torch.testing.assert_close(network.weights(learns), truth, rtol=1e-5, atol=1e-6)
    assert float((truth - weight).abs().max()) > 0.3
