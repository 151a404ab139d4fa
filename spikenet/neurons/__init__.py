"""Neurons: one file a family, equations only. Their words and their base are here too, to write new ones."""

from spikenet.kernels.dynamics.words import (
    atan,
    blend,
    cos,
    detach,
    erf,
    exp,
    floor,
    log,
    maximum,
    minimum,
    sin,
    sqrt,
    tanh,
    where,
)
from spikenet.neurons import emission, surrogate
from spikenet.neurons.adaptive import ALIF, SEAdLIF, SiLIF
from spikenet.neurons.base import Neuron, Param
from spikenet.neurons.cuba import CubaLIF
from spikenet.neurons.exponential import EIF, QIF, AdEx
from spikenet.neurons.graded import MultiSpikeLIF, TernaryIF, TernaryLIF
from spikenet.neurons.izhikevich import Izhikevich
from spikenet.neurons.lif import IF, LIF, LeakyReadout, RefractoryLIF
from spikenet.neurons.meta import MetaNeuron, MomentLevyBaxter, ProbabilisticMetaNeuron
from spikenet.neurons.parallel import PSN, MaskedPSN, ParallelLIF, SlidingPSN
from spikenet.neurons.parametric import PLIF, IntrinsicLIF
from spikenet.neurons.reset import NO_RESET
from spikenet.neurons.resonate import ResonateAndFire
from spikenet.neurons.score import minimum_variance_baseline, score_loss
from spikenet.neurons.stochastic import StochasticLIF
from spikenet.neurons.surrogate import Surrogate
from spikenet.neurons.synaptic import ConductanceLIF, CurrentLIF, SynapticLIF

__all__ = [
    "ALIF",
    "EIF",
    "IF",
    "LIF",
    "NO_RESET",
    "PLIF",
    "PSN",
    "QIF",
    "AdEx",
    "ConductanceLIF",
    "CubaLIF",
    "CurrentLIF",
    "IntrinsicLIF",
    "Izhikevich",
    "LeakyReadout",
    "MaskedPSN",
    "MetaNeuron",
    "MomentLevyBaxter",
    "MultiSpikeLIF",
    "Neuron",
    "ParallelLIF",
    "Param",
    "ProbabilisticMetaNeuron",
    "RefractoryLIF",
    "ResonateAndFire",
    "SEAdLIF",
    "SiLIF",
    "SlidingPSN",
    "StochasticLIF",
    "Surrogate",
    "SynapticLIF",
    "TernaryIF",
    "TernaryLIF",
    "atan",
    "blend",
    "cos",
    "detach",
    "emission",
    "erf",
    "exp",
    "floor",
    "log",
    "maximum",
    "minimum",
    "minimum_variance_baseline",
    "score_loss",
    "sin",
    "sqrt",
    "surrogate",
    "tanh",
    "where",
]
