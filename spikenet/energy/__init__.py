"""What a network costs: operations are counted once, on real spikes (`count`), then priced (`price`)."""

from spikenet.energy.count import count
from spikenet.energy.neurons import NeuronCost
from spikenet.energy.price import HOROWITZ_45NM, Constants, Energy, picojoules, price
from spikenet.energy.record import record
from spikenet.energy.work import Bits, Geometry, LayerWork, Work

__all__ = [
    "HOROWITZ_45NM",
    "Bits",
    "Constants",
    "Energy",
    "Geometry",
    "LayerWork",
    "NeuronCost",
    "Work",
    "count",
    "picojoules",
    "price",
    "record",
]
