"""Other formats and libraries: NIR, SpikingJelly, Norse, snnTorch."""

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
from spikenet.interop.sequences import OverTime
from spikenet.interop.snntorch import CubaLateResetLIF, LateResetLIF, from_snntorch
from spikenet.interop.spikingjelly import from_spikingjelly

__all__ = [
    "CubaLateResetLIF",
    "CubaLeakyIntegrator",
    "Delay",
    "Graph",
    "Integrator",
    "LateResetLIF",
    "LeakyIntegrator",
    "OverTime",
    "Scale",
    "Threshold",
    "from_nir",
    "from_norse",
    "from_snntorch",
    "from_spikingjelly",
    "spikingjelly_neuron",
    "to_nir",
]
