"""NIR, the interchange format of spiking networks."""

from spikenet.interop.nir.graph import Graph
from spikenet.interop.nir.read import from_nir
from spikenet.interop.nir.units import CubaLeakyIntegrator, Delay, Integrator, LeakyIntegrator, Scale, Threshold
from spikenet.interop.nir.write import to_nir

__all__ = [
    "CubaLeakyIntegrator",
    "Delay",
    "Graph",
    "Integrator",
    "LeakyIntegrator",
    "Scale",
    "Threshold",
    "from_nir",
    "to_nir",
]
