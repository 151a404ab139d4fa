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
from spikenet.neurons import surrogate
from spikenet.neurons.base import Neuron, Param
from spikenet.neurons.lif import IF, LIF, LeakyReadout
from spikenet.neurons.surrogate import Surrogate

__all__ = [
    "IF",
    "LIF",
    "LeakyReadout",
    "Neuron",
    "Param",
    "Surrogate",
    "atan",
    "blend",
    "cos",
    "detach",
    "erf",
    "exp",
    "floor",
    "log",
    "maximum",
    "minimum",
    "sin",
    "sqrt",
    "surrogate",
    "tanh",
    "where",
]
