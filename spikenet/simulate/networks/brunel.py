"""Brunel's sparsely connected network of excitatory and inhibitory neurons, and its four regimes."""

from __future__ import annotations

from collections.abc import Mapping

from spikenet.errors import UnknownNameError
from spikenet.neurons import RefractoryLIF
from spikenet.simulate.drive import PoissonInput
from spikenet.simulate.monitor import RateMonitor, SpikeMonitor
from spikenet.simulate.network import Network
from spikenet.simulate.population import Population
from spikenet.simulate.projection import Projection
from spikenet.simulate.rules import FixedInDegree
from spikenet.simulate.values import Value

TAU, THRESHOLD, RESET, REFRACTORY, WEIGHT = 20.0, 20.0, 10.0, 2.0, 0.1  # ms, mV, mV, ms, mV
# Strength of inhibition g, and the rate of the input relative to the one that reaches threshold: figure 8 of the paper.
REGIMES: Mapping[str, tuple[float, float]] = {
    "SR": (3.0, 2.0),  # almost fully synchronised, neurons regular and fast
    "SI fast": (6.0, 4.0),  # a fast oscillation of the whole, neurons irregular
    "AI": (5.0, 2.0),  # stationary, neurons irregular
    "SI slow": (4.5, 0.9),  # a slow oscillation of the whole, neurons irregular and slow
}


def brunel(
    regime: str | tuple[float, float] = "AI",
    *,
    excitatory: int = 10_000,
    delay: Value = 1.5,
    weight: float = WEIGHT,
    dt: float = 0.1,
    seed: int = 0,
    threads: int | None = None,
) -> Network:
    """Brunel's network: each neuron hears a tenth of the others and as many Poisson trains from outside.

    Args:
        regime: one of `REGIMES`, or (g, rate of the input relative to the one that just reaches the threshold).
        excitatory: excitatory neurons; there are a quarter as many inhibitory ones.
        delay: ms, a number or a `Distribution`.
        weight: jump of the potential with an excitatory spike, mV.
        dt: length of a step, ms.
        seed: of everything that is drawn.
        threads: as `Network` takes it.

    Raises:
        UnknownNameError: for another regime.

    Source: Brunel, J. Computational Neuroscience 8, 2000, model A and figure 8.
    """
    if isinstance(regime, str) and regime not in REGIMES:
        raise UnknownNameError("regime of Brunel's network", regime, REGIMES)
    g, eta = REGIMES[regime] if isinstance(regime, str) else regime
    options = {"refractory": REFRACTORY, "tau": TAU, "v_threshold": THRESHOLD, "v_reset": RESET, "dt": dt}
    neuron = RefractoryLIF(**options, decay_input=False, exact_decay=True)
    e, i = Population(excitatory, neuron, name="E"), Population(excitatory // 4, neuron, name="I")
    heard = excitatory // 10
    threshold_rate = 1000.0 * THRESHOLD / (weight * heard * TAU)  # Hz
    parts: list = [e, i]
    for post in (e, i):
        parts.append(Projection(e, post, FixedInDegree(heard), weight=weight, delay=delay))
        parts.append(Projection(i, post, FixedInDegree(heard // 4), weight=-g * weight, delay=delay))
        parts.append(PoissonInput(post, eta * threshold_rate, weight, heard))
    return Network(
        *parts, *(kind(p) for p in (e, i) for kind in (SpikeMonitor, RateMonitor)), seed=seed, threads=threads
    )
