"""Simulation of recurrent, sparse networks with delays: the neurons of `spikenet.neurons` as populations in time.

Times are in milliseconds, rates in Hz; a step is the neurons' `dt`.
"""

from spikenet.simulate.drive import ConstantInput, NoiseInput, PoissonInput
from spikenet.simulate.monitor import RateMonitor, SpikeMonitor, StateMonitor, WeightMonitor
from spikenet.simulate.network import Network, SynapseTable
from spikenet.simulate.pictures import draw_raster
from spikenet.simulate.population import PoissonSource, Population, SpikeSource
from spikenet.simulate.projection import Projection
from spikenet.simulate.rules import (
    AllToAll,
    FixedInDegree,
    FixedOutDegree,
    FixedProbability,
    FixedTotalNumber,
    OneToOne,
    Pairs,
    Spatial,
)
from spikenet.simulate.statistics import Activity, activity, interval_cv, synchrony
from spikenet.simulate.values import Normal, Uniform

__all__ = [
    "Activity",
    "AllToAll",
    "ConstantInput",
    "FixedInDegree",
    "FixedOutDegree",
    "FixedProbability",
    "FixedTotalNumber",
    "Network",
    "NoiseInput",
    "Normal",
    "OneToOne",
    "Pairs",
    "PoissonInput",
    "PoissonSource",
    "Population",
    "Projection",
    "RateMonitor",
    "Spatial",
    "SpikeMonitor",
    "SpikeSource",
    "StateMonitor",
    "SynapseTable",
    "Uniform",
    "WeightMonitor",
    "activity",
    "draw_raster",
    "interval_cv",
    "synchrony",
]
