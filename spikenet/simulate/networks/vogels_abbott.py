"""The self-sustained networks of Vogels and Abbott, with synaptic currents (CUBA) and conductances (COBA)."""

from __future__ import annotations

from spikenet.neurons import ConductanceLIF, CurrentLIF, Neuron
from spikenet.simulate.monitor import RateMonitor, SpikeMonitor
from spikenet.simulate.network import Network
from spikenet.simulate.population import Population
from spikenet.simulate.projection import Projection
from spikenet.simulate.rules import FixedProbability
from spikenet.simulate.values import Uniform, Value


def cuba(
    n: int = 4000, *, p: float = 0.02, delay: Value | None = None, seed: int = 0, threads: int | None = None
) -> Network:
    """`n` neurons, four fifths of them excitatory, each pair connected with probability `p`; currents of 1.62 and
    -9 mV that decay within 5 and 10 ms.

    Args:
        n: neurons.
        p: probability of a connection; `80 / n` keeps the number of synapses a neuron.
        delay: ms; none means one step of 0.1 ms.
        seed: of everything that is drawn.
        threads: as `Network` takes it.

    Source: Brette et al., J. Comput. Neurosci. 23, 2007, benchmark 2; Vogels and Abbott, J. Neurosci. 25, 2005.
    """
    return _network(
        CurrentLIF(dt=0.1), n, p, (60 * 0.27 / 10, -20 * 4.5 / 10), {"v": Uniform(-60.0, -50.0)}, delay, seed, threads
    )


def coba(
    n: int = 4000, *, p: float = 0.02, delay: Value | None = None, seed: int = 0, threads: int | None = None
) -> Network:
    """`cuba` with conductances of 0.6 and 6.7 times the leak, which start evenly from 0 to 1.5 and from 0 to 3 times
    it: much more or less and the network falls silent. Arguments as there.

    Source: Brette et al., J. Comput. Neurosci. 23, 2007, benchmark 1; Vogels and Abbott, J. Neurosci. 25, 2005.
    """
    start: dict[str, Value] = {"v": Uniform(-60.0, -50.0), "g_e": Uniform(0.0, 1.5), "g_i": Uniform(0.0, 3.0)}
    return _network(ConductanceLIF(dt=0.1), n, p, (0.6, 6.7), start, delay, seed, threads)


def _network(
    neuron: Neuron,
    n: int,
    p: float,
    weights: tuple[float, float],
    start: dict[str, Value],
    delay: Value | None,
    seed: int,
    threads: int | None,
) -> Network:
    e = Population(n * 4 // 5, neuron, state=start, name="E")
    i = Population(n // 5, neuron, state=start, name="I")
    parts: list = [e, i]
    for post in (e, i):
        for pre, weight, which in ((e, weights[0], "excitatory"), (i, weights[1], "inhibitory")):
            rule = FixedProbability(p)
            steps = neuron.dt if delay is None else delay
            parts.append(Projection(pre, post, rule, weight=weight, delay=steps, input=which))
    return Network(
        *parts, *(kind(q) for q in (e, i) for kind in (SpikeMonitor, RateMonitor)), seed=seed, threads=threads
    )
