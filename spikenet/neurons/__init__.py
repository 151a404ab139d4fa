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
from spikenet.neurons.base import Neuron, Param
from spikenet.neurons.graded import MultiSpikeLIF, TernaryIF, TernaryLIF
from spikenet.neurons.lif import IF, LIF, LeakyReadout
from spikenet.neurons.meta import MetaNeuron, MomentLevyBaxter, ProbabilisticMetaNeuron
from spikenet.neurons.parallel import PSN, MaskedPSN, ParallelLIF, SlidingPSN
from spikenet.neurons.score import minimum_variance_baseline, score_loss
from spikenet.neurons.stochastic import StochasticLIF
from spikenet.neurons.surrogate import Surrogate

__all__ = [
    "IF",
    "LIF",
    "PSN",
    "LeakyReadout",
    "MaskedPSN",
    "MetaNeuron",
    "MomentLevyBaxter",
    "MultiSpikeLIF",
    "Neuron",
    "ParallelLIF",
    "Param",
    "ProbabilisticMetaNeuron",
    "SlidingPSN",
    "StochasticLIF",
    "Surrogate",
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
