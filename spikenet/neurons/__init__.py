"""Neurons: one file a family, equations only. Their words and their base are here too, to write new ones."""

from spikenet.kernels.dynamics.words import (
    atan,
    blend,
    cos,
    detach,
    exp,
    log,
    maximum,
    minimum,
    sin,
    sqrt,
    tanh,
    where,
)
from spikenet.neurons import surrogate
from spikenet.neurons.base import Neuron, Param
from spikenet.neurons.lif import IF, LIF, LeakyReadout
from spikenet.neurons.parallel import PSN, MaskedPSN, ParallelLIF, SlidingPSN
from spikenet.neurons.surrogate import Surrogate

__all__ = [
    "IF",
    "LIF",
    "PSN",
    "LeakyReadout",
    "MaskedPSN",
    "Neuron",
    "ParallelLIF",
    "Param",
    "SlidingPSN",
    "Surrogate",
    "atan",
    "blend",
    "cos",
    "detach",
    "exp",
    "log",
    "maximum",
    "minimum",
    "sin",
    "sqrt",
    "surrogate",
    "tanh",
    "where",
]
