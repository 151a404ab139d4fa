"""Izhikevich's network of 1000 neurons."""

from __future__ import annotations

import torch

from spikenet.neurons import Izhikevich
from spikenet.simulate.drive import NoiseInput
from spikenet.simulate.monitor import RateMonitor, SpikeMonitor
from spikenet.simulate.network import Network
from spikenet.simulate.population import Population
from spikenet.simulate.projection import Projection
from spikenet.simulate.rules import AllToAll
from spikenet.simulate.values import Uniform

EXCITATORY, INHIBITORY = 800, 200


def izhikevich(*, seed: int = 0, threads: int | None = None) -> Network:
    """800 excitatory neurons between regular spiking and chattering, 200 inhibitory ones between fast spiking and low
    threshold, all connected with all, driven by noise, in the published steps of 1 ms.

    A spike of one step is heard in the next: the published script finds it at the begin of the step that we call the
    next one.

    Args:
        seed: of everything that is drawn.
        threads: as `Network` takes it.

    Source: Izhikevich, "Simple model of spiking neurons", IEEE Trans. Neural Networks 14, 2003, and its script net.m.
    """
    generator = torch.Generator().manual_seed(seed)
    r, s = torch.rand(EXCITATORY, generator=generator), torch.rand(INHIBITORY, generator=generator)
    e = Population(EXCITATORY, Izhikevich(0.02, 0.2, -65.0 + 15.0 * r**2, 8.0 - 6.0 * r**2), name="E")
    i = Population(INHIBITORY, Izhikevich(0.02 + 0.08 * s, 0.25 - 0.05 * s, -65.0, 2.0), name="I")
    parts: list = [e, i]
    for post in (e, i):
        parts.append(Projection(e, post, AllToAll(), weight=Uniform(0.0, 0.5), delay=1.0))
        parts.append(Projection(i, post, AllToAll(), weight=Uniform(-1.0, 0.0), delay=1.0))
    parts += [NoiseInput(e, 5.0), NoiseInput(i, 2.0)]
    return Network(
        *parts, *(kind(p) for p in (e, i) for kind in (SpikeMonitor, RateMonitor)), seed=seed, threads=threads
    )
