"""The cortical microcircuit of Potjans and Diesmann: 77,169 neurons and 299 million synapses under one square
millimetre of early sensory cortex."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch

from spikenet.errors import ArgumentError
from spikenet.neurons import SynapticLIF
from spikenet.simulate.drive import PoissonInput
from spikenet.simulate.monitor import RateMonitor, SpikeMonitor
from spikenet.simulate.network import Network
from spikenet.simulate.population import PoissonSource, Population
from spikenet.simulate.projection import Projection
from spikenet.simulate.rules import FixedTotalNumber
from spikenet.simulate.values import Normal

POPULATIONS = ("L23E", "L23I", "L4E", "L4I", "L5E", "L5I", "L6E", "L6I")
SIZES = np.array([20683, 5834, 21915, 5479, 4850, 1065, 14395, 2948])
EXTERNAL = np.array([1600, 1500, 2100, 1900, 2000, 1900, 2900, 2100])  # synapses from outside a neuron
# Probability that two neurons are connected at least once, [target, source].
PROBABILITIES = np.array(
    [
        [0.1009, 0.1689, 0.0437, 0.0818, 0.0323, 0.0, 0.0076, 0.0],
        [0.1346, 0.1371, 0.0316, 0.0515, 0.0755, 0.0, 0.0042, 0.0],
        [0.0077, 0.0059, 0.0497, 0.1350, 0.0067, 0.0003, 0.0453, 0.0],
        [0.0691, 0.0029, 0.0794, 0.1597, 0.0033, 0.0, 0.1057, 0.0],
        [0.1004, 0.0622, 0.0505, 0.0057, 0.0831, 0.3726, 0.0204, 0.0],
        [0.0548, 0.0269, 0.0257, 0.0022, 0.0600, 0.3158, 0.0086, 0.0],
        [0.0156, 0.0066, 0.0211, 0.0166, 0.0572, 0.0197, 0.0396, 0.2252],
        [0.0364, 0.0010, 0.0034, 0.0005, 0.0277, 0.0080, 0.0658, 0.1443],
    ]
)
THALAMUS_SIZE = 902
THALAMUS = np.array([0.0, 0.0, 0.0983, 0.0619, 0.0, 0.0, 0.0512, 0.0196])  # probabilities, [target]
START_MEAN = (-68.28, -63.16, -63.33, -63.45, -63.11, -61.66, -66.72, -61.43)  # of the first potentials, mV
START_SD = (5.36, 4.57, 4.74, 4.94, 4.94, 4.55, 5.46, 4.48)
RATES = np.array([0.903, 2.965, 4.414, 5.876, 7.569, 8.633, 1.105, 7.829])  # Hz, as published with NEST's model

TAU, TAU_SYN, CAPACITANCE = 10.0, 0.5, 250.0  # ms, ms, pF
PSP, INHIBITION, SPREAD = 0.15, -4.0, 0.1  # mV; relative to excitation; of weights, relative
BACKGROUND = 8.0  # Hz
DELAYS = (Normal(1.5, 0.75, low=0.05), Normal(0.75, 0.375, low=0.05))  # ms; drawn again below half a step


def microcircuit(
    scale: float = 1.0,
    *,
    poisson: bool = True,
    thalamus: float = 0.0,
    seed: int = 0,
    weight_bits: int = 16,
    threads: int | None = None,
    record: bool = True,
) -> Network:
    """The microcircuit at a share `scale` of its neurons and of the synapses of each.

    Below 1 the weights grow with `1 / sqrt(scale)` and a constant current makes up for the mean input that is lost, so
    that rates stay about the same; correlations do not.

    Args:
        scale: above 0, up to 1.
        poisson: background as Poisson trains; else as the constant current of the same mean, which wakes a network at
            full scale only.
        thalamus: rate of 902 thalamic Poisson neurons, Hz; 0 leaves them out.
        seed: of everything that is drawn.
        weight_bits, threads: as `Network` takes them.
        record: attach a `SpikeMonitor` and a `RateMonitor` of 1 ms to every population.

    Raises:
        ArgumentError: for a scale outside 0 to 1.

    Source: Potjans and Diesmann, Cerebral Cortex 24, 2014, tables 4 and 5; scaling and first potentials as in
    INM-6/microcircuit-PD14-model.
    """
    if not 0.0 < scale <= 1.0:
        raise ArgumentError(f"the microcircuit's scale must be above 0 and at most 1, got {scale}")
    sizes = np.maximum(np.rint(SIZES * scale).astype(int), 1)
    weights = psc() * _weights()
    constant = _constant_currents(weights, scale, poisson)
    populations = [
        Population(int(n), _neuron(float(dc)), state={"v": Normal(mean, sd)}, name=name)
        for n, dc, mean, sd, name in zip(sizes, constant, START_MEAN, START_SD, POPULATIONS, strict=True)
    ]
    parts: list = [*populations]
    for target, row in enumerate(synapse_numbers()):
        for source, n in enumerate(row):
            if n:
                w = weights[target, source] / math.sqrt(scale)
                parts.append(_projection(populations[source], populations[target], n * scale**2, w, source % 2))
    if poisson:
        w = psc() * PSP / math.sqrt(scale)
        trains = np.rint(EXTERNAL * scale).astype(int)
        parts += [PoissonInput(p, BACKGROUND, w, int(k)) for p, k in zip(populations, trains, strict=True)]
    if thalamus:
        parts += _thalamus(populations, scale, thalamus)
    if record:
        parts += [kind(p) for p in populations for kind in (SpikeMonitor, RateMonitor)]
    return Network(*parts, seed=seed, weight_bits=weight_bits, threads=threads)


def psc() -> float:
    """Amplitude of the synaptic current that gives a potential of 1 mV at its peak, pA."""
    ratio = TAU_SYN / TAU
    peak = TAU_SYN / (1.0 - ratio) * (ratio ** (ratio / (1 - ratio)) - ratio ** (1 / (1 - ratio)))
    return CAPACITANCE / peak


def synapse_numbers() -> np.ndarray:
    """Synapses of each projection at full scale, int64 `[target, source]`; some pairs are connected more than once:
    K = log(1 - C) / log(1 - 1 / (N_target N_source))."""
    pairs = SIZES[:, None].astype(float) * SIZES[None]
    return np.rint(np.log1p(-PROBABILITIES) / np.log1p(-1.0 / pairs)).astype(np.int64)


def _weights() -> np.ndarray:
    """Potentials of one spike, mV, `[target, source]`."""
    weights = np.tile(np.where(np.arange(8) % 2 == 0, PSP, PSP * INHIBITION), (8, 1))
    weights[0, 2] *= 2.0  # from layer 4 to layer 2/3
    return weights


def _constant_currents(weights: np.ndarray, scale: float, poisson: bool) -> np.ndarray:
    """pA for each population: the background if it is constant, and what a smaller network lacks."""
    background = psc() * PSP * EXTERNAL * BACKGROUND
    recurrent = (weights * synapse_numbers() / SIZES[:, None] * RATES).sum(1)
    lost = (1.0 - math.sqrt(scale)) * (recurrent + (background if poisson else 0.0))
    return 1e-3 * TAU_SYN * ((0.0 if poisson else background) + lost)


def _neuron(constant: float) -> SynapticLIF:
    given: dict[str, Any] = {
        "tau": TAU,
        "tau_syn": TAU_SYN,
        "resistance": TAU / CAPACITANCE,
        "constant": constant,
        "refractory": 2.0,
    }
    return SynapticLIF(**given, v_threshold=-50.0, v_reset=-65.0, v_rest=-65.0, dt=0.1)


def _projection(pre: Population | PoissonSource, post: Population, n: float, w: float, inhibitory: int) -> Projection:
    bounds = {"high": 0.0} if inhibitory else {"low": 0.0}
    weight = Normal(w, abs(w) * SPREAD, **bounds)
    return Projection(pre, post, FixedTotalNumber(round(n)), weight=weight, delay=DELAYS[inhibitory])


def _thalamus(populations: list[Population], scale: float, rate: float) -> list:
    source = PoissonSource(max(round(THALAMUS_SIZE * scale), 1), torch.tensor(rate), name="thalamus")
    pairs = SIZES.astype(float) * THALAMUS_SIZE
    numbers = np.rint(np.log1p(-THALAMUS) / np.log1p(-1.0 / pairs)) * scale**2
    w = psc() * PSP / math.sqrt(scale)
    return [source, *(_projection(source, p, n, w, 0) for p, n in zip(populations, numbers, strict=True) if n)]
