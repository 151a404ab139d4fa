"""Other formats and libraries: NIR, SpikingJelly, Norse, snnTorch; ANNs to SNNs; few bits, and integer files."""

from spikenet.interop.convert import QuantizedReLU, fold_batch_norm, to_spiking
from spikenet.interop.integers import IntegerNetwork, save_integers
from spikenet.interop.nir import (
    CubaLeakyIntegrator,
    Delay,
    Graph,
    Integrator,
    LeakyIntegrator,
    Scale,
    Threshold,
    from_nir,
    to_nir,
)
from spikenet.interop.norse import from_norse
from spikenet.interop.old_names import spikingjelly_neuron
from spikenet.interop.outward import to_norse, to_snntorch, to_spikingjelly
from spikenet.interop.quantize import Grid, Integers, PowersOfTwo, ShiftLIF, Ternary, quantized
from spikenet.interop.sequences import OverTime
from spikenet.interop.snntorch import CubaLateResetLIF, LateResetLIF, from_snntorch
from spikenet.interop.spikingjelly import from_spikingjelly

__all__ = [
    "CubaLateResetLIF",
    "CubaLeakyIntegrator",
    "Delay",
    "Graph",
    "Grid",
    "IntegerNetwork",
    "Integers",
    "Integrator",
    "LateResetLIF",
    "LeakyIntegrator",
    "OverTime",
    "PowersOfTwo",
    "QuantizedReLU",
    "Scale",
    "ShiftLIF",
    "Ternary",
    "Threshold",
    "fold_batch_norm",
    "from_nir",
    "from_norse",
    "from_snntorch",
    "from_spikingjelly",
    "quantized",
    "save_integers",
    "spikingjelly_neuron",
    "to_nir",
    "to_norse",
    "to_snntorch",
    "to_spiking",
    "to_spikingjelly",
]
