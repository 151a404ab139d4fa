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
from spikenet.neurons.adaptive import ALIF, SEAdLIF, SiLIF
from spikenet.neurons.base import Neuron, Param
from spikenet.neurons.cuba import CubaLIF
from spikenet.neurons.exponential import EIF, QIF, AdEx
from spikenet.neurons.izhikevich import Izhikevich
from spikenet.neurons.lif import IF, LIF, LeakyReadout, RefractoryLIF
from spikenet.neurons.parallel import PSN, MaskedPSN, ParallelLIF, SlidingPSN
from spikenet.neurons.parametric import PLIF, IntrinsicLIF
from spikenet.neurons.reset import NO_RESET
from spikenet.neurons.resonate import ResonateAndFire
from spikenet.neurons.surrogate import Surrogate

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
    "CubaLIF",
    "IntrinsicLIF",
    "Izhikevich",
    "LeakyReadout",
    "MaskedPSN",
    "Neuron",
    "ParallelLIF",
    "Param",
    "RefractoryLIF",
    "ResonateAndFire",
    "SEAdLIF",
    "SiLIF",
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
